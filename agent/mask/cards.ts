/** Card numbers: windows of whole groups of digits, so that a card is never a piece of a longer run of digits. */
import { digit, gap, gapLength, is } from "./chars.ts";
import type { Detector } from "./detector.ts";
import { manyDigits } from "./prefilter.ts";

const digitsMin = 13;
const digitsMax = 19;

export const cardDetector: Detector = {
  name: "credit-card",
  needs: manyDigits,
  follow: null,
  tail(text, from) {
    // Groups from the end back, as long as a card that begins with them could still be ended by what comes.
    let at = text.length;
    let start = at;
    for (let digits = 0; at > from; ) {
      const groupEnd = at;
      while (at > from && is(text, at - 1, digit)) at -= 1;
      digits += groupEnd - at;
      if (digits > digitsMax) break;
      if (at < groupEnd) {
        // The rest of a group that was already too long.
        if (is(text, at - 1, digit)) break;
        start = at;
      } else if (groupEnd !== text.length) break;
      const length = gapBefore(text, at, from);
      if (length === 0) break;
      at -= length;
      // Blanks stand in pairs, too.
      at -= gapBefore(text, at, from);
    }
    return start;
  },
  next(text, from, open) {
    run.lastIndex = from;
    for (let found = run.exec(text); found !== null && found.index < open; found = run.exec(text)) {
      const start = found.index;
      const end = cardEnd(text, start);
      if (end > 0) return { start, end };
      run.lastIndex = start + 1;
    }
    return null;
  },
};

/** A group of digits that, with those behind it, has enough of them. */
const run = new RegExp(`(?<![0-9])[2-6](?:${gap}{0,2}[0-9]){${digitsMin - 1}}`, "g");

/** The separator that ends at a place; half of one counts, as its rest may come. */
function gapBefore(text: string, at: number, from: number): number {
  for (let length = Math.min(3, at - from); length > 0; length -= 1) {
    if (gapLength(text, at - length) === length) return length;
  }
  const code = text.charCodeAt(at - 1);
  if (at === text.length && at > from) {
    if (code === 0xc2 || code === 0xe2) return 1;
    if (code === 0x80 && text.charCodeAt(at - 2) === 0xe2) return 2;
  }
  return 0;
}

/**
 * The end of the longest card that begins with the group at `start`; 0: none does. Luhn's sum is carried along for both
 * cases, since which digits count twice depends on where the card ends.
 */
function cardEnd(text: string, start: number): number {
  const first = text.charCodeAt(start) - 0x30;
  let digits = 0;
  let best = 0;
  let evenTwice = 0;
  let oddTwice = 0;
  let same = true;
  // Dots also part the numbers of versions and addresses: of them only groups as cards have them.
  let dotted = false;
  let shortest = digitsMax;
  // Pairs of blanks part the columns of tables: they have to stand between all groups, and the groups to be a card's.
  let wide = false;
  let shape = 0;
  for (let at = start; ; ) {
    const group = at;
    for (; is(text, at, digit); at += 1) {
      if (digits === digitsMax) return best;
      const value = text.charCodeAt(at) - 0x30;
      if (digits === 1 && !isIssuer(first, value)) return 0;
      same &&= value === first;
      const twice = value > 4 ? value * 2 - 9 : value * 2;
      evenTwice += digits % 2 === 0 ? twice : value;
      oddTwice += digits % 2 === 0 ? value : twice;
      digits += 1;
    }
    if (at === group) return best;
    shortest = Math.min(shortest, at - group);
    shape = shape * 100 + at - group;
    if (digits >= digitsMin && !same && (!dotted || shortest >= 4) && (!wide || isWideCard(text, start, at, shape))) {
      // The last digit counts once.
      if ((digits % 2 === 0 ? evenTwice : oddTwice) % 10 === 0) best = at;
    }
    const length = gapLength(text, at);
    if (length === 0) return best;
    dotted ||= text.charCodeAt(at) === 0x2e;
    const pair = pairLength(text, at);
    if (shape < 100) wide = pair > 0;
    else if (wide !== pair > 0) return best;
    at += wide ? pair : length;
  }
}

/** Two blanks, of either kind; 0: there are none. */
function pairLength(text: string, at: number): number {
  const first = blankLength(text, at);
  const second = first === 0 ? 0 : blankLength(text, at + first);
  return second === 0 ? 0 : first + second;
}

function blankLength(text: string, at: number): number {
  const code = text.charCodeAt(at);
  return code === 0x2d || code === 0x2e ? 0 : gapLength(text, at);
}

/** Groups of 4-4-4-4 or 4-6-5 digits, and no more of them before or behind, as in the row of a table. */
function isWideCard(text: string, start: number, end: number, shape: number): boolean {
  if (shape !== 4_040_404 && shape !== 40_605) return false;
  const pair = pairLength(text, end);
  return (
    !(pair > 0 && is(text, end + pair, digit)) &&
    !/[0-9][^0-9A-Za-z.-]{2,6}$/.test(text.slice(Math.max(0, start - 7), start))
  );
}

/** Ranges of ISO/IEC 7812 in use, by their first two digits. */
function isIssuer(first: number, second: number): boolean {
  if (first === 2) return second >= 2 && second <= 7;
  if (first === 3) return second === 0 || second >= 4;
  return true;
}
