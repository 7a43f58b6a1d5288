/**
 * `*.cases.yaml`: what a policy has to say to which question. The text of a statement is described by the protocol, so
 * whoever runs cases brings a `describe`; a case may also give the operation's words itself. A request is given by its
 * facts. What detectors find in a text is found by whoever runs cases, or told in `finds`.
 */
import type { Flow } from "../core/flow.ts";
import type { Operation, ProtocolName } from "../core/operation.ts";
import type { Target } from "../core/target.ts";
import type { Verdict } from "../core/verdict.ts";
import { type AskedRequest, requestCaseKeys, requestOf } from "./case-facts.ts";
import { decide } from "./decide.ts";
import { budgetText, maskText, redactionText } from "./explain.ts";
import type { Policy, PolicyCase, PolicyProblem } from "./policy.ts";
import { readSource } from "./source.ts";
import { familyOf } from "./words.ts";

/** The words of a text: what a protocol's describe step finds. */
export type Described = Partial<
  Pick<Operation, "verbs" | "relations" | "columns" | "functions" | "writes" | "traits" | "bytes">
>;
export type Describe = (target: Target, text: string) => Described;

export interface Asking extends AskedRequest {
  readonly target?: string;
  readonly kind?: Operation["kind"];
  readonly user?: string;
  readonly database?: string;
  readonly sql?: string;
  readonly parameters?: readonly (string | null)[];
  readonly operation?: Described;
  /** Detectors that find something in the text. */
  readonly finds?: readonly string[];
  readonly groups?: readonly string[];
  readonly identity?: string;
  readonly process?: string;
  readonly uid?: number;
  readonly cgroup?: string;
  readonly job?: { readonly repository?: string; readonly workflow?: string; readonly id?: string };
}

interface Expected {
  action: Verdict["action"];
  rule?: string;
  reason?: string;
  masks?: string[];
  redactions?: string[];
  limits?: number[];
  budgets?: string[];
  mode?: Verdict["mode"];
  wouldBe?: Verdict["wouldBe"];
  record?: Verdict["record"];
  approvers?: string[];
}

export interface PolicyTestCase extends Asking {
  readonly name: string;
  readonly expect: Expected;
}

const askingKeys = ["target", "kind", "user", "database", "sql", "parameters", "operation", "groups", "identity"];
const requestKeys = Object.keys(requestCaseKeys) as (keyof AskedRequest)[];
const caseKeys = [...askingKeys, ...requestKeys, "finds", "process", "uid", "cgroup", "job", "name", "expect"];
const expectKeys = [
  ...["action", "rule", "reason", "masks", "redactions", "limits", "budgets", "mode", "wouldBe", "record", "approvers"],
];

/** The cases of a file: `cases: [ … ]`. */
export function readCases(file: string, text: string): { cases: PolicyTestCase[] } | { errors: PolicyProblem[] } {
  const source = readSource(file, text);
  if ("errors" in source) return source;
  const root = source.value as { cases?: unknown } | null;
  const list = root?.cases;
  if (!Array.isArray(list) || Object.keys(root as object).length !== 1) {
    return { errors: [source.problem([], "A file of cases has the one key `cases`, with a list.")] };
  }
  const errors: PolicyProblem[] = [];
  const unknown = (value: object, known: readonly string[], path: (string | number)[]): void => {
    for (const key of Object.keys(value)) {
      if (!known.includes(key))
        errors.push(source.problem([...path, key], `Unknown key \`${key}\`; there are ${known.join(", ")}.`, "key"));
    }
  };
  for (const [i, item] of (list as Partial<PolicyTestCase>[]).entries()) {
    const path = ["cases", i];
    if (
      item === null ||
      typeof item !== "object" ||
      typeof item.name !== "string" ||
      typeof item.expect?.action !== "string"
    ) {
      errors.push(source.problem(path, "A case needs a `name` and `expect: { action: … }`."));
      continue;
    }
    unknown(item, caseKeys, path);
    unknown(item.expect, expectKeys, [...path, "expect"]);
    for (const key of requestKeys) {
      const facts: unknown = item[key];
      if (facts === undefined) continue;
      if (facts === null || typeof facts !== "object") errors.push(source.problem([...path, key], "Expected a map."));
      else unknown(facts, requestCaseKeys[key], [...path, key]);
    }
  }
  return errors.length > 0 ? { errors } : { cases: list as PolicyTestCase[] };
}

const overHttp: readonly ProtocolName[] = ["http", "llm", "mcp", "grpc"];

/** What protocols the question can be about, so that it needs no target's name where one target speaks them. */
function spokenBy(asking: Asking): readonly ProtocolName[] {
  if (asking.mcp !== undefined) return ["mcp"];
  if (asking.llm !== undefined) return ["llm"];
  if (asking.grpc !== undefined) return ["grpc"];
  return asking.http === undefined ? ["postgres"] : overHttp;
}

/**
 * The target that is meant where none is named: the first that speaks it; of a request the first over HTTP, of what is no
 * text at all the first. Never one that could not be asked this.
 */
function meant(policy: Policy, asking: Asking): Target | undefined {
  const speaking = (spoken: readonly ProtocolName[]): Target | undefined =>
    policy.targets.find(({ protocol }) => spoken.includes(familyOf(protocol)));
  const fits = speaking(spokenBy(asking));
  if (fits !== undefined || asking.sql !== undefined) return fits;
  const { http, llm, mcp, grpc } = asking;
  return [http, llm, mcp, grpc].some((facts) => facts !== undefined) ? speaking(overHttp) : policy.targets[0];
}

/** The question a case asks; a sentence when it cannot be asked. */
export function askingOf(
  policy: Policy,
  asking: Asking,
  describe: Describe,
  finds?: PolicyCase["finds"],
): PolicyCase | { readonly error: string } {
  const names = policy.targets.map((target) => target.name);
  const target =
    asking.target === undefined ? meant(policy, asking) : policy.targets.find(({ name }) => name === asking.target);
  if (target === undefined) {
    return {
      error:
        asking.target === undefined
          ? `No target of the policy speaks ${spokenBy(asking).join(" or ")}.`
          : `No target is named "${asking.target}"; there are ${names.join(", ")}.`,
    };
  }
  const request = requestOf(asking, target);
  const text = asking.sql ?? "";
  const operation: Operation = {
    protocol: familyOf(target.protocol),
    kind: asking.kind ?? (request === null ? "statement" : "request"),
    text,
    user: asking.user ?? "app",
    database: asking.database ?? "app",
    verbs: [],
    relations: [],
    columns: [],
    functions: [],
    writes: false,
    traits: [],
    bytes: Buffer.byteLength(text),
    parameters: asking.parameters ?? [],
    ...request,
    ...(asking.sql === undefined ? {} : describe(target, text)),
    ...asking.operation,
  };
  const told = asking.finds;
  const found = told === undefined ? finds : (detector: string) => told.includes(detector);
  return { flow: flowOf(asking, target), target, operation, ...(found === undefined ? {} : { finds: found }) };
}

/** What is not as expected, one sentence each; empty when the case holds. */
export function runCase(
  policy: Policy,
  test: PolicyTestCase,
  describe: Describe,
  finds?: PolicyCase["finds"],
): string[] {
  const asked = askingOf(policy, test, describe, finds);
  if ("error" in asked) return [asked.error];
  const { verdict } = decide(policy, asked);
  const got: Required<Expected> = {
    action: verdict.action,
    rule: verdict.rule,
    reason: verdict.reason,
    masks: verdict.transforms.masks.map(maskText),
    redactions: (verdict.transforms.redactions ?? []).map(redactionText),
    limits: verdict.transforms.limits.map((limit) => limit.rows),
    budgets: (verdict.transforms.budgets ?? []).map(budgetText),
    mode: verdict.mode,
    wouldBe: verdict.wouldBe,
    record: verdict.record,
    approvers: [...verdict.approvers],
  };
  const wrong: string[] = [];
  for (const [key, wanted] of Object.entries(test.expect)) {
    const actual = got[key as keyof Expected];
    if (JSON.stringify(actual) !== JSON.stringify(wanted))
      wrong.push(`${key} is ${JSON.stringify(actual)}, expected ${JSON.stringify(wanted)}`);
  }
  return wrong;
}

function flowOf(asking: Asking, target: Target): Flow {
  const host = target.hosts[0];
  const { job } = asking;
  const client = familyOf(target.protocol) === "postgres" ? "psql" : "client";
  return {
    id: "case",
    destination: { address: host?.kind === "cidr" ? host.address : "192.0.2.1", port: target.ports[0] ?? 0 },
    source: { address: "192.0.2.2", port: 40_000 },
    hostname: host?.kind === "name" ? host.name : null,
    process: {
      pid: 4_711,
      ppid: 1,
      uid: asking.uid ?? 1_000,
      gid: 1_000,
      comm: "case",
      exe: exeOf(asking.process ?? client),
      commandLine: [asking.process ?? client],
      startTicks: 1,
      cgroup: asking.cgroup ?? "/weir/case",
      ...(job === undefined ? {} : { job: { system: "other" as const, id: job.id ?? "1", ...job } }),
    },
    identity:
      asking.groups === undefined && asking.identity === undefined
        ? null
        : { subject: asking.identity ?? "case", issuer: "case", groups: asking.groups ?? [] },
    openedAtMs: 0,
    via: "bpf",
  };
}

function exeOf(process: string): string {
  return process.includes("/") ? process : `/usr/bin/${process}`;
}
