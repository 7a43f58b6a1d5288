/**
 * Classes of characters, looked up in one table. Texts are JavaScript strings of one of two kinds: `latin1`, one
 * character per byte whatever the bytes mean, and `utf16`, text that was decoded.
 */
export type TextKind = "latin1" | "utf16";

export const digit = 1;
/** [A-Za-z0-9] */
export const alphanumeric = 2;
/** [A-Za-z0-9_-], base64url */
export const token = 4;
/** [A-Za-z0-9/+], base64 */
export const base64 = 8;
/** The ASCII part of what stands before the @ of an address. */
export const local = 16;
/** The ASCII part of a host name, dots included. */
export const domain = 32;
/** What numbers are written with. */
export const numeric = 64;
/** What stands between a name like `secret` and its value. */
export const assigns = 128;

const classes = new Uint8Array(65_536);
for (let code = 0x30; code <= 0x39; code += 1)
  classes[code] = digit | alphanumeric | token | base64 | local | domain | numeric;
for (const first of [0x41, 0x61])
  for (let code = first; code < first + 26; code += 1) classes[code] = alphanumeric | token | base64 | local | domain;
add("_-", token);
add("/+", base64);
add("._%+-", local);
add(".-", domain);
add(" .()+-\u00a0\u00c2\u202f\u00e2\u0080\u00af", numeric);
add("\"' :=\\>\t", assigns);

function add(signs: string, bit: number): void {
  for (const sign of signs) classes[sign.charCodeAt(0)] = (classes[sign.charCodeAt(0)] as number) | bit;
}

/** The classes of the character at a place; none before the text's start and behind its end. */
export function classAt(text: string, at: number): number {
  return classes[text.charCodeAt(at)] ?? 0;
}

export function is(text: string, at: number, bits: number): boolean {
  return (classAt(text, at) & bits) !== 0;
}

/** A letter after a backslash is (as far as one can tell) an escape, and no part of the word that follows it. */
export function isEscapeLetter(text: string, at: number): boolean {
  if (text.charCodeAt(at - 1) !== 0x5c) return false;
  const code = text.charCodeAt(at);
  return code === 0x6e || code === 0x72 || code === 0x74 || code === 0x62 || code === 0x66 || code === 0x76;
}

/** True where a word of the class may begin: before it is no such character, or an escape's letter. */
export function isEdge(text: string, at: number, bits: number): boolean {
  return !is(text, at - 1, bits) || isEscapeLetter(text, at - 1);
}

/** A place that is inside of a character (a surrogate pair; the bytes of one code point). */
export function isInside(text: string, at: number, kind: TextKind): boolean {
  const code = text.charCodeAt(at);
  if (kind === "latin1") return code >= 0x80 && code < 0xc0;
  if (code < 0xdc00 || code > 0xdfff) return false;
  const before = text.charCodeAt(at - 1);
  return before >= 0xd800 && before <= 0xdbff;
}

/** What may stand between two groups of digits or letters of one number; null-width when there is none. */
export const gap = "(?:[ .-]|\\xc2?\\xa0|\\u202f|\\xe2\\x80\\xaf)";

/** The length of the one separator at a place: blank, dot, dash, no-break spaces in either kind of text; else 0. */
export function gapLength(text: string, at: number): number {
  const code = text.charCodeAt(at);
  if (code === 0x20 || code === 0x2d || code === 0x2e || code === 0xa0 || code === 0x202f) return 1;
  if (code === 0xc2) return text.charCodeAt(at + 1) === 0xa0 ? 2 : 0;
  if (code === 0xe2) return text.charCodeAt(at + 1) === 0x80 && text.charCodeAt(at + 2) === 0xaf ? 3 : 0;
  return 0;
}
