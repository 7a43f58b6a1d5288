/** Messages of HTTP/1.1 as bytes. A head in which nothing was changed leaves as it came. */
import type { Headers, OwnResponse, RequestHead, ResponseHead } from "../http/message.ts";

const lineEnd = Buffer.from("\r\n");
const copiedChunkBytesMax = 4 * 1024;
const lastChunk = Buffer.from("0\r\n\r\n");

/** `target`: the request target that goes upstream, when it is not the one that came. */
export function requestBytes(head: RequestHead, target: string | null): Buffer {
  if (head.raw !== null && target === null && !head.headers.changed) return head.raw;
  return Buffer.from(`${head.method} ${target ?? head.target} HTTP/1.1\r\n${fieldLines(head.headers)}\r\n`, "latin1");
}

export function responseBytes(head: Pick<ResponseHead, "status" | "reason" | "headers" | "raw">): Buffer {
  if (head.raw !== null && !head.headers.changed) return head.raw;
  return Buffer.from(`HTTP/1.1 ${head.status} ${head.reason}\r\n${fieldLines(head.headers)}\r\n`, "latin1");
}

/** A response that Weir makes itself, with its length; `close` ends the connection after it. */
export function ownResponseBytes(response: OwnResponse, method: string, close: boolean): Buffer {
  let head = `HTTP/1.1 ${response.status} ${reasonPhrase(response.status)}\r\n`;
  for (const [name, value] of response.headers)
    head += `${name}: ${value.replace(/[^\t\x20-\x7e\x80-\xff]/g, "?")}\r\n`;
  head += `content-length: ${response.body.length}\r\n${close ? "connection: close\r\n" : ""}\r\n`;
  const bytes = Buffer.from(head, "latin1");
  return method === "HEAD" || response.body.length === 0 ? bytes : Buffer.concat([bytes, response.body]);
}

/** The same for who speaks HTTP/2: SETTINGS, and GOAWAY with HTTP_1_1_REQUIRED and the reason (RFC 9113 §6.8). */
export function http2RefusalBytes(message: string): Buffer {
  const reason = Buffer.from(message, "utf8");
  const frames = Buffer.alloc(9 + 9 + 8);
  frames[3] = 4;
  frames.writeUIntBE(8 + reason.length, 9, 3);
  frames[12] = 7;
  frames[25] = 0xd;
  return Buffer.concat([frames, reason]);
}

/** A short one in one piece: it costs less to copy it than to carry three. */
export function chunk(bytes: Buffer): Buffer[] {
  const { length } = bytes;
  if (length === 0) return [];
  const size = `${length.toString(16)}\r\n`;
  if (length > copiedChunkBytesMax) return [Buffer.from(size, "latin1"), bytes, lineEnd];
  const whole = Buffer.allocUnsafe(size.length + length + 2);
  whole.write(size, 0, "latin1");
  whole.set(bytes, size.length);
  whole[size.length + length] = 0x0d;
  whole[size.length + length + 1] = 0x0a;
  return [whole];
}

export function endOfChunks(trailers: Headers | null): Buffer {
  return trailers === null ? lastChunk : Buffer.from(`0\r\n${fieldLines(trailers)}\r\n`, "latin1");
}

export function reasonPhrase(status: number): string {
  return phrases[status] ?? "";
}

const phrases: Readonly<Record<number, string>> = {
  200: "OK",
  400: "Bad Request",
  403: "Forbidden",
  404: "Not Found",
  411: "Length Required",
  413: "Content Too Large",
  421: "Misdirected Request",
  429: "Too Many Requests",
  431: "Request Header Fields Too Large",
  500: "Internal Server Error",
  501: "Not Implemented",
  502: "Bad Gateway",
  503: "Service Unavailable",
  504: "Gateway Timeout",
};

function fieldLines(headers: Headers): string {
  const { fields } = headers;
  let text = "";
  for (let at = 0; at < fields.length; at += 2) text += `${fields[at]}: ${fields[at + 1]}\r\n`;
  return text;
}
