/** TLS settings for the engine, from PEM, with the ciphers that Node uses. */
import { DEFAULT_CIPHERS, getCACertificates } from "node:tls";
import { neededAddon } from "./addon.ts";

export interface ContextOptions {
  readonly server: boolean;
  /** The chain, own certificate first. */
  readonly certificate?: string | Buffer;
  readonly key?: string | Buffer;
  /** Roots of a client's context; Node's own without. */
  readonly roots?: string | Buffer;
  /** A client's: false builds no chain of what the server shows, and its result is never 0. */
  readonly verify?: boolean;
  /** A client's: makes no key of X25519MLKEM768 until the server asks for one. */
  readonly classicFirst?: boolean;
}

/**
 * OpenSSL 3.5's own groups. A client of ours is on this host: X25519 comes first, as what never leaves the host is not
 * recorded for a later quantum computer. Towards a server the hybrid comes first; its key costs 40 µs and 20 kB for as long
 * as the connection lives, also where the server has no use for it.
 */
const classic = "?X25519:?secp256r1:?X448:?secp384r1:?secp521r1:?ffdhe2048:?ffdhe3072";
const groups = {
  server: `${classic}:?X25519MLKEM768`,
  client: `?*X25519MLKEM768 / ?*${classic.slice(1)}`,
  classicFirst: `?X25519MLKEM768 / ?*${classic.slice(1)}`,
};

/** As browsers have it: what derives the keys, over SHA-384 elsewhere, is a fiftieth of a new connection. */
const first: string = "TLS_AES_128_GCM_SHA256";

/** The same settings for one server, whose last session the next connection offers. */
export function resumingContext(settings: object): object {
  return neededAddon().tlsResuming(settings);
}

export function nativeContext({
  server,
  certificate,
  key,
  roots,
  verify = true,
  classicFirst,
}: ContextOptions): object {
  const ciphers = DEFAULT_CIPHERS.split(":");
  const suites = ciphers.filter((name) => name.startsWith("TLS_"));
  const trusted = roots ?? (server || !verify ? "" : getCACertificates("default").join("\n"));
  return neededAddon().tlsContext(
    server,
    Buffer.from(certificate ?? ""),
    Buffer.from(key ?? ""),
    Buffer.from(trusted),
    ciphers.filter((name) => !name.startsWith("TLS_")).join(":"),
    suites
      .filter((name) => name === first)
      .concat(suites.filter((name) => name !== first))
      .join(":"),
    server ? groups.server : classicFirst === true ? groups.classicFirst : groups.client,
    verify,
  );
}
