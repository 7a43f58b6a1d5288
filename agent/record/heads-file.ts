/**
 * `heads.jsonl` as it grows. Above its limit a new one begins with the last head again, and `heads.1.jsonl` is the one
 * before it; what was there goes: each head signs for all entries before it, and the audit log has them all as leaves.
 */
import {
  closeSync,
  fdatasyncSync,
  fstatSync,
  linkSync,
  openSync,
  readSync,
  renameSync,
  rmSync,
  writeSync,
} from "node:fs";
import { join } from "node:path";
import { earlierHeadsFile, type Head, headsFile } from "./heads.ts";

/** Of one file, and there are two: half a day of a head a second. */
export const headsBytesMax: number = 16 * 1024 * 1024;

export class HeadsFile {
  readonly #path: string;
  readonly #earlier: string;
  readonly #bytesMax: number;
  #fd: number;
  #bytes: number;

  constructor(stateDir: string, bytesMax: number = headsBytesMax) {
    this.#path = join(stateDir, headsFile);
    this.#earlier = join(stateDir, earlierHeadsFile);
    this.#bytesMax = bytesMax;
    this.#fd = openSync(this.#path, "a", 0o600);
    this.#bytes = fstatSync(this.#fd).size;
  }

  append(head: Head): void {
    const line = `${JSON.stringify(head)}\n`;
    if (this.#bytes + line.length > this.#bytesMax && this.#bytes > 0) this.#turn(line);
    else this.#bytes += writeSync(this.#fd, line);
  }

  sync(): void {
    fdatasyncSync(this.#fd);
  }

  close(): void {
    closeSync(this.#fd);
  }

  /** Killed anywhere in it there is a `heads.jsonl` with the last head. */
  #turn(line: string): void {
    const next = openSync(`${this.#path}.new`, "w", 0o600);
    try {
      this.#bytes = writeSync(next, line);
      // The last head must survive the host whenever its entries do.
      fdatasyncSync(next);
      // It is in both: whoever reads the one to its end has missed nothing.
      writeSync(this.#fd, line);
      rmSync(`${this.#earlier}.new`, { force: true });
      linkSync(this.#path, `${this.#earlier}.new`);
      renameSync(`${this.#earlier}.new`, this.#earlier);
      renameSync(`${this.#path}.new`, this.#path);
    } finally {
      closeSync(next);
    }
    closeSync(this.#fd);
    this.#fd = openSync(this.#path, "a", 0o600);
  }
}

/** How far somebody has read. */
export interface HeadsPlace {
  /** The file's inode: its name becomes another's. Null: as a version before wrote it, or nothing is read yet. */
  readonly file: number | null;
  readonly offset: number;
}

export interface HeadLine {
  readonly line: string;
  /** Behind it. */
  readonly next: HeadsPlace;
}

export const headsStart: HeadsPlace = { file: null, offset: 0 };
/** One head is about 300 bytes, and there is one a second. */
const readBytesMax = 256 * 1024;

/** Whole lines from a place on, as many as one read gives. Of a place that is gone: all that there are. */
export function readHeadLines(stateDir: string, place: HeadsPlace): HeadLine[] {
  // The newest first: when it becomes the earlier one meanwhile, that is the same file.
  const newest = opened(join(stateDir, headsFile));
  const earlier = opened(join(stateDir, earlierHeadsFile));
  try {
    // Killed while the one became the other, both are the same.
    const files = (earlier?.inode === newest?.inode ? [newest] : [earlier, newest]).filter((file) => file !== null);
    const known = place.file === null && place.offset > 0 ? (newest?.inode ?? null) : place.file;
    const found = files.findIndex(({ inode }) => inode === known);
    for (const [at, file] of files.slice(Math.max(0, found)).entries()) {
      const lines = linesOf(file, found >= 0 && at === 0 ? place.offset : 0);
      if (lines.length > 0) return lines;
    }
    return [];
  } finally {
    for (const file of [newest, earlier]) if (file !== null) closeSync(file.fd);
  }
}

interface OpenFile {
  readonly fd: number;
  readonly inode: number;
  readonly size: number;
}

function opened(path: string): OpenFile | null {
  try {
    const fd = openSync(path, "r");
    const { ino: inode, size } = fstatSync(fd);
    return { fd, inode, size };
  } catch (error) {
    if ((error as NodeJS.ErrnoException).code === "ENOENT") return null;
    throw error;
  }
}

function linesOf({ fd, inode, size }: OpenFile, place: number): HeadLine[] {
  // Shorter than it was, or another file with the same inode: all of it again.
  const offset = place <= size && (place === 0 || byteAt(fd, place - 1) === 10) ? place : 0;
  const bytes = Buffer.allocUnsafe(Math.min(readBytesMax, size - offset));
  const text = bytes.subarray(0, readSync(fd, bytes, 0, bytes.length, offset));
  const lines: HeadLine[] = [];
  let at = 0;
  for (let end = text.indexOf(10); end >= 0; end = text.indexOf(10, at)) {
    lines.push({ line: text.toString("utf8", at, end), next: { file: inode, offset: offset + end + 1 } });
    at = end + 1;
  }
  return lines;
}

function byteAt(fd: number, offset: number): number | undefined {
  const byte = Buffer.alloc(1);
  return readSync(fd, byte, 0, 1, offset) === 1 ? byte[0] : undefined;
}
