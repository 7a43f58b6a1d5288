/** Card numbers: windows of whole groups of digits, so that a card is never a piece of a longer run of digits. */
import { digit, gapLength, is } from "./chars.ts";
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
      const gap = gapBefore(text, at, from);
      if (gap === 0) break;
      at -= gap;
    }
    return start;
  },
  next(text, from, open) {
    for (let at = nextGroup(text, from); at < open; at = nextGroup(text, at)) {
      const end = cardEnd(text, at);
      if (end > 0) return { start: at, end };
      at = groupEnd(text, at);
    }
    return null;
  },
};

/** The next place where a group of digits begins; the text's length when there is none. */
function nextGroup(text: string, from: number): number {
  let at = from;
  if (is(text, at, digit) && is(text, at - 1, digit)) at = groupEnd(text, at);
  while (at < text.length && !is(text, at, digit)) at += 1;
  return at;
}

function groupEnd(text: string, from: number): number {
  let at = from;
  while (is(text, at, digit)) at += 1;
  return at;
}

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

/** The end of the longest card that begins with the group at `start`; 0: none does. */
function cardEnd(text: string, start: number): number {
  let digits = "";
  let best = 0;
  // Dots also part the numbers of versions and addresses: of them only groups as cards have them.
  let dotted = false;
  let shortest = digitsMax;
  for (let at = start; ; ) {
    const end = groupEnd(text, at);
    if (end === at || digits.length + end - at > digitsMax) return best;
    digits += text.slice(at, end);
    shortest = Math.min(shortest, end - at);
    if (digits.length >= digitsMin && (!dotted || shortest >= 4) && isCard(digits)) best = end;
    const gap = gapLength(text, end);
    if (gap === 0) return best;
    dotted ||= text.charCodeAt(end) === 0x2e;
    at = end + gap;
  }
}

/** Issuer ranges of ISO/IEC 7812 in use, and Luhn's check digit. */
function isCard(digits: string): boolean {
  if (!/^(?:4|5[1-5]|2[2-7]|3[47]|3[0689]|6(?:011|4[4-9]|5|2)|50|5[6-9]|6[0-9]|35)/.test(digits)) return false;
  let sum = 0;
  for (let at = digits.length - 1, twice = false; at >= 0; at -= 1, twice = !twice) {
    const digit = digits.charCodeAt(at) - 48;
    sum += twice ? (digit > 4 ? digit * 2 - 9 : digit * 2) : digit;
  }
  return sum % 10 === 0 && !/^(.)\1+$/.test(digits);
}
