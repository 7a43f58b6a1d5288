/** The few DER shapes that a certificate needs (ITU-T X.690). Values in, bytes out. */

function length(bytes: number): Buffer {
  if (bytes < 0x80) return Buffer.from([bytes]);
  if (bytes < 0x100) return Buffer.from([0x81, bytes]);
  if (bytes < 0x10000) return Buffer.from([0x82, bytes >> 8, bytes & 0xff]);
  // A certificate with thousands of names is longer than 64 KiB.
  return Buffer.from([0x83, bytes >> 16, (bytes >> 8) & 0xff, bytes & 0xff]);
}

export function tagged(tag: number, ...parts: readonly Buffer[]): Buffer {
  const body = Buffer.concat(parts);
  return Buffer.concat([Buffer.from([tag]), length(body.length), body]);
}

export const sequence = (...parts: readonly Buffer[]): Buffer => tagged(0x30, ...parts);
export const set = (...parts: readonly Buffer[]): Buffer => tagged(0x31, ...parts);
export const octets = (body: Buffer): Buffer => tagged(0x04, body);
export const bits = (body: Buffer, unused = 0): Buffer => tagged(0x03, Buffer.from([unused]), body);
export const utf8 = (text: string): Buffer => tagged(0x0c, Buffer.from(text, "utf8"));
export const yes = Buffer.from([0x01, 0x01, 0xff]);

/** A positive INTEGER of these big-endian bytes. */
export function integer(bytes: Buffer): Buffer {
  let at = 0;
  while (at < bytes.length - 1 && bytes[at] === 0) at += 1;
  const body = bytes.subarray(at);
  return (body[0] as number) >= 0x80 ? tagged(0x02, Buffer.from([0]), body) : tagged(0x02, body);
}

export function oid(dotted: string): Buffer {
  const [first = 0, second = 0, ...rest] = dotted.split(".").map(Number);
  const bytes = [first * 40 + second];
  for (const arc of rest) {
    const septets = [arc & 0x7f];
    for (let left = arc >> 7; left > 0; left >>= 7) septets.unshift((left & 0x7f) | 0x80);
    bytes.push(...septets);
  }
  return tagged(0x06, Buffer.from(bytes));
}

/** UTCTime until 2049, GeneralizedTime after (RFC 5280 §4.1.2.5). */
export function time(ms: number): Buffer {
  const text = new Date(ms).toISOString().replace(/[-:T]/g, "").slice(0, 14);
  return text < "2050" ? tagged(0x17, Buffer.from(`${text.slice(2)}Z`)) : tagged(0x18, Buffer.from(`${text}Z`));
}
