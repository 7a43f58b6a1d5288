/** JSON Web Tokens (RFC 7519) in compact form: base64url parts between dots, the first two of them JSON. */
import { is, isEdge, isEscapeLetter, token } from "./chars.ts";
import type { Detector } from "./detector.ts";
import { jwtLetters } from "./prefilter.ts";
import { firstHead } from "./search.ts";

/** A first part longer than this is a token whatever follows it. */
export const jwtHeadCharactersMax = 4000;
const headCharactersMin = 11;
/** Of the second part: `eyJ` and two more. */
const certainCharacters = 5;
/** Phases: in the payload, in the signature. */
const payload = 1;
const signature = 2;

export const jwtDetector: Detector = {
  name: "jwt",
  needs: jwtLetters,
  // Certain without a signature: one that is cut, or was never there, is as secret.
  next: firstHead(
    /eyJ/g,
    token,
    new RegExp(
      `eyJ(?:[A-Za-z0-9_-]{8,${jwtHeadCharactersMax - 3}}\\.eyJ[A-Za-z0-9_-]{2}|[A-Za-z0-9_-]{${jwtHeadCharactersMax - 2}})`,
      "y",
    ),
  ),
  follow(text, at, phase, final) {
    let end = at;
    let part = phase;
    for (;;) {
      while (is(text, end, token)) end += 1;
      if (part !== payload || text.charCodeAt(end) !== 0x2e) break;
      part = signature;
      end += 1;
    }
    return { at: end, phase: end < text.length || final ? 0 : part };
  },
  tail(text, from) {
    const last = runStart(text, text.length, from);
    // Of the second part so little that it is not certain yet.
    if (
      text.charCodeAt(last - 1) === 0x2e &&
      last > from &&
      text.length - last < certainCharacters &&
      "eyJ".startsWith(text.slice(last, last + 3))
    ) {
      const first = runStart(text, last - 1, from);
      if (first < last - 1) {
        const start = headStart(text, first, last - 1);
        if (start >= 0 && last - 1 - start >= headCharactersMin) return start;
      }
    }
    const start = headStart(text, last, text.length);
    return start < 0 || text.length - start > jwtHeadCharactersMax ? text.length : start;
  },
};

function runStart(text: string, end: number, from: number): number {
  let at = end;
  while (at > from && is(text, at - 1, token)) at -= 1;
  return at;
}

/** Where in the run of token characters a first part begins; -1: nowhere. */
function headStart(text: string, run: number, end: number): number {
  for (const start of isEscapeLetter(text, run) ? [run, run + 1] : [run]) {
    const known = text.slice(start, Math.min(start + 3, end));
    if (known !== "" && "eyJ".startsWith(known) && isEdge(text, start, token)) return start;
  }
  return -1;
}
