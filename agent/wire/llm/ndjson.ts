/** Cuts a stream of JSON texts, one a line (https://github.com/ndjson/ndjson-spec), as Ollama sends its replies. */
import { PeerError } from "../../errors.ts";

/** Longest line that is held; the last of a reply of Ollama repeats its context as numbers. */
export const lineBytesMax = 4 * 1024 * 1024;

const lf = 0x0a;

export class NdjsonSplitter {
  #parts: Buffer[] = [];
  #held = 0;

  get heldBytes(): number {
    return this.#held;
  }

  /** Lines with their line ends. Throws a PeerError above the limit, after which nothing more may be pushed. */
  push(bytes: Buffer): Buffer[] {
    const lines: Buffer[] = [];
    let from = 0;
    for (let end = bytes.indexOf(lf); end >= 0; end = bytes.indexOf(lf, from)) {
      lines.push(this.#take(bytes.subarray(from, end + 1)));
      from = end + 1;
    }
    if (from < bytes.length) {
      const rest = bytes.subarray(from);
      this.#held += rest.length;
      if (this.#held > lineBytesMax) {
        throw new PeerError("WEIR_FRAME_TOO_LARGE", `a line of the stream is longer than ${lineBytesMax} bytes`);
      }
      // What comes in may be a view of a buffer that is read into again.
      this.#parts.push(Buffer.from(rest));
    }
    return lines;
  }

  /** The last line, which may have no end; null when there is none. */
  end(): Buffer | null {
    return this.#held === 0 ? null : this.#take(Buffer.alloc(0));
  }

  #take(last: Buffer): Buffer {
    if (this.#held === 0) return last;
    const whole = Buffer.concat([...this.#parts, last], this.#held + last.length);
    this.#parts = [];
    this.#held = 0;
    return whole;
  }
}
