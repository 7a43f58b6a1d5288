/**
 * Masks one message that is too long to be held: bytes go in as they come and leave in as many, a little later. Only a
 * match that may still go on is held back, at most `heldBackBytesMax` of a value.
 */

import type { MaskStyle } from "../../../core/verdict.ts";
import { PeerError } from "../../../errors.ts";
import { contextBytesMax, isHexDigit, type Masker, matchBytesMax } from "../../../mask/masker.ts";
import { applyStyle } from "../../../mask/style.ts";
import { headerBytes } from "../framer.ts";

/** The longest thing that a detector finds, and what it looks at before it. */
const heldBackBytesMax = matchBytesMax + contextBytesMax;
/** A value is scanned in pieces of at least this, so that what is held back is scanned again seldom. */
const scanBytesMin = 256 * 1024;

export interface MessageStream {
  /** What may leave now; its bytes are the caller's. `last` says that the message ends here. */
  push(bytes: Buffer, last: boolean): Buffer;
}

/** How a column of a long row is treated: hidden whole, looked into, or left alone. */
export type StreamedColumn =
  | { readonly kind: "hide"; readonly style: MaskStyle }
  | { readonly kind: "look" }
  | { readonly kind: "leave" };

/** A DataRow: header, Int16 count, then Int32 length and bytes of each value. */
export function streamRow(
  columns: readonly StreamedColumn[],
  masker: Masker | null,
  found: (values: number) => void,
  /** Of a binary COPY's own head, before the count. */
  headBytes = 0,
): MessageStream {
  let column = -1;
  /** Bytes of the current head (message header and count, or a value's length) that are here. */
  let head = Buffer.alloc(0);
  let headWanted = headerBytes + headBytes + 2;
  let valueLeft = 0;
  let value: ValueStream | null = null;
  return {
    push(bytes) {
      const out: Buffer[] = [];
      let at = 0;
      while (at < bytes.length) {
        if (valueLeft > 0) {
          const taken = Math.min(valueLeft, bytes.length - at);
          valueLeft -= taken;
          const piece = bytes.subarray(at, at + taken);
          out.push(value === null ? piece : value.push(piece, valueLeft === 0));
          at += taken;
          continue;
        }
        const taken = Math.min(headWanted - head.length, bytes.length - at);
        head = Buffer.concat([head, bytes.subarray(at, at + taken)]);
        at += taken;
        if (head.length < headWanted) break;
        out.push(head);
        if (column >= 0 || headWanted === 4) valueLeft = Math.max(0, head.readInt32BE(0));
        column += 1;
        if (headWanted === 4) value = valueStream(columns[column - 1], masker, found);
        head = Buffer.alloc(0);
        headWanted = 4;
        if (column > columns.length)
          throw new PeerError("WEIR_FRAME_INVALID", "a DataRow has more values than its RowDescription");
      }
      return out.length === 1 ? (out[0] as Buffer) : Buffer.concat(out);
    },
  };
}

/** CopyData in a text format: after the header all of it is text. */
export function streamCopy(masker: Masker, found: (values: number) => void): MessageStream {
  let headLeft = headerBytes;
  const value = lookedValue(masker, found);
  return {
    push(bytes, last) {
      const taken = Math.min(headLeft, bytes.length);
      headLeft -= taken;
      const rest = value.push(bytes.subarray(taken), last);
      return taken === 0 ? rest : Buffer.concat([bytes.subarray(0, taken), rest]);
    },
  };
}

interface ValueStream {
  push(bytes: Buffer, last: boolean): Buffer;
}

function valueStream(
  column: StreamedColumn | undefined,
  masker: Masker | null,
  found: (values: number) => void,
): ValueStream | null {
  if (column === undefined || column.kind === "leave") return null;
  if (column.kind === "look") return masker === null ? null : lookedValue(masker, found);
  found(1);
  return {
    push(bytes) {
      // The clear part of a style (last4) would need the end of the value: of a value this long nothing stays.
      const hidden = Buffer.from(bytes);
      applyStyle(hidden, 0, hidden.length, "redact", Buffer.alloc(0));
      return hidden;
    },
  };
}

function lookedValue(masker: Masker, found: (values: number) => void): ValueStream {
  let held: Buffer[] = [];
  let heldBytes = 0;
  /** What is held begins in the middle of a bytea's hex form. */
  let inHex = false;
  return {
    push(bytes, last) {
      held.push(bytes);
      heldBytes += bytes.length;
      if (!last && heldBytes < scanBytesMin) return Buffer.alloc(0);
      const text = Buffer.concat(inHex ? [hexHead, ...held] : held);
      const open = last ? text.length : text.length - matchBytesMax;
      const values = masker.maskOpen(text, 0, text.length, open);
      if (values > 0) found(values);
      const from = inHex ? hexHead.length : 0;
      let leaving = last ? text.length : text.length - heldBackBytesMax;
      const digits = hexDigitsBefore(text, leaving);
      inHex = digits !== null;
      // Two digits are a byte.
      if (digits !== null) leaving -= digits % 2;
      held = last ? [] : [text.subarray(leaving)];
      heldBytes = text.length - leaving;
      return text.subarray(from, leaving);
    },
  };
}

const hexHead = Buffer.from("\\x");

/** How many digits stand between a place and the `\\x` before them; null: it is not in the hex form of a bytea. */
function hexDigitsBefore(text: Buffer, place: number): number | null {
  let at = place;
  while (at > 0 && isHexDigit(text[at - 1] as number)) at -= 1;
  return text[at - 1] === 0x78 && text[at - 2] === 0x5c ? place - at : null;
}
