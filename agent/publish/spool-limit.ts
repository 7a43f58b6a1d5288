/**
 * How much of the record may wait for Kafka. At the limit nothing is let through until there is room again: what waits is
 * the only record of what was, and is never dropped. Looked at from outside of the publisher, which may hang.
 */
import { statfsSync, statSync } from "node:fs";
import { join } from "node:path";
import type { Recorder, Refused } from "../record/recorder.ts";
import { segmentsOf } from "../record/segment.ts";
import { CursorFile } from "./cursor.ts";

/** What is left of the disk for everybody else on it, and for the ends of what goes on. */
const freeBytesMin = 128 * 1024 * 1024;
const everyMs = 1_000;
/** There is room again below this part of the limit, and above this multiple of what has to be free. */
const roomPart = 0.9;
const roomFree = 2;

export interface SpoolLimitOptions {
  readonly stateDir: string;
  readonly bytesMax: number;
  readonly recorder: Pick<Recorder, "limit">;
  /** Into the record and the log. */
  full(reason: string): void;
  room(refused: Refused): void;
  readonly everyMs?: number;
}

export interface SpoolLimit {
  close(): void;
}

export function startSpoolLimit(options: SpoolLimitOptions): SpoolLimit {
  const { stateDir, bytesMax, recorder } = options;
  const cursor = new CursorFile(stateDir);
  let full = false;
  function look(): void {
    const waiting = waitingBytes(stateDir, cursor);
    const free = freeBytes(stateDir);
    const reason =
      waiting >= bytesMax
        ? `${mib(waiting)} of the record wait for Kafka, and ${mib(bytesMax)} may (--spool-max).`
        : free < freeBytesMin
          ? `The disk of ${stateDir} has ${mib(free)} left, and ${mib(freeBytesMin)} have to be; ${mib(waiting)} of the record wait for Kafka.`
          : null;
    if (!full && reason !== null) {
      full = true;
      // Said first: it stands in the record in front of what is missing there.
      options.full(reason);
      recorder.limit(reason);
    } else if (full && waiting <= bytesMax * roomPart && free >= freeBytesMin * roomFree) {
      full = false;
      options.room(recorder.limit(null));
    }
  }
  look();
  const timer = setInterval(look, options.everyMs ?? everyMs).unref();
  return { close: () => clearInterval(timer) };
}

/** What stands behind the cursor; all of it, when there is none. */
export function waitingBytes(stateDir: string, cursor: CursorFile): number {
  const at = cursor.read();
  let bytes = 0;
  for (const path of segmentsOf(join(stateDir, "spool"))) {
    const segment = Number(/(\d{8})\.seg$/.exec(path)?.[1]);
    if (at !== null && segment < at.segment) continue;
    const size = statSync(path, { throwIfNoEntry: false })?.size ?? 0;
    bytes += at !== null && segment === at.segment ? Math.max(0, size - at.offset) : size;
  }
  return bytes;
}

function freeBytes(dir: string): number {
  const { bavail, bsize } = statfsSync(dir);
  return bavail * bsize;
}

function mib(bytes: number): string {
  return `${Math.round(bytes / 2 ** 20)} MiB`;
}
