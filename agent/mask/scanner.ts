/**
 * Detectors over one text that comes in pieces. It keeps what a detector may still need, and says of the rest where
 * values are and how they are hidden; on a text that comes in one piece it does the same in one go.
 */
import type { MaskStyle } from "../core/verdict.ts";
import type { TextKind } from "./chars.ts";
import { contextCharactersMax, type Detector } from "./detector.ts";
import { clearEnds, type Hidden, hiddenIn } from "./style.ts";

export interface Step {
  readonly detector: Detector;
  readonly style: MaskStyle;
}

/** Characters that may be held back; on reaching it they are hidden. The longest value of a bounded detector is shorter. */
export const heldCharactersMax = 20_000;
/** A value of any length whose style needs it whole (`hash`) is held up to this; a longer one is hidden by stars. */
export const wholeCharactersMax = 16_384;

/** What a scanner knows between two pieces, as plain data: another one of the same steps goes on from it. */
export interface ScannerState {
  readonly text: string;
  readonly context: number;
  readonly cursors: Int32Array;
  readonly phases: Int32Array;
  readonly starts: Int32Array;
  readonly covered: Int32Array;
  readonly marks: readonly Mark[];
  readonly masked: number;
}

/** Hidden part of a text, by the step that found it: of two on one place the later step's is seen. */
export interface Mark extends Hidden {
  readonly step: number;
}

export class TextScanner {
  readonly #steps: readonly Step[];
  readonly #key: Buffer;
  readonly #kind: TextKind;
  readonly #filler: string;
  /** What came before and is looked at (`#context` characters), then what is held. */
  #text = "";
  #context = 0;
  /** Of each step: where it goes on, the phase of the value that it is in (0: in none), and where that began. */
  readonly #cursors: Int32Array;
  readonly #phases: Int32Array;
  readonly #starts: Int32Array;
  /** Up to where a value that goes on is marked; -1: it is held whole. */
  readonly #covered: Int32Array;
  #marks: Mark[] = [];
  masked = 0;

  constructor(steps: readonly Step[], key: Buffer, kind: TextKind, filler = "*") {
    this.#steps = steps.some(wholeOnly) ? steps.filter((step) => !wholeOnly(step)) : steps;
    this.#key = key;
    this.#kind = kind;
    this.#filler = filler;
    this.#cursors = new Int32Array(steps.length);
    this.#phases = new Int32Array(steps.length);
    this.#starts = new Int32Array(steps.length);
    this.#covered = new Int32Array(steps.length);
  }

  get held(): number {
    return this.#text.length - this.#context;
  }

  save(): ScannerState {
    return {
      ...{ text: this.#text, context: this.#context, marks: this.#marks, masked: this.masked },
      ...{ cursors: this.#cursors, phases: this.#phases, starts: this.#starts, covered: this.#covered },
    };
  }

  restore({ text, context, cursors, phases, starts, covered, marks, masked }: ScannerState): void {
    this.#text = text;
    this.#context = context;
    this.#cursors.set(cursors);
    this.#phases.set(phases);
    this.#starts.set(starts);
    this.#covered.set(covered);
    this.#marks = [...marks];
    this.masked = masked;
  }

  /** `seen` is what `mayMatch` says of all that is held, with the context and the piece. */
  push(piece: string, final: boolean, seen = -1): string {
    this.#text = this.#text === "" ? piece : this.#text + piece;
    const { length } = this.#text;
    let leaving = length;
    for (let i = 0; i < this.#steps.length; i += 1) {
      const open = this.#advance(i, final, seen);
      if (open < leaving) leaving = open;
    }
    if (!final) {
      if (length - leaving > heldCharactersMax) leaving = this.#giveUp(leaving);
      // Two halves of one character leave together.
      if (leaving > this.#context && this.#kind === "utf16" && isHigh(this.#text, leaving - 1)) leaving -= 1;
    }
    return this.#leave(leaving);
  }

  /** The held text and what comes before it, for `mayMatch`. */
  get kept(): string {
    return this.#text;
  }

  /** Takes step `i` through the text; what is returned is the first place that cannot leave yet for its sake. */
  #advance(i: number, final: boolean, seen: number): number {
    const { detector } = this.#steps[i] as Step;
    const text = this.#text;
    if (this.#phases[i] !== 0 && !this.#follow(i, final)) return this.#open(i);
    let from = this.#cursors[i] as number;
    let open = final ? text.length : detector.tail(text, from);
    if (detector.needs === 0 || (detector.needs & seen) !== 0) {
      for (let found = detector.next(text, from, open); found !== null; found = detector.next(text, from, open)) {
        this.masked += 1;
        if (detector.follow === null) {
          this.#mark(i, found.start, found.end);
          from = found.end;
        } else {
          this.#begin(i, found.start, found.end);
          if (!this.#follow(i, final)) return this.#open(i);
          from = this.#cursors[i] as number;
        }
        if (from > open) open = detector.tail(text, from);
      }
    }
    this.#cursors[i] = open;
    return open;
  }

  #mark(step: number, start: number, end: number): void {
    const { style } = this.#steps[step] as Step;
    this.#marks.push({ ...hiddenIn(this.#text, start, end, style, this.#key, this.#kind), step });
  }

  /** A value of any length begins. */
  #begin(i: number, start: number, end: number): void {
    const ends = clearEnds((this.#steps[i] as Step).style);
    this.#phases[i] = 1;
    this.#starts[i] = start;
    this.#cursors[i] = end;
    this.#covered[i] = ends === null ? -1 : start + ends.head;
  }

  /** Goes on in it; true when it has ended. */
  #follow(i: number, final: boolean): boolean {
    const { detector, style } = this.#steps[i] as Step;
    const follow = detector.follow as NonNullable<Detector["follow"]>;
    const { at, phase } = follow(this.#text, this.#cursors[i] as number, this.#phases[i] as number, final);
    const start = this.#starts[i] as number;
    this.#cursors[i] = at;
    this.#phases[i] = phase;
    if (this.#covered[i] === -1 && at - start > wholeCharactersMax) this.#covered[i] = start;
    const covered = this.#covered[i] as number;
    if (covered === -1) {
      if (phase === 0) this.#mark(i, start, at);
      return phase === 0;
    }
    const tail = clearEnds(style)?.tail ?? 0;
    if (at - tail > covered) {
      this.#marks.push({ from: covered, to: at - tail, text: null, step: i });
      this.#covered[i] = at - tail;
    }
    return phase === 0;
  }

  /** The first place of a value that goes on which cannot leave yet. */
  #open(i: number): number {
    const covered = this.#covered[i] as number;
    const tail = clearEnds((this.#steps[i] as Step).style)?.tail ?? 0;
    return covered === -1 ? (this.#starts[i] as number) : Math.max(covered, (this.#cursors[i] as number) - tail);
  }

  /** Too much is held: nobody waits for what it might be. */
  #giveUp(from: number): number {
    const { length } = this.#text;
    this.masked += 1;
    this.#marks.push({ from, to: length, text: null, step: this.#steps.length });
    for (let i = 0; i < this.#steps.length; i += 1) {
      if (this.#phases[i] === 0) this.#cursors[i] = length;
      else if (this.#covered[i] === -1) this.#covered[i] = length;
    }
    return length;
  }

  #leave(to: number): string {
    const text = this.#text;
    let out = text.slice(this.#context, to);
    if (this.#marks.length > 0) {
      out = paint(out, this.#marks, this.#context, this.#filler);
      this.#marks = this.#marks.filter((mark) => mark.to > to);
    }
    const cut = Math.max(0, to - contextCharactersMax);
    this.#context = to - cut;
    if (cut > 0) {
      this.#text = text.slice(cut);
      for (let i = 0; i < this.#steps.length; i += 1) {
        this.#cursors[i] = Math.max(0, (this.#cursors[i] as number) - cut);
        this.#starts[i] = (this.#starts[i] as number) - cut;
        if (this.#covered[i] !== -1) this.#covered[i] = (this.#covered[i] as number) - cut;
      }
      if (this.#marks.length > 0)
        this.#marks = this.#marks.map((mark) => ({ ...mark, from: mark.from - cut, to: mark.to - cut }));
    }
    return out;
  }
}

function wholeOnly({ detector }: Step): boolean {
  return detector.wholeOnly === true;
}

function isHigh(text: string, at: number): boolean {
  const code = text.charCodeAt(at);
  return code >= 0xd800 && code <= 0xdbff;
}

/** `text` begins at `base` of the marks' places. Each character is written once, however many marks there are. */
function paint(text: string, marks: readonly Mark[], base: number, filler: string): string {
  const sorted = [...marks].sort((a, b) => a.from - b.from);
  const parts: string[] = [];
  let clear = 0;
  for (let i = 0; i < sorted.length; ) {
    const from = Math.max(0, (sorted[i] as Mark).from - base);
    let to = Math.min(text.length, (sorted[i] as Mark).to - base);
    let next = i + 1;
    for (; next < sorted.length && (sorted[next] as Mark).from - base < to; next += 1)
      to = Math.max(to, Math.min(text.length, (sorted[next] as Mark).to - base));
    if (from < to) {
      parts.push(text.slice(clear, from));
      clear = to;
      if (next === i + 1) parts.push(hiddenPart(sorted[i] as Mark, from, to, base, filler));
      else parts.push(paintOver(text.slice(from, to), sorted.slice(i, next), base + from, filler));
    }
    i = next;
  }
  parts.push(text.slice(clear));
  return parts.join("");
}

/** Marks that overlap: of two on one place the later step's is seen. */
function paintOver(text: string, marks: readonly Mark[], base: number, filler: string): string {
  const cells = text.split("");
  for (const mark of [...marks].sort((a, b) => a.step - b.step)) {
    const from = Math.max(0, mark.from - base);
    const to = Math.min(text.length, mark.to - base);
    if (from >= to) continue;
    const hidden = hiddenPart(mark, from, to, base, filler);
    for (let at = from; at < to; at += 1) cells[at] = hidden[at - from] as string;
  }
  return cells.join("");
}

/** What is seen of a mark between two places of the painted text. */
function hiddenPart(mark: Mark, from: number, to: number, base: number, filler: string): string {
  return mark.text === null || filler !== "*"
    ? filler.repeat(to - from)
    : mark.text.slice(from + base - mark.from, to + base - mark.from);
}
