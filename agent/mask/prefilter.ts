/**
 * One pass over bytes that tells whether any detector could match: eight digits in a run (separators between them
 * allowed), an @, or the first letters of a key. Most rows have none, and are never decoded.
 */

const digit = 1;
const separator = 2;
const at = 3;
const marker = 4;

const kinds = new Uint8Array(256);
for (let code = 0x30; code <= 0x39; code += 1) kinds[code] = digit;
for (const sign of " -.()+") kinds[sign.charCodeAt(0)] = separator;
kinds[0x40] = at;
for (const letter of "Asge") kinds[letter.charCodeAt(0)] = marker;

/** Shortest run of digits that a detector could take: no SSN, card, phone or IBAN has fewer than this in one run. */
const digitsMin = 7;

export function mayMatch(bytes: Uint8Array, start: number, end: number): boolean {
  let run = 0;
  for (let i = start; i < end; i += 1) {
    const kind = kinds[bytes[i] as number];
    if (kind === 0) run = 0;
    else if (kind === digit) {
      run += 1;
      if (run >= digitsMin) return true;
    } else if (kind === at) return true;
    else if (kind === separator) {
      if (bytes[i] === 0x2d && bytes[i + 1] === 0x2d && bytes[i + 2] === 0x2d) return true;
    } else {
      run = 0;
      if (isMarker(bytes, i)) return true;
    }
  }
  return false;
}

/** AKIA, ASIA, AGPA, AIDA, AROA, `sk-`, `secret`, `aws`, `ghp_` and kin, `github_pat_`, `eyJ`. */
function isMarker(bytes: Uint8Array, i: number): boolean {
  const next = bytes[i + 1];
  switch (bytes[i]) {
    case 0x41: // A
      return next === 0x4b || next === 0x53 || next === 0x47 || next === 0x49 || next === 0x52 || next === 0x57;
    case 0x73: // s
      return (next === 0x6b && bytes[i + 2] === 0x2d) || (next === 0x65 && bytes[i + 2] === 0x63);
    case 0x67: // g
      return (next === 0x68 && bytes[i + 3] === 0x5f) || (next === 0x69 && bytes[i + 2] === 0x74);
    default: // e
      return next === 0x79 && bytes[i + 2] === 0x4a;
  }
}
