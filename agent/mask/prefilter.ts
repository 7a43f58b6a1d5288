/**
 * One pass over bytes that tells which detectors could match: runs of digits (separators between them allowed), an @,
 * letters of a key's prefix that are rare in prose, the head of an IBAN, bytes in hex. Most rows have none, and are
 * never decoded; the others meet only the detectors that they call for.
 */

/** Bits of the answer. */
export const someDigits = 1;
export const manyDigits = 2;
export const atSign = 4;
/** `sk-`; `eyJ`; `ghp_` and kin; the head of a PEM; AWS's key ids, and names before a secret. */
export const skLetters = 8;
export const ibanHead = 16;
export const hexBytes = 32;
export const jwtLetters = 64;
export const githubLetters = 128;
export const dashes = 256;
export const awsLetters = 512;

const digit = 1;
const separator = 2;
/** Looked at with what stands beside it. */
const marker = 3;
const letter = 4;

const kinds = new Uint8Array(256);
for (const first of [0x41, 0x61]) for (let code = first; code < first + 26; code += 1) kinds[code] = letter;
for (let code = 0x30; code <= 0x39; code += 1) kinds[code] = digit;
// The bytes of no-break spaces too, U+00A0 and U+202F.
for (const sign of " -.()+\u00c2\u00a0\u00e2\u0080\u00af") kinds[sign.charCodeAt(0)] = separator;
for (const sign of "@\\_AJWwcC") kinds[sign.charCodeAt(0)] = marker;

/** No SSN or phone number has fewer digits in one run, and no card fewer than the second. */
const someDigitsMin = 7;
const manyDigitsMin = 13;

/**
 * In a longer text there is always something that calls for a detector, and all of them together skip through it faster
 * than every byte is looked at.
 */
export const prefilteredBytesMax = 4_096;
/** Everything may match, but hex: for that there is a faster look. */
const anything = -1 & ~hexBytes;

/** `mayMatch` of a text of any length. */
export function mayMatchLong(bytes: Buffer, start: number, end: number): number {
  if (end - start <= prefilteredBytesMax) return mayMatch(bytes, start, end);
  const at = bytes.subarray(0, end).indexOf("\\x", start, "latin1");
  return at < 0 ? anything : -1;
}

export function mayMatch(bytes: Uint8Array, start: number, end: number): number {
  let found = 0;
  let run = 0;
  for (let i = start; i < end; i += 1) {
    let byte = bytes[i] as number;
    let kind = kinds[byte] as number;
    // Most of a text are words: through them it goes fast.
    if (kind === letter) {
      run = 0;
      do {
        i += 1;
        if (i >= end) return found;
        byte = bytes[i] as number;
        kind = kinds[byte] as number;
      } while (kind === letter);
    }
    if (kind === separator) {
      if (byte === 0x2d) found |= atDash(bytes, i);
    } else if (kind === digit) {
      run += 1;
      if (run === someDigitsMin) found |= someDigits;
      else if (run === manyDigitsMin) found |= manyDigits;
      if (isLetter(bytes[i - 1]) && isLetter(bytes[i - 2]) && kinds[bytes[i + 1] as number] === digit)
        found |= ibanHead;
    } else {
      run = 0;
      if (kind === marker) found |= atMarker(bytes, i, byte);
    }
  }
  return found;
}

function isLetter(byte: number | undefined): boolean {
  const small = (byte ?? 0) | 0x20;
  return small >= 0x61 && small <= 0x7a;
}

/** `sk-`, `---`. */
function atDash(bytes: Uint8Array, i: number): number {
  if (bytes[i - 1] === 0x6b && bytes[i - 2] === 0x73) return skLetters;
  return bytes[i + 1] === 0x2d && bytes[i + 2] === 0x2d ? dashes : 0;
}

function atMarker(bytes: Uint8Array, i: number, byte: number): number {
  const next = bytes[i + 1] as number;
  const before = bytes[i - 1] as number;
  switch (byte) {
    case 0x40:
      return atSign;
    case 0x5c: // \x
      return next === 0x78 ? hexBytes : 0;
    case 0x5f: // ghp_ and kin, github_pat_
      return (bytes[i - 2] === 0x68 && bytes[i - 3] === 0x67) || (before === 0x62 && bytes[i - 2] === 0x75)
        ? githubLetters
        : 0;
    case 0x4a: // eyJ
      return before === 0x79 && bytes[i - 2] === 0x65 ? jwtLetters : 0;
    case 0x77: // aws
      return before === 0x61 && next === 0x73 ? awsLetters : 0;
    case 0x57: // AWS
      return before === 0x41 && next === 0x53 ? awsLetters : 0;
    case 0x63: // secret, Secret
      return before === 0x65 && next === 0x72 ? awsLetters : 0;
    case 0x43: // SECRET
      return before === 0x45 && next === 0x52 ? awsLetters : 0;
    default: {
      // AKIA, ASIA, AGPA, AIDA, AROA
      if (bytes[i + 3] !== 0x41) return 0;
      const third = bytes[i + 2] as number;
      return (next === 0x4b && third === 0x49) ||
        (next === 0x53 && third === 0x49) ||
        (next === 0x47 && third === 0x50) ||
        (next === 0x49 && third === 0x44) ||
        (next === 0x52 && third === 0x4f)
        ? awsLetters
        : 0;
    }
  }
}
