/**
 * Cuts a stream of server-sent events (HTML, "Server-sent events" §9.2.5 and §9.2.6) into its blocks. Every byte that
 * comes in is in exactly one block, so that what is not changed leaves byte for byte, comments and unknown fields too.
 */
import { PeerError } from "../../errors.ts";

export interface SseBlock {
  /** The bytes with their line ends, and the empty line that ends an event. */
  readonly raw: Buffer;
  /** False: a comment, an empty line, or the rest of a stream that broke off; no client dispatches it. */
  readonly isEvent: boolean;
}

/** Longest event that is held; one with an image in base64 is the longest that real APIs send. */
export const eventBytesMax = 4 * 1024 * 1024;

const lf = 0x0a;
const cr = 0x0d;
const colon = 0x3a;

export class SseParser {
  readonly #bytesMax: number;
  #parts: Buffer[] = [];
  #held = 0;
  /** Nothing of the line has come yet. */
  #atLineStart = true;
  #isComment = false;
  /** The block has a field in it already. */
  #hasField = false;
  /** The last byte was a CR: a LF after it belongs to the same line end. */
  #afterCr = false;

  constructor(bytesMax = eventBytesMax) {
    this.#bytesMax = bytesMax;
  }

  get heldBytes(): number {
    return this.#held;
  }

  /** The blocks that these bytes complete. Throws a PeerError above the limit, after which nothing more may be pushed. */
  push(bytes: Buffer): SseBlock[] {
    const blocks: SseBlock[] = [];
    let from = 0;
    // Line ends are looked for, not waited for: an event is mostly one long line.
    let nextCr = next(bytes, cr, 0);
    for (let at = 0; at < bytes.length; at += 1) {
      const byte = bytes[at] as number;
      if (byte !== lf && byte !== cr) {
        this.#afterCr = false;
        if (this.#atLineStart) {
          this.#atLineStart = false;
          this.#isComment = byte === colon;
        }
        if (nextCr < at) nextCr = next(bytes, cr, at);
        at = Math.min(next(bytes, lf, at), nextCr) - 1;
        continue;
      }
      if (byte === lf && this.#afterCr) {
        // The line was taken at its CR; after a block that left, the LF follows alone: a parser may wait for it.
        this.#afterCr = false;
        if (this.#held === 0 && from === at) {
          blocks.push({ raw: bytes.subarray(at, at + 1), isEvent: false });
          from = at + 1;
        }
        continue;
      }
      this.#afterCr = byte === cr;
      const isEmpty = this.#atLineStart;
      this.#atLineStart = true;
      if (!isEmpty && !this.#isComment) this.#hasField = true;
      // A comment before any field leaves at once: it is there to keep the connection alive.
      if (!isEmpty && (this.#hasField || !this.#isComment)) continue;
      let end = at + 1;
      if (byte === cr && bytes[end] === lf) {
        end += 1;
        at += 1;
        this.#afterCr = false;
      }
      blocks.push({ raw: this.#take(bytes.subarray(from, end)), isEvent: this.#hasField });
      this.#hasField = false;
      from = end;
    }
    if (from < bytes.length) this.#keep(bytes.subarray(from));
    return blocks;
  }

  /** The stream is over: an event without its empty line, which no client dispatches. Null: none. */
  end(): SseBlock | null {
    if (this.#held === 0) return null;
    return { raw: this.#take(Buffer.alloc(0)), isEvent: false };
  }

  #keep(part: Buffer): void {
    this.#held += part.length;
    if (this.#held > this.#bytesMax) {
      throw new PeerError("WEIR_FRAME_TOO_LARGE", `an event of the stream is longer than ${this.#bytesMax} bytes`);
    }
    // What comes in may be a view of a buffer that is read into again.
    this.#parts.push(Buffer.from(part));
  }

  #take(last: Buffer): Buffer {
    if (this.#held === 0) return last;
    const whole = Buffer.concat([...this.#parts, last], this.#held + last.length);
    this.#parts = [];
    this.#held = 0;
    return whole;
  }
}

/** Where it stands next; the end when it does not. */
function next(bytes: Buffer, byte: number, from: number): number {
  const at = bytes.indexOf(byte, from);
  return at < 0 ? bytes.length : at;
}
