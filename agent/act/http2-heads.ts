/** Heads of HTTP/2 as the exchange sees them, and as node:http2 sends them. */
import type { IncomingHttpHeaders } from "node:http2";
import { type BodyLength, Headers, type RequestHead, type ResponseHead } from "../wire/http/message.ts";

/** Fields that only HTTP/1 has (RFC 9113 §8.2.2). */
const connectionFields = new Set([
  ...["connection", "keep-alive", "proxy-connection", "transfer-encoding", "upgrade", "http2-settings"],
]);

/** null: it lacks what every request has (RFC 9113 §8.3.1). */
export function requestHead(raw: readonly string[], ends: boolean, scheme: "http" | "https"): RequestHead | null {
  const fields: string[] = [];
  const pseudo: Record<string, string> = {};
  for (let at = 0; at < raw.length; at += 2) {
    const name = raw[at] as string;
    if (name.startsWith(":")) pseudo[name] = raw[at + 1] as string;
    else fields.push(name, raw[at + 1] as string);
  }
  const headers = new Headers(fields);
  const { ":method": method, ":path": target, ":authority": named } = pseudo;
  const host = headers.get("host");
  const authority = named ?? host ?? "";
  if (method === undefined || target === undefined || authority === "") return null;
  // Two names for one server: which of them is asked?
  if (named !== undefined && host !== null && host.toLowerCase() !== named.toLowerCase()) return null;
  headers.delete("host");
  return { method, target, scheme, authority, headers, version: "2", body: lengthOf(headers, ends), raw: null };
}

export function responseHead(raw: readonly string[], status: number, ends: boolean): ResponseHead {
  const fields: string[] = [];
  for (let at = 0; at < raw.length; at += 2)
    if (!(raw[at] as string).startsWith(":")) fields.push(raw[at] as string, raw[at + 1] as string);
  const headers = new Headers(fields);
  return { status, reason: "", headers, version: "2", body: lengthOf(headers, ends), raw: null };
}

function lengthOf(headers: Headers, ends: boolean): BodyLength {
  if (ends) return { kind: "none" };
  const length = headers.get("content-length");
  return length !== null && /^[0-9]{1,15}$/.test(length)
    ? { kind: "length", bytes: Number(length) }
    : { kind: "chunked" };
}

export function objectOf(headers: Headers): Record<string, string | string[]> {
  const object: Record<string, string | string[]> = {};
  const { fields } = headers;
  for (let at = 0; at < fields.length; at += 2) {
    const name = (fields[at] as string).toLowerCase();
    if (connectionFields.has(name)) continue;
    // The one value that is let through (RFC 9113 §8.2.2), in the one spelling that node:http2 takes.
    if (name === "te" && (fields[at + 1] as string).toLowerCase() !== "trailers") continue;
    const before = object[name];
    const value = name === "te" ? "trailers" : (fields[at + 1] as string);
    object[name] = before === undefined ? value : [before, value].flat();
  }
  return object;
}

export function flat(headers: IncomingHttpHeaders): string[] {
  return Object.entries(headers).flatMap(([name, value]) => [value].flat().flatMap((one) => [name, String(one)]));
}
