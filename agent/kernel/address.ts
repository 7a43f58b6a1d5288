/** IP addresses as bytes and as text. Pure: used by the packet parser, the judge and the maps. */
import { parseIpv4 } from "../core/ipv4.ts";

/** 4 or 16 bytes of a textual address; null when it is none. A zone (`%eth0`) is refused: it names a link, not a host. */
export function parseAddress(text: string): Uint8Array | null {
  return text.includes(":") ? parseV6(text) : parseIpv4(text);
}

/** Canonical text (RFC 5952 for IPv6). An IPv4-mapped IPv6 address becomes its IPv4 text: on the wire it is IPv4. */
export function formatAddress(bytes: Uint8Array): string {
  if (bytes.length === 4) return `${bytes[0]}.${bytes[1]}.${bytes[2]}.${bytes[3]}`;
  if (isMapped(bytes)) return `${bytes[12]}.${bytes[13]}.${bytes[14]}.${bytes[15]}`;
  const groups: number[] = [];
  for (let at = 0; at < 16; at += 2) groups.push((bytes[at]! << 8) | bytes[at + 1]!);
  const zeros = longestZeroRun(groups);
  if (zeros.length < 2) return groups.map((group) => group.toString(16)).join(":");
  const head = groups.slice(0, zeros.start).map((group) => group.toString(16));
  const tail = groups.slice(zeros.start + zeros.length).map((group) => group.toString(16));
  return `${head.join(":")}::${tail.join(":")}`;
}

/** The same address in canonical text; the input itself when it is no address, so that it still matches nothing. */
export function canonicalAddress(text: string): string {
  const bytes = parseAddress(text);
  return bytes === null ? text : formatAddress(bytes);
}

export function familyOf(address: string): 4 | 6 {
  return address.includes(":") ? 6 : 4;
}

/** 127.0.0.0/8 and ::1: what never leaves the host and is taken only when a target names it. */
export function isLoopback(address: string): boolean {
  return address.startsWith("127.") || address === "::1";
}

/** A network and its prefix length, prepared once for many look-ups. */
export interface Cidr {
  readonly family: 4 | 6;
  readonly bytes: Uint8Array;
  readonly prefix: number;
}

export function parseCidr(address: string, prefix: number): Cidr | null {
  const bytes = parseAddress(address);
  if (bytes === null || !Number.isInteger(prefix) || prefix < 0 || prefix > bytes.length * 8) return null;
  return { family: bytes.length === 4 ? 4 : 6, bytes, prefix };
}

export function cidrContains(cidr: Cidr, address: Uint8Array): boolean {
  if (address.length !== cidr.bytes.length) return false;
  const whole = cidr.prefix >> 3;
  for (let at = 0; at < whole; at++) if (address[at] !== cidr.bytes[at]) return false;
  const rest = cidr.prefix & 7;
  return rest === 0 || (address[whole]! ^ cidr.bytes[whole]!) >> (8 - rest) === 0;
}

function parseV6(text: string): Uint8Array | null {
  if (text.length > 45) return null;
  const halves = text.split("::");
  if (halves.length > 2) return null;
  const head = parseGroups(halves[0]!);
  const tail = halves.length === 2 ? parseGroups(halves[1]!) : [];
  if (head === null || tail === null) return null;
  const missing = 16 - head.length - tail.length;
  if (halves.length === 2 ? missing < 2 : missing !== 0) return null;
  const bytes = new Uint8Array(16);
  bytes.set(head, 0);
  bytes.set(tail, 16 - tail.length);
  return bytes;
}

/** Groups of one side of `::` as bytes; the last one may be dotted IPv4 (RFC 4291 section 2.2). */
function parseGroups(text: string): number[] | null {
  if (text === "") return [];
  const bytes: number[] = [];
  const groups = text.split(":");
  for (let at = 0; at < groups.length; at++) {
    const group = groups[at]!;
    if (group.includes(".")) {
      const v4 = at === groups.length - 1 ? parseIpv4(group) : null;
      if (v4 === null) return null;
      bytes.push(...v4);
    } else {
      if (!/^[0-9a-fA-F]{1,4}$/.test(group)) return null;
      const value = Number.parseInt(group, 16);
      bytes.push(value >> 8, value & 0xff);
    }
  }
  return bytes.length > 16 ? null : bytes;
}

function isMapped(bytes: Uint8Array): boolean {
  for (let at = 0; at < 10; at++) if (bytes[at] !== 0) return false;
  return bytes[10] === 0xff && bytes[11] === 0xff;
}

/** The first longest run of zero groups: the one RFC 5952 section 4.2 shortens. */
function longestZeroRun(groups: readonly number[]): { start: number; length: number } {
  let best = { start: 0, length: 0 };
  let start = 0;
  for (let at = 0; at <= groups.length; at++) {
    if (at < groups.length && groups[at] === 0) continue;
    if (at - start > best.length) best = { start, length: at - start };
    start = at + 1;
  }
  return best;
}
