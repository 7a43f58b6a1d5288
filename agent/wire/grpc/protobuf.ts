/**
 * Reads the binary form of protocol buffers (protobuf.dev/programming-guides/encoding) without making values: where
 * each field of a message stands. What breaks the format throws, as a lenient reader might see another message than
 * the server does.
 */
import { PeerError } from "../../errors.ts";

export const wireTypes = { varint: 0, fixed64: 1, bytes: 2, group: 3, endGroup: 4, fixed32: 5 } as const;

/** One field as it stands: `start` to `end` is its value, without tag and length. */
export interface Field {
  readonly number: number;
  readonly wire: number;
  readonly start: number;
  readonly end: number;
}

/** Groups in groups, as deep as messages in messages. */
export const depthMax = 100;

/** All fields of `bytes` from `start` to `end`, in order. */
export function* fieldsOf(bytes: Buffer, start = 0, end = bytes.length): Generator<Field> {
  let at = start;
  while (at < end) {
    const tag = varintEnd(bytes, at, end);
    const value = readVarint(bytes, at, tag);
    if (value > 0xffffffffn) throw invalid("a tag is too large");
    const number = Number(value >> 3n);
    const wire = Number(value & 7n);
    if (number === 0) throw invalid("a field has the number 0");
    const { valueStart, valueEnd, next } = placeOf(bytes, tag, end, number, wire, 0);
    yield { number, wire, start: valueStart, end: valueEnd };
    at = next;
  }
}

/** A varint as an unsigned number of 64 bits. */
export function readVarint(bytes: Buffer, start: number, end: number): bigint {
  let low = 0;
  let shift = 0;
  let high = 0n;
  for (let at = start; at < end; at += 1, shift += 7) {
    const bits = (bytes[at] as number) & 0x7f;
    // The first four bytes in plain numbers: most varints are no longer.
    if (shift < 28) low += bits * 2 ** shift;
    else high |= BigInt(bits) << BigInt(shift);
  }
  return BigInt.asUintN(64, high | BigInt(low));
}

/** Where a varint that begins at `at` ends. */
export function varintEnd(bytes: Buffer, at: number, end: number): number {
  for (let next = at; next < end && next < at + varintBytesMax; next += 1)
    if ((bytes[next] as number) < 0x80) return next + 1;
  throw invalid("a varint does not end");
}

const varintBytesMax = 10;

interface Place {
  readonly valueStart: number;
  readonly valueEnd: number;
  readonly next: number;
}

function placeOf(bytes: Buffer, at: number, end: number, number: number, wire: number, depth: number): Place {
  switch (wire) {
    case wireTypes.varint: {
      const next = varintEnd(bytes, at, end);
      return { valueStart: at, valueEnd: next, next };
    }
    case wireTypes.fixed64:
      return fixed(at, 8, end);
    case wireTypes.fixed32:
      return fixed(at, 4, end);
    case wireTypes.bytes: {
      const from = varintEnd(bytes, at, end);
      const length = readVarint(bytes, at, from);
      if (length > BigInt(end - from)) throw invalid("a length goes past its message");
      const next = from + Number(length);
      return { valueStart: from, valueEnd: next, next };
    }
    case wireTypes.group:
      return groupAt(bytes, at, end, number, depth + 1);
    default:
      throw invalid(`wire type ${wire} is not known`);
  }
}

/** A group ends with a tag of its own number. */
function groupAt(bytes: Buffer, start: number, end: number, number: number, depth: number): Place {
  if (depth > depthMax) throw invalid(`groups stand in each other more than ${depthMax} deep`);
  let at = start;
  while (at < end) {
    const tag = varintEnd(bytes, at, end);
    const value = readVarint(bytes, at, tag);
    const inner = Number(value >> 3n);
    const wire = Number(value & 7n);
    if (wire === wireTypes.endGroup) {
      if (inner !== number) throw invalid("a group ends that was not open");
      return { valueStart: start, valueEnd: at, next: tag };
    }
    at = placeOf(bytes, tag, end, inner, wire, depth).next;
  }
  throw invalid("a group does not end");
}

function fixed(at: number, size: number, end: number): Place {
  if (at + size > end) throw invalid("a number goes past its message");
  return { valueStart: at, valueEnd: at + size, next: at + size };
}

export function invalid(what: string): PeerError {
  return new PeerError("WEIR_FRAME_INVALID", `The protocol buffer cannot be read: ${what}.`);
}
