/**
 * Follows the spool while the recorder appends to it. Nothing is kept of an unfinished frame: the recorder may cut a
 * torn tail and write something else in its place.
 */
import { closeSync, existsSync, fdatasync, fstatSync, openSync, readSync } from "node:fs";
import { crc32 } from "node:zlib";
import { WeirError } from "../errors.ts";
import { entryBytesMax } from "../record/chain.ts";
import { frameHeadBytes, segmentPath, segmentsOf } from "../record/segment.ts";

export interface Place {
  /** Number of the segment's file. */
  readonly segment: number;
  /** Where its next frame starts. */
  readonly offset: number;
}

export interface Piece {
  readonly payloads: readonly Buffer[];
  readonly bytes: number;
  /** Behind the last payload. */
  readonly next: Place;
}

const emptyReadBytes = 64 * 1024;

export class SpoolFollower {
  readonly #dir: string;
  #segment: number;
  #offset: number;
  #fd: number | null = null;
  readonly #onlyOnDisk: boolean;

  /** `onlyOnDisk: false`: for who may tell of an entry that the host then loses. */
  constructor(dir: string, place: Place, { onlyOnDisk = true } = {}) {
    this.#dir = dir;
    this.#onlyOnDisk = onlyOnDisk;
    this.#segment = place.segment;
    this.#offset = place.offset;
  }

  get place(): Place {
    return { segment: this.#segment, offset: this.#offset };
  }

  seek(place: Place): void {
    if (place.segment !== this.#segment) this.close();
    this.#segment = place.segment;
    this.#offset = place.offset;
  }

  /**
   * Whole frames from here, at least one when there is one, else as many as `bytesMax` holds. They are on the disk: what
   * is published and then lost by the host would come back as another entry with the same number.
   */
  async read(bytesMax: number): Promise<Piece> {
    for (;;) {
      if (!this.#open()) {
        if (this.#nextSegment()) continue;
        return this.#piece([], 0);
      }
      const piece = this.#frames(bytesMax);
      if (piece.payloads.length > 0) {
        if (this.#onlyOnDisk) await this.#onDisk(piece.next.offset);
        this.#offset = piece.next.offset;
        return piece;
      }
      if (!this.#nextSegment()) return piece;
    }
  }

  close(): void {
    if (this.#fd !== null) closeSync(this.#fd);
    this.#fd = null;
  }

  #open(): boolean {
    if (this.#fd !== null) return true;
    const path = segmentPath(this.#dir, this.#segment);
    if (!existsSync(path)) return false;
    this.#fd = openSync(path, "r");
    return true;
  }

  #frames(bytesMax: number): Piece {
    const fd = this.#fd as number;
    const there = fstatSync(fd).size - this.#offset;
    if (there < frameHeadBytes) return this.#piece([], 0);
    let chunk = this.#readAt(fd, Math.min(there, bytesMax));
    const first = chunk.length < frameHeadBytes ? 0 : frameHeadBytes + chunk.readUInt32BE(0);
    if (first > chunk.length && first <= there) chunk = this.#readAt(fd, first);
    const payloads: Buffer[] = [];
    let at = 0;
    while (chunk.length - at >= frameHeadBytes) {
      const length = chunk.readUInt32BE(at);
      const end = at + frameHeadBytes + length;
      // A length that cannot be is the tail that a crash of the host left; the recorder cuts it at its next start.
      if (length === 0 || length > entryBytesMax || end > chunk.length) break;
      const payload = chunk.subarray(at + frameHeadBytes, end);
      if (crc32(payload) !== chunk.readUInt32BE(at + 4)) break;
      payloads.push(payload);
      at = end;
    }
    return this.#piece(payloads, at);
  }

  #readAt(fd: number, bytes: number): Buffer {
    const chunk = Buffer.allocUnsafeSlow(bytes);
    return chunk.subarray(0, readSync(fd, chunk, 0, bytes, this.#offset));
  }

  #piece(payloads: readonly Buffer[], bytes: number): Piece {
    return { payloads, bytes, next: { segment: this.#segment, offset: this.#offset + bytes } };
  }

  /** When a write fails, the recorder cuts off what was written of it at once: then this is no entry. */
  #onDisk(end: number): Promise<void> {
    const fd = this.#fd as number;
    return new Promise((resolve, reject) => {
      fdatasync(fd, (error) => {
        if (error !== null)
          reject(new WeirError("WEIR_SPOOL_WRITE", `The spool is not on the disk: ${error.message}.`));
        else if (fstatSync(fd).size < end) reject(new WeirError("WEIR_SPOOL_WRITE", "The spool was cut back."));
        else resolve();
      });
    });
  }

  /** False when this is the last segment. The recorder has ended one when the next is there. */
  #nextSegment(): boolean {
    const next = this.#segment + 1;
    // Where there is no gap the name of the next one is known: a directory of many is not listed at every look.
    const later = existsSync(segmentPath(this.#dir, next))
      ? next
      : this.#fd === null
        ? segmentsOf(this.#dir)
            .map(numberOf)
            .find((number) => number > this.#segment)
        : undefined;
    if (later === undefined) return false;
    // It may have grown since it was read. Zeros at its end are room that was never used.
    if (this.#fd !== null && !this.#isEmptyFrom(this.#fd, this.#offset)) {
      if (this.#frames(entryBytesMax + frameHeadBytes).payloads.length > 0) return true;
      const path = segmentPath(this.#dir, this.#segment);
      throw new WeirError("WEIR_SPOOL_CORRUPT", `${path} cannot be read at byte ${this.#offset}. Run \`weir verify\`.`);
    }
    this.close();
    this.#segment = later;
    this.#offset = 0;
    return true;
  }

  #isEmptyFrom(fd: number, offset: number): boolean {
    const chunk = Buffer.allocUnsafe(emptyReadBytes);
    for (let at = offset; ; ) {
      const read = readSync(fd, chunk, 0, chunk.length, at);
      if (read === 0) return true;
      if (chunk.subarray(0, read).some((byte) => byte !== 0)) return false;
      at += read;
    }
  }
}

/** The first place of a spool; of an empty one, too. */
export function startOf(dir: string): Place {
  const first = segmentsOf(dir)[0];
  return { segment: first === undefined ? 1 : numberOf(first), offset: 0 };
}

/** The beginning of the newest segment: for who wants what comes from now on, and reads at most one segment for it. */
export function newestSegmentOf(dir: string): Place {
  const last = segmentsOf(dir).at(-1);
  return { segment: last === undefined ? 1 : numberOf(last), offset: 0 };
}

function numberOf(path: string): number {
  return Number(/(\d{8})\.seg$/.exec(path)?.[1]);
}
