/**
 * How far is published, in `STATE/publish-cursor`: written after Kafka has acknowledged it. When it is lost or behind,
 * entries are published again, and consumers drop what they have; when it were ahead, entries would be lost.
 */
import { closeSync, fdatasyncSync, openSync, readFileSync, renameSync, writeSync } from "node:fs";
import { join } from "node:path";
import type { Place } from "./follower.ts";

export interface Cursor extends Place {
  /** Entries published: the next one's agentSeq. */
  readonly size: number;
  /** Of the last one published, hex: the cursor is of this record and no other. */
  readonly link: string;
  /** How far `heads.jsonl` is published. */
  readonly headsOffset: number;
}

export const cursorFile = "publish-cursor";
/** Between two of these a crash of the host loses the cursor's way, and entries are published twice. */
const syncEveryMs = 1_000;

export class CursorFile {
  readonly #path: string;
  readonly #now: () => number;
  #syncedAtMs = 0;

  constructor(stateDir: string, now: () => number = Date.now) {
    this.#path = join(stateDir, cursorFile);
    this.#now = now;
  }

  /** Null when there is none that can be read. */
  read(): Cursor | null {
    try {
      const value: unknown = JSON.parse(readFileSync(this.#path, "utf8"));
      return isCursor(value) ? value : null;
    } catch {
      return null;
    }
  }

  write(cursor: Cursor, sync = false): void {
    const temporary = `${this.#path}.new`;
    const fd = openSync(temporary, "w", 0o600);
    try {
      const { segment, offset, size, link, headsOffset } = cursor;
      writeSync(fd, `${JSON.stringify({ segment, offset, size, link, headsOffset })}\n`);
      if (sync || this.#now() - this.#syncedAtMs >= syncEveryMs) {
        fdatasyncSync(fd);
        this.#syncedAtMs = this.#now();
      }
    } finally {
      closeSync(fd);
    }
    renameSync(temporary, this.#path);
  }
}

function isCursor(value: unknown): value is Cursor {
  if (typeof value !== "object" || value === null) return false;
  if (typeof (value as Partial<Cursor>).link !== "string") return false;
  return ["segment", "offset", "size", "headsOffset"].every((name) => {
    const field = (value as Record<string, unknown>)[name];
    return typeof field === "number" && Number.isSafeInteger(field) && field >= 0;
  });
}
