/**
 * A segment of the spool: frames of `u32 length, u32 CRC-32, payload`, big-endian, one entry each. The CRC finds a torn
 * tail; what was altered is found by the chain.
 */
import { closeSync, openSync, readdirSync, readSync } from "node:fs";
import { join } from "node:path";
import { crc32 } from "node:zlib";
import { entryBytesMax } from "./chain.ts";

export const frameHeadBytes = 8;
const readBytes = 1024 * 1024;

export interface Frame {
  readonly payload: Buffer;
  /** Where the frame starts in its segment. */
  readonly offset: number;
}

/** Writes a frame; `out` has room for it. */
export function writeFrame(out: Buffer, at: number, payload: Uint8Array): void {
  out.writeUInt32BE(payload.length, at);
  out.writeUInt32BE(crc32(payload), at + 4);
  out.set(payload, at + frameHeadBytes);
}

/** Segment files, oldest first. */
export function segmentsOf(dir: string): string[] {
  try {
    return readdirSync(dir)
      .filter((name) => /^\d{8}\.seg$/.test(name))
      .sort()
      .map((name) => join(dir, name));
  } catch {
    return [];
  }
}

export function segmentPath(dir: string, number: number): string {
  return join(dir, `${String(number).padStart(8, "0")}.seg`);
}

/** Frames of one segment from a frame's start on, in order. Returns how many bytes are good, and why it stopped short when it did. */
export function* readFrames(
  path: string,
  from = 0,
): Generator<Frame, { readonly goodBytes: number; readonly problem: string | null }> {
  const fd = openSync(path, "r");
  try {
    let held = Buffer.alloc(0);
    let offset = from;
    let position = from;
    for (;;) {
      const piece = Buffer.allocUnsafe(readBytes);
      const read = readSync(fd, piece, 0, readBytes, position);
      position += read;
      held = held.length === 0 ? piece.subarray(0, read) : Buffer.concat([held, piece.subarray(0, read)]);
      let at = 0;
      while (held.length - at >= frameHeadBytes) {
        const length = held.readUInt32BE(at);
        if (length === 0 || length > entryBytesMax)
          return { goodBytes: offset, problem: `a frame says it has ${length} bytes` };
        if (held.length - at - frameHeadBytes < length) break;
        const payload = held.subarray(at + frameHeadBytes, at + frameHeadBytes + length);
        if (crc32(payload) !== held.readUInt32BE(at + 4))
          return { goodBytes: offset, problem: "a frame's checksum is wrong" };
        yield { payload, offset };
        at += frameHeadBytes + length;
        offset += frameHeadBytes + length;
      }
      held = held.subarray(at);
      if (read === 0) return { goodBytes: offset, problem: held.length === 0 ? null : "the last frame is cut short" };
    }
  } finally {
    closeSync(fd);
  }
}
