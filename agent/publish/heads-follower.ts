/** Follows the heads: those whose entries are published are published behind them. */
import { join } from "node:path";
import { headsFile, readLastHead } from "../record/heads.ts";
import { type HeadsPlace, readHeadLines } from "../record/heads-file.ts";

export interface PublishedHead {
  readonly line: string;
  readonly size: number;
  /** Behind its line. */
  readonly next: HeadsPlace;
}

export class HeadsFollower {
  readonly #stateDir: string;

  constructor(stateDir: string) {
    this.#stateDir = stateDir;
  }

  /** Whole lines from a place on, as many as one read gives. */
  read(place: HeadsPlace): PublishedHead[] {
    return readHeadLines(this.#stateDir, place).map(({ line, next }) => ({ line, size: sizeOf(line), next }));
  }

  /** Entries that the agent has signed for; 0 without a head that can be read. */
  signedSize(): number {
    try {
      return readLastHead(join(this.#stateDir, headsFile))?.size ?? 0;
    } catch {
      return 0;
    }
  }
}

/** A line that cannot be read counts for nothing and is published as it is. */
function sizeOf(line: string): number {
  try {
    const { size } = JSON.parse(line) as { size?: unknown };
    return typeof size === "number" ? size : 0;
  } catch {
    return 0;
  }
}
