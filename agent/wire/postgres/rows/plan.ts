/** Plans how a result's rows are masked, and masks them: in place, and anew only where a value becomes NULL. */

import type { MaskSpec } from "../../../core/verdict.ts";
import { PeerError } from "../../../errors.ts";
import { createMasker, type Masker } from "../../../mask/masker.ts";
import { type OwnDetectors, planSpecsOf } from "../../../mask/plan.ts";
import { mayMatch } from "../../../mask/prefilter.ts";
import { applyStyle } from "../../../mask/style.ts";
import { headerBytes } from "../framer.ts";
import type { CopyUnderMasks, Masking, MaskPlan, ResultUnderMasks } from "../mask-plan.ts";
import { binaryValueMatches, plainNumber } from "./binary-values.ts";
import { type ColumnFate, columnPatterns, copyFates, fateOf } from "./columns.ts";
import { type StreamedColumn, streamCopy, streamRow } from "./stream.ts";
import { byteaType, float8Type, jsonbType, jsonType, shortTypes, textTypes } from "./types.ts";

const passing: MaskPlan = { kind: "pass" };
const nine = 0x39;

/** How one column is treated in each row. */
interface Column {
  readonly whole: MaskSpec | null;
  readonly type: number;
  readonly binary: boolean;
  /** A mask of the same length is still a value of its type. */
  readonly holdsText: boolean;
  readonly looked: boolean;
}

export function planRows(result: ResultUnderMasks, { key, own }: Masking): MaskPlan {
  const patterns = columnPatterns(result.masks);
  const masker = maskerOf(result.masks, key, own);
  const columns: Column[] = [];
  for (const [index, field] of result.fields.entries()) {
    const fate = fateOf(field, patterns, result.catalog, result.statements);
    if (fate.kind === "deny") return fate;
    const holdsText = textTypes.has(field.typeOid);
    columns.push({
      whole: fate.kind === "whole" ? fate.spec : null,
      type: field.typeOid,
      binary: result.formats[index] === 1,
      holdsText,
      looked: masker !== null && !shortTypes.has(field.typeOid),
    });
  }
  const anyWhole = columns.some(({ whole }) => whole !== null);
  if (!anyWhole && (masker === null || columns.every(({ looked }) => !looked))) return passing;
  // Binary numbers show no digits to the prefilter, and it knows nothing of what a policy's own detectors look for.
  const blind =
    masker?.prefiltered === false || columns.some(({ looked, binary, holdsText }) => looked && binary && !holdsText);
  const plan = {
    kind: "mask" as const,
    masked: 0,
    row(bytes: Buffer, start: number, end: number): Buffer | null {
      if (!anyWhole && !blind && mayMatch(bytes, start + headerBytes, end) === 0) return null;
      const nulls = maskRow(plan, columns, masker, key, bytes, start, end);
      return nulls === null ? null : withNulls(bytes, start, nulls);
    },
    stream() {
      const streamed = columns.map(streamedColumn);
      return streamed.includes(null)
        ? null
        : streamRow(streamed as StreamedColumn[], masker, (values) => {
            plan.masked += values;
          });
    },
  };
  return plan;
}

export function planCopyRows({ copy, binary, masks, statements }: CopyUnderMasks, { key, own }: Masking): MaskPlan {
  const patterns = columnPatterns(masks);
  const masker = maskerOf(masks, key, own);
  const fates = copyFates(patterns, copy?.relationParts ?? null, copy?.columns ?? null, statements);
  if (!Array.isArray(fates) && fates.kind === "deny") return fates;
  const whole = (Array.isArray(fates) ? fates : []).some(({ kind }) => kind === "whole");
  if (!Array.isArray(fates) && fates.kind === "whole") return wholeCopy(fates, binary);
  if (whole && (binary || copy?.format !== "text" || (copy.options["delimiter"] ?? "\t") !== "\t")) {
    return {
      kind: "deny",
      reason: "a column mask over COPY works in the text format with tabs; use COPY … TO STDOUT, or SELECT",
    };
  }
  if (masker === null && !whole) return passing;
  const plan = {
    kind: "mask" as const,
    masked: 0,
    row(bytes: Buffer, start: number, end: number): Buffer | null {
      const from = start + headerBytes;
      if (binary) {
        if (masker === null) return null;
        if (!binaryCopyMatches(masker, bytes, from, end)) return null;
        plan.masked += 1;
        return copyWithNulls(masker, bytes, start, end);
      }
      if (whole) plan.masked += maskCopyFields(fates as ColumnFate[], bytes, from, end, key);
      if (masker !== null) plan.masked += masker.mask(bytes, from, end);
      return null;
    },
    stream() {
      if (binary || whole || masker === null) return null;
      return streamCopy(masker, (values) => {
        plan.masked += values;
      });
    },
  };
  return plan;
}

/** Null: the value has to be whole to be masked, or would have to become NULL after its length has left. */
function streamedColumn({ whole, holdsText, looked }: Column): StreamedColumn | null {
  if (whole !== null) return holdsText && whole.with !== "null" ? { kind: "hide", style: whole.with } : null;
  if (!looked) return { kind: "leave" };
  return holdsText ? { kind: "look" } : null;
}

function maskerOf(masks: readonly MaskSpec[], key: Buffer, own: OwnDetectors): Masker | null {
  return createMasker(
    masks.flatMap((spec) => planSpecsOf(spec, own)),
    key,
  );
}

/** Masks in place; the columns that have to become NULL, or null when there is none. */
function maskRow(
  plan: { masked: number },
  columns: readonly Column[],
  masker: Masker | null,
  key: Buffer,
  bytes: Buffer,
  start: number,
  end: number,
): Set<number> | null {
  let nulls: Set<number> | null = null;
  const count = bytes.readUInt16BE(start + headerBytes);
  if (count !== columns.length)
    throw new PeerError("WEIR_FRAME_INVALID", "a DataRow has another number of columns than its RowDescription");
  let at = start + headerBytes + 2;
  for (let index = 0; index < count; index += 1) {
    const length = bytes.readInt32BE(at);
    at += 4;
    if (length < 0) continue;
    const to = at + length;
    if (to > end) throw new PeerError("WEIR_FRAME_INVALID", "a DataRow is cut short");
    if (maskValue(plan, columns[index] as Column, masker, key, bytes, at, to)) {
      nulls ??= new Set();
      nulls.add(index);
    }
    at = to;
  }
  return nulls;
}

/** True when the value has to become NULL. */
function maskValue(
  plan: { masked: number },
  column: Column,
  masker: Masker | null,
  key: Buffer,
  bytes: Buffer,
  from: number,
  to: number,
): boolean {
  const { whole } = column;
  if (whole !== null) {
    plan.masked += 1;
    if (!column.holdsText || whole.with === "null") return true;
    applyStyle(bytes, from, to, whole.with, key);
    return false;
  }
  if (masker === null || !column.looked) return false;
  if (column.holdsText) {
    plan.masked += masker.mask(bytes, from, to);
    return false;
  }
  if (column.binary && column.type !== jsonType) {
    if (!binaryValueMatches(masker, column.type, bytes, from, to)) return false;
    plan.masked += 1;
    if (column.type !== jsonbType) return true;
    masker.mask(bytes, from + 1, to, nine);
    return false;
  }
  if (column.type === byteaType) {
    // Hex is masked in its own form; `bytea_output = escape` is text with escapes.
    plan.masked += masker.mask(bytes, from, to);
    return false;
  }
  if (column.type === float8Type) {
    const hidden = masker.finds(plainNumber(Number(bytes.toString("latin1", from, to))));
    if (hidden) plan.masked += 1;
    return hidden;
  }
  // In JSON a number may be the match: nines are a number, and inside a string a text.
  if (column.type === jsonType || column.type === jsonbType) {
    plan.masked += masker.mask(bytes, from, to, nine);
    return false;
  }
  if (isComposite(bytes, from)) {
    plan.masked += masker.mask(bytes, from, to, nine);
    return false;
  }
  if (!masker.finds(bytes.toString("latin1", from, to))) return false;
  plan.masked += 1;
  return true;
}

/** Arrays `{…}`, records `(…)` and XML `<…>` stay what they are under a mask of the same length. */
function isComposite(bytes: Buffer, from: number): boolean {
  const first = bytes[from];
  return first === 0x7b || first === 0x28 || first === 0x3c;
}

function withNulls(bytes: Buffer, start: number, nulls: ReadonlySet<number>): Buffer {
  const parts: Buffer[] = [];
  const count = bytes.readUInt16BE(start + headerBytes);
  let at = start + headerBytes + 2;
  let total = headerBytes + 2;
  for (let index = 0; index < count; index += 1) {
    const length = Math.max(0, bytes.readInt32BE(at));
    const part = nulls.has(index) ? minusOne : bytes.subarray(at, at + 4 + length);
    parts.push(part);
    total += part.length;
    at += 4 + length;
  }
  const head = Buffer.from(bytes.subarray(start, start + headerBytes + 2));
  head.writeUInt32BE(total - 1, 1);
  return Buffer.concat([head, ...parts], total);
}

const minusOne = Buffer.from([0xff, 0xff, 0xff, 0xff]);

/** Text format: fields end at a tab, the row at a line feed; both are escaped inside a value. */
function maskCopyFields(fates: readonly ColumnFate[], bytes: Buffer, start: number, end: number, key: Buffer): number {
  let masked = 0;
  let from = start;
  let index = 0;
  for (let at = start; at < end; at += 1) {
    const byte = bytes[at];
    if (byte !== 0x09 && byte !== 0x0a) continue;
    const fate = fates[index];
    // `\N` is NULL.
    if (fate?.kind === "whole" && !(at - from === 2 && bytes[from] === 0x5c)) {
      applyStyle(bytes, from, at, fate.spec.with, key);
      // A backslash that is left in the clear part would escape what it should not.
      for (let place = from; place < at; place += 1) if (bytes[place] === 0x5c) bytes[place] = 0x2a;
      masked += 1;
    }
    from = at + 1;
    index = byte === 0x0a ? 0 : index + 1;
  }
  return masked;
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
