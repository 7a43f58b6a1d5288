/** Reads the names in a TLS ClientHello (RFC 8446 §4.1.2, RFC 6066 §3, RFC 7301) without touching the handshake. */

export interface ClientHello {
  /** SNI, lower case; null: the client sent none. */
  readonly serverName: string | null;
  /** Application protocols in the client's order; empty: the extension is not there. */
  readonly alpn: readonly string[];
}

/** Longest hello that is read; real ones are below 4 KiB, with post-quantum key shares too. */
export const helloBytesMax = 64 * 1024;

/** `more`: its end is not there yet. null: it is no TLS hello. Records may cut the hello anywhere. */
export function readClientHello(bytes: Buffer): ClientHello | "more" | null {
  const first = bytes.subarray(0, 3);
  if (first.length > 0 && first[0] !== 0x16) return null;
  if (first.length > 1 && first[1] !== 3) return null;
  const parts: Buffer[] = [];
  let length = 0;
  for (let at = 0; ; ) {
    if (bytes.length < at + 5) return bytes.length > helloBytesMax ? null : "more";
    if (bytes[at] !== 0x16) return null;
    const size = bytes.readUInt16BE(at + 3);
    if (size === 0 || size > 16_384 + 256) return null;
    const part = bytes.subarray(at + 5, at + 5 + size);
    parts.push(part);
    length += part.length;
    const handshake = parts.length === 1 ? (parts[0] as Buffer) : Buffer.concat(parts);
    if (length >= 4) {
      if (handshake[0] !== 1) return null;
      const wanted = handshake.readUIntBE(1, 3) + 4;
      if (wanted > helloBytesMax) return null;
      if (length >= wanted) return readBody(handshake.subarray(4, wanted));
    }
    if (part.length < size) return bytes.length > helloBytesMax ? null : "more";
    at += 5 + size;
  }
}

function readBody(body: Buffer): ClientHello | null {
  try {
    let at = 2 + 32;
    at += 1 + body.readUInt8(at);
    at += 2 + body.readUInt16BE(at);
    at += 1 + body.readUInt8(at);
    if (at === body.length) return { serverName: null, alpn: [] };
    const end = at + 2 + body.readUInt16BE(at);
    at += 2;
    if (end !== body.length) return null;
    let serverName: string | null = null;
    let alpn: string[] = [];
    while (at < end) {
      const type = body.readUInt16BE(at);
      const size = body.readUInt16BE(at + 2);
      const data = body.subarray(at + 4, at + 4 + size);
      if (data.length < size) return null;
      if (type === 0) serverName = nameOf(data);
      else if (type === 16) alpn = protocolsOf(data);
      at += 4 + size;
    }
    return { serverName, alpn };
  } catch {
    // Reading past the end: the lengths inside contradict each other.
    return null;
  }
}

function nameOf(data: Buffer): string | null {
  if (data.length < 5 || data.readUInt8(2) !== 0) return null;
  const name = data.toString("latin1", 5, 5 + data.readUInt16BE(3)).toLowerCase();
  return /^[a-z0-9._-]{1,253}$/.test(name) ? name.replace(/\.$/, "") : null;
}

function protocolsOf(data: Buffer): string[] {
  const names: string[] = [];
  for (let at = 2; at < data.length; at += 1 + data.readUInt8(at))
    names.push(data.toString("latin1", at + 1, at + 1 + data.readUInt8(at)));
  return names;
}
