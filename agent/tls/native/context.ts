/** TLS settings for the engine, from PEM, with the ciphers that Node uses. */
import { DEFAULT_CIPHERS, getCACertificates } from "node:tls";
import { WeirError } from "../../errors.ts";
import { tlsAddon } from "./addon.ts";

export interface ContextOptions {
  readonly server: boolean;
  /** The chain, own certificate first. */
  readonly certificate?: string | Buffer;
  readonly key?: string | Buffer;
  /** Roots of a client's context; Node's own without. */
  readonly roots?: string | Buffer;
}

export function nativeContext({ server, certificate, key, roots }: ContextOptions): object {
  const addon = tlsAddon();
  if (addon === null) throw new WeirError("WEIR_ADDON_MISSING");
  const ciphers = DEFAULT_CIPHERS.split(":");
  const trusted = server ? "" : (roots ?? getCACertificates("default").join("\n"));
  return addon.tlsContext(
    server,
    Buffer.from(certificate ?? ""),
    Buffer.from(key ?? ""),
    Buffer.from(trusted),
    ciphers.filter((name) => !name.startsWith("TLS_")).join(":"),
    ciphers.filter((name) => name.startsWith("TLS_")).join(":"),
  );
}
