/** What a decision says: which rule or default it is by, and the sentence for a person. Steps are those of decide.ts. */
import type { Action, Verdict } from "../core/verdict.ts";
import type { Mode, Policy, Rule } from "./policy.ts";

/** What decides when no rule does; negative, so that they never meet a rule's index. */
export const byBroken = -1;
export const byReplication = -2;
export const bySession = -3;
export const byOperation = -4;
export const byUndecodable = -5;

/** No rule decided. */
interface Undecided {
  /** One of the negative numbers above. */
  readonly decider: number;
  readonly unread: string | null;
  readonly request: boolean;
}

interface Said {
  readonly action: Action;
  readonly rule: string;
  readonly reason: string;
  readonly mode: Mode;
}

type Settled = Pick<Verdict, "action" | "rule" | "reason" | "mode" | "wouldBe">;

export function sayRule(rule: Rule, conditionError: string): Said {
  const action = rule.verdict!;
  const reason =
    conditionError === ""
      ? rule.reason
      : `${rule.reason} (Its condition could not be evaluated: ${conditionError}; so it counts as met.)`;
  return { action, rule: rule.name, reason, mode: rule.mode };
}

/** Step 5. */
export function sayDefault(policy: Policy, { decider, unread, request }: Undecided): Said {
  const { defaults, mode } = policy;
  switch (decider) {
    case byBroken:
      return {
        action: "deny",
        rule: "policy.broken",
        reason: `The policy cannot be used, so nothing is let through: ${policy.broken}`,
        mode: "enforce",
      };
    case byReplication:
      return {
        action: "deny",
        rule: "defaults.replication",
        reason: "A replication stream carries whole tables past every rule; it needs a rule that allows it by kind.",
        mode,
      };
    case bySession:
      return {
        action: "allow",
        rule: "defaults.session",
        reason: "No rule is against it; what the session runs is decided one by one.",
        mode,
      };
    case byUndecodable:
      return {
        action: defaults.undecodable,
        rule: "defaults.undecodable",
        reason: `The ${request ? "request" : "statement"} cannot be judged (${unread}${meaningOf(unread)}), and what is not understood ${verbOf(defaults.undecodable)}.`,
        mode,
      };
    default:
      return {
        action: defaults.operation,
        rule: "defaults.operation",
        reason: `No rule decides this, and by default it ${verbOf(defaults.operation)}.`,
        mode,
      };
  }
}

/** Where the word alone does not tell a developer what to change. */
const meanings: Readonly<Partial<Record<string, string>>> = {
  "unknown-statement": "no statement that is known, or a function called by its number",
  "too-large": "its text is above 1 MiB; give large values as parameters, or by COPY",
  encoding: "letters beyond ASCII need client_encoding UTF8",
  "nonstandard-strings": "standard_conforming_strings has to be on",
  "unknown-prepared": "what stands behind the name of this prepared statement, portal or cursor was not seen",
};

function meaningOf(unread: string | null): string {
  const meaning = meanings[unread ?? ""];
  return meaning === undefined ? "" : `: ${meaning}`;
}

function verbOf(action: Action): string {
  return action === "allow" ? "is allowed" : action === "deny" ? "is denied" : "waits for an approval";
}

/** Step 4. */
export function settle(said: Said, report: Rule | null): Settled {
  if (said.mode !== "enforce" && said.action !== "allow") {
    const first = report === null ? said : sayRule(report, "");
    const wouldBe = said.mode === "open" && report === null ? null : first.action;
    return {
      action: "allow",
      rule: first.rule,
      reason: first.reason,
      mode: report === null ? said.mode : "report",
      wouldBe,
    };
  }
  if (report === null || report.verdict === said.action) return { ...said, wouldBe: null };
  // Where something else denies anyway, that is what the client has to be told.
  if (said.action !== "allow") return { ...said, wouldBe: report.verdict };
  return { action: "allow", rule: report.name, reason: report.reason, mode: "report", wouldBe: report.verdict };
}

/** Step 7. */
export function postpone(settled: Settled): Settled {
  if (settled.action !== "hold") return settled;
  return { ...settled, action: "allow", reason: `${settled.reason} (It may be prepared; each run of it is held.)` };
}
