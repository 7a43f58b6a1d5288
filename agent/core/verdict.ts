/** A verdict: what the policy says of one operation, with the rule's name and a reason a human reads. */

export type Action = "allow" | "deny" | "hold";

/** How a masked value is written. `last4` keeps the last four characters, `hash` is a keyed digest, `null` is SQL NULL. */
export type MaskStyle = "redact" | "last4" | "hash" | "null" | "email" | "partial";

export type DetectorName =
  | "credit-card"
  | "ssn"
  | "email"
  | "phone"
  | "iban"
  | "aws-key"
  | "openai-key"
  | "anthropic-key"
  | "github-token"
  | "jwt"
  | "private-key";

/** What becomes of a result column that may carry a masked column but has no origin (an expression, a cast, row_to_json, a view). */
export type DerivedAction = "deny" | "mask" | "detect";

/** Exactly one of `column` and `detectors` is set. */
export interface MaskSpec {
  readonly rule: string;
  /** Glob over `schema.table.column`; `*.ssn` is any table's ssn, `users.ssn` any schema's users. Case-insensitive. */
  readonly column: string | null;
  readonly detectors: readonly DetectorName[] | null;
  readonly with: MaskStyle;
  readonly derived: DerivedAction;
}

export interface RowLimit {
  readonly rule: string;
  readonly rows: number;
  readonly then: "deny" | "hold";
  readonly reason: string;
}

export interface Transforms {
  readonly masks: readonly MaskSpec[];
  readonly limits: readonly RowLimit[];
}

export interface Verdict {
  readonly action: Action;
  /** The name of the deciding rule, or `defaults.operation`, `defaults.undecodable`, `policy.broken`. */
  readonly rule: string;
  readonly reason: string;
  /** `report`: the rule would have said `wouldBe`, and the operation passes all the same. */
  readonly mode: "enforce" | "report" | "open";
  readonly wouldBe: Action | null;
  readonly transforms: Transforms;
  /** What the record keeps beside the statement. */
  readonly record: "statement" | "result";
  readonly approvers: readonly string[];
  readonly holdTimeoutMs: number;
  readonly onTimeout: "deny" | "allow";
  /** Digest of the policy that said so. */
  readonly policy: string;
}

declare const permitBrand: unique symbol;

/**
 * Proof that an operation was decided. Forwarding to the server takes one, and only `policy/decide.ts` makes them,
 * so that forwarding without a decision does not compile.
 */
export interface Permit {
  readonly [permitBrand]: true;
  readonly verdict: Verdict;
}

/** A decision as it reaches a protocol: a permit to forward, or the verdict that refuses or holds. */
export type Decision =
  | { readonly action: "allow"; readonly permit: Permit; readonly verdict: Verdict }
  | { readonly action: "deny" | "hold"; readonly permit: null; readonly verdict: Verdict };
