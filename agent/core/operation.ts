/** An operation: one thing a client wants done, in words a policy can speak about. */

/** A protocol family name as the policy uses it. */
export type ProtocolName = "postgres" | "opaque";

export interface Operation {
  readonly protocol: ProtocolName;
  /** `connect` opens the session; `statement` is one SQL text; `cancel` a CancelRequest; `call` a FunctionCall; `prepare` a Parse whose run is decided again later. */
  readonly kind: "connect" | "statement" | "prepare" | "call" | "cancel" | "replication";
  /** The text as the client sent it, cut to `operationTextBytesMax`; empty for `connect`. */
  readonly text: string;
  readonly user: string;
  readonly database: string;
  /** Lower case SQL verbs of every statement in it, sub-statements and CTEs included: `select insert update delete drop truncate …`. */
  readonly verbs: readonly string[];
  /** `schema.table` as written (no schema when none was written), CTE names taken out, lower case unless quoted. */
  readonly relations: readonly string[];
  /** Column names that the text mentions, without table; `*` when a star appears. */
  readonly columns: readonly string[];
  readonly functions: readonly string[];
  /** True when the text writes, or when that cannot be decided from the text. */
  readonly writes: boolean;
  /** Properties a rule can name in `trait`; see `traits` in agent/wire/postgres/README.md. */
  readonly traits: readonly string[];
  /** Bind parameters in text form, cut to `parameterBytesMax` each; binary ones as hex with a leading `\x`. Null is SQL NULL. */
  readonly parameters: readonly (string | null)[];
  /** Size in bytes of what the client sent for it. */
  readonly bytes: number;
}
