/**
 * The credential that the client never sees: put on the request in place of the client's own, and taken out of every
 * response that carries it.
 */
import type { ReplyReader } from "./dialect.ts";
import { type Headers, mediaType, type RequestHead, type ResponseHead } from "./message.ts";
import { splitTarget } from "./request-facts.ts";
import { signV4 } from "./sigv4.ts";

export type HttpCredential =
  | { readonly kind: "bearer"; readonly token: string }
  | { readonly kind: "header"; readonly name: string; readonly value: string }
  | { readonly kind: "query"; readonly name: string; readonly value: string }
  | { readonly kind: "basic"; readonly user: string; readonly password: string }
  | {
      readonly kind: "sigv4";
      readonly accessKeyId: string;
      readonly secretAccessKey: string;
      readonly sessionToken: string | null;
      readonly region: string;
      readonly service: string;
    };

/** Where clients put theirs. */
const clientFields = ["authorization", "x-api-key", "api-key", "x-goog-api-key", "x-amz-security-token"];
/** A shorter secret would be found in every other text. */
const scrubbedBytesMin = 6;

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

/** Hides the credential in the response's fields at once; null: its body cannot carry it. */
export function scrubberFor(credential: HttpCredential, head: ResponseHead): ReplyReader | null {
  const secrets = secretsOf(credential);
  scrubFields(head.headers, secrets);
  if (secrets.length === 0 || /^(?:image|video|audio|font)\//.test(mediaType(head.headers))) return null;
  return new Scrubber(secrets.map((secret) => Buffer.from(secret, "utf8")));
}

/** As it is, and as servers repeat it. */
function secretsOf(credential: HttpCredential): string[] {
  const plain: string[] = [];
  if (credential.kind === "bearer") plain.push(credential.token);
  else if (credential.kind === "basic") plain.push(credential.password, basic(credential));
  else if (credential.kind === "sigv4") {
    plain.push(credential.secretAccessKey);
    if (credential.sessionToken !== null) plain.push(credential.sessionToken);
  } else plain.push(credential.value);
  const forms = plain.flatMap((secret) => [
    secret,
    encodeURIComponent(secret),
    Buffer.from(secret, "utf8").toString("base64").replace(/=+$/, ""),
    JSON.stringify(secret).slice(1, -1),
  ]);
  return [...new Set(forms)].filter((form) => form.length >= scrubbedBytesMin).sort((a, b) => b.length - a.length);
}

function scrubFields(headers: Headers, secrets: readonly string[]): void {
  const { fields } = headers;
  for (let at = 1; at < fields.length; at += 2) {
    for (const secret of secrets) {
      if (!(fields[at] as string).includes(secret)) continue;
      fields[at] = (fields[at] as string).replaceAll(secret, "*".repeat(secret.length));
      headers.changed = true;
    }
  }
}

/** Overwrites secrets in a stream of bytes; holds back only what a secret could still begin with. */
class Scrubber implements ReplyReader {
  readonly preservesLength = true;
  masked = 0;
  readonly #secrets: readonly Buffer[];
  #held = Buffer.alloc(0);

  constructor(secrets: readonly Buffer[]) {
    this.#secrets = secrets;
  }

  get heldBytes(): number {
    return this.#held.length;
  }

  push(bytes: Buffer): Buffer {
    const all = this.#held.length === 0 ? bytes : Buffer.concat([this.#held, bytes]);
    for (const secret of this.#secrets) {
      for (let at = all.indexOf(secret); at >= 0; at = all.indexOf(secret, at + secret.length)) {
        all.fill(0x2a, at, at + secret.length);
        this.masked += 1;
      }
    }
    const open = openBytes(all, this.#secrets);
    this.#held = Buffer.from(all.subarray(all.length - open));
    return all.subarray(0, all.length - open);
  }

  end(): Buffer {
    const last = this.#held;
    this.#held = Buffer.alloc(0);
    return last;
  }

  summary() {
    return { text: "", inputTokens: null, outputTokens: null, toolCalls: [], error: null };
  }
}

/** Length of the longest end of `bytes` that a secret begins with. */
function openBytes(bytes: Buffer, secrets: readonly Buffer[]): number {
  let open = 0;
  for (const secret of secrets) {
    for (let size = Math.min(secret.length - 1, bytes.length); size > open; size -= 1) {
      if (bytes[bytes.length - size] !== secret[0]) continue;
      if (bytes.compare(secret, 0, size, bytes.length - size, bytes.length) === 0) open = size;
    }
  }
  return open;
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
