/** Credentials of a target: where their secrets come from, and which kind goes with which protocol. */
import { speaksHttp } from "../core/operation.ts";
import type { HttpTargetCredential, SecretSource, Target, TargetCredential } from "../core/target.ts";

export interface RawSecret {
  file?: string;
  env?: string;
  exec?: string[];
  vault?: { address: string; mount: string; path: string; field: string; token: RawSecret };
}

export interface RawCredential {
  user?: string;
  password?: RawSecret;
  clientPassword?: RawSecret;
  bearer?: RawSecret;
  header?: { name: string; value: RawSecret };
  query?: { name: string; value: RawSecret };
  basic?: { user: string; password: RawSecret };
  sigv4?: {
    accessKeyId: RawSecret;
    secretAccessKey: RawSecret;
    sessionToken?: RawSecret;
    region: string;
    service: string;
  };
}

const httpKinds = ["bearer", "header", "query", "basic", "sigv4"] as const;
const loginKeys = ["user", "password", "clientPassword"] as const;
/** RFC 9110 §5.6.2. */
const token = /^[!#$%&'*+.^_`|~0-9A-Za-z-]+$/;
/** Of a request's framing, its connection or its addressee: a secret there would be sent on, or break the message. */
const framing =
  /^(?:host|connection|content-length|transfer-encoding|te|trailer|upgrade|keep-alive|expect|proxy-.*|:.*)$/i;

type Complain = (path: readonly string[], message: string) => void;

export function compileCredential(
  raw: RawCredential,
  protocol: Target["protocol"],
  complain: Complain,
): { credential: TargetCredential | null; httpCredential: HttpTargetCredential | null } {
  const none = { credential: null, httpCredential: null };
  const kinds = httpKinds.filter((kind) => raw[kind] !== undefined);
  const login = loginKeys.find((key) => raw[key] !== undefined);
  if (protocol === "opaque") {
    complain([], "an opaque target is not decoded, so no credential can be used.");
    return none;
  }
  if (speaksHttp(protocol)) {
    if (login !== undefined) {
      complain(
        [login],
        `a target of the protocol ${protocol} has no login; its credential is one of ${httpKinds.join(", ")}.`,
      );
      return none;
    }
    if (kinds.length !== 1) complain([], `a credential is exactly one of ${httpKinds.join(", ")}.`);
    return { credential: null, httpCredential: httpCredentialOf(raw, complain) };
  }
  if (kinds.length > 0) {
    complain([kinds[0]!], `${kinds[0]} is for targets over HTTP; a ${protocol} target has user and password.`);
    return none;
  }
  if (raw.user === undefined) complain([], "`user` is missing.");
  return {
    credential: {
      user: raw.user ?? "",
      password: secretOf(raw.password),
      clientPassword: secretOf(raw.clientPassword),
    },
    httpCredential: null,
  };
}

function httpCredentialOf(raw: RawCredential, complain: Complain): HttpTargetCredential | null {
  const { bearer, header, query, basic, sigv4 } = raw;
  if (bearer !== undefined) return { kind: "bearer", token: secretOf(bearer) };
  if (header !== undefined) {
    // The value is the secret; a name is none and may be quoted.
    if (!token.test(header.name)) complain(["header", "name"], "expected the name of an HTTP header.");
    else if (framing.test(header.name))
      complain(["header", "name"], `the header ${header.name} belongs to the connection and carries no credential.`);
    return { kind: "header", name: header.name, value: secretOf(header.value) };
  }
  if (query !== undefined) {
    if (/[\s&=#?]/.test(query.name)) complain(["query", "name"], "expected the name of a parameter.");
    return { kind: "query", name: query.name, value: secretOf(query.value) };
  }
  if (basic !== undefined) {
    // RFC 7617 §2: the user ends at the first colon.
    if (basic.user.includes(":")) complain(["basic", "user"], "a user with a colon cannot be sent as Basic.");
    return { kind: "basic", user: basic.user, password: secretOf(basic.password) };
  }
  if (sigv4 === undefined) return null;
  return {
    kind: "sigv4",
    accessKeyId: secretOf(sigv4.accessKeyId),
    secretAccessKey: secretOf(sigv4.secretAccessKey),
    sessionToken: secretOf(sigv4.sessionToken),
    region: sigv4.region,
    service: sigv4.service,
  };
}

function secretOf(raw: RawSecret): SecretSource;
function secretOf(raw: RawSecret | undefined): SecretSource | null;
function secretOf(raw: RawSecret | undefined): SecretSource | null {
  if (raw === undefined) return null;
  if (raw.file !== undefined) return { from: "file", path: raw.file };
  if (raw.env !== undefined) return { from: "env", name: raw.env };
  if (raw.vault === undefined) return { from: "exec", command: raw.exec ?? [] };
  const { address, mount, path, field, token: from } = raw.vault;
  return { from: "vault", address: address.replace(/\/$/, ""), mount, path, field, token: secretOf(from) };
}
