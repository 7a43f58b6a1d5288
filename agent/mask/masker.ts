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
/** The longest thing a detector finds; windows overlap by it. */
const matchBytesMax = 20_000;

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

  function maskWindow(bytes: Buffer, start: number, end: number, seen: number, filler: number | undefined): number {
    const text = bytes.toString("latin1", start, end);
    let found = 0;
    for (const { detector, style } of steps) {
      if ((detector.needs & seen) === 0) continue;
      const { expression } = detector;
      expression.lastIndex = 0;
      for (let match = expression.exec(text); match !== null; match = expression.exec(text)) {
        const { index } = match;
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
      const values = maskWindow(raw, 0, raw.length, seen, undefined);
      if (values === 0) continue;
      found += values;
      bytes.write(raw.toString("hex"), start + match.index + 2, "latin1");
    }
    return found;
  }

  function mask(bytes: Buffer, start: number, end: number, filler?: number): number {
    const seen = mayMatch(bytes, start, end);
    if (seen === 0) return 0;
    if (end - start <= windowBytesMax) return maskWindow(bytes, start, end, seen, filler);
    let found = 0;
    for (let from = start; from < end; from += windowBytesMax - matchBytesMax) {
      found += maskWindow(bytes, from, Math.min(end, from + windowBytesMax), seen, filler);
    }
    return found;
  }

  return {
    mask,
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
