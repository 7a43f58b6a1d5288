/** Social security and telephone numbers. */
import { gap, is, numeric } from "./chars.ts";
import type { Detector } from "./detector.ts";
import { someDigits } from "./prefilter.ts";
import { firstMatch } from "./search.ts";

/** Every number here is shorter, separators of three bytes included. */
const numberCharactersMax = 80;

export const ssnDetector: Detector = {
  name: "ssn",
  needs: someDigits,
  follow: null,
  tail: numberTail,
  next: firstMatch(
    /(?<![0-9-])(?!000|666|9[0-9][0-9])[0-9]{3}([- ]|\xc2?\xa0)(?!00)[0-9]{2}\1(?!0000)[0-9]{4}(?![0-9-])/g,
  ),
};

export const phoneDetector: Detector = {
  name: "phone",
  needs: someDigits,
  follow: null,
  tail: numberTail,
  next: firstMatch(
    new RegExp(
      `(?:(?<![0-9A-Za-z])|(?<=\\\\[nrtbfv]))(?:(?:\\+|\\\\u002[Bb])[1-9][0-9]{0,2}${gap}?(?:\\([0-9]{1,4}\\)${gap}?)?(?:[0-9]${gap}?){6,12}[0-9]|(?:\\([2-9][0-9]{2}\\)${gap}?|[2-9][0-9]{2}${gap})[2-9][0-9]{2}${gap}[0-9]{4})(?![0-9])`,
      "g",
    ),
  ),
};

/** A plus as some writers of JSON put it, .NET's among them. */
const escapedPlus = "\\u002b";

/** The first digit, + or ( of the digits and separators that the text ends with; or the escape that a + may be. */
function numberTail(text: string, from: number): number {
  const reach = Math.max(from, text.length - numberCharactersMax);
  let start = text.length;
  for (let at = start - 1; at >= reach && is(text, at, numeric); at -= 1) {
    const code = text.charCodeAt(at);
    if ((code >= 0x30 && code <= 0x39) || code === 0x2b || code === 0x28) start = at;
  }
  for (let at = Math.max(from, start - escapedPlus.length); at < start; at += 1)
    if (escapedPlus.startsWith(text.slice(at, at + escapedPlus.length).toLowerCase())) return at;
  return start;
}
