/** What masks do to results, copies and texts; the work is done in rows/. */

import type { MaskSpec } from "../../core/verdict.ts";
import { createMasker, type Masker } from "../../mask/masker.ts";
import { type OwnDetectors, planSpecsOf } from "../../mask/plan.ts";
import type { CatalogColumn } from "../protocol.ts";
import type { ResultField } from "./backend-messages.ts";
import type { CopyInfo, StatementInfo } from "./describe/statement-info.ts";
import { planCopyRows } from "./rows/copy.ts";
import { planRows } from "./rows/plan.ts";
import type { MessageStream } from "./rows/stream.ts";

export type MaskPlan =
  | { readonly kind: "pass" }
  | { readonly kind: "deny"; readonly reason: string }
  | {
      readonly kind: "mask";
      /** Values masked so far, over all rows of the plan. */
      masked: number;
      /** Masks in place; a new row where a value became NULL, else null. */
      row(bytes: Buffer, start: number, end: number): Buffer | null;
      /** For a row too long to be held; null when its masks need all of it. */
      stream(): MessageStream | null;
    };

export interface ResultUnderMasks {
  readonly fields: readonly ResultField[];
  readonly formats: readonly number[];
  readonly masks: readonly MaskSpec[];
  /** Null: the names could not be read. */
  readonly catalog: readonly CatalogColumn[] | null;
  readonly statements: readonly StatementInfo[];
}

export interface CopyUnderMasks {
  readonly copy: CopyInfo | null;
  readonly binary: boolean;
  readonly columns: number;
  readonly masks: readonly MaskSpec[];
  readonly statements: readonly StatementInfo[];
  /** Why its columns are not known for sure; null: they are. */
  readonly doubt: string | null;
  /** As the server described a SELECT of the same columns; null: it was not asked. */
  readonly fields: readonly ResultField[] | null;
  /** Null: the names could not be read. */
  readonly catalog: readonly CatalogColumn[] | null;
  readonly encoding: string;
}

export interface Masking {
  /** For masks of the style `hash`. */
  readonly key: Buffer;
  readonly own: OwnDetectors;
}

export function planResult(result: ResultUnderMasks, masking: Masking): MaskPlan {
  return planRows(result, masking);
}

export function planCopy(copy: CopyUnderMasks, masking: Masking): MaskPlan {
  return planCopyRows(copy, masking);
}

/**
 * A text of the record, of an error or a notice: what the detectors find is masked, and where it names a masked
 * column, every literal is, since one of them may be its value.
 */
export function maskText(text: string, masks: readonly MaskSpec[], own: OwnDetectors): string {
  if (masks.length === 0 || text === "") return text;
  const masker = maskerOf(masks, own);
  const found = masker === null ? text : masker.maskString(text);
  return namesMasked(text, masks) ? hideLiterals(found) : found;
}

/** True when the text names a column that is masked. */
export function namesMasked(text: string, masks: readonly MaskSpec[]): boolean {
  for (const { column } of masks) {
    if (column === null) continue;
    const name = column.slice(column.lastIndexOf(".") + 1);
    if (name.includes("*") || text.toLowerCase().includes(name.toLowerCase())) return true;
  }
  return false;
}

/** Quoted texts ('…', "…", $$…$$ and what an error quotes), what stands in `=(…)` and `contains (…)`, and long numbers. */
export function hideLiterals(text: string): string {
  return text
    .replace(/'(?:[^']|'')*'?/g, "'***'")
    .replace(/\$([A-Za-z_]*)\$[\s\S]*?(?:\$\1\$|$)/g, "$$***$$")
    .replace(/"[^"]*"?/g, '"***"')
    .replace(/(=|contains )\([^\n]*\)/g, "$1(***)")
    .replace(/\b\d{4,}\b/g, "***");
}

const maskers = new WeakMap<readonly MaskSpec[], { readonly masker: Masker | null }>();

function maskerOf(masks: readonly MaskSpec[], own: OwnDetectors): Masker | null {
  const known = maskers.get(masks);
  if (known !== undefined) return known.masker;
  const specs = masks.flatMap((spec) => planSpecsOf({ ...spec, with: "redact" }, own));
  const masker = createMasker(specs, Buffer.alloc(0));
  maskers.set(masks, { masker });
  return masker;
}
