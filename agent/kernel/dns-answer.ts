/**
 * Reads the addresses out of a DNS answer (RFC 1035 section 4). Pure; junk gives null, never a throw.
 *
 *   header    id, flags (QR, opcode, TC, RCODE), counts
 *   question  name, type, class
 *   answer    name, type, class, ttl, rdlength, rdata: A (1), AAAA (28), CNAME (5)
 */
import { formatAddress } from "../core/address.ts";

const recordsMax = 256;
/** Compression pointers followed in one name: a loop of pointers must not hang us. */
const pointersMax = 32;
const nameBytesMax = 255;

export interface DnsAnswer {
  /** The name that was asked, lower case, no trailing dot. */
  readonly name: string;
  readonly addresses: readonly { readonly address: string; readonly ttlSeconds: number }[];
}

/**
 * Addresses count only when they belong to the asked name or to what its CNAMEs lead to: a server that answers a question
 * about its own name must not be able to plant an address for another.
 */
export function parseDnsAnswer(bytes: Uint8Array): DnsAnswer | null {
  if (bytes.length < 12) return null;
  const isAnswer = (bytes[2]! & 0x80) !== 0 && (bytes[2]! & 0x78) === 0;
  if (!isAnswer || (bytes[3]! & 0x0f) !== 0 || u16(bytes, 4) !== 1) return null;
  const question = readName(bytes, 12);
  if (question === null || question.next + 4 > bytes.length || u16(bytes, question.next + 2) !== 1) return null;
  const aliases = new Set([question.name]);
  const found: { name: string; address: string; ttlSeconds: number }[] = [];
  let at = question.next + 4;
  const count = Math.min(u16(bytes, 6), recordsMax);
  for (let seen = 0; seen < count; seen++) {
    const owner = readName(bytes, at);
    if (owner === null || owner.next + 10 > bytes.length) break;
    const type = u16(bytes, owner.next);
    const inClass = u16(bytes, owner.next + 2) === 1;
    const ttlSeconds = u16(bytes, owner.next + 4) * 0x10000 + u16(bytes, owner.next + 6);
    const length = u16(bytes, owner.next + 8);
    const data = owner.next + 10;
    if (data + length > bytes.length) break;
    if (inClass && ((type === 1 && length === 4) || (type === 28 && length === 16))) {
      found.push({ name: owner.name, address: formatAddress(bytes.subarray(data, data + length)), ttlSeconds });
    } else if (inClass && type === 5 && aliases.has(owner.name)) {
      const alias = readName(bytes, data);
      if (alias !== null) aliases.add(alias.name);
    }
    at = data + length;
  }
  const addresses = found
    .filter((record) => aliases.has(record.name))
    .map(({ address, ttlSeconds }) => ({ address, ttlSeconds }));
  return { name: question.name, addresses };
}

/** A name and the offset after it. Letters outside printable ASCII make it null: no target is written so. */
function readName(bytes: Uint8Array, start: number): { name: string; next: number } | null {
  const labels: string[] = [];
  let at = start;
  let next = -1;
  let pointers = 0;
  let nameBytes = 0;
  for (;;) {
    const length = bytes[at];
    if (length === undefined) return null;
    if (length === 0) {
      if (next === -1) next = at + 1;
      return { name: labels.join("."), next };
    }
    if ((length & 0xc0) === 0xc0) {
      if (++pointers > pointersMax || at + 1 >= bytes.length) return null;
      if (next === -1) next = at + 2;
      at = ((length & 0x3f) << 8) | bytes[at + 1]!;
      continue;
    }
    nameBytes += length + 1;
    if (length > 63 || nameBytes > nameBytesMax || at + 1 + length > bytes.length) return null;
    const label = readLabel(bytes, at + 1, length);
    if (label === null) return null;
    labels.push(label);
    at += 1 + length;
  }
}

function readLabel(bytes: Uint8Array, at: number, length: number): string | null {
  let label = "";
  for (let end = at + length; at < end; at++) {
    let code = bytes[at]!;
    // A dot inside a label would let one label look like two.
    if (code <= 0x20 || code >= 0x7f || code === 0x2e) return null;
    if (code >= 0x41 && code <= 0x5a) code += 0x20;
    label += String.fromCharCode(code);
  }
  return label;
}

function u16(bytes: Uint8Array, at: number): number {
  return (bytes[at]! << 8) | bytes[at + 1]!;
}
