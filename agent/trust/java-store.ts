/**
 * Java's files of trusted certificates, read and extended without a JVM: JKS, and PKCS#12 without a password as JDK 18
 * and newer ship it (RFC 7292). What is written is JKS: every JDK reads it where it looks for PKCS#12
 * (`keystore.type.compat`).
 */
import { createHash } from "node:crypto";

export interface StoreEntry {
  readonly alias: string;
  readonly certificateDer: Buffer;
}

const jksMagic = 0xfeedfeed;
const trustedCertificateTag = 2;
/** Of the JDK's own stores; it guards against accidents only, and is asked for by tools that change the file. */
const password = "changeit";
/** A store of a JDK has 150 entries. */
const entriesMax = 10_000;
const storeBytesMax = 16 * 1024 * 1024;

/** The trusted certificates; null when it is neither format, damaged, or encrypted. */
export function readStore(bytes: Buffer): StoreEntry[] | null {
  if (bytes.length > storeBytesMax) return null;
  try {
    if (bytes.length >= 32 && bytes.readUInt32BE(0) === jksMagic) return readJks(bytes);
    return readPkcs12(bytes);
  } catch (error) {
    if (error instanceof RangeError) return null;
    throw error;
  }
}

/** The same store with one certificate more; null when it cannot be read. A JKS keeps everything else byte for byte. */
export function withCertificate(bytes: Buffer, entry: StoreEntry, nowMs: number): Buffer | null {
  const entries = readStore(bytes);
  if (entries === null) return null;
  if (bytes.readUInt32BE(0) !== jksMagic) return writeJks([...entries, entry], nowMs);
  const head = Buffer.from(bytes.subarray(0, 12));
  head.writeUInt32BE(head.readUInt32BE(8) + 1, 8);
  return sealed([head, bytes.subarray(12, -20), jksEntry(entry, nowMs, head.readUInt32BE(4))]);
}

function writeJks(entries: readonly StoreEntry[], nowMs: number): Buffer {
  const head = Buffer.alloc(12);
  head.writeUInt32BE(jksMagic, 0);
  head.writeUInt32BE(2, 4);
  head.writeUInt32BE(entries.length, 8);
  return sealed([head, ...entries.map((entry) => jksEntry(entry, nowMs, 2))]);
}

function sealed(parts: readonly Buffer[]): Buffer {
  const body = Buffer.concat(parts);
  const key = Buffer.from(password, "utf16le").swap16();
  return Buffer.concat([body, createHash("sha1").update(key).update("Mighty Aphrodite").update(body).digest()]);
}

function jksEntry({ alias, certificateDer }: StoreEntry, nowMs: number, version: number): Buffer {
  const fixed = Buffer.alloc(8);
  fixed.writeBigUInt64BE(BigInt(nowMs));
  return Buffer.concat([
    uint32(trustedCertificateTag),
    text(alias),
    fixed,
    version === 1 ? Buffer.alloc(0) : text("X.509"),
    uint32(certificateDer.length),
    certificateDer,
  ]);
}

function uint32(value: number): Buffer {
  const bytes = Buffer.alloc(4);
  bytes.writeUInt32BE(value);
  return bytes;
}

function text(value: string): Buffer {
  const body = Buffer.from(value, "utf8");
  const length = Buffer.alloc(2);
  length.writeUInt16BE(body.length);
  return Buffer.concat([length, body]);
}

function readJks(bytes: Buffer): StoreEntry[] {
  const version = bytes.readUInt32BE(4);
  const count = bytes.readUInt32BE(8);
  if (count > entriesMax || version < 1 || version > 2) throw new RangeError("not a JKS");
  const found: StoreEntry[] = [];
  let at = 12;
  const take = (length: number): Buffer => {
    at += length;
    if (at > bytes.length - 20) throw new RangeError("cut short");
    return bytes.subarray(at - length, at);
  };
  const takeText = (): string => take(take(2).readUInt16BE(0)).toString("utf8");
  const certificate = (): Buffer => {
    if (version === 2) takeText();
    return take(take(4).readUInt32BE(0));
  };
  for (let left = count; left > 0; left -= 1) {
    const tag = take(4).readUInt32BE(0);
    const alias = takeText();
    take(8);
    if (tag === trustedCertificateTag) {
      found.push({ alias, certificateDer: certificate() });
      continue;
    }
    if (tag !== 1) throw new RangeError("an unknown entry");
    take(take(4).readUInt32BE(0));
    for (let chain = take(4).readUInt32BE(0); chain > 0; chain -= 1) certificate();
  }
  if (at !== bytes.length - 20) throw new RangeError("bytes after the last entry");
  return found;
}

const oidData = "06092a864886f70d010701";
const oidCertificateBag = "060b2a864886f70d010c0a0103";
const oidX509 = "060a2a864886f70d01091601";
const oidFriendlyName = "06092a864886f70d010914";

function readPkcs12(bytes: Buffer): StoreEntry[] {
  const [, contents] = children(body(bytes, 0x30));
  const safe = body(body(data(contents), 0x04), 0x30);
  const found: StoreEntry[] = [];
  for (const content of children(safe)) {
    for (const bag of children(body(body(data(content), 0x04), 0x30))) {
      const [id, value, attributes] = children(body(bag, 0x30));
      if (id === undefined || value === undefined || id.toString("hex") !== oidCertificateBag) continue;
      const [type, certificate] = children(body(body(value, 0xa0), 0x30));
      if (type?.toString("hex") !== oidX509 || certificate === undefined) continue;
      if (found.length >= entriesMax) throw new RangeError("too many entries");
      found.push({
        alias: friendlyName(attributes) ?? `certificate-${found.length}`,
        certificateDer: body(body(certificate, 0xa0), 0x04),
      });
    }
  }
  return found;
}

/** What a ContentInfo of type data holds; an encrypted one is not looked into. */
function data(content: Buffer | undefined): Buffer {
  const [type, value] = children(content === undefined ? Buffer.alloc(0) : body(content, 0x30));
  if (type?.toString("hex") !== oidData || value === undefined) throw new RangeError("encrypted");
  return body(value, 0xa0);
}

function friendlyName(attributes: Buffer | undefined): string | null {
  if (attributes === undefined) return null;
  for (const attribute of children(body(attributes, 0x31))) {
    const [id, values] = children(body(attribute, 0x30));
    if (id?.toString("hex") !== oidFriendlyName || values === undefined) continue;
    return Buffer.from(body(body(values, 0x31), 0x1e))
      .swap16()
      .toString("utf16le");
  }
  return null;
}

/** DER elements that follow each other, headers included. */
function children(bytes: Buffer): Buffer[] {
  const list: Buffer[] = [];
  for (let at = 0; at < bytes.length; ) {
    const { end } = header(bytes, at);
    list.push(bytes.subarray(at, end));
    at = end;
  }
  return list;
}

/** The content of a value that has to have this tag. */
function body(bytes: Buffer, tag: number): Buffer {
  const { start, end } = header(bytes, 0);
  if (bytes[0] !== tag) throw new RangeError("another tag is due");
  return bytes.subarray(start, end);
}

function header(bytes: Buffer, at: number): { start: number; end: number } {
  const first = bytes.readUInt8(at + 1);
  const more = first < 0x80 ? 0 : first & 0x7f;
  if (more > 4) throw new RangeError("too long");
  const start = at + 2 + more;
  const length = more === 0 ? (first === 0x80 ? Number.NaN : first) : bytes.readUIntBE(at + 2, more);
  const end = start + length;
  if (!(end <= bytes.length)) throw new RangeError("cut short");
  return { start, end };
}
