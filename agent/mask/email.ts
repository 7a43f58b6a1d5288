/** E-mail addresses (RFC 5321 sizes), found from their @ on. */
import { classAt, domain, is, isEscapeLetter, isInside, local, type TextKind } from "./chars.ts";
import type { Detector } from "./detector.ts";
import { atSign } from "./prefilter.ts";

const localCharactersMax = 64;
const labelCharactersMax = 63;
const labelsMax = 9;
/** `\u00e9`, as JSON writes what is not ASCII. */
const escaped = /\\u([0-9a-fA-F]{4})/y;
const letter = /[\p{L}\p{N}\p{M}]/u;

export function emailDetector(kind: TextKind): Detector {
  return {
    name: "email",
    needs: atSign,
    follow: null,
    tail(text, from) {
      let at = text.length;
      const reach = Math.max(from, at - labelsMax * (labelCharactersMax + 1));
      while (at > reach && isPart(text, at - 1, domain, kind)) at -= 1;
      if (at > from && text.charCodeAt(at - 1) === 0x40 && readDomain(text, at, kind).open) {
        const start = localStart(text, at - 1, from, kind);
        if (start < at - 1) return start;
      }
      // Escapes too, also half ones: which of them belong to an address is seen from its @.
      const most = Math.max(from, text.length - localCharactersMax - 2);
      for (at = text.length; at > most; at -= 1) {
        if (!isPart(text, at - 1, local, kind) && text.charCodeAt(at - 1) !== 0x5c) break;
      }
      return at;
    },
    next(text, from, open) {
      for (let sign = text.indexOf("@", from); sign >= 0; sign = text.indexOf("@", sign + 1)) {
        const start = localStart(text, sign, from, kind);
        // Signs that follow have later starts.
        if (start >= open) return null;
        if (start === sign) continue;
        const { end } = readDomain(text, sign + 1, kind);
        if (end > 0) return { start, end };
      }
      return null;
    },
  };
}

function isPart(text: string, at: number, bits: number, kind: TextKind): boolean {
  const code = text.charCodeAt(at);
  // Of bytes one cannot tell letters; of text, a dash, a quote or a space of another script is no part of an address.
  if (code >= 0x80) return kind === "latin1" || letter.test(text.charAt(at));
  return (classAt(text, at) & bits) !== 0;
}

/** Where the local part that ends at `end` begins; `end` when there is none. */
function localStart(text: string, end: number, from: number, kind: TextKind): number {
  const reach = Math.max(from, end - localCharactersMax);
  let at = end;
  for (;;) {
    while (at > reach && isPart(text, at - 1, local, kind)) at -= 1;
    if (at <= from || at === end || text.charCodeAt(at - 1) !== 0x5c) break;
    // `\n` in JSON is a line end, and half of it would be no JSON; `\u00e9` and `\u002b` (.NET's plus) belong to the
    // address, `\u003c` does not.
    escaped.lastIndex = at - 1;
    const match = escaped.exec(text);
    if (match === null || match.index + 6 > end) {
      if (isEscapeLetter(text, at)) at += 1;
      break;
    }
    const code = Number.parseInt(match[1] as string, 16);
    if (code < 0x80 && !is(String.fromCharCode(code), 0, local)) {
      at += 5;
      break;
    }
    at -= 1;
    if (at <= reach) break;
  }
  while (at < end && isInside(text, at, kind)) at += 1;
  return at;
}

/** Labels between dots, two at least. `end` is 0 when it is no domain; `open`: more text could make it one, or longer. */
function readDomain(text: string, start: number, kind: TextKind): { end: number; open: boolean } {
  let at = start;
  let end = 0;
  for (let labels = 1; labels <= labelsMax; labels += 1) {
    const label = at;
    while (at - label < labelCharactersMax && text.charCodeAt(at) !== 0x2e && isPart(text, at, domain, kind)) at += 1;
    if (at === label) return { end, open: at >= text.length };
    if (labels > 1) end = at;
    if (at >= text.length) return { end, open: true };
    if (text.charCodeAt(at) !== 0x2e) break;
    at += 1;
  }
  return { end, open: false };
}
