/** Secures the connection to the server: TLS with the verification that the target asks for. */
import { createHash } from "node:crypto";
import { readFileSync, statSync } from "node:fs";
import { isIP, type Socket } from "node:net";
import {
  checkServerIdentity,
  connect,
  createSecureContext,
  type PeerCertificate,
  type SecureContext,
  type TLSSocket,
} from "node:tls";
import type { TargetTls } from "../core/target.ts";
import { WeirError } from "../errors.ts";
import type { Pins } from "./pins.ts";

export const handshakeMs = 15_000;
const contextsMax = 200;
/** Names of a server's certificate that are mirrored. */
const namesMax = 10_000;

export interface UpstreamTlsOptions {
  readonly tls: TargetTls;
  readonly hostname: string | null;
  readonly address: string;
  readonly port: number;
  readonly alpn: readonly string[];
  readonly pins: Pins;
}

export interface SecuredUpstream<Secured = TLSSocket> {
  readonly socket: Secured;
  readonly tls: { readonly alpn: string | null; readonly certificate: Buffer };
  readonly names: {
    readonly commonName: string | null;
    readonly dns: readonly string[];
    readonly ip: readonly string[];
  };
}

/** Throws WEIR_UPSTREAM_TLS or WEIR_UPSTREAM_PIN_CHANGED with a sentence that says why. */
export function secureUpstream(socket: Socket, options: UpstreamTlsOptions): Promise<SecuredUpstream> {
  const { tls, alpn } = options;
  const expected = expectedName(options);
  const chain = judgesChain(tls);
  return new Promise((resolve, reject) => {
    const fail = (error: Error): void => {
      clearTimeout(timer);
      secured.destroy();
      reject(error);
    };
    const timer = setTimeout(
      () => fail(new WeirError("WEIR_UPSTREAM_TLS", `${expected} did not finish the TLS handshake.`)),
      handshakeMs,
    );
    let secured: TLSSocket;
    try {
      secured = connect({
        socket,
        secureContext: contextFor(tls),
        // The chain is judged below, so that a refusal can say why in our words.
        rejectUnauthorized: false,
        // Node's own check would ask for the name `localhost` where we connect by address, and for a name under `ca`.
        checkServerIdentity: () => undefined,
        ...(isIP(expected) === 0 ? { servername: expected } : {}),
        ...(alpn.length > 0 ? { ALPNProtocols: [...alpn] } : {}),
      });
    } catch (cause) {
      clearTimeout(timer);
      socket.destroy();
      reject(
        new WeirError("WEIR_UPSTREAM_TLS", `The TLS settings of the target cannot be used: ${message(cause)}`, {
          cause,
        }),
      );
      return;
    }
    // An error between the handshake and the caller's own listener must not end the agent.
    secured.on("error", () => {});
    const broken = (cause: Error): void =>
      fail(
        new WeirError("WEIR_UPSTREAM_TLS", `The TLS handshake with ${expected} failed: ${cause.message}`, { cause }),
      );
    const closed = (): void => broken(new Error("the server closed the connection"));
    secured.once("error", broken);
    secured.once("close", closed);
    secured.once("secureConnect", () => {
      clearTimeout(timer);
      secured.off("error", broken);
      secured.off("close", closed);
      const certificate = secured.getPeerCertificate();
      const problem = chain ? chainProblem(secured, certificate, expected, tls.verify === "full") : null;
      if (problem !== null) {
        fail(new WeirError("WEIR_UPSTREAM_TLS", problem));
        return;
      }
      if (tls.verify === "first-use") {
        const fingerprint = createHash("sha256").update(certificate.raw).digest("hex");
        const refusal = pinProblem(options, expected, fingerprint);
        if (refusal !== null) {
          fail(refusal);
          return;
        }
      }
      resolve({
        socket: secured,
        tls: {
          alpn: typeof secured.alpnProtocol === "string" ? secured.alpnProtocol : null,
          certificate: certificate.raw,
        },
        names: namesOf(certificate),
      });
    });
  });
}

/**
 * Why a server that offers no TLS may not be used in plain text; null: it may. One that was once seen with TLS is
 * expected to have it still: else whoever sits in between could take it away by answering `N`.
 */
export function plainRefusal(server: Omit<UpstreamTlsOptions, "alpn">): WeirError | null {
  const { tls, pins } = server;
  const expected = expectedName(server);
  if (judgesChain(tls)) {
    return new WeirError(
      "WEIR_UPSTREAM_TLS_REFUSED",
      `${expected} does not offer TLS, and the target asks for it (tls.verify: ${tls.verify}).`,
    );
  }
  if (tls.verify === "none" || !pins.has(pinName(server))) return null;
  return new WeirError(
    "WEIR_UPSTREAM_PIN_CHANGED",
    `${expected} was seen with TLS first, and now offers none. If the change is right, remove its line from pins.jsonl in the state directory and restart.`,
  );
}

const sslRequest = Buffer.from([0, 0, 0, 8, 0x04, 0xd2, 0x16, 0x2f]);

/** Sends an SSLRequest; "S" or "N" (PostgreSQL docs §55.2.10). Bytes beyond the answer are an attack (CVE-2021-23222). */
export function negotiatePostgresTls(socket: Socket): Promise<"S" | "N"> {
  return new Promise((resolve, reject) => {
    const done = (): void => {
      clearTimeout(timer);
      socket.off("data", onData);
      socket.off("error", onError);
      socket.off("close", onClose);
      socket.pause();
    };
    const fail = (reason: string): void => {
      done();
      socket.destroy();
      reject(new WeirError("WEIR_UPSTREAM_TLS", reason));
    };
    const onData = (bytes: Buffer): void => {
      const answer = bytes.length === 1 ? String.fromCharCode(bytes[0] as number) : "";
      if (answer === "S" || answer === "N") {
        done();
        resolve(answer);
      } else fail("The server's answer to the TLS request is not one of PostgreSQL's.");
    };
    const onError = (error: Error): void => fail(`The server went away before TLS: ${error.message}`);
    const onClose = (): void => fail("The server closed the connection before TLS.");
    const timer = setTimeout(() => fail("The server did not answer the TLS request."), handshakeMs);
    socket.on("data", onData);
    socket.on("error", onError);
    socket.on("close", onClose);
    socket.write(sslRequest);
    socket.resume();
  });
}

/** One context per set of files: `ca` per connection would build the roots anew each time. */
const contexts = new Map<string, SecureContext>();

function contextFor(tls: TargetTls): SecureContext {
  const files = [tls.ca, tls.clientCertificate?.cert ?? null, tls.clientCertificate?.key ?? null];
  const id = files.map((file) => (file === null ? "" : `${file}@${statSync(file).mtimeMs}`)).join("|");
  const cached = contexts.get(id);
  if (cached !== undefined) return cached;
  const [ca, cert, key] = files.map((file) => (file === null ? undefined : readFileSync(file)));
  const context = createSecureContext({
    ...(ca === undefined ? {} : { ca }),
    ...(cert === undefined ? {} : { cert }),
    ...(key === undefined ? {} : { key }),
    minVersion: "TLSv1.2",
  });
  if (contexts.size >= contextsMax) contexts.clear();
  contexts.set(id, context);
  return context;
}

function chainProblem(
  socket: TLSSocket,
  certificate: PeerCertificate,
  expected: string,
  names: boolean,
): string | null {
  if (!socket.authorized) {
    const code = String((socket.authorizationError as NodeJS.ErrnoException | null)?.code ?? socket.authorizationError);
    return `The certificate of ${expected} was not accepted: ${chainSentence(code, certificate)}.`;
  }
  const mismatch = names ? checkServerIdentity(expected, certificate) : undefined;
  if (mismatch === undefined) return null;
  return `The certificate of ${expected} is for another name: ${told(certificate.subjectaltname ?? String(certificate.subject?.CN ?? "none"))}.`;
}

/** Characters of a server's own words that an error repeats. */
const toldCharactersMax = 300;

/** The server chose these words: no control character of them reaches a log or a terminal. */
export function told(text: string): string {
  const plain = text.replace(/[^\x20-\x7e]/g, "?");
  return plain.length > toldCharactersMax ? `${plain.slice(0, toldCharactersMax)} …` : plain;
}

export function chainSentence(code: string, certificate: PeerCertificate): string {
  switch (code) {
    case "CERT_HAS_EXPIRED":
      return Date.parse(certificate.valid_to) < Date.now()
        ? `it expired on ${certificate.valid_to}`
        : "a certificate of its chain has expired";
    case "CERT_NOT_YET_VALID":
      return `it is not valid before ${certificate.valid_from}`;
    case "DEPTH_ZERO_SELF_SIGNED_CERT":
    case "SELF_SIGNED_CERT_IN_CHAIN":
      return "it is self-signed; name its CA in the target's tls.ca, or use tls.verify: first-use";
    case "UNABLE_TO_GET_ISSUER_CERT":
    case "UNABLE_TO_GET_ISSUER_CERT_LOCALLY":
    case "UNABLE_TO_VERIFY_LEAF_SIGNATURE":
      return `its issuer ${told(String(certificate.issuer?.CN ?? ""))} is not known here; name the CA in the target's tls.ca`;
    default:
      return code;
  }
}

export function pinProblem(server: UpstreamTlsOptions, expected: string, fingerprint: string) {
  try {
    const changed = server.pins.check(pinName(server), fingerprint);
    return changed === null ? null : pinChanged(expected, changed.changedFrom, fingerprint);
  } catch (cause) {
    return new WeirError(
      "WEIR_UPSTREAM_TLS",
      `The certificate of ${expected} cannot be remembered: ${message(cause)}`,
      { cause },
    );
  }
}

function pinChanged(expected: string, before: string, now: string): WeirError {
  return new WeirError(
    "WEIR_UPSTREAM_PIN_CHANGED",
    `The certificate of ${expected} is not the one seen first (then ${before}, now ${now}). If the change is right, remove its line from pins.jsonl in the state directory and restart.`,
  );
}

/** What is mirrored into our leaf: plain names and addresses only, as Node quotes names with a comma or worse in them. */
export function namesOf(certificate: PeerCertificate): SecuredUpstream["names"] {
  const names = (certificate.subjectaltname ?? "").split(", ").slice(0, namesMax);
  const commonName = certificate.subject?.CN;
  return {
    commonName: (Array.isArray(commonName) ? commonName[0] : commonName) ?? null,
    dns: names.filter((name) => /^DNS:[\w.*-]{1,253}$/.test(name)).map((name) => name.slice(4)),
    ip: names
      .filter((name) => name.startsWith("IP Address:") && isIP(name.slice(11)) !== 0)
      .map((name) => name.slice(11)),
  };
}

export function message(error: unknown): string {
  return error instanceof Error ? error.message : String(error);
}

type Server = Pick<UpstreamTlsOptions, "tls" | "hostname" | "address" | "port">;

export function pinName({ hostname, address, port }: Server): string {
  return `${hostname ?? address}:${port}`;
}

/** Whether the server has to show a certificate of a trusted issuer. */
export function judgesChain({ verify }: UpstreamTlsOptions["tls"]): boolean {
  return verify === "ca" || verify === "full";
}

/** The name that the server's certificate is verified for. */
export function expectedName({ tls, hostname, address }: Server): string {
  return tls.serverName ?? hostname ?? address;
}
