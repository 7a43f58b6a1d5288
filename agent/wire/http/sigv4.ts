/** AWS Signature Version 4: "Create a signed AWS API request", IAM User Guide. */
import { createHash, createHmac } from "node:crypto";
import type { RequestHead } from "./message.ts";
import { splitTarget } from "./request-facts.ts";

export interface SigningKey {
  readonly accessKeyId: string;
  readonly secretAccessKey: string;
  readonly sessionToken: string | null;
  readonly region: string;
  readonly service: string;
}

/** Of a body of events, each of which is signed by itself. */
const eventsPayload = "STREAMING-AWS4-HMAC-SHA256-EVENTS";

/** Signs in place. `body` null: it is not known, and S3 alone takes that (`UNSIGNED-PAYLOAD`). */
export function signV4(head: RequestHead, body: Buffer | null, key: SigningKey, nowMs: number): void {
  signHead(head, body === null ? "UNSIGNED-PAYLOAD" : sha256(body), key, nowMs);
}

/**
 * Signs a request whose body is a stream of events, and each of these over the one before: "Signature calculations for
 * event streams", IAM User Guide.
 */
export class EventSigner {
  readonly #key: SigningKey;
  readonly #now: () => number;
  #last = "";

  constructor(key: SigningKey, now: () => number) {
    this.#key = key;
    this.#now = now;
  }

  /** In place, before the first event. */
  signHead(head: RequestHead): void {
    this.#last = signHead(head, eventsPayload, this.#key, this.#now());
  }

  /** `header` writes the time as the event's head has it. */
  sign(payload: Buffer, header: (timeMs: number) => Buffer): { readonly timeMs: number; readonly signature: Buffer } {
    const timeMs = Math.floor(this.#now() / 1000) * 1000;
    const time = timeOf(timeMs);
    const said = ["AWS4-HMAC-SHA256-PAYLOAD", time, scopeOf(this.#key, time), this.#last];
    const signature = sign([...said, sha256(header(timeMs)), sha256(payload)].join("\n"), this.#key, time);
    this.#last = signature.toString("hex");
    return { timeMs, signature };
  }
}

/** The signature. */
function signHead(head: RequestHead, payload: string, key: SigningKey, nowMs: number): string {
  const { headers } = head;
  const time = timeOf(nowMs);
  headers.set("x-amz-date", time);
  if (key.sessionToken !== null) headers.set("x-amz-security-token", key.sessionToken);
  const isTold = key.service === "s3" || payload === eventsPayload || headers.has("x-amz-content-sha256");
  if (isTold) headers.set("x-amz-content-sha256", payload);
  const signed = signedFields(head);
  const scope = scopeOf(key, time);
  const { path, query } = splitTarget(head.target);
  const canonical = [
    head.method,
    key.service === "s3" ? path : path.split("/").map(encode).join("/"),
    canonicalQuery(query),
    ...signed.map(([name, value]) => `${name}:${value}`),
    "",
    signed.map(([name]) => name).join(";"),
    payload,
  ].join("\n");
  const toSign = ["AWS4-HMAC-SHA256", time, scope, sha256(Buffer.from(canonical, "utf8"))].join("\n");
  const signature = sign(toSign, key, time).toString("hex");
  headers.set(
    "authorization",
    `AWS4-HMAC-SHA256 Credential=${key.accessKeyId}/${scope}, SignedHeaders=${signed.map(([name]) => name).join(";")}, Signature=${signature}`,
  );
  return signature;
}

function sign(text: string, key: SigningKey, time: string): Buffer {
  const secret = [time.slice(0, 8), key.region, key.service, "aws4_request"].reduce<Buffer>(
    (from, word) => createHmac("sha256", from).update(word).digest(),
    Buffer.from(`AWS4${key.secretAccessKey}`, "utf8"),
  );
  return createHmac("sha256", secret).update(text).digest();
}

function timeOf(nowMs: number): string {
  return new Date(nowMs).toISOString().replace(/[-:]|\.\d{3}/g, "");
}

function scopeOf({ region, service }: SigningKey, time: string): string {
  return `${time.slice(0, 8)}/${region}/${service}/aws4_request`;
}

/** True: a server that checks the client's signature takes no other body. */
export function signsBody({ headers }: RequestHead): boolean {
  const digest = headers.get("x-amz-content-sha256") ?? "";
  return /^\s*AWS4-/.test(headers.get("authorization") ?? "") && !digest.includes("UNSIGNED-PAYLOAD");
}

/** Host, the content type and all of x-amz-*, sorted; a proxy on the way may change others. */
function signedFields(head: RequestHead): [string, string][] {
  const found = new Map<string, string>([["host", head.authority]]);
  const { fields } = head.headers;
  for (let at = 0; at < fields.length; at += 2) {
    const name = (fields[at] as string).toLowerCase();
    if (name !== "content-type" && !name.startsWith("x-amz-")) continue;
    const value = (fields[at + 1] as string).trim().replace(/ +/g, " ");
    const before = found.get(name);
    found.set(name, before === undefined ? value : `${before},${value}`);
  }
  return [...found].sort(([a], [b]) => (a < b ? -1 : 1));
}

function canonicalQuery(query: string): string {
  return query
    .split("&")
    .filter((pair) => pair !== "")
    .map((pair) => {
      const equals = pair.indexOf("=");
      const [name, value] = equals < 0 ? [pair, ""] : [pair.slice(0, equals), pair.slice(equals + 1)];
      return `${encode(decode(name))}=${encode(decode(value))}`;
    })
    .sort()
    .join("&");
}

function decode(text: string): string {
  try {
    return decodeURIComponent(text);
  } catch {
    return text;
  }
}

/** Unreserved characters of RFC 3986 stay, all else is escaped. */
function encode(text: string): string {
  return encodeURIComponent(text).replace(
    /[!'()*]/g,
    (letter) => `%${letter.charCodeAt(0).toString(16).toUpperCase()}`,
  );
}

function sha256(bytes: Buffer): string {
  return createHash("sha256").update(bytes).digest("hex");
}
