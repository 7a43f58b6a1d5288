/**
 * The seam to the masks. Until a masker is joined here every result under a mask is denied and nothing raw is kept:
 * a mask that is not applied is worse than a query that fails.
 */
import type { MaskSpec } from "../../core/verdict.ts";
import type { CatalogColumn } from "../protocol.ts";
import type { ResultField } from "./backend-messages.ts";
import type { CopyInfo, StatementInfo } from "./describe/statement-info.ts";

export type MaskPlan =
  | { readonly kind: "pass" }
  | { readonly kind: "deny"; readonly reason: string }
  | {
      readonly kind: "mask";
      /** The row with its masked values, or null when it stays as it is. */
      row(bytes: Buffer, start: number, end: number): Buffer | null;
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
}

const notJoined: MaskPlan = { kind: "deny", reason: "no masker is built in" };

export function planResult(_result: ResultUnderMasks): MaskPlan {
  return notJoined;
}

export function planCopy(_copy: CopyUnderMasks): MaskPlan {
  return notJoined;
}

/** A text of the record, of an error or a notice with what the detectors find masked. */
export function maskText(_text: string, masks: readonly MaskSpec[]): string {
  return masks.length === 0 ? _text : "(not kept: it may hold a masked value)";
}
