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

/** A detector that the policy itself defines, by its name. */
export type CustomDetector = { readonly name: string; readonly place: PolicyPlace } & (
  | /** A regular expression in RE2's syntax, run by a linear engine. `charactersMax`: no match is longer. */
  { readonly kind: "regex"; readonly expression: string; readonly charactersMax: number }
  /** Whole words out of a list, one a line in a file. */
  | { readonly kind: "words"; readonly file: string | null; readonly words: readonly string[] }
  /** Values of members of JSON objects, by the members' names; `*` stands for any letters. */
  | { readonly kind: "keys"; readonly keys: readonly string[] }
  /** Text that looks like source code; with `directories` or `fingerprints`, text that shares code with those files. */
  | { readonly kind: "source"; readonly directories: readonly string[]; readonly fingerprints: string | null }
);

/** Where in the policy something stands. Files that are named there are relative to the policy's own. */
export interface PolicyPlace {
  readonly file: string;
  readonly line: number;
  readonly column: number;
}

/** One of `column`, `detectors` and `json` is set; `custom` goes with `detectors`. */
export interface MaskSpec {
  readonly rule: string;
  /** Glob over `schema.table.column`; `*.ssn` is any table's ssn, `users.ssn` any schema's users. Case-insensitive. */
  readonly column: string | null;
  readonly detectors: readonly DetectorName[] | null;
  /** Names of detectors that the policy defines. */
  readonly custom?: readonly string[];
  /** JSON path of what is masked in a JSON body: `$.customers[*].ssn`, `$..ssn` (RFC 9535: names, `*`, indexes, `..`). */
  readonly json?: string;
  readonly with: MaskStyle;
  readonly derived: DerivedAction;
  /** What becomes of a statement that stores the column elsewhere in the server; left out: `deny` when `derived` is. */
  readonly copied?: "deny" | "allow";
}

/** What is taken out of a request before it leaves; `placeholder`: the reply gets the real value back. */
export interface RedactSpec {
  readonly rule: string;
  readonly detectors: readonly DetectorName[];
  readonly custom: readonly string[];
  readonly with: MaskStyle | "placeholder";
}

/** Tokens that may be spent in a period, counted for each combination of `by`. */
export interface TokenBudget {
  readonly rule: string;
  readonly tokens: number;
  readonly per: "minute" | "hour" | "day";
  readonly by: readonly ("identity" | "model" | "target" | "job")[];
  readonly then: "deny" | "hold";
  readonly reason: string;
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
  readonly redactions?: readonly RedactSpec[];
  readonly budgets?: readonly TokenBudget[];
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
