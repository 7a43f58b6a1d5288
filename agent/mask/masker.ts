/** Masks what detectors find, in place and in as many bytes. */
import type { DetectorName, MaskStyle } from "../core/verdict.ts";
import { type Detector, detectorNamed } from "./detectors.ts";
import { hexBytes, mayMatch } from "./prefilter.ts";
import { applyStyle } from "./style.ts";

export interface DetectorSpec {
  readonly detectors: readonly DetectorName[];
  readonly with: MaskStyle;
}

export interface Masker {
  /** Overwrites matches in `bytes[start, end)`; how many there were. */
  mask(bytes: Buffer, start: number, end: number, filler?: number): number;
  /** The same for a text that goes on after `end`: a match that begins at `open` or later is left for the next scan. */
  maskOpen(bytes: Buffer, start: number, end: number, open: number): number;
  /** True when something in it would be masked. */
  finds(text: string): boolean;
  maskString(text: string): string;
}

interface Step {
  readonly detector: Detector;
  readonly style: MaskStyle;
}

/** A value longer than this is scanned in windows, so that no string of it is ever made whole. */
const windowBytesMax = 256 * 1024;
/** The longest thing a detector finds: a match that begins this far before a window's end is whole. */
export const matchBytesMax = 20_000;
/** What detectors look at before a match (the word before an AWS secret); kept at the head of the next window. */
export const contextBytesMax = 64;

/** From this length on a candidate may have been cut by its expression's bound. */
const candidateBytesMin = 400;
const overlapBytes = 45;
const hexRun = /\\x((?:[0-9a-fA-F]{2}){7,})/g;

export function createMasker(specs: readonly DetectorSpec[], key: Buffer): Masker | null {
  const steps: Step[] = [];
  const seen = new Set<DetectorName>();
  for (const spec of specs) {
    for (const name of spec.detectors) {
      // The first rule that names a detector says how it is written.
      if (seen.has(name)) continue;
      seen.add(name);
      steps.push({ detector: detectorNamed(name), style: spec.with });
    }
  }
  if (steps.length === 0) return null;

  /** A match cut by the window's end would be masked in part, and its rest never known again: hence `open`. */
  function maskWindow(
    bytes: Buffer,
    start: number,
    end: number,
    seen: number,
    open: number,
    filler: number | undefined,
  ): number {
    const text = bytes.toString("latin1", start, end);
    let found = 0;
    for (const { detector, style } of steps) {
      if ((detector.needs & seen) === 0) continue;
      const { expression } = detector;
      expression.lastIndex = 0;
      for (let match = expression.exec(text); match !== null; match = expression.exec(text)) {
        const { index } = match;
        if (start + index >= open) break;
        const { length } = match[0];
        const parts = detector.parts === null ? [[0, length] as const] : detector.parts(match[0]);
        for (const [from, to] of parts) {
          found += 1;
          applyStyle(bytes, start + index + from, start + index + to, style, key, filler);
        }
        // A candidate of many parts may go on behind its longest: the next one begins a little before its end.
        if (detector.parts !== null && length >= candidateBytesMin)
          expression.lastIndex = index + length - overlapBytes;
      }
    }
    if ((seen & hexBytes) !== 0) found += maskHex(bytes, start, text);
    return found;
  }

  /** bytea as text, `\\x6162…`: what it stands for is looked into, and written back as hex. */
  function maskHex(bytes: Buffer, start: number, text: string): number {
    let found = 0;
    for (const match of text.matchAll(hexRun)) {
      const raw = Buffer.from(match[1] as string, "hex");
      const seen = mayMatch(raw, 0, raw.length) & ~hexBytes;
      if (seen === 0) continue;
      const values = maskWindow(raw, 0, raw.length, seen, raw.length, undefined);
      if (values === 0) continue;
      found += values;
      bytes.write(raw.toString("hex"), start + match.index + 2, "latin1");
    }
    return found;
  }

  function mask(bytes: Buffer, start: number, end: number, filler?: number): number {
    return maskUntil(bytes, start, end, end, filler);
  }

  function maskUntil(bytes: Buffer, start: number, end: number, open: number, filler: number | undefined): number {
    const seen = mayMatch(bytes, start, end);
    if (seen === 0) return 0;
    let found = 0;
    let from = start;
    for (; end - from > windowBytesMax; from += windowBytesMax - matchBytesMax - contextBytesMax) {
      const to = from + windowBytesMax;
      found += maskWindow(bytes, from, to, seen, Math.min(open, to - matchBytesMax), filler);
    }
    return found + maskWindow(bytes, from, end, seen, open, filler);
  }

  return {
    mask,
    maskOpen: (bytes, start, end, open) => maskUntil(bytes, start, end, open, undefined),
    finds(text) {
      const bytes = Buffer.from(text, "latin1");
      return mask(bytes, 0, bytes.length) > 0;
    },
    maskString(text) {
      const bytes = Buffer.from(text, "utf8");
      return mask(bytes, 0, bytes.length) === 0 ? text : bytes.toString("utf8");
    },
  };
}
