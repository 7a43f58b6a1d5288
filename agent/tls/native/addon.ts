/** Loads build/weir-tls.node and says what is in it. It is absent where Node does not export OpenSSL's symbols. */
import { createRequire } from "node:module";
import { join } from "node:path";
import { WeirError } from "../../errors.ts";

export interface TlsAddon {
  tlsContext(
    server: boolean,
    certificatePem: Uint8Array,
    keyPem: Uint8Array,
    rootsPem: Uint8Array,
    cipherList: string,
    cipherSuites: string,
    groups: string,
    verify: boolean,
  ): object;
  tlsResuming(context: object): object;
  tlsHub(
    events: Int32Array,
    ops: Int32Array,
    state: Int32Array,
    out: Uint8Array,
    onEvents: (from: number, to: number, last: number) => void,
  ): object;
  tlsSlab(hub: object, slab: Uint8Array): void;
  tlsFlush(hub: object): void;
  tlsOpen(
    hub: object,
    context: object,
    fd: number,
    serverName: Uint8Array,
    alpn: Uint8Array,
    first: Uint8Array,
    connecting: boolean,
  ): number;
  tlsListen(hub: object, fd: number): number;
  tlsSecure(hub: object, slot: number, context: object, alpn: Uint8Array, first: Uint8Array): void;
  tlsWrite(hub: object, slot: number, bytes: Uint8Array): void;
  tlsDescribe(hub: object, slot: number): Described | null;
  tlsFailure(hub: object, slot: number): Failure | null;
  tlsKeyUpdate(hub: object, slot: number): boolean;
  tlsClose(hub: object, slot: number): void;
  tlsDuplicate(fd: number): number;
  tlsCloseFd(fd: number): void;
}

export interface Described {
  readonly alpn: string | null;
  readonly serverName: string | null;
  readonly version: string;
  /** The key was agreed on by X25519MLKEM768. */
  readonly postQuantum: boolean;
  /** By a ticket of an earlier connection: certificate and verification are that one's. */
  readonly resumed: boolean;
  /** X509_V_…; 0 also when the peer showed no certificate. */
  readonly verifyResult: number;
  readonly verifyText: string | null;
  readonly peerCertificate: Buffer | null;
}

export interface Failure {
  /** The kernel has not connected yet, or could not. */
  readonly connecting: boolean;
  readonly errorCode: string | null;
  readonly error: string | null;
}

const path = join(import.meta.dirname, "../../../build/weir-tls.node");
let loaded: TlsAddon | null | undefined;

export function tlsAddon(): TlsAddon | null {
  if (loaded !== undefined) return loaded;
  try {
    loaded = createRequire(import.meta.url)(path) as TlsAddon;
  } catch {
    loaded = null;
  }
  return loaded;
}

/** The same for who cannot do without; throws WEIR_ADDON_MISSING. */
export function neededAddon(): TlsAddon {
  const addon = tlsAddon();
  if (addon === null) throw new WeirError("WEIR_ADDON_MISSING");
  return addon;
}
