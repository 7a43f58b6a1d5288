/** IP addresses as bytes and as text. Asked for with every connection. */

const [dot, colon, zero, nine, lowerA, lowerF] = [0x2e, 0x3a, 0x30, 0x39, 0x61, 0x66];
const ipv6CharsMax = 45;

/**
 * Four or sixteen bytes; null when the text is no address. A zone (`%eth0`) is refused: it names a link, not a host. So
 * are leading zeros of IPv4: whether they mean octal is read differently by different programs.
 */
export function parseAddress(text: string): Uint8Array | null {
  return text.includes(":") ? parseIpv6(text) : parseIpv4(text, 0);
}

/** An IPv4 address inside IPv6 (`::ffff:10.0.0.1`) is the IPv4 address: one host, one rule. */
export function parseHostAddress(text: string): Uint8Array | null {
  const bytes = parseAddress(text);
  return bytes === null ? null : unmapped(bytes);
}

export function unmapped(bytes: Uint8Array): Uint8Array {
  if (bytes.length === 4 || bytes[10] !== 0xff || bytes[11] !== 0xff) return bytes;
  for (let at = 0; at < 10; at += 1) if (bytes[at] !== 0) return bytes;
  return bytes.subarray(12);
}

/** A host as URLs have it, and what a port stands behind: IPv6 in brackets (RFC 3986 §3.2.2). */
export function bracketed(host: string): string {
  return host.includes(":") ? `[${host}]` : host;
}

export function unbracketed(host: string): string {
  return host.replace(/^\[|\]$/g, "");
}

/** Canonical: RFC 5952 for IPv6, and a mapped address as the IPv4 address that it is on the wire. */
export function formatAddress(address: Uint8Array): string {
  const bytes = unmapped(address);
  if (bytes.length === 4) return `${bytes[0]}.${bytes[1]}.${bytes[2]}.${bytes[3]}`;
  const groups: number[] = [];
  for (let at = 0; at < 16; at += 2) groups.push((bytes[at]! << 8) | bytes[at + 1]!);
  // The first longest run of at least two zero groups is the one that is shortened (section 4.2).
  let start = -1;
  let length = 1;
  for (let at = 0; at < 8; at += 1) {
    let run = 0;
    while (groups[at + run] === 0) run += 1;
    if (run > length) {
      start = at;
      length = run;
    }
  }
  const hex = groups.map((group) => group.toString(16));
  if (start === -1) return hex.join(":");
  return `${hex.slice(0, start).join(":")}::${hex.slice(start + length).join(":")}`;
}

/** False for an address of the other family. */
export function hasPrefix(address: Uint8Array, network: Uint8Array, prefix: number): boolean {
  if (address.length !== network.length) return false;
  const whole = prefix >> 3;
  for (let at = 0; at < whole; at += 1) if (address[at] !== network[at]) return false;
  const rest = prefix & 7;
  return rest === 0 || (address[whole]! ^ network[whole]!) >> (8 - rest) === 0;
}

/** The address with all bits beyond the prefix zero. */
export function networkOf(address: Uint8Array, prefix: number): Uint8Array {
  return address.map((byte, at) => {
    const bits = Math.min(8, Math.max(0, prefix - at * 8));
    return byte & (0xff << (8 - bits)) & 0xff;
  });
}

function parseIpv4(text: string, start: number): Uint8Array | null {
  const bytes = new Uint8Array(4);
  let count = 0;
  let value = -1;
  for (let at = start; at <= text.length; at += 1) {
    const code = at < text.length ? text.charCodeAt(at) : dot;
    if (code === dot) {
      if (value < 0 || count === 4) return null;
      bytes[count] = value;
      count += 1;
      value = -1;
    } else {
      const digit = code - zero;
      if (digit < 0 || digit > 9 || value === 0) return null;
      value = Math.max(0, value) * 10 + digit;
      if (value > 255) return null;
    }
  }
  return count === 4 ? bytes : null;
}

/** RFC 4291 section 2.2: groups, one `::` for at least one zero group, and at the end there may be dotted IPv4. */
function parseIpv6(text: string): Uint8Array | null {
  if (text.length > ipv6CharsMax) return null;
  const bytes = new Uint8Array(16);
  let count = 0;
  let gap = text.startsWith("::") ? 0 : -1;
  let at = gap === 0 ? 2 : 0;
  while (at < text.length) {
    if (count === 16) return null;
    const start = at;
    let group = 0;
    for (let digit = hexDigit(text, at); digit >= 0; digit = hexDigit(text, at)) {
      group = (group << 4) | digit;
      at += 1;
    }
    if (text.charCodeAt(at) === dot) {
      const ipv4 = count > 12 ? null : parseIpv4(text, start);
      if (ipv4 === null) return null;
      bytes.set(ipv4, count);
      count += 4;
      break;
    }
    if (at === start || at - start > 4) return null;
    bytes[count] = group >> 8;
    bytes[count + 1] = group & 0xff;
    count += 2;
    if (at === text.length) break;
    if (text.charCodeAt(at) !== colon) return null;
    at += 1;
    if (at === text.length) return null;
    if (text.charCodeAt(at) !== colon) continue;
    if (gap >= 0) return null;
    gap = count;
    at += 1;
  }
  if (gap < 0) return count === 16 ? bytes : null;
  if (count > 14) return null;
  const tail = 16 - (count - gap);
  bytes.copyWithin(tail, gap, count);
  return bytes.fill(0, gap, tail);
}

/** -1: there is none. */
function hexDigit(text: string, at: number): number {
  const code = text.charCodeAt(at);
  if (code >= zero && code <= nine) return code - zero;
  const lower = code | 0x20;
  return lower >= lowerA && lower <= lowerF ? lower - lowerA + 10 : -1;
}
