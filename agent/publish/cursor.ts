/**
 * How far is published, in `STATE/publish-cursor`: written after Kafka has acknowledged it. When it is lost or behind,
 * entries are published again, and consumers drop what they have; when it were ahead, entries would be lost.
 */
import { closeSync, fdatasyncSync, openSync, readFileSync, renameSync, writeSync } from "node:fs";
import { join } from "node:path";
import type { HeadsPlace } from "../record/heads-file.ts";
import type { Place } from "./follower.ts";

export interface Cursor extends Place {
  /** Entries published: the next one's agentSeq. */
  readonly size: number;
  /** Of the last one published, hex: the cursor is of this record and no other. */
  readonly link: string;
  /** How far the heads are published. */
  readonly heads: HeadsPlace;
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
      return cursorOf(JSON.parse(readFileSync(this.#path, "utf8")) as Readonly<Record<string, unknown>>);
    } catch {
      return null;
    }
  }

  write(cursor: Cursor, sync = false): void {
    const temporary = `${this.#path}.new`;
    const fd = openSync(temporary, "w", 0o600);
    try {
      const { segment, offset, size, link, heads } = cursor;
      const line = { segment, offset, size, link, headsOffset: heads.offset, headsFile: heads.file };
      writeSync(fd, `${JSON.stringify(line)}\n`);
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

function cursorOf(value: Readonly<Record<string, unknown>>): Cursor | null {
  const { segment, offset, size, link, headsOffset, headsFile = null } = value;
  if (typeof link !== "string") return null;
  // A version before wrote no `headsFile`.
  const numbers = [segment, offset, size, headsOffset, headsFile ?? 0];
  if (!numbers.every((number) => Number.isSafeInteger(number) && (number as number) >= 0)) return null;
  const heads = { file: headsFile as number | null, offset: headsOffset as number };
  return { segment: segment as number, offset: offset as number, size: size as number, link, heads };
}
