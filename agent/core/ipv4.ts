/** An IPv4 address as bytes. */

const [dot, zero] = [0x2e, 0x30];

/** No leading zeros: whether they mean octal is read differently by different programs. Asked for with every connection. */
export function parseIpv4(text: string): Uint8Array | null {
  const bytes = new Uint8Array(4);
  let count = 0;
  let value = -1;
  for (let at = 0; at <= text.length; at += 1) {
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
