/** Looking for a value by what is rare in it: V8 skips to a literal far faster than to an expression that looks behind. */
import { isEdge } from "./chars.ts";
import type { Detector, Found } from "./detector.ts";

/** The first match that begins before `open`. */
export function firstMatch(expression: RegExp): Detector["next"] {
  return (text, from, open) => {
    expression.lastIndex = from;
    const match = expression.exec(text);
    if (match === null || match.index >= open) return null;
    return { start: match.index, end: match.index + match[0].length };
  };
}

/**
 * The first place at a word's edge (of the class `bits`; 0: anywhere) where the sticky expression matches; it has to
 * begin with what the locator finds.
 */
export function firstHead(locator: RegExp, bits: number, head: RegExp): Detector["next"] {
  return (text, from, open): Found | null => {
    locator.lastIndex = from;
    for (let place = locator.exec(text); place !== null && place.index < open; place = locator.exec(text)) {
      const start = place.index;
      if (bits === 0 || isEdge(text, start, bits)) {
        head.lastIndex = start;
        if (head.test(text)) return { start, end: head.lastIndex };
      }
      locator.lastIndex = start + 1;
    }
    return null;
  };
}
