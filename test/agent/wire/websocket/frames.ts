/** A frame as a server sends it, without a mask (RFC 6455 section 5.2); one character is one byte. */
export function rawFrame(op: number, text: string, final = true): Buffer {
  const payload = Buffer.from(text, "latin1");
  const first = (final ? 0x80 : 0) | op;
  if (payload.length < 126) return Buffer.concat([Buffer.from([first, payload.length]), payload]);
  const head = Buffer.from([first, 126, 0, 0]);
  head.writeUInt16BE(payload.length, 2);
  return Buffer.concat([head, payload]);
}
