/** Bank account numbers (ISO 13616). */
import { alphanumeric, gapLength, is, isEdge } from "./chars.ts";
import type { Detector } from "./detector.ts";
import { ibanHead } from "./prefilter.ts";

const charactersMin = 15;
const charactersMax = 34;
/** With a separator of three bytes before each. */
const spacedCharactersMax = charactersMax * 4;

/** Countries of the registry and their lengths: what is written in lower case has to be one of them. */
const lengths = new Map(
  (
    "AD24 AE23 AL28 AT20 AZ28 BA20 BE16 BG22 BH22 BI27 BR29 BY28 CH21 CR22 CY28 CZ24 DE22 DJ27 DK18 DO28 EE20 EG29 ES24 " +
    "FI18 FK18 FO18 FR27 GB22 GE22 GI23 GL18 GR27 GT28 HN28 HR21 HU28 IE22 IL23 IQ23 IS26 IT27 JO30 KW30 KZ20 LB28 LC32 " +
    "LI21 LT20 LU20 LV21 LY25 MC27 MD24 ME22 MK19 MN20 MR27 MT31 MU30 NI28 NL18 NO15 OM23 PK24 PL28 PS29 PT25 QA29 RO24 " +
    "RS22 RU33 SA24 SC31 SD18 SE24 SI19 SK24 SM27 SO23 ST25 SV28 TL23 TN24 TR26 UA29 VA22 VG24 XK20 YE30"
  )
    .split(" ")
    .map((entry) => [entry.slice(0, 2), Number(entry.slice(2))]),
);

const head = /[A-Za-z]{2}[0-9]{2}/g;

export const ibanDetector: Detector = {
  name: "iban",
  needs: ibanHead,
  follow: null,
  tail(text, from) {
    const reach = Math.max(from, text.length - spacedCharactersMax);
    head.lastIndex = reach;
    for (let match = head.exec(text); match !== null; match = head.exec(text)) {
      if (isEdge(text, match.index, alphanumeric) && read(text, match.index).open) return match.index;
      head.lastIndex = match.index + 1;
    }
    // The first one, two or three characters of one.
    for (let at = Math.max(from, text.length - 3); at < text.length; at += 1) {
      if (isEdge(text, at, alphanumeric) && /^[A-Za-z]{1,2}[0-9]?$/.test(text.slice(at))) return at;
    }
    return text.length;
  },
  next(text, from, open) {
    head.lastIndex = from;
    for (let match = head.exec(text); match !== null && match.index < open; match = head.exec(text)) {
      const start = match.index;
      if (isEdge(text, start, alphanumeric)) {
        const { end } = read(text, start);
        if (end > 0) return { start, end };
      }
      head.lastIndex = start + 1;
    }
    return null;
  },
};

/**
 * It may be followed by words in capitals: its end is the last border between groups at which the check digits are
 * right. `open`: what comes may still be a part of it.
 */
function read(text: string, start: number): { end: number; open: boolean } {
  const country = text.slice(start, start + 2);
  const large = country.toUpperCase();
  const usual = lengths.get(large) ?? 0;
  let count = 0;
  let end = 0;
  let at = start;
  // Moved behind the rest and read as a number, the first four characters are six digits.
  let head = 0;
  let rest = 0;
  let isLarge = true;
  const isRight = (): boolean => (isLarge || count === usual) && (rest * 1_000_000 + head) % 97 === 1;
  while (count <= charactersMax) {
    if (is(text, at, alphanumeric)) {
      const code = text.charCodeAt(at);
      const value = code < 0x3a ? code - 0x30 : (code | 0x20) - 0x57;
      if (count < 4) head = head * (value > 9 ? 100 : 10) + value;
      else rest = (rest * (value > 9 ? 100 : 10) + value) % 97;
      isLarge &&= code < 0x61;
      count += 1;
      at += 1;
      // At its country's length it ends even when letters follow; in small letters that is too likely by chance.
      if (count === usual && country === large && isRight()) end = at;
      continue;
    }
    // A border: the end of the text, a separator, or a sign.
    if (count >= charactersMin && isRight()) end = at;
    if (at >= text.length) return { end, open: true };
    const gap = count < 4 ? 0 : gapLength(text, at);
    if (gap === 0 || !is(text, at + gap, alphanumeric))
      return { end, open: count >= 4 && (at + Math.max(gap, 1) >= text.length || isCutGap(text, at)) };
    at += gap;
  }
  return { end, open: false };
}

/** The first bytes of a no-break space at the text's end. */
function isCutGap(text: string, at: number): boolean {
  return text.charCodeAt(at) === 0xe2 && text.charCodeAt(at + 1) === 0x80 && at + 2 >= text.length;
}
