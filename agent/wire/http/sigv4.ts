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

/** Signs in place. `body` null: it is not known, and S3 alone takes that (`UNSIGNED-PAYLOAD`). */
export function signV4(head: RequestHead, body: Buffer | null, key: SigningKey, nowMs: number): void {
  const { headers } = head;
  const time = new Date(nowMs).toISOString().replace(/[-:]|\.\d{3}/g, "");
  const day = time.slice(0, 8);
  const payload = body === null ? "UNSIGNED-PAYLOAD" : sha256(body);
  headers.set("x-amz-date", time);
  if (key.sessionToken !== null) headers.set("x-amz-security-token", key.sessionToken);
  if (key.service === "s3" || headers.has("x-amz-content-sha256")) headers.set("x-amz-content-sha256", payload);
  const signed = signedFields(head);
  const scope = `${day}/${key.region}/${key.service}/aws4_request`;
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
  const secret = [day, key.region, key.service, "aws4_request"].reduce<Buffer>(
    (from, word) => createHmac("sha256", from).update(word).digest(),
    Buffer.from(`AWS4${key.secretAccessKey}`, "utf8"),
  );
  const signature = createHmac("sha256", secret).update(toSign).digest("hex");
  headers.set(
    "authorization",
    `AWS4-HMAC-SHA256 Credential=${key.accessKeyId}/${scope}, SignedHeaders=${signed.map(([name]) => name).join(";")}, Signature=${signature}`,
  );
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
