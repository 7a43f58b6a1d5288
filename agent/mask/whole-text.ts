/**
 * A text in pieces for detectors of which some judge it as a whole (source code): it is held until its end, or until
 * there is too much of it, which is then judged by itself. Found, all of it is hidden, and all that follows.
 */

import type { TextKind } from "./chars.ts";
import type { MaskPlan } from "./plan.ts";
import { type ScannerState, type Step, TextScanner } from "./scanner.ts";
import { hiddenIn } from "./style.ts";

/** Characters that are judged together, and held back for it. */
export const wholeTextCharactersMax = 1024 * 1024;

/** What the maskers of streams use: a scanner, or one behind a text that is held. */
export type PieceScanner = Pick<TextScanner, "push" | "held" | "kept" | "masked"> & {
  /** Plain data, for a scanner of the same plan. */
  save(): unknown;
  restore(state: never): void;
};

interface HeldState {
  readonly scanner: ScannerState;
  readonly text: string;
  readonly hides: boolean;
  readonly found: number;
}

export function scannerOf({ steps, key }: MaskPlan, kind: TextKind): PieceScanner {
  const all = steps[kind];
  const whole = all.filter(({ detector }) => detector.wholeOnly === true);
  const scanner = new TextScanner(all, key, kind);
  return whole.length === 0 ? scanner : new HeldScanner(whole, scanner, key, kind);
}

class HeldScanner implements PieceScanner {
  readonly #steps: readonly Step[];
  readonly #scanner: TextScanner;
  readonly #key: Buffer;
  readonly #kind: TextKind;
  #pieces: string[] = [];
  #length = 0;
  #hides = false;
  #found = 0;

  constructor(steps: readonly Step[], scanner: TextScanner, key: Buffer, kind: TextKind) {
    this.#steps = steps;
    this.#scanner = scanner;
    this.#key = key;
    this.#kind = kind;
  }

  get held(): number {
    return this.#length + this.#scanner.held;
  }

  save(): HeldState {
    return { scanner: this.#scanner.save(), text: this.#pieces.join(""), hides: this.#hides, found: this.#found };
  }

  restore({ scanner, text, hides, found }: HeldState): void {
    this.#scanner.restore(scanner);
    this.#pieces = [text];
    this.#length = text.length;
    this.#hides = hides;
    this.#found = found;
  }

  /** Nothing of it is told by a look at the bytes. */
  get kept(): string {
    return "";
  }

  get masked(): number {
    return this.#found + this.#scanner.masked;
  }

  push(piece: string, final: boolean): string {
    if (this.#hides) return "*".repeat(piece.length);
    this.#pieces.push(piece);
    this.#length += piece.length;
    if (!final && this.#length < wholeTextCharactersMax) return "";
    const text = this.#pieces.join("");
    this.#pieces = [];
    this.#length = 0;
    for (const { detector, style } of this.#steps) {
      if (detector.next(text, 0, text.length) === null) continue;
      this.#found += 1;
      this.#hides = true;
      // What the other detectors still had is a part of what was found.
      const before = "*".repeat(this.#scanner.held);
      const { from, to, text: hidden } = hiddenIn(text, 0, text.length, style, this.#key, this.#kind);
      return before + text.slice(0, from) + (hidden ?? "*".repeat(to - from)) + text.slice(to);
    }
    return this.#scanner.push(text, final);
  }
}
