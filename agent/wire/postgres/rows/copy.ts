/** Plans how the rows of a COPY … TO STDOUT are masked, and masks them, in each of its formats. */

import type { MaskStyle } from "../../../core/verdict.ts";
import { PeerError } from "../../../errors.ts";
import type { Masker } from "../../../mask/masker.ts";
import { applyStyle } from "../../../mask/style.ts";
import { headerBytes } from "../framer.ts";
import type { CopyUnderMasks, Masking, MaskPlan } from "../mask-plan.ts";
import { binaryValueMatches } from "./binary-values.ts";
import { type ColumnFate, columnPatterns, copiedFields, fateOf, unknownCopyFate } from "./columns.ts";
import { type Fields, findFields, isSpecial, type LineFormat, lineFormatOf } from "./copy-format.ts";
import { type HideField, streamLine } from "./line-stream.ts";
import { type Column, columnOf, maskerOf, maskTuple, minusOne, streamedColumn, withNulls } from "./plan.ts";
import { type MessageStream, type StreamedColumn, streamCopy, streamRow } from "./stream.ts";

const passing: MaskPlan = { kind: "pass" };

export function planCopyRows(copied: CopyUnderMasks, { key, own }: Masking): MaskPlan {
  const { copy, binary, masks, catalog, statements } = copied;
  const patterns = columnPatterns(masks);
  const masker = maskerOf(masks, key, own);
  const unknown = (why: string): MaskPlan => {
    const fate = unknownCopyFate(patterns, statements, why);
    if (fate.kind === "deny") return fate;
    return fate.kind === "whole" ? wholeCopy(fate, binary) : detectedCopy(masker, binary);
  };
  if (patterns.length === 0) return detectedCopy(masker, binary);
  if (copied.doubt !== null) return unknown(copied.doubt);
  if (copy === null || copied.fields === null) return unknown("it was not described");
  const fields = copiedFields(copy, copied.fields, catalog);
  if (fields.length !== copied.columns) return unknown("its columns are not the ones that the server described");
  const columns: Column[] = [];
  for (const field of fields) {
    const fate = fateOf(field, patterns, catalog, statements);
    if (fate.kind === "deny") return fate;
    columns.push(columnOf(field, fate, binary, masker));
  }
  const anyWhole = columns.some(({ whole }) => whole !== null);
  if (!anyWhole && (masker === null || !binary)) return detectedCopy(masker, binary);
  if (binary) return binaryCopy(columns, masker, key);
  const format = lineFormatOf(copy, copied.encoding);
  return typeof format === "string"
    ? unknown(format)
    : lineCopy(
        columns,
        fields.map(({ name }) => name),
        format,
        masker,
        key,
      );
}

/** Of what has no masked column, what the detectors find. */
function detectedCopy(masker: Masker | null, binary: boolean): MaskPlan {
  if (masker === null) return passing;
  const plan = {
    kind: "mask" as const,
    masked: 0,
    row(bytes: Buffer, start: number, end: number): Buffer | null {
      const from = start + headerBytes;
      if (binary) {
        if (!binaryCopyMatches(masker, bytes, from, end)) return null;
        plan.masked += 1;
        return copyWithNulls(masker, bytes, start, end);
      }
      plan.masked += masker.mask(bytes, from, end);
      return null;
    },
    stream() {
      if (binary) return null;
      return streamCopy(masker, (values) => {
        plan.masked += values;
      });
    },
  };
  return plan;
}

/** Text and CSV: masked values in place, and a line written anew where one becomes NULL. */
function lineCopy(
  columns: readonly Column[],
  names: readonly string[],
  format: LineFormat,
  masker: Masker | null,
  key: Buffer,
): MaskPlan {
  const fields: Fields = [];
  let first = true;
  const plan = {
    kind: "mask" as const,
    masked: 0,
    row(bytes: Buffer, start: number, end: number): Buffer | null {
      const nulls: number[] = [];
      for (let at = start + headerBytes; at < end; ) {
        const next = findFields(bytes, at, end, format, fields);
        if (next < 0 || !hasColumns(fields, columns.length))
          throw new PeerError("WEIR_FRAME_INVALID", "a line of a COPY is not as its options say");
        const isHeader = first && format.header && isHeaderLine(bytes, fields, names, format);
        first = false;
        if (!isHeader) {
          for (const [index, column] of columns.entries()) {
            if (column.whole === null) continue;
            const from = fields[index * 3] as number;
            const to = fields[index * 3 + 1] as number;
            const quoted = fields[index * 3 + 2] as number;
            if (isNull(bytes, from, to, quoted, format)) continue;
            plan.masked += 1;
            if (column.holdsText && column.whole.with !== "null")
              hideField(bytes, from, to, column.whole.with, key, format);
            else nulls.push(from - quoted, to + quoted);
          }
          if (masker !== null) plan.masked += masker.mask(bytes, at, next);
        }
        at = next;
      }
      return nulls.length === 0 ? null : without(bytes, start, end, nulls, format.nullText);
    },
    stream(): MessageStream | null {
      if (columns.some((column) => column.whole !== null && streamedColumn(column) === null)) return null;
      first = false;
      const found = (values: number): void => {
        plan.masked += values;
      };
      const hide: HideField = (bytes, from, to, quoted, index) => {
        const spec = columns[index]?.whole ?? null;
        if (spec === null || isNull(bytes, from, to, quoted, format)) return;
        plan.masked += 1;
        hideField(bytes, from, to, spec.with, key, format);
      };
      const hidden = columns.map(({ whole }) => whole !== null);
      return streamLine(hidden, format, hide, masker === null ? null : streamCopy(masker, found));
    },
  };
  return plan;
}

/** A row without columns is an empty line, which reads as one empty field. */
function hasColumns(fields: Fields, count: number): boolean {
  return fields.length === count * 3 || (count === 0 && fields.length === 3 && fields[0] === fields[1]);
}

/** A text that a value may have too is no NULL: only `\N`, which no value is written as, and what stands without quotes. */
function isNull(bytes: Buffer, from: number, to: number, quoted: number, { csv, nullText }: LineFormat): boolean {
  if (quoted !== 0 || (!csv && nullText.toString("latin1") !== "\\N")) return from === to;
  return bytes.subarray(from, to).equals(nullText);
}

function hideField(bytes: Buffer, from: number, to: number, style: MaskStyle, key: Buffer, format: LineFormat): void {
  applyStyle(bytes, from, to, style, key, format.filler);
  // What stays clear, or a digest, may hold a sign of the format, or half of an escape.
  for (let at = from; at < to; at += 1) if (isSpecial(bytes[at] as number, format)) bytes[at] = format.filler;
}

/** The header is known by its words: a row in its place is masked. */
function isHeaderLine(bytes: Buffer, fields: Fields, names: readonly string[], format: LineFormat): boolean {
  const escaping = format.csv ? format.escaping : 0x5c;
  return names.every((name, index) => {
    const [from = 0, to = 0, quoted] = fields.slice(index * 3, index * 3 + 3);
    const escapes = !format.csv || quoted !== 0;
    return (escapes ? unescaped(bytes, from, to, escaping) : bytes.toString("utf8", from, to)) === name;
  });
}

function unescaped(bytes: Buffer, from: number, to: number, escaping: number): string {
  const plain: number[] = [];
  for (let at = from; at < to; at += 1) {
    if (bytes[at] === escaping && at + 1 < to) at += 1;
    plain.push(bytes[at] as number);
  }
  return Buffer.from(plain).toString("utf8");
}

/** The message anew, with another text in the place of each pair of places. */
function without(bytes: Buffer, start: number, end: number, places: readonly number[], text: Buffer): Buffer {
  const parts: Buffer[] = [];
  let at = start;
  for (let index = 0; index < places.length; index += 2) {
    parts.push(bytes.subarray(at, places[index]), text);
    at = places[index + 1] as number;
  }
  parts.push(bytes.subarray(at, end));
  const row = Buffer.concat(parts);
  row.writeUInt32BE(row.length - 1, 1);
  return row;
}

/** The types are known: each value is treated as in a result with binary formats. */
function binaryCopy(columns: readonly Column[], masker: Masker | null, key: Buffer): MaskPlan {
  let first = true;
  const plan = {
    kind: "mask" as const,
    masked: 0,
    row(bytes: Buffer, start: number, end: number): Buffer | null {
      const tuple = tupleStart(bytes, start + headerBytes, end);
      first = false;
      // The head alone, or the trailer.
      if (tuple === end || (tuple + 2 === end && bytes.readInt16BE(tuple) === -1)) return null;
      let to = tuple + 2;
      for (const [, fieldEnd] of copyFields(bytes, start + headerBytes, end)) to = fieldEnd;
      if (to !== end) throw new PeerError("WEIR_FRAME_INVALID", "a message of a binary COPY is more than a row");
      const nulls = maskTuple(plan, columns, masker, key, bytes, tuple, end);
      return nulls === null ? null : withNulls(bytes, start, tuple, nulls);
    },
    stream(): MessageStream | null {
      const streamed = columns.map(streamedColumn);
      if (streamed.includes(null)) return null;
      const headBytes = first ? copyHeadBytes : 0;
      first = false;
      const found = (values: number): void => {
        plan.masked += values;
      };
      return streamRow(streamed as StreamedColumn[], masker, found, headBytes);
    },
  };
  return plan;
}

function wholeCopy(fate: Extract<ColumnFate, { kind: "whole" }>, binary: boolean): MaskPlan {
  if (binary)
    return {
      kind: "deny",
      reason: `rule "${fate.spec.rule}" masks ${fate.spec.column}; a binary COPY cannot be masked whole`,
    };
  const plan = {
    kind: "mask" as const,
    masked: 0,
    row(bytes: Buffer, start: number, end: number): null {
      for (let at = start + headerBytes; at < end; at += 1) {
        const byte = bytes[at];
        if (byte !== 0x09 && byte !== 0x0a && byte !== 0x2c) bytes[at] = 0x2a;
      }
      plan.masked += 1;
      return null;
    },
    stream: () => null,
  };
  return plan;
}

/** COPY binary: an optional head of 19 bytes, then Int16 count and Int32 length and bytes of each field. */
const copySignature = Buffer.from("PGCOPY\n\xff\r\n\0", "latin1");
const copyHeadBytes = 19;

function tupleStart(bytes: Buffer, from: number, end: number): number {
  const signed = end - from >= copyHeadBytes && bytes.subarray(from, from + copySignature.length).equals(copySignature);
  return signed ? from + copyHeadBytes + bytes.readUInt32BE(from + 15) : from;
}

function* copyFields(bytes: Buffer, from: number, end: number): Generator<readonly [number, number]> {
  const start = tupleStart(bytes, from, end);
  if (start + 2 > end) return;
  const count = bytes.readInt16BE(start);
  let at = start + 2;
  for (let index = 0; index < count; index += 1) {
    if (at + 4 > end) throw new PeerError("WEIR_FRAME_INVALID", "a binary COPY row is cut short");
    const length = bytes.readInt32BE(at);
    const to = at + 4 + Math.max(0, length);
    if (to > end) throw new PeerError("WEIR_FRAME_INVALID", "a binary COPY row is cut short");
    yield [at, to];
    at = to;
  }
}

/** The types of a COPY are not told: a value is read as each type that could hold a match. */
function fieldMatches(masker: Masker, bytes: Buffer, from: number, to: number): boolean {
  const start = from + 4;
  if (to <= start) return false;
  if (
    to - start === 8 &&
    (binaryValueMatches(masker, 20, bytes, start, to) || binaryValueMatches(masker, 701, bytes, start, to))
  )
    return true;
  if (to - start >= 10 && to - start <= 40 && binaryValueMatches(masker, 1700, bytes, start, to)) return true;
  return binaryValueMatches(masker, 1_000_000, bytes, start, to);
}

function binaryCopyMatches(masker: Masker, bytes: Buffer, from: number, end: number): boolean {
  for (const [at, to] of copyFields(bytes, from, end)) if (fieldMatches(masker, bytes, at, to)) return true;
  return false;
}

function copyWithNulls(masker: Masker, bytes: Buffer, start: number, end: number): Buffer {
  const from = start + headerBytes;
  const parts = [bytes.subarray(start, tupleStart(bytes, from, end) + 2)];
  for (const [at, to] of copyFields(bytes, from, end))
    parts.push(fieldMatches(masker, bytes, at, to) ? minusOne : bytes.subarray(at, to));
  const row = Buffer.concat(parts);
  row.writeUInt32BE(row.length - 1, 1);
  return row;
}
