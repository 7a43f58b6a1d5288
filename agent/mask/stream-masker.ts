/**
 * Masks a text that comes in pieces: the deltas of a model's answer, of a tool call's arguments. What is no start of a
 * value leaves with its piece; wherever a value is cut, it leaves as it would have in one piece.
 */
import type { MaskPlan } from "./plan.ts";
import { Scanned } from "./scanned.ts";
import { scannerOf } from "./whole-text.ts";

export interface StreamMasker {
  /** Takes the next piece of one text and returns what may leave now, masked; it may be empty. */
  push(text: string): string;
  /** The text has ended: what was held back, masked. */
  end(): string;
  /** What it knows between two pieces, as plain data: a masker of the same plan goes on from it. */
  save(): unknown;
  restore(state: unknown): void;
  /** Values masked so far. */
  readonly masked: number;
  /** Characters held back now; never above `heldCharactersMax`, or `wholeTextCharactersMax` where a text is judged as one. */
  readonly held: number;
}

/** A masker costs four small arrays: one for each text of a reply. */
export function createStreamMasker(plan: MaskPlan): StreamMasker {
  return new TextMasker(scannerOf(plan, "utf16"));
}

class TextMasker extends Scanned implements StreamMasker {
  push(text: string): string {
    return text === "" ? "" : this.scanner.push(text, false);
  }

  end(): string {
    return this.scanner.push("", true);
  }

  save(): unknown {
    return this.scanner.save();
  }

  restore(state: unknown): void {
    this.scanner.restore(state as never);
  }
}
