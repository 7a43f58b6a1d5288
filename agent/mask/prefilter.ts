/**
 * One pass over bytes that tells which detectors could match: runs of digits (separators between them allowed), an @,
 * the first letters of a key, the head of an IBAN, bytes in hex. Most rows have none, and are never decoded; the others
 * meet only the expressions that they call for.
 */

/** Bits of the answer. */
export const someDigits = 1;
export const manyDigits = 2;
export const atSign = 4;
export const keyLetters = 8;
export const ibanHead = 16;
export const hexBytes = 32;

const digit = 1;
const separator = 2;
const other = 3;

const kinds = new Uint8Array(256);
for (let code = 0x30; code <= 0x39; code += 1) kinds[code] = digit;
for (const sign of " -.()+") kinds[sign.charCodeAt(0)] = separator;
for (let code = 0x41; code <= 0x5a; code += 1) kinds[code] = other;
for (const letter of "@\\sgea") kinds[letter.charCodeAt(0)] = other;

/** No SSN or phone number has fewer digits in one run, and no card fewer than the second. */
const someDigitsMin = 7;
const manyDigitsMin = 13;

export function mayMatch(bytes: Uint8Array, start: number, end: number): number {
  let found = 0;
  let run = 0;
  for (let i = start; i < end; i += 1) {
    const byte = bytes[i] as number;
    const kind = kinds[byte];
    if (kind === 0) run = 0;
    else if (kind === digit) {
      run += 1;
      if (run === someDigitsMin) found |= someDigits;
      else if (run === manyDigitsMin) found |= manyDigits;
    } else if (kind === separator) {
      if (byte === 0x2d && bytes[i + 1] === 0x2d && bytes[i + 2] === 0x2d) found |= keyLetters;
    } else {
      run = 0;
      found |= markerAt(bytes, i, byte);
    }
  }
  return found;
}

function markerAt(bytes: Uint8Array, i: number, byte: number): number {
  const next = bytes[i + 1] as number;
  const third = bytes[i + 2] as number;
  switch (byte) {
    case 0x40:
      return atSign;
    case 0x5c: // \x
      return next === 0x78 ? hexBytes : 0;
    case 0x73: // sk-, secret
      return (next === 0x6b && third === 0x2d) || (next === 0x65 && third === 0x63 && bytes[i + 3] === 0x72)
        ? keyLetters
        : 0;
    case 0x67: // ghp_ and kin, github_pat_
      return (next === 0x68 && bytes[i + 3] === 0x5f) || (next === 0x69 && third === 0x74) ? keyLetters : 0;
    case 0x65: // eyJ
      return next === 0x79 && third === 0x4a ? keyLetters : 0;
    case 0x61: // aws
      return next === 0x77 && third === 0x73 ? keyLetters : 0;
    default: {
      // A capital: AKIA, ASIA, AGPA, AIDA, AROA, AWS, SECRET, Secret, or two letters and two digits of an IBAN.
      let found = 0;
      if (next >= 0x41 && next <= 0x5a && kinds[third] === digit && kinds[bytes[i + 3] as number] === digit)
        found |= ibanHead;
      if (
        byte === 0x41 &&
        (next === 0x4b || next === 0x53 || next === 0x47 || next === 0x49 || next === 0x52 || next === 0x57)
      )
        found |= keyLetters;
      if (byte === 0x53 && (next === 0x45 || next === 0x65) && (third === 0x43 || third === 0x63)) found |= keyLetters;
      return found;
    }
  }
}
