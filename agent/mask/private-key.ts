/** Private keys in PEM (RFC 7468). The end may be missing: what follows a header is a key until it says otherwise. */
import type { Detector } from "./detector.ts";
import { dashes } from "./prefilter.ts";
import { firstHead } from "./search.ts";

/** The body of a key, line ends included, which may be escaped. */
const bodyCharactersMax = 19_000;
const begin = "-----BEGIN ";
const stop = "-----END";
const label = "[A-Z0-9 ]{0,30}PRIVATE KEY-----";
const footer = new RegExp(`-----END ${label}`, "y");
const cutFooter = /-----END(?: [A-Z0-9 ]{0,41}-{0,4})?$/y;
const cutHeader = /-----BEGIN [A-Z0-9 ]{0,41}-{0,4}$/y;
const headerCharactersMax = 60;

export const privateKeyDetector: Detector = {
  name: "private-key",
  needs: dashes,
  next: firstHead(/-----BEGIN /g, 0, new RegExp(`-----BEGIN ${label}`, "y")),
  tail(text, from) {
    for (
      let at = text.indexOf("-", Math.max(from, text.length - headerCharactersMax));
      at >= 0;
      at = text.indexOf("-", at + 1)
    ) {
      if (text.length - at <= begin.length) {
        if (begin.startsWith(text.slice(at))) return at;
      } else {
        cutHeader.lastIndex = at;
        if (cutHeader.test(text)) return at;
      }
    }
    return text.length;
  },
  /** The phase counts the characters of the body, from 1. */
  follow(text, at, phase, final) {
    const limit = at + bodyCharactersMax - (phase - 1);
    // No farther than the key can go: a text of nothing but heads would be searched to its end for each.
    const body = text.slice(at, limit + stop.length);
    const found = body.indexOf(stop);
    const stopped = found >= 0;
    let end = at + found;
    if (!stopped) end = final ? text.length : endBefore(text, at, stop);
    const zero = body.indexOf("\0");
    if (zero >= 0 && at + zero < end && at + zero <= limit) return { at: at + zero, phase: 0 };
    if (end > limit) return { at: limit, phase: 0 };
    if (stopped) {
      footer.lastIndex = end;
      const closed = footer.exec(text);
      if (closed !== null) return { at: end + closed[0].length, phase: 0 };
      cutFooter.lastIndex = end;
      if (final || !cutFooter.test(text)) return { at: end, phase: 0 };
    }
    return final ? { at: end, phase: 0 } : { at: end, phase: phase + end - at };
  },
};

/** The text's end, less what of it may be the beginning of a word. */
function endBefore(text: string, from: number, word: string): number {
  for (let length = Math.min(word.length - 1, text.length - from); length > 0; length -= 1) {
    if (text.endsWith(word.slice(0, length))) return text.length - length;
  }
  return text.length;
}
