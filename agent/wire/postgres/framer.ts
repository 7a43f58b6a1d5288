/**
 * Cuts a stream of bytes into PostgreSQL messages by looking at headers only: Byte1 type, Int32 length that counts
 * itself (PostgreSQL docs §55.1). A run of messages that nobody touches leaves as one slice of the chunk it came in,
 * which is what makes bulk cheap; a message that is not complete yet is collected, passed on or dropped, as its reader says.
 *
 * The reader may stop the framer before a message (it waits for a decision); what comes meanwhile is queued, and
 * `go()` shows the same message again.
 */
import { PeerError } from "../../errors.ts";

/** `pass`: leaves unchanged; `take`: the reader has dealt with it; `stop`: show it again at `go()`. */
export type Fate = 0 | 1 | 2;
export const pass = 0;
export const take = 1;
export const stop = 2;

/**
 * What becomes of a message of which only the beginning is here; `head`: its first `headMin` bytes decide; `stream`:
 * the reader gets its parts as they come and sends what becomes of them.
 */
export type PartialFate = "collect" | "head" | "pass" | "drop" | "stream";

export interface FrameReader {
  /** A whole message is `bytes[start, end)`, its header included. */
  frame(type: number, bytes: Buffer, start: number, end: number): Fate;
  /** A message of `length` bytes (header included) has begun and is not complete. */
  begin(type: number, length: number): PartialFate | typeof stop;
  /** The beginning of a message that is too long to be collected; `take` drops all of it. */
  head?(type: number, length: number, bytes: Buffer): Fate;
  /** A part of a message that is streamed; `last` is its end. */
  part?(bytes: Buffer, last: boolean): void;
  /** Bytes that leave unchanged. */
  untouched(bytes: Buffer): void;
}

export const headerBytes = 5;
/** So much of a long message is read before it is judged, in bytes. */
export const headMin = 1024 * 1024;
/** PostgreSQL itself sends and takes no message above 1 GiB (MaxAllocSize in its source). */
const messageBytesMax = 0x40000000 + headerBytes;

export class Framer {
  /** Whole messages of this type are only counted: the inner loop of bulk. 0: none. */
  countedType = 0;
  /** How many may go by before the reader sees the next one. */
  countedMax = Number.POSITIVE_INFINITY;
  counted = 0;
  countedBytes = 0;
  #reader: FrameReader;
  #queue: Buffer[] = [];
  #queuedBytes = 0;
  /** A beginning of a header that did not fit a chunk. */
  #stash: Buffer | null = null;
  #collected: Buffer[] = [];
  #collectedBytes = 0;
  #collectedMax = 0;
  /** The whole length of the message whose head is collected; 0: it is collected whole. */
  #headOf = 0;
  #whole: Buffer | null = null;
  /** Bytes of the current message that pass or are dropped without a look. */
  #left = 0;
  #dropping = false;
  #streaming = false;
  #stopped = false;
  #running = false;
  #chunk: Buffer | null = null;
  #runStart = 0;
  #position = 0;

  constructor(reader: FrameReader) {
    this.#reader = reader;
  }

  get heldBytes(): number {
    return this.#queuedBytes + this.#collectedBytes + (this.#stash?.length ?? 0) + (this.#whole?.length ?? 0);
  }

  get queuedBytes(): number {
    return this.#queuedBytes;
  }

  get stopped(): boolean {
    return this.#stopped;
  }

  /** True when everything that left ends at the end of a message, so that one of ours may follow. */
  get atBorder(): boolean {
    return this.#left === 0 || this.#dropping;
  }

  push(chunk: Buffer): void {
    if (chunk.length === 0) return;
    if (this.#stopped || this.#running || this.#queue.length > 0) {
      this.#queue.push(chunk);
      this.#queuedBytes += chunk.length;
    } else this.#cut(chunk);
  }

  /** Stops before the message that is being read next, from outside of it. */
  halt(): void {
    this.#stopped = true;
  }

  /** Goes on after a stop: the message it stopped before is shown again. */
  go(): void {
    this.#stopped = false;
    if (this.#running) return;
    const whole = this.#whole;
    if (whole !== null) {
      this.#whole = null;
      this.#showWhole(whole);
    }
    while (!this.#stopped) {
      const next = this.#queue.shift();
      if (next === undefined) return;
      this.#queuedBytes -= next.length;
      this.#cut(next);
    }
  }

  /** The untouched run so far leaves now, because the reader is about to send something of its own. */
  flush(): void {
    const chunk = this.#chunk;
    if (chunk === null || this.#position <= this.#runStart) return;
    this.#reader.untouched(
      this.#runStart === 0 && this.#position === chunk.length ? chunk : chunk.subarray(this.#runStart, this.#position),
    );
    this.#runStart = this.#position;
  }

  #cut(input: Buffer): void {
    let chunk = input;
    if (this.#stash !== null) {
      chunk = Buffer.concat([this.#stash, input]);
      this.#stash = null;
    }
    let position = 0;
    if (this.#left > 0) {
      const taken = Math.min(this.#left, chunk.length);
      this.#left -= taken;
      const part = taken === chunk.length ? chunk : chunk.subarray(0, taken);
      if (this.#streaming) {
        this.#streaming = this.#left > 0;
        this.#reader.part?.(part, this.#left === 0);
      } else if (!this.#dropping) this.#reader.untouched(part);
      if (taken === chunk.length) return;
      position = taken;
    } else if (this.#collected.length > 0) {
      const missing = this.#collectedMax - this.#collectedBytes;
      if (chunk.length < missing) {
        this.#collect(chunk);
        return;
      }
      this.#collect(missing === chunk.length ? chunk : chunk.subarray(0, missing));
      const whole = Buffer.concat(this.#collected, this.#collectedMax);
      this.#collected = [];
      this.#collectedBytes = 0;
      this.#showWhole(whole);
      if (missing === chunk.length) return;
      // What stopped may have set bytes to pass: the rest of the chunk takes the way of a new one.
      if (this.#stopped) this.#requeue(chunk.subarray(missing));
      else if (this.#left > 0) this.#cut(chunk.subarray(missing));
      else this.#scan(chunk, missing);
      return;
    }
    this.#scan(chunk, position);
  }

  #scan(chunk: Buffer, from: number): void {
    const reader = this.#reader;
    const end = chunk.length;
    let position = from;
    this.#running = true;
    this.#chunk = chunk;
    this.#runStart = from;
    try {
      while (!this.#stopped && end - position >= headerBytes) {
        const type = chunk[position] as number;
        const length =
          ((chunk[position + 1] as number) << 24) |
          ((chunk[position + 2] as number) << 16) |
          ((chunk[position + 3] as number) << 8) |
          (chunk[position + 4] as number);
        if (length < 4 || length >= messageBytesMax) refuseLength(type, length);
        const next = position + 1 + length;
        if (type === this.countedType && this.counted < this.countedMax) {
          // Only headers of rows that pass whole are looked at; a partial one passes as well.
          this.counted += 1;
          this.countedBytes += length + 1;
          if (next > end) {
            this.#left = next - end;
            this.#dropping = false;
            position = end;
            break;
          }
          position = next;
          continue;
        }
        this.#position = position;
        if (next > end) {
          const fate = reader.begin(type, length + 1);
          if (fate === stop) {
            this.#stopped = true;
            break;
          }
          if (fate === "pass") {
            this.#left = next - end;
            this.#dropping = false;
            position = end;
            break;
          }
          this.flush();
          if (fate === "drop") {
            this.#left = next - end;
            this.#dropping = true;
          } else if (fate === "stream") {
            this.#left = next - end;
            this.#dropping = false;
            this.#streaming = true;
            reader.part?.(chunk.subarray(position), false);
          } else {
            this.#headOf = fate === "head" ? length + 1 : 0;
            this.#collectedMax = fate === "head" ? Math.max(headMin, end - position) : length + 1;
            this.#collect(chunk.subarray(position));
          }
          position = end;
          this.#runStart = end;
          break;
        }
        const fate = reader.frame(type, chunk, position, next);
        if (fate === stop) {
          this.#stopped = true;
          break;
        }
        if (fate === take) {
          this.flush();
          this.#runStart = next;
        }
        position = next;
      }
      this.#position = position;
      this.flush();
    } finally {
      this.#running = false;
      this.#chunk = null;
    }
    if (position === end) return;
    // A stop keeps the rest for later; else it is the beginning of a header.
    if (this.#stopped) this.#requeue(chunk.subarray(position));
    else this.#stash = Buffer.from(chunk.subarray(position));
  }

  /** A collected message is a chunk of its own. */
  #showWhole(whole: Buffer): void {
    this.#running = true;
    this.#chunk = whole;
    this.#runStart = 0;
    this.#position = 0;
    try {
      const type = whole[0] as number;
      const headOf = this.#headOf;
      const fate =
        headOf === 0
          ? this.#reader.frame(type, whole, 0, whole.length)
          : (this.#reader.head?.(type, headOf, whole) ?? take);
      if (fate === stop) {
        this.#stopped = true;
        this.#whole = whole;
        return;
      }
      if (fate === pass) this.#reader.untouched(whole);
      if (headOf === 0) return;
      this.#left = headOf - whole.length;
      this.#dropping = fate === take;
      this.#headOf = 0;
    } finally {
      this.#running = false;
      this.#chunk = null;
    }
  }

  #collect(part: Buffer): void {
    this.#collected.push(part);
    this.#collectedBytes += part.length;
  }

  #requeue(rest: Buffer): void {
    this.#queue.unshift(rest);
    this.#queuedBytes += rest.length;
  }
}

function refuseLength(type: number, length: number): never {
  const name = type > 32 && type < 127 ? `'${String.fromCharCode(type)}'` : `0x${type.toString(16)}`;
  if (length < 4) throw new PeerError("WEIR_FRAME_INVALID", `message ${name} has the length ${length >>> 0}`);
  throw new PeerError("WEIR_FRAME_TOO_LARGE", `message ${name} of ${length} bytes is above the limit`);
}
