/** Every protocol that Weir speaks: one line each. */
import type { ProtocolName } from "../core/operation.ts";
import { opaqueProtocol } from "./opaque/protocol.ts";
import { postgresProtocol } from "./postgres/protocol.ts";
import type { Protocol } from "./protocol.ts";

export const protocols: readonly Protocol[] = [postgresProtocol, opaqueProtocol];

export function protocolNamed(name: ProtocolName): Protocol {
  const found = protocols.find((protocol) => protocol.name === name);
  if (found === undefined) throw new Error(`no protocol is named ${name}`);
  return found;
}

/** Loads what protocols need once (the SQL parser's WASM), before the first conversation. */
export async function prepareProtocols(): Promise<void> {
  await Promise.all(protocols.map((protocol) => protocol.prepare()));
}
