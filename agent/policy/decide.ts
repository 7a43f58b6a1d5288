/**
 * The one place where a policy says yes or no, and the only one that makes a Permit.
 *
 * Order of evaluation:
 *   1. A broken policy denies everything.
 *   2. Rules are asked in order, those of mode `open` not at all. A rule that names `kind` is about those kinds. Else
 *      it is about statements, prepares, calls and requests; about a connect or a replication stream only when it says nothing
 *      of a text and does not hold; about a cancel never.
 *   3. The first matching rule with a verdict decides. In an operation that could not be read (undecodableTraits),
 *      only a rule that names the trait, or that is at least as strict as `defaults.undecodable`. In a replication
 *      stream, an `allow` only from a rule that names `kind`.
 *   4. A matching rule in mode `report` does not decide: what it would have said is told in `wouldBe`.
 *   5. None decides: replication is denied; what could not be read is `defaults.undecodable`; opening and cancelling
 *      is allowed; all else is `defaults.operation`. In a policy of mode `report` or `open` these defaults let pass.
 *   6. Every matching rule adds its masks, redactions, limit and record. Where the text does not show all it reads (opaqueTraits),
 *      a rule counts as matching for its masks whatever it asks of the text.
 *   7. A `prepare` is never held: each run of it is asked about on its own, and one change needs one approval.
 *   8. A `when` that cannot be evaluated matches, but for a verdict `allow`; in a `prepare` it does not match.
 *
 * Decisions are values: what decided, and the set of rules that added something, give the same frozen Decision again.
 */
import type {
  Action,
  Decision,
  MaskSpec,
  Permit,
  RedactSpec,
  RowLimit,
  TokenBudget,
  Verdict,
} from "../core/verdict.ts";
import { isRequest } from "./match-request.ts";
import type { Policy, PolicyCase, Rule } from "./policy.ts";
import {
  byBroken,
  byOperation,
  byReplication,
  bySession,
  byUndecodable,
  postpone,
  sayDefault,
  sayRule,
  settle,
} from "./say.ts";
import { opaqueTraits, undecodableTraits } from "./words.ts";

/** Decisions kept of one policy. */
const decisionsMax = 1_024;
/**
 * Rules that add something and have a bit in the key of a kept decision; with more, nothing is kept. The key is
 * decider, reporter (10 bits each, see rulesMax), prepare, request, trait (7) and these bits: 53, a safe integer.
 */
const addersMax = 26;

const strictness: Readonly<Record<Action, number>> = { allow: 0, hold: 1, deny: 2 };
const undecodable: ReadonlySet<string> = new Set(undecodableTraits);
const opaque: ReadonlySet<string> = new Set(opaqueTraits);

export function decide(policy: Policy, asked: PolicyCase): Decision {
  if (policy.broken !== null)
    return make(policy, {
      decider: byBroken,
      reporter: -1,
      adders: [],
      unread: null,
      conditionError: "",
      prepare: false,
      request: false,
    });
  const { operation } = asked;
  const { kind } = operation;
  const unread = firstOf(operation.traits, undecodable);
  const hidden = unread !== null || isHidden(operation.traits);
  const { rules } = policy;
  let decider: number | null = null;
  let reporter = -1;
  let conditionError = "";
  let adders = 0;
  let bits = 0;
  let bit = 0;
  for (let i = 0; i < rules.length; i += 1) {
    const rule = rules[i]!;
    const adds = isAdder(rule);
    if (adds) bit += 1;
    if (rule.mode === "open" || !isAbout(rule, kind)) continue;
    if (!adds && decider !== null) continue;
    const matched = matchRule(rule, asked);
    if (adds && (matched !== false || (hidden && hides(rule) && matchesSender(rule, asked)))) {
      adders += 1;
      if (bit <= addersMax) bits |= 1 << (bit - 1);
    }
    if (rule.verdict === null || matched === false || decider !== null) continue;
    if (matched !== true && rule.verdict === "allow") continue;
    if (unread !== null && !mayDecideUnread(policy, rule, unread)) continue;
    if (kind === "replication" && rule.verdict === "allow" && !rule.namesKind) continue;
    if (rule.mode === "report") {
      if (reporter === -1) reporter = i;
      continue;
    }
    decider = i;
    if (matched !== true) conditionError = matched.error;
  }
  const final = decider ?? defaultFor(kind, unread !== null);
  const prepare = kind === "prepare";
  const request = kind === "request";
  const variant =
    (unread === null ? 0 : undecodableTraits.indexOf(unread) + 1) + (prepare ? 32 : 0) + (request ? 64 : 0);
  const key = (((final + 8) * 1_024 + reporter + 1) * 128 + variant) * 0x400_0000 + bits;
  const isKept = conditionError === "" && bit <= addersMax;
  const kept = isKept ? policy.decisions.get(key) : undefined;
  if (kept !== undefined) return kept;
  const decision = make(policy, {
    decider: final,
    reporter,
    adders: addersOf(policy, asked, hidden, adders),
    unread,
    conditionError,
    prepare,
    request,
  });
  if (isKept && policy.decisions.size < decisionsMax) policy.decisions.set(key, decision);
  return decision;
}

/** A held operation that a person approved, by the verdict that held it. */
export function approve(verdict: Verdict, reason: string = verdict.reason): Decision {
  const allowed: Verdict = Object.freeze({ ...verdict, action: "allow", reason });
  return Object.freeze({ action: "allow", permit: permitOf(allowed), verdict: allowed });
}

/** A held operation that a person denied, or that nobody decided in time. */
export function refuse(verdict: Verdict, reason: string): Decision {
  return Object.freeze({
    action: "deny",
    permit: null,
    verdict: Object.freeze({ ...verdict, action: "deny", reason }),
  });
}

/** Step 2. */
export function isAbout(rule: Rule, kind: PolicyCase["operation"]["kind"]): boolean {
  if (rule.namesKind) return true;
  if (kind === "cancel") return false;
  return kind === "connect" || kind === "replication" ? !rule.textual && rule.verdict !== "hold" : true;
}

function matchRule(rule: Rule, asked: PolicyCase): boolean | { readonly error: string } {
  for (const check of rule.checks) if (!check.test(asked)) return false;
  if (rule.when === null) return true;
  const met = rule.when.evaluate(asked);
  // A text that is only prepared has no parameters yet: `op.parameters[0]` fails, and each run is asked about anyway.
  return typeof met === "object" && asked.operation.kind === "prepare" ? false : met;
}

/** Step 6: who asks, and where, matches; what the text says is left out. */
export function matchesSender(rule: Rule, asked: PolicyCase): boolean {
  const request = isRequest(asked);
  for (const check of rule.checks) {
    // A rule about requests has nothing to do with a statement, however little that shows of itself.
    if (check.textual ? check.ofRequest && !request : !check.test(asked)) return false;
  }
  return true;
}

function isAdder(rule: Rule): boolean {
  return hides(rule) || rule.limit !== null || rule.budget !== null || rule.record !== null;
}

/** It takes values out of what passes. */
export function hides(rule: Rule): boolean {
  return rule.masks.length > 0 || rule.redactions.length > 0;
}

/** Step 3. */
export function mayDecideUnread(policy: Policy, rule: Rule, trait: string): boolean {
  if (rule.namesTrait?.(trait) === true) return true;
  return strictness[rule.verdict ?? "allow"] >= strictness[policy.defaults.undecodable];
}

function addersOf(policy: Policy, asked: PolicyCase, hidden: boolean, count: number): Rule[] {
  if (count === 0) return [];
  return policy.rules.filter((rule) => {
    if (rule.mode === "open" || !isAbout(rule, asked.operation.kind)) return false;
    if (!isAdder(rule)) return false;
    return matchRule(rule, asked) !== false || (hidden && hides(rule) && matchesSender(rule, asked));
  });
}

function defaultFor(kind: PolicyCase["operation"]["kind"], unread: boolean): number {
  if (kind === "replication") return byReplication;
  if (unread) return byUndecodable;
  return kind === "connect" || kind === "cancel" ? bySession : byOperation;
}

interface Outcome {
  /** Index of the deciding rule, or one of the negative numbers of say.ts. */
  readonly decider: number;
  /** Index of the first rule of mode `report` that would have decided; -1: none. */
  readonly reporter: number;
  readonly adders: readonly Rule[];
  readonly unread: string | null;
  readonly conditionError: string;
  readonly prepare: boolean;
  readonly request: boolean;
}

function make(policy: Policy, outcome: Outcome): Decision {
  const rule = policy.rules[outcome.decider] ?? null;
  const said = rule === null ? sayDefault(policy, outcome) : sayRule(rule, outcome.conditionError);
  const settled = settle(said, policy.rules[outcome.reporter] ?? null);
  const verdict = Object.freeze({
    ...(outcome.prepare ? postpone(settled) : settled),
    ...added(outcome.adders),
    ...approvalOf(policy, rule, outcome.adders),
    policy: policy.digest,
  });
  if (verdict.action !== "allow") return Object.freeze({ action: verdict.action, permit: null, verdict });
  return Object.freeze({ action: "allow", permit: permitOf(verdict), verdict });
}

function permitOf(verdict: Verdict): Permit {
  return Object.freeze({ verdict }) as unknown as Permit;
}

/** Step 6. */
function added(adders: readonly Rule[]): Pick<Verdict, "transforms" | "record"> {
  const masks: MaskSpec[] = [];
  const redactions: RedactSpec[] = [];
  const limits: RowLimit[] = [];
  const budgets: TokenBudget[] = [];
  let result = false;
  let unmasked = false;
  for (const rule of adders) {
    if (rule.record === "result") result = true;
    if (rule.mode === "enforce") {
      masks.push(...rule.masks);
      redactions.push(...rule.redactions);
      if (rule.limit !== null) limits.push(rule.limit);
      if (rule.budget !== null) budgets.push(rule.budget);
    } else if (hides(rule)) unmasked = true;
  }
  // A mask that is only reported leaves the value raw, and a raw value is never recorded.
  const transforms = {
    ...{ masks, limits },
    ...(redactions.length === 0 ? {} : { redactions }),
    ...(budgets.length === 0 ? {} : { budgets }),
  };
  return { transforms: Object.freeze(transforms), record: result && !unmasked ? "result" : "statement" };
}

function approvalOf(
  policy: Policy,
  rule: Rule | null,
  adders: readonly Rule[],
): Pick<Verdict, "approvers" | "holdTimeoutMs" | "onTimeout"> {
  const holder =
    rule?.verdict === "hold" ? rule : (adders.find(({ limit, budget }) => (limit ?? budget)?.then === "hold") ?? null);
  if (holder !== null)
    return { approvers: holder.approvers, holdTimeoutMs: holder.timeoutMs, onTimeout: holder.onTimeout };
  return {
    approvers: [],
    holdTimeoutMs: policy.defaults.approval.timeoutMs,
    onTimeout: policy.defaults.approval.onTimeout,
  };
}

/** The text does not show all it reads. */
export function isHidden(traits: readonly string[]): boolean {
  return firstOf(traits, opaque) !== null;
}

function firstOf(traits: readonly string[], set: ReadonlySet<string>): string | null {
  for (const trait of traits) if (set.has(trait)) return trait;
  return null;
}
