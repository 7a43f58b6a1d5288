/** Masks what detectors find, in place and in as many bytes. */
import type { MaskStyle } from "../core/verdict.ts";
import { contextCharactersMax } from "./detector.ts";
import { compileMaskPlan, type MaskPlan, type MaskPlanSpec } from "./plan.ts";
import { hexBytes, mayMatchLong } from "./prefilter.ts";
import { type Step, TextScanner, wholeCharactersMax } from "./scanner.ts";
import { hiddenIn } from "./style.ts";

export interface Masker {
  /** Overwrites matches in `bytes[start, end)`; how many there were. */
  mask(bytes: Buffer, start: number, end: number, filler?: number): number;
  /** The same for a text that goes on after `end`: a match that begins at `open` or later is left for the next scan. */
  maskOpen(bytes: Buffer, start: number, end: number, open: number): number;
  /** True when something in it would be masked. One character of it is one byte. */
  finds(bytes: string): boolean;
  /** The same of a text that was decoded. */
  findsText(text: string): boolean;
  /** How every value below a JSON object's member of this name is hidden; left out: no detector is about names. */
  readonly styleOfKey?: ((name: string) => MaskStyle | null) | undefined;
  /** False: it also looks for what `mayMatch` knows nothing of. */
  readonly prefiltered: boolean;
  maskString(text: string): string;
}

/** A value longer than this is scanned in pieces, so that no string of it is ever made whole. */
const windowBytesMax = 256 * 1024;
/** No value that a detector bounds is longer; who holds text back for `maskOpen` holds this much. */
export const matchBytesMax = 20_000;
/** What detectors look at before a match (the word before an AWS secret); kept at the head of the next window. */
export const contextBytesMax = contextCharactersMax;

const star = 0x2a;
const hexDigitsMin = 14;

export function createMasker(specs: readonly MaskPlanSpec[], key: Buffer): Masker | null {
  const plan = compileMaskPlan(specs, key);
  return plan === null ? null : maskerOf(plan);
}

export function maskerOf({ steps, key, styleOfKey }: MaskPlan): Masker {
  function maskUntil(bytes: Buffer, start: number, end: number, open: number, filler: number): number {
    const seen = mayMatchLong(bytes, start, end);
    if (seen === 0 && !always) return 0;
    let found = 0;
    if (open === end && end - start > windowBytesMax) {
      for (const step of steps.latin1) {
        if (step.detector.wholeOnly === true)
          found += maskStep(step, bytes.toString("latin1", start, end), bytes, start, end - start, filler);
      }
      found += maskPieces(bytes, start, end, filler);
    } else {
      const text = bytes.toString("latin1", start, end);
      for (const step of steps.latin1) {
        if (step.detector.needs === 0 || (step.detector.needs & seen) !== 0)
          found += maskStep(step, text, bytes, start, open - start, filler);
      }
    }
    if ((seen & hexBytes) !== 0) found += maskHex(bytes, start, end, open);
    return found;
  }
  const always = steps.latin1.some(({ detector }) => detector.needs === 0);

  function maskStep(
    { detector, style }: Step,
    text: string,
    bytes: Buffer,
    start: number,
    open: number,
    filler: number,
  ): number {
    let values = 0;
    for (let match = detector.next(text, 0, open); match !== null; ) {
      values += 1;
      const end = detector.follow === null ? match.end : detector.follow(text, match.end, 1, true).at;
      const how = detector.follow !== null && (style === "email" || end - match.start > wholeCharactersMax);
      const hidden = hiddenIn(
        text,
        match.start,
        end,
        how && style !== "last4" && style !== "partial" ? "redact" : style,
        key,
        "latin1",
      );
      // Where a filler is asked for (a number of JSON) letters would be no value.
      if (hidden.text === null || filler !== star) bytes.fill(filler, start + hidden.from, start + hidden.to);
      else bytes.write(hidden.text, start + hidden.from, "latin1");
      match = detector.next(text, end, open);
    }
    return values;
  }

  function maskPieces(bytes: Buffer, start: number, end: number, filler: number): number {
    const scanner = new TextScanner(steps.latin1, key, "latin1", String.fromCharCode(filler));
    let at = start;
    for (let from = start; from < end; from += windowBytesMax) {
      const to = Math.min(end, from + windowBytesMax);
      at += bytes.write(scanner.push(bytes.toString("latin1", from, to), to === end), at, "latin1");
    }
    return scanner.masked;
  }

  /** bytea as text, `\\x6162…`: what it stands for is looked into, and written back as hex. */
  function maskHex(bytes: Buffer, start: number, end: number, open: number): number {
    let found = 0;
    // Not beyond its end: behind it the rows of a whole read may stand.
    const text = bytes.subarray(0, end);
    for (let at = text.indexOf("\\x", start, "latin1"); at >= 0; at = text.indexOf("\\x", at, "latin1")) {
      at += 2;
      let to = at;
      while (to < end && isHexDigit(bytes[to] as number)) to += 1;
      to -= (to - at) % 2;
      if (to - at < hexDigitsMin) continue;
      const raw = Buffer.from(bytes.toString("latin1", at, to), "hex");
      const values = maskRaw(raw, open < to ? (open - at) >> 1 : raw.length);
      if (values > 0) bytes.write(raw.toString("hex"), at, "latin1");
      found += values;
      at = to;
    }
    return found;
  }

  /** Hex within hex is left as it is. */
  function maskRaw(raw: Buffer, open: number): number {
    const seen = mayMatchLong(raw, 0, raw.length);
    if ((seen & ~hexBytes) === 0 && !always) return 0;
    if (open === raw.length && raw.length > windowBytesMax) return maskPieces(raw, 0, raw.length, star);
    const text = raw.toString("latin1", 0, raw.length);
    let found = 0;
    for (const step of steps.latin1) {
      if (step.detector.needs === 0 || (step.detector.needs & seen) !== 0)
        found += maskStep(step, text, raw, 0, open, star);
    }
    return found;
  }

  return {
    mask: (bytes, start, end, filler = star) => maskUntil(bytes, start, end, end, filler),
    maskOpen: (bytes, start, end, open) => maskUntil(bytes, start, end, open, star),
    prefiltered: !always,
    ...(styleOfKey === null ? {} : { styleOfKey }),
    finds(text) {
      const bytes = Buffer.from(text, "latin1");
      return maskUntil(bytes, 0, bytes.length, bytes.length, star) > 0;
    },
    findsText(text) {
      const bytes = Buffer.from(text, "utf8");
      const seen = mayMatchLong(bytes, 0, bytes.length);
      if (seen === 0 && !always) return false;
      if ((seen & hexBytes) !== 0 && maskHex(bytes, 0, bytes.length, bytes.length) > 0) return true;
      return steps.utf16.some(
        ({ detector }) =>
          (detector.needs === 0 || (detector.needs & seen) !== 0) && detector.next(text, 0, text.length) !== null,
      );
    },
    maskString(text) {
      if (Buffer.byteLength(text, "utf8") !== text.length) {
        for (const { detector, style } of steps.utf16) {
          if (detector.wholeOnly !== true || detector.next(text, 0, text.length) === null) continue;
          const hidden = hiddenIn(text, 0, text.length, style === "hash" ? "hash" : "redact", key, "utf16");
          return hidden.text ?? "*".repeat(text.length);
        }
        const bytes = Buffer.from(text, "utf8");
        const seen = mayMatchLong(bytes, 0, bytes.length);
        if (seen === 0 && !always) return text;
        // Bytes would tell nothing of letters that are not ASCII.
        const scanner = new TextScanner(steps.utf16, key, "utf16");
        return scanner.push(text, true, seen);
      }
      const bytes = Buffer.from(text, "latin1");
      return maskUntil(bytes, 0, bytes.length, bytes.length, star) === 0
        ? text
        : bytes.toString("latin1", 0, bytes.length);
    },
  };
}

export function isHexDigit(byte: number): boolean {
  const small = byte | 0x20;
  return (byte >= 0x30 && byte <= 0x39) || (small >= 0x61 && small <= 0x66);
}
