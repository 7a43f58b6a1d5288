/** Where something listens, as an option says it. */
import { isIP } from "node:net";
import { WeirError } from "./errors.ts";

export interface ListenAddress {
  readonly host: string;
  readonly port: number;
}

/** Throws WEIR_USAGE. */
export function readListenAddress(option: string, text: string, examplePort: number): ListenAddress {
  const match = /^(?:\[([0-9a-f:]+)\]|([^:]+)):(\d{1,5})$/i.exec(text);
  const host = match?.[1] ?? match?.[2] ?? "";
  const port = Number(match?.[3]);
  if ((isIP(host) === 0 && host !== "localhost") || port > 65_535)
    throw new WeirError("WEIR_USAGE", `${option} ${text}: expected ADDR:PORT, for example 127.0.0.1:${examplePort}.`);
  return { host, port };
}
