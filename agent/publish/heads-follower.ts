/** Follows `heads.jsonl`: heads whose entries are published are published behind them. */
import { closeSync, existsSync, fstatSync, openSync, readSync } from "node:fs";
import { join } from "node:path";
import { headsFile } from "../record/heads.ts";

export interface HeadLine {
  readonly line: string;
  readonly size: number;
  /** Behind its line. */
  readonly end: number;
}

/** One head is about 300 bytes, and there is one a second. */
const readBytesMax = 256 * 1024;

export class HeadsFollower {
  readonly #path: string;

  constructor(stateDir: string) {
    this.#path = join(stateDir, headsFile);
  }

  /** Whole lines from an offset, as many as one read gives. */
  read(offset: number): HeadLine[] {
    const text = this.#bytes(offset, readBytesMax);
    const lines: HeadLine[] = [];
    let at = 0;
    for (let end = text.indexOf(10); end >= 0; end = text.indexOf(10, at)) {
      const line = text.toString("utf8", at, end);
      at = end + 1;
      lines.push({ line, size: sizeOf(line), end: offset + at });
    }
    return lines;
  }

  /** Entries that the agent has signed for; 0 without a head. */
  signedSize(): number {
    const end = existsSync(this.#path) ? this.#size() : 0;
    return this.read(Math.max(0, end - 4_096)).at(-1)?.size ?? 0;
  }

  #size(): number {
    const fd = openSync(this.#path, "r");
    try {
      return fstatSync(fd).size;
    } finally {
      closeSync(fd);
    }
  }

  #bytes(offset: number, bytesMax: number): Buffer {
    if (!existsSync(this.#path)) return Buffer.alloc(0);
    const fd = openSync(this.#path, "r");
    try {
      const bytes = Buffer.allocUnsafe(Math.max(0, Math.min(bytesMax, fstatSync(fd).size - offset)));
      return bytes.subarray(0, readSync(fd, bytes, 0, bytes.length, offset));
    } finally {
      closeSync(fd);
    }
  }
}

/** A line that cannot be read, or the cut first one of a tail, counts for nothing and is published as it is. */
function sizeOf(line: string): number {
  try {
    const { size } = JSON.parse(line) as { size?: unknown };
    return typeof size === "number" ? size : 0;
  } catch {
    return 0;
  }
}
