/** A line of a text or CSV copy that is too long to be held: masked fields are found as it goes by. */

import { PeerError } from "../../../errors.ts";
import { headerBytes } from "../framer.ts";
import type { LineFormat } from "./copy-format.ts";
import type { MessageStream } from "./stream.ts";

/** A masked field of up to so many bytes is masked by its style; of a longer one nothing stays. */
const fieldHeldBytesMax = 64 * 1024;

const backslash = 0x5c;
const lineFeed = 0x0a;

/** Masks the value `bytes[from, to)` of a column in place; `quoted` is 1 when it stands in quotes. */
export type HideField = (bytes: Buffer, from: number, to: number, quoted: number, column: number) => void;

/** `hidden` says which columns are masked whole; what leaves goes through `then`, which looks for more. */
export function streamLine(
  hidden: readonly boolean[],
  format: LineFormat,
  hide: HideField,
  then: MessageStream | null,
): MessageStream {
  const walk = new FieldWalk(format);
  let headLeft = headerBytes;
  let column = 0;
  let held: Buffer[] = [];
  let heldBytes = 0;
  /** Some of the field has left, hidden. */
  let overflown = false;

  function hold(piece: Buffer): void {
    held.push(piece);
    heldBytes += piece.length;
  }

  function taken(): Buffer {
    const value = Buffer.concat(held, heldBytes);
    held = [];
    heldBytes = 0;
    return value;
  }

  /** The field has ended. */
  function masked(): Buffer {
    const value = taken();
    const quote = walk.quoted ? 1 : 0;
    if (overflown) value.fill(format.filler, 0, value.length - quote);
    else hide(value, quote, value.length - quote, quote, column);
    overflown = false;
    return value;
  }

  /** The field goes on: nothing of it but its quotes stays. */
  function overflow(): Buffer {
    const value = taken();
    // The last byte may be the closing quote.
    const leaving = value.subarray(0, value.length - 1);
    hold(value.subarray(value.length - 1));
    leaving.fill(format.filler, walk.quoted && !overflown ? 1 : 0);
    overflown = true;
    return leaving;
  }

  return {
    push(bytes, last) {
      const out: Buffer[] = [];
      let from = 0;
      for (let at = 0; at < bytes.length; at += 1) {
        if (headLeft > 0) {
          headLeft -= 1;
          if (headLeft === 0 && hidden[0] === true) {
            out.push(bytes.subarray(0, at + 1));
            from = at + 1;
          }
          continue;
        }
        const byte = bytes[at] as number;
        if (column >= hidden.length) throw notAsExpected();
        if (!walk.ends(byte)) continue;
        if (hidden[column] === true) {
          hold(bytes.subarray(from, at));
          out.push(masked());
          from = at;
        }
        walk.next();
        column += 1;
        if (byte === lineFeed && column !== hidden.length) throw notAsExpected();
        if (hidden[column] === true) {
          out.push(bytes.subarray(from, at + 1));
          from = at + 1;
        }
      }
      const rest = bytes.subarray(from);
      if (headLeft === 0 && hidden[column] === true) {
        hold(rest);
        if (heldBytes > fieldHeldBytesMax) out.push(overflow());
      } else out.push(rest);
      if (last && column !== hidden.length) throw notAsExpected();
      const leaving = Buffer.concat(out);
      return then === null ? leaving : then.push(leaving, last);
    },
  };
}

/** Tells the byte that ends a field from those that are part of it. */
class FieldWalk {
  readonly #format: LineFormat;
  quoted = false;
  #atStart = true;
  #inQuotes = false;
  /** The byte before may have been an escape, or the closing quote. */
  #pending = false;

  constructor(format: LineFormat) {
    this.#format = format;
  }

  next(): void {
    this.quoted = false;
    this.#atStart = true;
    this.#inQuotes = false;
    this.#pending = false;
  }

  ends(byte: number): boolean {
    const { csv, delimiter, quote, escaping } = this.#format;
    if (!csv) {
      if (this.#pending || byte === backslash) {
        this.#pending = !this.#pending;
        return false;
      }
      return byte === delimiter || byte === lineFeed;
    }
    if (this.#atStart) {
      this.#atStart = false;
      if (byte === quote) {
        this.quoted = true;
        this.#inQuotes = true;
        return false;
      }
    }
    if (this.#inQuotes && this.#pending) {
      this.#pending = false;
      if (byte === quote || byte === escaping) return false;
      if (escaping === quote) this.#inQuotes = false;
    }
    if (this.#inQuotes) {
      if (byte === escaping) this.#pending = true;
      else if (byte === quote) this.#inQuotes = false;
      return false;
    }
    if (byte === delimiter || byte === lineFeed) return true;
    if (this.quoted || byte === quote) throw notAsExpected();
    return false;
  }
}

function notAsExpected(): PeerError {
  return new PeerError("WEIR_FRAME_INVALID", "a line of a COPY is not as its options say");
}
