/** HTTP/2 without TLS: a client that knows that its server speaks it begins with the connection preface (RFC 9113 §3.3, §3.4). */

const preface = Buffer.from("PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n");

/** Its first line, as a request of HTTP/1.1 would have it. */
export const prefaceLine = "PRI * HTTP/2.0";

/** `more`: what there is so far could become the preface. */
export function beginsHttp2(bytes: Buffer): boolean | "more" {
  const length = Math.min(bytes.length, preface.length);
  if (preface.compare(bytes, 0, length, 0, length) !== 0) return false;
  return length === preface.length || "more";
}
