/**
 * Parts of a resource (RFC 9110 §14). At the ends of a part a secret, or a value to be masked, is cut: who asks for one
 * part after the other would have all of it. So the whole is asked for, as any server may answer with it.
 */
import type { HttpCredential } from "./credential.ts";
import { askIdentity, type Headers, type ResponseHead } from "./message.ts";

/** Whether the answer may be a part: `ends`: with its ends looked at. */
export type PartsAllowed = "no" | "ends" | "yes";

export const unreadTunnel = "The server changes the protocol, and what it carries would have to be masked.";
export const cutPart = "The server answers with a part, at whose ends a value may be cut.";

export interface Reading {
  readonly credential: HttpCredential | null;
  readonly isMasked: boolean;
  /** The request was read whole, and its answer is. */
  readonly isWhole: boolean;
  /** After a 101 the messages are. */
  readonly isTunnelRead: boolean;
}

/** Asks for what can be read, where what comes back has to be: no content coding, no compressed messages, no part. */
export function askReadable(headers: Headers, { credential, isMasked, isWhole, isTunnelRead }: Reading): PartsAllowed {
  const changes = isMasked || credential !== null;
  if (changes || isWhole) askIdentity(headers);
  if (changes || isTunnelRead) headers.delete("sec-websocket-extensions");
  return askWhole(headers, credential, isMasked);
}

/** Takes the ranges out of a request, where what comes back has to be read. */
export function askWhole(headers: Headers, credential: HttpCredential | null, isMasked: boolean): PartsAllowed {
  const allowed = credential === null ? "yes" : partsFor(credential);
  if (allowed !== "no" && (!isMasked || isAwsClient(headers))) return allowed;
  headers.delete("range");
  headers.delete("if-range");
  return "no";
}

/**
 * Clients of S3 read all objects in parts, and do not look whether they were given one. What such a server is sent of a
 * SigV4 credential is its session token at most, and no object has that in it.
 */
function partsFor(credential: HttpCredential): PartsAllowed {
  if (credential.kind !== "sigv4") return "no";
  if (credential.sessionToken === null) return "yes";
  return credential.service === "s3" ? "ends" : "no";
}

/** Its signature may be over the range, and it does not look at what it is given: so it is told that its answer cannot be masked. */
function isAwsClient(headers: Headers): boolean {
  return headers.get("authorization")?.startsWith("AWS4-") === true;
}

export function isPart({ status, headers }: ResponseHead): boolean {
  return status === 206 || /^multipart\/byteranges\b/i.test(headers.get("content-type")?.trim() ?? "");
}
