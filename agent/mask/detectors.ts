/**
 * Detectors: what a card number, a key or a token looks like. V8 expressions with bounded repeats only, so that no
 * text takes long; what has check digits is checked. They work on latin1 strings: one character is one byte, so a
 * match's place in the string is its place in the bytes, and UTF-8 around it stays as it is.
 */
import type { DetectorName } from "../core/verdict.ts";
import { atSign, ibanHead, keyLetters, manyDigits, someDigits } from "./prefilter.ts";

export interface Detector {
  readonly name: DetectorName;
  /** The bit of `mayMatch` without which there is no match. */
  readonly needs: number;
  readonly expression: RegExp;
  /** The parts of a candidate that are the thing itself, as [start, end) in it; null: all of it is. */
  readonly parts: ((candidate: string) => readonly (readonly [number, number])[]) | null;
}

/** Not inside a word; an escape (`\\n`, `\\t`) before it is no word. */
const edge = "(?:(?<![A-Za-z0-9])|(?<=\\\\[nrtbfv]))";
const end = "(?![A-Za-z0-9])";

const detectors: Readonly<Record<DetectorName, Detector>> = {
  // Digit groups in a row, whatever their number: which of them are a card is looked at group by group.
  "credit-card": detector("credit-card", manyDigits, /(?<![0-9])(?:[0-9][ -]?){12,400}[0-9]/g, cardsIn),
  ssn: detector(
    "ssn",
    someDigits,
    /(?<![0-9-])(?!000|666|9[0-9][0-9])[0-9]{3}([- ])(?!00)[0-9]{2}\1(?!0000)[0-9]{4}(?![0-9-])/g,
  ),
  // Not from the letter of an escape on: `\\n` in JSON is a line end, and half of it would be no JSON.
  email: detector(
    "email",
    atSign,
    /(?<!\\)[A-Za-z0-9._%+\x80-\xff-]{1,64}@[A-Za-z0-9\x80-\xff-]{1,63}(?:\.[A-Za-z0-9\x80-\xff-]{1,63}){1,8}/g,
  ),
  phone: detector(
    "phone",
    someDigits,
    /(?:(?<![0-9A-Za-z])|(?<=\\[nrtbfv]))(?:\+[1-9][0-9]{0,2}[ .-]?(?:\([0-9]{1,4}\)[ .-]?)?(?:[0-9][ .-]?){6,12}[0-9]|(?:\([2-9][0-9]{2}\) ?|[2-9][0-9]{2}[-. ])[2-9][0-9]{2}[-. ][0-9]{4})(?![0-9])/g,
  ),
  iban: detector("iban", ibanHead, new RegExp(`${edge}[A-Z]{2}[0-9]{2}(?: ?[A-Z0-9]){11,44}`, "g"), ibansIn),
  "aws-key": detector(
    "aws-key",
    keyLetters,
    new RegExp(
      `${edge}(?:AKIA|ASIA|AGPA|AIDA|AROA)[A-Z0-9]{16}${end}|(?<=(?:aws|AWS|secret|SECRET|Secret)[A-Za-z_ ]{0,30}["' :=]{1,6})[A-Za-z0-9/+]{40}(?![A-Za-z0-9/+=])`,
      "g",
    ),
  ),
  "openai-key": detector(
    "openai-key",
    keyLetters,
    new RegExp(`${edge}sk-(?!ant-)(?:proj-|svcacct-|admin-)?[A-Za-z0-9_-]{20,300}`, "g"),
  ),
  "anthropic-key": detector("anthropic-key", keyLetters, new RegExp(`${edge}sk-ant-[A-Za-z0-9_-]{20,300}`, "g")),
  "github-token": detector(
    "github-token",
    keyLetters,
    new RegExp(`${edge}(?:gh[pousr]_[A-Za-z0-9]{30,255}|github_pat_[A-Za-z0-9_]{30,255})`, "g"),
  ),
  jwt: detector(
    "jwt",
    keyLetters,
    /(?:(?<![A-Za-z0-9_-])|(?<=\\[nrtbfv]))eyJ[A-Za-z0-9_-]{8,4000}\.eyJ[A-Za-z0-9_-]{2,4000}\.[A-Za-z0-9_-]{0,2000}/g,
  ),
  // The end may be missing: what follows a header is a key until it says otherwise. Line ends may be escaped.
  "private-key": detector(
    "private-key",
    keyLetters,
    /-----BEGIN [A-Z0-9 ]{0,30}PRIVATE KEY-----(?:(?!-----END)[^\0]){0,16000}(?:-----END [A-Z0-9 ]{0,30}PRIVATE KEY-----)?/g,
  ),
};

export function detectorNamed(name: DetectorName): Detector {
  return detectors[name];
}

function detector(name: DetectorName, needs: number, expression: RegExp, parts: Detector["parts"] = null): Detector {
  return { name, needs, expression, parts };
}

/** Windows of whole groups: a card is never a piece of a longer run of digits. */
function cardsIn(candidate: string): [number, number][] {
  const groups = [...candidate.matchAll(/[0-9]+/g)].map(
    (match) => [match.index, match.index + match[0].length] as const,
  );
  const found: [number, number][] = [];
  for (let first = 0; first < groups.length; first += 1) {
    let digits = 0;
    let best = -1;
    for (let last = first; last < groups.length && digits <= 19; last += 1) {
      const [from, to] = groups[last] as readonly [number, number];
      digits += to - from;
      if (digits >= 13 && digits <= 19 && isCard(candidate.slice((groups[first] as readonly [number, number])[0], to)))
        best = last;
    }
    if (best < 0) continue;
    found.push([(groups[first] as readonly [number, number])[0], (groups[best] as readonly [number, number])[1]]);
    first = best;
  }
  return found;
}

/** An IBAN may be followed by words in capitals: its end is the last group border at which the check digits are right. */
function ibansIn(candidate: string): [number, number][] {
  for (let to = candidate.length; to >= 15; to = candidate.lastIndexOf(" ", to - 1)) {
    if (isIban(candidate.slice(0, to))) return [[0, to]];
  }
  return [];
}

/** Issuer ranges of ISO/IEC 7812 in use, and Luhn's check digit. */
function isCard(match: string): boolean {
  const digits = match.replace(/[ -]/g, "");
  if (digits.length < 13 || digits.length > 19) return false;
  if (!/^(?:4|5[1-5]|2[2-7]|3[47]|3[0689]|6(?:011|4[4-9]|5|2)|50|5[6-9]|6[0-9]|35)/.test(digits)) return false;
  let sum = 0;
  for (let at = digits.length - 1, twice = false; at >= 0; at -= 1, twice = !twice) {
    const digit = digits.charCodeAt(at) - 48;
    sum += twice ? (digit > 4 ? digit * 2 - 9 : digit * 2) : digit;
  }
  return sum % 10 === 0 && !/^(.)\1+$/.test(digits);
}

/** ISO 13616: moved and read as a number, the rest by 97 is 1. */
function isIban(match: string): boolean {
  const plain = match.replaceAll(" ", "");
  if (plain.length < 15 || plain.length > 34) return false;
  let rest = 0;
  for (const letter of plain.slice(4) + plain.slice(0, 4)) {
    const value = Number.parseInt(letter, 36);
    rest = (rest * (value > 9 ? 100 : 10) + value) % 97;
  }
  return rest === 1;
}
