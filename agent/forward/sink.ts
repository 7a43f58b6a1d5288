/** What a receiver has to be able to do. */
import type { ReadEntry } from "../record/read.ts";

export interface ForwardLine {
  readonly entry: ReadEntry;
  readonly line: string;
}

export interface ForwardSink {
  /** Rejects when it is not certain that all of it arrived; then the same lines come again. */
  send(lines: readonly ForwardLine[]): Promise<void>;
  close(): void;
}
