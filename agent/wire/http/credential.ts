/**
 * The credential that the client never sees: put on the request in place of the client's own, and taken out of every
 * response that carries it.
 */
import type { HttpCredentialOf } from "../../core/target.ts";
import type { ReplyReader } from "./dialect.ts";
import { FrameScrubber } from "./frame-scrubber.ts";
import type { Headers, RequestHead, ResponseHead } from "./message.ts";
import { splitTarget } from "./request-facts.ts";
import { BodyScrubber, PartScrubber, scrubbedBytesMin } from "./scrubber.ts";
import { signV4 } from "./sigv4.ts";

export type HttpCredential = HttpCredentialOf<string>;

/** Where clients put theirs. */
const clientFields = ["authorization", "x-api-key", "api-key", "x-goog-api-key", "x-amz-security-token"];

/** Changes the head's fields; the new request target, or null when it stays. `nowMs` is for signatures. */
export function applyCredential(
  head: RequestHead,
  body: Buffer | null,
  credential: HttpCredential,
  nowMs: number,
): string | null {
  const { headers } = head;
  for (const field of clientFields) headers.delete(field);
  switch (credential.kind) {
    case "bearer":
      headers.set("authorization", `Bearer ${credential.token}`);
      return null;
    case "basic":
      headers.set("authorization", `Basic ${basic(credential)}`);
      return null;
    case "header":
      headers.delete(credential.name.toLowerCase());
      headers.set(credential.name, credential.value);
      return null;
    case "query": {
      const { path, query } = splitTarget(head.target);
      const kept = query.split("&").filter((pair) => pair !== "" && nameOf(pair) !== credential.name);
      kept.push(`${encodeURIComponent(credential.name)}=${encodeURIComponent(credential.value)}`);
      return `${path}?${kept.join("&")}`;
    }
    case "sigv4":
      signV4(head, body, credential, nowMs);
      return null;
  }
}

/** Hides the credential in what a response says beside its body: the fields, and the words after the status. */
export function scrubHead(credential: HttpCredential, head: ResponseHead): void {
  const secrets = secretsOf(credential);
  scrubFields(head.headers, secrets);
  const reason = hidden(head.reason, secrets);
  if (reason === head.reason) return;
  head.reason = reason;
  head.headers.changed = true;
}

export function scrubTrailers(credential: HttpCredential, trailers: Headers): void {
  scrubFields(trailers, secretsOf(credential));
}

/** Whatever type the body says it has: who can make a server repeat the key may choose the type too. */
export function scrubberFor(credential: HttpCredential, isPart = false): ReplyReader | null {
  const secrets = bytesOf(credential);
  if (secrets.length === 0) return null;
  return isPart ? new PartScrubber(secrets) : new BodyScrubber(secrets, 1);
}

/**
 * For what comes after a 101: nobody says where a message ends, and one whose last letter a secret begins with must not
 * wait for the next. So only what looks much like a secret already is held back. Of a WebSocket the frames are read.
 */
export function tunnelScrubberFor(credential: HttpCredential, protocol: string): ReplyReader | null {
  const secrets = bytesOf(credential);
  if (secrets.length === 0) return null;
  return protocol === "websocket" ? new FrameScrubber(secrets) : new BodyScrubber(secrets, scrubbedBytesMin);
}

function bytesOf(credential: HttpCredential): Buffer[] {
  return secretsOf(credential).map((secret) => Buffer.from(secret, "utf8"));
}

/** Forms of one credential; credentials are made anew for each connection, and gone with it. */
const known = new WeakMap<HttpCredential, string[]>();

/** As it is, and as servers repeat it; the longest first. */
function secretsOf(credential: HttpCredential): string[] {
  let secrets = known.get(credential);
  if (secrets === undefined) {
    secrets = formsOf(credential);
    known.set(credential, secrets);
  }
  return secrets;
}

function formsOf(credential: HttpCredential): string[] {
  const plain: string[] = [];
  if (credential.kind === "bearer") plain.push(credential.token);
  else if (credential.kind === "basic") plain.push(credential.password, basic(credential));
  else if (credential.kind === "sigv4") {
    plain.push(credential.secretAccessKey);
    if (credential.sessionToken !== null) plain.push(credential.sessionToken);
  } else plain.push(credential.value);
  const forms = plain
    .filter((secret) => secret.length >= scrubbedBytesMin)
    .flatMap((secret) => [
      ...[secret, JSON.stringify(secret).slice(1, -1), htmlEscaped(secret)],
      ...[...escapedForms(secret), ...escapedForms(encodeURIComponent(secret))],
      ...[Buffer.from(secret, "utf8").toString("hex"), Buffer.from(secret, "utf8").toString("hex").toUpperCase()],
      ...[Buffer.from(secret, "utf8").toString("base64").replace(/=+$/, ""), ...base64Forms(secret)],
    ]);
  return [...new Set(forms)].filter((form) => form.length >= scrubbedBytesMin).sort((a, b) => b.length - a.length);
}

/**
 * In base64 of a longer text (`Bearer …`) a secret looks different by where it stands in its groups of three bytes.
 * Letters at its edges depend on its neighbours, and are left as they are.
 */
function base64Forms(secret: string): string[] {
  const bytes = Buffer.from(secret, "utf8");
  return [0, 1, 2].flatMap((before) => {
    const text = Buffer.concat([Buffer.alloc(before), bytes]).toString("base64");
    const whole = text.slice(Math.ceil((before * 8) / 6), Math.floor(((before + bytes.length) * 8) / 6));
    return [whole, whole.replaceAll("+", "-").replaceAll("/", "_")];
  });
}

/** In a URL, and in a URL that stands in a query, as redirects have them. */
function escapedForms(text: string): string[] {
  const escaped = encodeURIComponent(text);
  return [escaped, escaped.replaceAll("%20", "+")];
}

function htmlEscaped(secret: string): string {
  return secret.replaceAll("&", "&amp;").replaceAll("<", "&lt;").replaceAll(">", "&gt;").replaceAll('"', "&quot;");
}

function scrubFields(headers: Headers, secrets: readonly string[]): void {
  const { fields } = headers;
  for (let at = 1; at < fields.length; at += 2) {
    const value = hidden(fields[at] as string, secrets);
    if (value === fields[at]) continue;
    fields[at] = value;
    headers.changed = true;
  }
}

function hidden(text: string, secrets: readonly string[]): string {
  let out = text;
  for (const secret of secrets) if (out.includes(secret)) out = out.replaceAll(secret, "*".repeat(secret.length));
  return out;
}

function basic({ user, password }: { readonly user: string; readonly password: string }): string {
  return Buffer.from(`${user}:${password}`, "utf8").toString("base64");
}

function nameOf(pair: string): string {
  try {
    return decodeURIComponent(pair.split("=")[0] as string);
  } catch {
    return pair;
  }
}
