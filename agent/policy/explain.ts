/** Why a policy decides as it does, rule by rule, for a person. */
import type { Operation } from "../core/operation.ts";
import type { Decision, MaskSpec, RedactSpec, TokenBudget } from "../core/verdict.ts";
import { decide, hides, isAbout, isHidden, matchesSender, mayDecideUnread } from "./decide.ts";
import type { Policy, PolicyCase, Rule, Subject } from "./policy.ts";
import { undecodableTraits } from "./words.ts";

const shownLengthMax = 120;

export interface RuleTrace {
  readonly rule: string;
  readonly matched: boolean;
  /** One sentence, without a full stop. */
  readonly why: string;
}

export interface Explanation {
  readonly decision: Decision;
  readonly trace: readonly RuleTrace[];
}

export function trace(policy: Policy, asked: PolicyCase): Explanation {
  const decision = decide(policy, asked);
  let decided = false;
  const lines: RuleTrace[] = policy.rules.map((rule) => {
    const missed = whyNot(rule, asked);
    if (missed !== null) {
      const masksAnyway = rule.mode !== "open" && hides(rule) && isAbout(rule, asked.operation.kind);
      const hidden = masksAnyway && isHidden(asked.operation.traits) && matchesSender(rule, asked);
      const why = hidden ? `${missed}; its masks are added, as the text does not show all it reads` : missed;
      return { rule: rule.name, matched: false, why };
    }
    const effects = effectsOf(policy, rule, asked, decided);
    if (rule.verdict !== null && rule.mode === "enforce" && effects.decides) decided = true;
    return { rule: rule.name, matched: true, why: effects.text };
  });
  return { decision, trace: lines };
}

export function explain(policy: Policy, asked: PolicyCase): string {
  const { decision, trace: lines } = trace(policy, asked);
  const { verdict } = decision;
  const { operation } = asked;
  let text = `target    ${asked.target.name} (${asked.target.protocol})\n`;
  if (operation.kind === "request") {
    text += requestText(operation);
    text += `operation request: verbs ${list(operation.verbs)}; ${sizeText(operation.bytes)}; ${operation.writes ? "writes" : "reads"}\n`;
  } else
    text += `operation ${operation.kind}: verbs ${list(operation.verbs)}; relations ${list(operation.relations)}; functions ${list(operation.functions)}; ${operation.writes ? "writes" : "reads"}\n`;
  text += `traits    ${list(operation.traits)}\n`;
  if (policy.broken !== null) text += "the policy is broken: no rule is asked\n";
  else if (lines.length === 0) text += "there are no rules\n";
  for (const line of lines) text += `${line.matched ? "  match   " : "  no      "}${line.rule}: ${line.why}\n`;
  text += `verdict   ${verdict.action} by ${verdict.rule}: ${verdict.reason}\n`;
  if (verdict.wouldBe !== null)
    text += `          mode ${verdict.mode}: it would be ${verdict.wouldBe} if the rule were enforced\n`;
  else if (verdict.mode !== "enforce") text += `          mode ${verdict.mode}\n`;
  for (const mask of verdict.transforms.masks) text += `mask      ${maskText(mask)} (rule ${mask.rule})\n`;
  for (const limit of verdict.transforms.limits)
    text += `limit     ${limit.rows} rows, then ${limit.then} (rule ${limit.rule}): ${limit.reason}\n`;
  for (const redaction of verdict.transforms.redactions ?? [])
    text += `redact    ${redactionText(redaction)} (rule ${redaction.rule})\n`;
  for (const budget of verdict.transforms.budgets ?? [])
    text += `budget    ${budgetText(budget)} (rule ${budget.rule}): ${budget.reason}\n`;
  if (verdict.action === "hold") {
    text += `approval  by ${verdict.approvers.length === 0 ? "any approver" : verdict.approvers.join(", ")} within ${verdict.holdTimeoutMs / 1000} s, else ${verdict.onTimeout}\n`;
  }
  return `${text}record    ${verdict.record}\n`;
}

export function maskText(mask: MaskSpec): string {
  if (mask.column !== null) {
    const copied = mask.copied === undefined ? "" : `, copied ${mask.copied}`;
    return `column ${mask.column} with ${mask.with}, derived ${mask.derived}${copied}`;
  }
  if (mask.json !== undefined) return `json ${mask.json} with ${mask.with}`;
  return `${[...(mask.detectors ?? []), ...(mask.custom ?? [])].join(", ")} with ${mask.with}`;
}

export function redactionText({ detectors, custom, with: style }: RedactSpec): string {
  return `${[...detectors, ...custom].join(", ")} with ${style}`;
}

export function budgetText({ tokens, per, by, then }: TokenBudget): string {
  return `${tokens} tokens a ${per}${by.length === 0 ? "" : ` by ${by.join(", ")}`}, then ${then}`;
}

/** One line of what a request is. */
function requestText({ http, llm, mcp, grpc }: Operation): string {
  let text = "";
  if (http !== undefined) {
    const type = http.contentType === "" ? "" : ` (${http.contentType})`;
    text += `http      ${http.method} ${http.scheme}://${http.host}${http.path}${http.query === "" ? "" : `?${http.query}`}${type}\n`;
  }
  if (llm !== undefined)
    text += `llm       ${llm.provider} ${llm.api}, model ${llm.model || "not known"}, ${llm.tokens} tokens, tools ${list(llm.tools)}${llm.stream ? ", as a stream" : ""}\n`;
  if (mcp !== undefined) {
    const given = mcp.arguments === null ? "" : ` ${JSON.stringify(mcp.arguments).slice(0, shownLengthMax)}`;
    text += `mcp       ${mcp.method}${mcp.name === "" ? "" : ` ${mcp.name}`}${given}\n`;
  }
  if (grpc !== undefined) text += `grpc      ${grpc.service}/${grpc.method}\n`;
  return text;
}

function whyNot(rule: Rule, asked: PolicyCase): string | null {
  if (rule.mode === "open") return "it is switched off (mode open)";
  if (!isAbout(rule, asked.operation.kind)) return `it is not about ${asked.operation.kind} (it does not name kind)`;
  for (const check of rule.checks) {
    if (!check.test(asked)) return `${check.key} is ${shown(check.subject(asked))}, it wants ${check.wanted}`;
  }
  if (rule.when === null) return null;
  const value = rule.when.evaluate(asked);
  return value === false ? `when is false: ${rule.when.text.slice(0, shownLengthMax)}` : null;
}

function effectsOf(
  policy: Policy,
  rule: Rule,
  asked: PolicyCase,
  decided: boolean,
): { text: string; decides: boolean } {
  const parts: string[] = [];
  const value = rule.when === null ? true : rule.when.evaluate(asked);
  const failed = typeof value === "object" ? `; its when cannot be evaluated: ${value.error}` : "";
  const unread = asked.operation.traits.find((trait) => undecodableTraits.includes(trait));
  let decides = false;
  if (rule.verdict !== null) {
    if (rule.verdict === "allow" && failed !== "") parts.push("its allow does not count");
    else if (unread !== undefined && !mayDecideUnread(policy, rule, unread))
      parts.push(`its ${rule.verdict} does not count, as it does not name the trait ${unread}`);
    else if (asked.operation.kind === "replication" && rule.verdict === "allow" && !rule.namesKind)
      parts.push("its allow does not count, as it does not name the kind replication");
    else if (rule.mode === "report") parts.push(`would ${rule.verdict} (mode report)`);
    else {
      decides = true;
      parts.push(decided ? `${rule.verdict}, but an earlier rule has decided` : `${rule.verdict}: it decides`);
    }
  }
  if (rule.masks.length > 0) parts.push(`adds ${rule.masks.length} mask${rule.masks.length === 1 ? "" : "s"}`);
  if (rule.redactions.length > 0)
    parts.push(`adds ${rule.redactions.length} redaction${rule.redactions.length === 1 ? "" : "s"}`);
  if (rule.budget !== null) parts.push(`adds a budget of ${rule.budget.tokens} tokens`);
  if (rule.limit !== null) parts.push(`adds a limit of ${rule.limit.rows} rows`);
  if (rule.record !== null) parts.push(`records the ${rule.record}`);
  return { text: parts.join(", ") + failed, decides };
}

function shown(subject: Subject): string {
  if (subject === null || subject === "") return "not known";
  if (typeof subject === "object") return list(subject);
  return String(subject).slice(0, shownLengthMax);
}

function sizeText(bytes: number): string {
  return bytes === Number.MAX_SAFE_INTEGER ? "of unknown length" : `${bytes} bytes`;
}

function list(words: readonly string[]): string {
  return words.length === 0 ? "none" : words.join(", ").slice(0, shownLengthMax * 4);
}
