/** A policy as the agent uses it: compiled, frozen, and never half right. */
import type { Flow } from "../core/flow.ts";
import { type IdentitySettings, noIdentities } from "../core/identity.ts";
import type { Operation } from "../core/operation.ts";
import type { Target } from "../core/target.ts";
import type { Action, CustomDetector, Decision, MaskSpec, RedactSpec, RowLimit, TokenBudget } from "../core/verdict.ts";

export type Mode = "enforce" | "report" | "open";

/** One question to the policy. */
export interface PolicyCase {
  readonly flow: Flow;
  readonly target: Target;
  readonly operation: Operation;
  /**
   * Whether a detector, built-in or the policy's own, finds something in a text. Given by the edge, which has the
   * engines and the files; without it a rule that names a detector counts against the client.
   */
  readonly finds?: (detector: string, text: string) => boolean;
}

/** What a check looks at, for matching and for explaining alike. */
export type Subject = string | number | boolean | readonly string[] | null;

export interface Check {
  readonly key: string;
  /** As it stands in the policy. */
  readonly wanted: string;
  /** It speaks about the statement's text, not about who sent it. */
  readonly textual: boolean;
  /** It speaks about a request over HTTP and never matches what is none. */
  readonly ofRequest: boolean;
  /** Checks are asked in this order; the cheap ones first. */
  readonly cost: number;
  test(asked: PolicyCase): boolean;
  subject(asked: PolicyCase): Subject;
}

/** `when`: true, false, or why it could not be evaluated. */
export type Condition = (asked: PolicyCase) => boolean | { readonly error: string };

export interface Rule {
  readonly name: string;
  readonly mode: Mode;
  readonly checks: readonly Check[];
  readonly when: { readonly text: string; readonly evaluate: Condition } | null;
  readonly verdict: Action | null;
  readonly reason: string;
  readonly masks: readonly MaskSpec[];
  readonly redactions: readonly RedactSpec[];
  readonly limit: RowLimit | null;
  readonly budget: TokenBudget | null;
  readonly record: "statement" | "result" | null;
  readonly approvers: readonly string[];
  readonly timeoutMs: number;
  readonly onTimeout: "deny" | "allow";
  /** It names `kind`, so it applies to just those kinds. */
  readonly namesKind: boolean;
  /** It has a key that speaks about the text. */
  readonly textual: boolean;
  /** Traits that it names positively: only such a rule may let an undecodable operation through. */
  readonly namesTrait: ((trait: string) => boolean) | null;
}

export interface PolicyDefaults {
  readonly egress: "deny" | "allow";
  readonly operation: Action;
  readonly undecodable: Action;
  readonly approval: { readonly timeoutMs: number; readonly onTimeout: "deny" | "allow" };
}

export interface Policy {
  readonly mode: Mode;
  readonly defaults: PolicyDefaults;
  readonly record: { readonly durability: "process" | "host" };
  readonly targets: readonly Target[];
  readonly rules: readonly Rule[];
  /** What the policy itself defines; the edge reads the files that they name. */
  readonly detectors: readonly CustomDetector[];
  /** Whose tokens are believed, and which processes have an identity without one. */
  readonly identity: IdentitySettings;
  /** SHA-256 of the canonical form, in hex: equal policies have equal digests, however they are written. */
  readonly digest: string;
  /** Why everything is refused; null for a sound policy. */
  readonly broken: string | null;
  /**
   * True when no rule looks at parameters or sizes: a database session may then use one decision again for the same
   * kind and the same text, as long as the policy in force has the same digest. A request over HTTP is always asked
   * about: its text is not all that rules look at.
   */
  readonly cacheable: boolean;
  /** Decisions already made, by what decided them; see decide.ts. */
  readonly decisions: Map<number, Decision>;
}

/** One thing wrong in a policy file. As text: `file:line:column: message`. */
export class PolicyProblem {
  readonly file: string;
  readonly line: number;
  readonly column: number;
  readonly message: string;

  constructor(file: string, line: number, column: number, message: string) {
    this.file = file;
    this.line = line;
    this.column = column;
    this.message = message;
  }

  toString(): string {
    return `${this.file}:${this.line}:${this.column}: ${this.message}`;
  }
}

export const standardDefaults: PolicyDefaults = Object.freeze({
  egress: "deny",
  operation: "allow",
  undecodable: "deny",
  approval: Object.freeze({ timeoutMs: 600_000, onTimeout: "deny" }),
});

/** A broken policy is a policy value that refuses everything: nobody has to remember an `if`. */
export function brokenPolicy(reason: string): Policy {
  return Object.freeze({
    mode: "enforce",
    defaults: Object.freeze({ ...standardDefaults, operation: "deny" }),
    record: Object.freeze({ durability: "process" }),
    targets: [],
    rules: [],
    detectors: [],
    identity: noIdentities,
    digest: "broken",
    broken: reason,
    cacheable: true,
    decisions: new Map(),
  });
}
