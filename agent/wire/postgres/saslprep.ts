/**
 * SASLprep of a password (RFC 4013), as PostgreSQL does it: what cannot be prepared is used as it is
 * (pg_saslprep in its source), so that a password in any encoding works when both ends see the same bytes.
 */
export function saslprep(password: string | Buffer): Buffer {
  const raw = typeof password === "string" ? Buffer.from(password, "utf8") : password;
  if (isAscii(raw)) return raw;
  let text: string;
  try {
    text = new TextDecoder("utf-8", { fatal: true, ignoreBOM: true }).decode(raw);
  } catch {
    return raw;
  }
  const mapped = text.replace(nonAsciiSpace, " ").replace(mappedToNothing, "").normalize("NFKC");
  if (mapped === "" || prohibited.test(mapped) || unassigned.test(mapped) || !bidirectional(mapped)) return raw;
  return Buffer.from(mapped, "utf8");
}

function isAscii(bytes: Buffer): boolean {
  for (const byte of bytes) if (byte >= 0x80) return false;
  return true;
}

/** RFC 3454 C.1.2. */
const nonAsciiSpace = /[\u00a0\u1680\u2000-\u200b\u202f\u205f\u3000]/gu;
/** RFC 3454 B.1. */
const mappedToNothing = /\u00ad|\u034f|\u1806|[\u180b-\u180d]|[\u200c\u200d]|\u2060|[\ufe00-\ufe0f]|\ufeff/gu;
/** RFC 3454 C.1.2, C.2.1, C.2.2, C.3 to C.9. */
const prohibited =
  /[\u00a0\u1680\u2000-\u200b\u202f\u205f\u3000\u06dd\u070f\u180e\u2028\u2029\u2061-\u2063\u206a-\u206f\ufff9-\ufffd\u2ff0-\u2ffb\u200e\u200f\u202a-\u202e\ue000-\uf8ff\ufdd0-\ufdef\ufffe\uffff\u{1d173}-\u{1d17a}\u{e0001}\u{e0020}-\u{e007f}\u{f0000}-\u{10ffff}]|\u0340|\u0341|\p{Cc}|\p{Cs}/u;
const unassigned = /\p{Cn}/u;
const rightToLeft = /[\p{Script=Hebrew}\p{Script=Arabic}\p{Script=Syriac}\p{Script=Thaana}]/u;
const leftToRight = /[\p{Script=Latin}\p{Script=Greek}\p{Script=Cyrillic}\p{Script=Han}\p{Script=Hangul}]/u;

/** RFC 3454 §6: right-to-left text has no left-to-right letter and begins and ends with a right-to-left one. */
function bidirectional(text: string): boolean {
  if (!rightToLeft.test(text)) return true;
  const characters = [...text];
  return !leftToRight.test(text) && rightToLeft.test(characters[0] ?? "") && rightToLeft.test(characters.at(-1) ?? "");
}
