/** Plans how a result's rows are masked, and masks them: in place, and anew only where a value becomes NULL. */

import type { MaskSpec } from "../../../core/verdict.ts";
import { PeerError } from "../../../errors.ts";
import { createMasker, type Masker } from "../../../mask/masker.ts";
import { type OwnDetectors, planSpecsOf } from "../../../mask/plan.ts";
import { mayMatch } from "../../../mask/prefilter.ts";
import { applyStyle } from "../../../mask/style.ts";
import type { ResultField } from "../backend-messages.ts";
import { headerBytes } from "../framer.ts";
import type { Masking, MaskPlan, ResultUnderMasks } from "../mask-plan.ts";
import { binaryValueMatches, plainNumber } from "./binary-values.ts";
import { type ColumnFate, columnPatterns, fateOf } from "./columns.ts";
import { type StreamedColumn, streamRow } from "./stream.ts";
import { byteaType, float8Type, jsonbType, jsonType, shortTypes, textTypes } from "./types.ts";

const passing: MaskPlan = { kind: "pass" };
const nine = 0x39;

/** How one column is treated in each row. */
export interface Column {
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
    columns.push(columnOf(field, fate, result.formats[index] === 1, masker));
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
      const nulls = maskTuple(plan, columns, masker, key, bytes, start + headerBytes, end);
      return nulls === null ? null : withNulls(bytes, start, start + headerBytes, nulls);
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

export function columnOf(field: ResultField, fate: ColumnFate, binary: boolean, masker: Masker | null): Column {
  return {
    whole: fate.kind === "whole" ? fate.spec : null,
    type: field.typeOid,
    binary,
    holdsText: textTypes.has(field.typeOid),
    looked: masker !== null && !shortTypes.has(field.typeOid),
  };
}

/** Null: the value has to be whole to be masked, or would have to become NULL after its length has left. */
export function streamedColumn({ whole, holdsText, looked }: Column): StreamedColumn | null {
  if (whole !== null) return holdsText && whole.with !== "null" ? { kind: "hide", style: whole.with } : null;
  if (!looked) return { kind: "leave" };
  return holdsText ? { kind: "look" } : null;
}

export function maskerOf(masks: readonly MaskSpec[], key: Buffer, own: OwnDetectors): Masker | null {
  return createMasker(
    masks.flatMap((spec) => planSpecsOf(spec, own)),
    key,
  );
}

/**
 * Int16 count at `tuple`, then Int32 length and bytes of each value, as a DataRow and a binary COPY have it. Masks in
 * place; the columns that have to become NULL, or null when there is none.
 */
export function maskTuple(
  plan: { masked: number },
  columns: readonly Column[],
  masker: Masker | null,
  key: Buffer,
  bytes: Buffer,
  tuple: number,
  end: number,
): Set<number> | null {
  let nulls: Set<number> | null = null;
  const count = bytes.readUInt16BE(tuple);
  if (count !== columns.length)
    throw new PeerError("WEIR_FRAME_INVALID", "a row has another number of columns than its RowDescription");
  let at = tuple + 2;
  for (let index = 0; index < count; index += 1) {
    const length = bytes.readInt32BE(at);
    at += 4;
    if (length < 0) continue;
    const to = at + length;
    if (to > end) throw new PeerError("WEIR_FRAME_INVALID", "a row is cut short");
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

/** The message at `start` anew, with NULL in these columns of the tuple in it. */
export function withNulls(bytes: Buffer, start: number, tuple: number, nulls: ReadonlySet<number>): Buffer {
  const parts: Buffer[] = [];
  const count = bytes.readUInt16BE(tuple);
  let at = tuple + 2;
  let total = at - start;
  for (let index = 0; index < count; index += 1) {
    const length = Math.max(0, bytes.readInt32BE(at));
    const part = nulls.has(index) ? minusOne : bytes.subarray(at, at + 4 + length);
    parts.push(part);
    total += part.length;
    at += 4 + length;
  }
  const head = Buffer.from(bytes.subarray(start, tuple + 2));
  head.writeUInt32BE(total - 1, 1);
  return Buffer.concat([head, ...parts], total);
}

export const minusOne = Buffer.from([0xff, 0xff, 0xff, 0xff]);
