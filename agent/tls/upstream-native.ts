/** Secures the connection to the server in the native engine; what is verified, and what is said, is as in upstream.ts. */
import { hash, X509Certificate } from "node:crypto";
import { readFileSync, statSync } from "node:fs";
import { isIP, type Socket } from "node:net";
import { checkServerIdentity, type PeerCertificate } from "node:tls";
import type { TargetTls } from "../core/target.ts";
import { WeirError } from "../errors.ts";
import { keyOf, rememberAgreements, type Server } from "./key-agreements.ts";
import type { Described } from "./native/addon.ts";
import { nativeContext, resumingContext } from "./native/context.ts";
import { handshake } from "./native/handshake.ts";
import { ConnectError, type SecureSocket } from "./native/secure-socket.ts";
import { type Taken, takeOver } from "./native/take-over.ts";
import { rememberSessions } from "./resumption.ts";
import {
  chainSentence,
  expectedName,
  handshakeMs,
  judgesChain,
  message,
  namesOf,
  pinProblem,
  type SecuredUpstream,
  told,
  type UpstreamTlsOptions,
} from "./upstream.ts";

const contextsMax = 200;
/** Servers' certificates that are kept as they were read; reading one takes as long as a third of a handshake. */
const certificatesMax = 500;

const agreements = rememberAgreements();
const sessions = rememberSessions(resumingContext);

/** How the server is reached where TLS comes first. */
export interface Dial {
  /** A descriptor that is connecting, ours to close. Throws the system's error. */
  connect(): number;
  readonly timeoutMs: number;
  /** What is thrown when it does not connect. */
  unreachable(cause: NodeJS.ErrnoException): WeirError;
}

/** What TLS is put on. */
interface Leg {
  readonly carrier: Socket | null;
  readonly connectMs?: number;
  take(): Promise<Taken> | Taken;
}

/** Throws WEIR_UPSTREAM_TLS or WEIR_UPSTREAM_PIN_CHANGED with a sentence that says why. */
export function secureUpstreamNatively(
  carrier: Socket,
  options: UpstreamTlsOptions,
): Promise<SecuredUpstream<SecureSocket>> {
  return secure({ carrier, take: () => takeOver(carrier) }, options);
}

/** Without a socket of Node's: one turn of the loop, two system calls and a fifth of the time less. */
export async function connectUpstreamNatively(
  { connect, timeoutMs, unreachable }: Dial,
  options: UpstreamTlsOptions,
): Promise<SecuredUpstream<SecureSocket>> {
  const take = (): Taken => {
    try {
      return { fd: connect(), read: Buffer.alloc(0) };
    } catch (cause) {
      throw Object.assign(new ConnectError(message(cause)), { code: (cause as NodeJS.ErrnoException).code });
    }
  };
  try {
    return await secure({ carrier: null, connectMs: timeoutMs, take }, options);
  } catch (error) {
    const { cause } = error as WeirError;
    throw cause instanceof ConnectError ? unreachable(cause) : error;
  }
}

async function secure(leg: Leg, options: UpstreamTlsOptions): Promise<SecuredUpstream<SecureSocket>> {
  const { tls, alpn } = options;
  const expected = expectedName(options);
  const server = { address: options.address, port: options.port, name: expected };
  const shared = settings(leg.carrier, tls, agreements.isClassic(server));
  let secured: SecureSocket | null = null;
  try {
    const shaken = await shake(leg, sessions.contextFor(server, shared), expected, alpn);
    const { described } = shaken;
    secured = shaken.secured;
    agreements.agreed(server, described.postQuantum);
    if (described.peerCertificate === null)
      throw new WeirError("WEIR_UPSTREAM_TLS", `${expected} showed no certificate.`);
    const { certificate, names, fingerprint, notAfterMs } = readCertificate(server, described.peerCertificate);
    if (judgesChain(tls)) {
      const problem = chainProblem(described, certificate, expected, tls.verify === "full");
      if (problem !== null) throw new WeirError("WEIR_UPSTREAM_TLS", problem);
    }
    if (tls.verify === "first-use") {
      const refusal = pinProblem(options, expected, fingerprint);
      if (refusal !== null) throw refusal;
    }
    sessions.accepted(server, shared, notAfterMs);
    return {
      socket: secured,
      tls: { alpn: described.alpn, certificate: described.peerCertificate },
      names,
    };
  } catch (error) {
    secured?.destroy();
    sessions.forget(server);
    throw error instanceof WeirError
      ? error
      : new WeirError("WEIR_UPSTREAM_TLS", `The certificate of ${expected} cannot be read: ${message(error)}`, {
          cause: error,
        });
  }
}

interface ReadCertificate {
  readonly der: Buffer;
  readonly fingerprint: string;
  readonly notAfterMs: number;
  readonly certificate: PeerCertificate;
  readonly names: SecuredUpstream["names"];
}

/** The last one of each server: what a certificate says never changes, whether it is accepted is judged each time. */
const certificates = new Map<string, ReadCertificate>();

function readCertificate(server: Server, der: Buffer): ReadCertificate {
  const key = keyOf(server);
  const known = certificates.get(key);
  if (known?.der.equals(der) === true) return known;
  const certificate = new X509Certificate(der).toLegacyObject();
  const notAfterMs = Date.parse(certificate.valid_to);
  const read = { der, fingerprint: hash("sha256", der, "hex"), notAfterMs, certificate, names: namesOf(certificate) };
  if (certificates.size >= certificatesMax) certificates.clear();
  certificates.set(key, read);
  return read;
}

function settings(carrier: Socket | null, tls: TargetTls, classicFirst: boolean): object {
  try {
    return contextFor(tls, classicFirst);
  } catch (cause) {
    carrier?.destroy();
    throw new WeirError("WEIR_UPSTREAM_TLS", `The TLS settings of the target cannot be used: ${message(cause)}`, {
      cause,
    });
  }
}

async function shake(leg: Leg, context: object, expected: string, alpn: readonly string[]) {
  const { carrier, connectMs } = leg;
  try {
    const { fd, read } = await leg.take();
    return await handshake(
      { context, base: { carrier, fd }, serverName: isIP(expected) === 0 ? expected : "", alpn, first: read },
      { timeoutMs: handshakeMs, late: "it did not finish in time", connectMs },
    );
  } catch (cause) {
    carrier?.destroy();
    throw new WeirError("WEIR_UPSTREAM_TLS", `The TLS handshake with ${expected} failed: ${message(cause)}`, { cause });
  }
}

/** One context per set of files, and per change of them. */
const contexts = new Map<string, object>();

function contextFor(tls: TargetTls, classicFirst: boolean): object {
  const files = [tls.ca, tls.clientCertificate?.cert ?? null, tls.clientCertificate?.key ?? null];
  const stamps = files.map((file) => (file === null ? "" : `${file}@${statSync(file).mtimeMs}`));
  const verify = judgesChain(tls);
  const id = [classicFirst, verify, ...stamps].join("|");
  const cached = contexts.get(id);
  if (cached !== undefined) return cached;
  const [roots, certificate, key] = files.map((file) => (file === null ? undefined : readFileSync(file)));
  const context = nativeContext({
    server: false,
    classicFirst,
    verify,
    ...(roots === undefined ? {} : { roots }),
    ...(certificate === undefined ? {} : { certificate }),
    ...(key === undefined ? {} : { key }),
  });
  if (contexts.size >= contextsMax) contexts.clear();
  contexts.set(id, context);
  return context;
}

/** X509_V_ERR_… (openssl x509_vfy.h), as node:tls names them. */
const chainCodes: Readonly<Record<number, string>> = {
  2: "UNABLE_TO_GET_ISSUER_CERT",
  9: "CERT_NOT_YET_VALID",
  10: "CERT_HAS_EXPIRED",
  18: "DEPTH_ZERO_SELF_SIGNED_CERT",
  19: "SELF_SIGNED_CERT_IN_CHAIN",
  20: "UNABLE_TO_GET_ISSUER_CERT_LOCALLY",
  21: "UNABLE_TO_VERIFY_LEAF_SIGNATURE",
};

function chainProblem(
  { verifyResult, verifyText }: Described,
  certificate: PeerCertificate,
  expected: string,
  names: boolean,
): string | null {
  if (verifyResult !== 0) {
    const code = chainCodes[verifyResult] ?? verifyText ?? String(verifyResult);
    return `The certificate of ${expected} was not accepted: ${chainSentence(code, certificate)}.`;
  }
  const mismatch = names ? checkServerIdentity(expected, certificate) : undefined;
  if (mismatch === undefined) return null;
  return `The certificate of ${expected} is for another name: ${told(certificate.subjectaltname ?? String(certificate.subject?.CN ?? "none"))}.`;
}
