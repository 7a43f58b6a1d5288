/** Held operations get into the approval queue: what an approver reads of them, and what exactly is approved. */
import { createHash } from "node:crypto";
import { hostname } from "node:os";
import type { ApprovalStore, ApprovalSummary } from "../../controller/main.ts";
import type { Held, HoldOutcome, HoldRequest } from "../act/ports.ts";
import type { Operation } from "../core/operation.ts";

const summaryCharactersMax = 4_000;
/** An operation that carries more has parts that its text does not show: it cannot be granted ahead. */
const grantedBytesMax = 48 * 1024;
const highlightsMax = 32;

/** The queue as the agent's `hold`. A full queue refuses at once. */
export function holdIn(approvals: ApprovalStore) {
  return (request: HoldRequest, decided: (outcome: HoldOutcome) => void): Held => {
    const { verdict } = request;
    const held = approvals.hold(
      summaryOf(request),
      { timeoutMs: verdict.holdTimeoutMs, onTimeout: verdict.onTimeout },
      decided,
    );
    if (held !== null) return held;
    setImmediate(() => decided({ decision: "denied", by: "weir", reason: "Too many operations wait for approval." }));
    return { id: "refused", withdraw: () => {} };
  };
}

export function summaryOf(request: HoldRequest): ApprovalSummary {
  const { flow, operation, verdict, limit, target } = request;
  const { process, identity } = flow;
  return {
    user: operation.user,
    database: operation.database,
    target: target.name,
    process: process === null ? "unknown" : `${process.comm}[${process.pid}]`,
    cgroup: process?.cgroup ?? "",
    text: textOf(operation),
    rule: limit?.rule ?? verdict.rule,
    reason: limit?.reason ?? verdict.reason,
    session: flow.id,
    protocol: operation.protocol,
    host: hostname(),
    job: process?.job === undefined ? null : `${process.job.system}:${process.job.id}`,
    identity: identity === null ? null : { subject: identity.subject, issuer: identity.issuer },
    approvers: verdict.approvers,
    risks: risksOf(request),
    highlights: highlightsOf(operation),
    language: languageOf(operation),
    digest: digestOf(request),
  };
}

function textOf({ text, parameters }: Operation): string {
  const bound = parameters.map((value, at) => `$${at + 1} = ${value === null ? "NULL" : JSON.stringify(value)}`);
  return [text, ...bound].join("\n").slice(0, summaryCharactersMax);
}

function languageOf({ protocol, traits }: Operation): ApprovalSummary["language"] {
  if (turned.some((trait) => traits.includes(trait))) return "diff";
  if (protocol === "postgres") return "sql";
  return protocol === "mcp" || protocol === "grpc" ? "json" : "text";
}

/** An MCP server is another than it was: its text ends with the difference. */
const turned = ["tool-changed", "instructions-changed"];

const sentences: Readonly<Record<string, string>> = {
  "no-where": "It changes every row: there is no WHERE that narrows it.",
  "no-limit": "It reads without a limit.",
  "multi-statement": "It is more than one statement.",
  "dynamic-sql": "It runs a text that only the server sees.",
  "do-block": "It runs a block of code.",
  "unknown-function": "It calls functions whose effect is not known.",
  "tool-changed": "The tool is not the one that was seen first: the difference is below.",
  "instructions-changed": "What the server tells the model is not what was seen first: the difference is below.",
  plaintext: "It leaves in plain text.",
};

/** What the text says about itself, dangerous things first. */
function risksOf({ operation, limit }: HoldRequest): string[] {
  const { traits, writes, verbs, llm, bytes } = operation;
  const risks = traits.map((trait) => sentences[trait] ?? `Its trait: ${trait}.`);
  if (operation.anomaly !== undefined) risks.push(...operation.anomaly.reasons.map((reason) => `Unusual: ${reason}`));
  if (limit !== null) risks.push(`More than ${limit.rows} rows came: the rest waits.`);
  if (writes && operation.protocol === "postgres") risks.push(`It writes: ${verbs.join(", ")}.`);
  if (llm !== undefined) risks.push(`About ${llm.tokens} tokens go to ${llm.model || "a model without a name"}.`);
  if (bytes > 1_000_000 && bytes < Number.MAX_SAFE_INTEGER)
    risks.push(`It sends ${(bytes / 1_000_000).toFixed(1)} MB.`);
  return risks;
}

function highlightsOf({ protocol, verbs, relations, functions, mcp }: Operation): string[] {
  const words =
    protocol === "postgres" ? [...verbs.filter((verb) => verb !== "select"), ...relations, ...functions] : [];
  if (mcp !== undefined && mcp.name !== "") words.push(mcp.name);
  return [...new Set(words)].slice(0, highlightsMax);
}

/** Who, where, by which rule of which policy, and every byte. */
function digestOf({ flow, target, operation, verdict, limit, digest }: HoldRequest): string | null {
  const whole =
    operation.bytes <= grantedBytesMax && operation.parameters.every((value) => (value?.length ?? 0) < 1000);
  if (limit !== null || (digest === null && !whole) || turned.some((trait) => operation.traits.includes(trait)))
    return null;
  const { process, identity } = flow;
  const who = [identity?.issuer, identity?.subject, process?.uid, process?.exe];
  const what = [operation.protocol, operation.user, operation.database, operation.text, operation.parameters, digest];
  return createHash("sha256")
    .update(JSON.stringify([who, target.name, flow.destination, verdict.rule, verdict.policy, what]))
    .digest("hex");
}
