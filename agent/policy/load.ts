/**
 * Policy files to one policy:
 *   1. each file: YAML with positions, then the schema (unknown keys are errors), see source.ts and shape.ts
 *   2. merge: targets and rules in the order given; two of a name, or two different settings, are errors
 *   3. compile: hosts, globs, CEL, masks
 *   4. digest of the canonical form
 * Either everything is right, or there is no policy: half a policy lets through what the other half forbids.
 */
import { createHash } from "node:crypto";
import type { IdentitySettings } from "../core/identity.ts";
import { compileRule, compileTarget, holdTimeout, type RawRule, type RawTarget } from "./compile.ts";
import { compileDetector, type RawDetector } from "./detectors.ts";
import { compileIssuer, compileMapping, issuerName, type RawIssuer, type RawMapping } from "./identity.ts";
import { type Mode, type Policy, type PolicyDefaults, PolicyProblem, type Rule, standardDefaults } from "./policy.ts";
import { checkShape } from "./shape.ts";
import { problemsMax, readSource, type Source } from "./source.ts";

/** Targets of all files together: the kernel's map has room for their addresses. */
const targetsMax = 1_000;
const rulesMax = 1_000;
const detectorsMax = 256;

export interface PolicyText {
  readonly file: string;
  readonly text: string;
}

interface Raw {
  mode?: Mode;
  defaults?: {
    egress?: string;
    operation?: string;
    undecodable?: string;
    approval?: { timeout?: string; onTimeout?: string };
  };
  record?: { durability?: "process" | "host" };
  detectors?: Record<string, RawDetector>;
  identity?: { issuers?: RawIssuer[]; mappings?: RawMapping[] };
  targets?: Record<string, RawTarget>;
  rules?: RawRule[];
}

export function loadPolicy(texts: readonly PolicyText[]): { policy: Policy } | { errors: PolicyProblem[] } {
  const sources: Source[] = [];
  const problems: PolicyProblem[] = [];
  for (const { file, text } of texts) {
    const source = readSource(file, text);
    if ("errors" in source) {
      problems.push(...source.errors);
      continue;
    }
    const wrong = checkShape(source);
    problems.push(...wrong);
    if (wrong.length === 0) sources.push(source);
  }
  if (texts.length === 0) problems.push(new PolicyProblem("policy", 1, 1, "No policy file was given."));
  if (problems.length > 0) return { errors: problems.slice(0, problemsMax) };
  const policy = merge(sources, problems);
  return problems.length > 0 ? { errors: problems.slice(0, problemsMax) } : { policy };
}

function merge(sources: readonly Source[], problems: PolicyProblem[]): Policy {
  const mode = one<Mode>(sources, ["mode"], problems) ?? "enforce";
  const defaults = mergeDefaults(sources, problems);
  const durability = one<"process" | "host">(sources, ["record", "durability"], problems) ?? "process";
  const raw = sources.map((source) => ({ source, value: source.value as Raw }));
  const targetEntries = raw.flatMap(({ source, value }) =>
    Object.entries(value.targets ?? {}).map(([name, target]) => ({ source, name, target, path: ["targets", name] })),
  );
  const detectorEntries = raw.flatMap(({ source, value }) =>
    Object.entries(value.detectors ?? {}).map(([name, detector]) => ({
      source,
      name,
      detector,
      path: ["detectors", name],
    })),
  );
  const ruleEntries = raw.flatMap(({ source, value }) =>
    (value.rules ?? []).map((rule, i) => ({ source, name: rule.name, rule, path: ["rules", i, "name"] })),
  );
  refuseClashes("target", targetEntries, problems);
  refuseClashes("detector", detectorEntries, problems);
  refuseClashes("rule", ruleEntries, problems);
  if (targetEntries.length > targetsMax)
    problems.push(targetEntries[targetsMax]!.source.problem([], `There are more than ${targetsMax} targets.`));
  if (ruleEntries.length > rulesMax)
    problems.push(ruleEntries[rulesMax]!.source.problem([], `There are more than ${rulesMax} rules.`));
  if (detectorEntries.length > detectorsMax)
    problems.push(detectorEntries[detectorsMax]!.source.problem([], `There are more than ${detectorsMax} detectors.`));
  const detectors = detectorEntries
    .map(({ source, name, detector, path }) => compileDetector(name, detector, { source, path, problems }))
    .filter((detector) => detector !== null);
  const detectorNames = detectorEntries.map(({ name }) => name);
  const targets = targetEntries.map(({ source, name, target, path }) =>
    compileTarget(name, target, { source, path, problems }),
  );
  const names = targets.map((target) => target.name);
  const rules: Rule[] = [];
  let cacheable = true;
  for (const { source, rule, path } of ruleEntries) {
    const compiled = compileRule(rule, mode, defaults, names, detectorNames, {
      source,
      path: path.slice(0, 2),
      problems,
    });
    rules.push(compiled.rule);
    if (compiled.variable) cacheable = false;
  }
  const identity = mergeIdentity(raw, problems);
  const digest = digestOf({
    ...{ mode, defaults, durability, targets },
    // Left out when there are none, so that a policy keeps the digest it had before there were detectors.
    ...(detectors.length === 0 ? {} : { detectors: detectors.map(({ place: _, ...detector }) => detector) }),
    ...(identity.raw.length === 0 ? {} : { identity: identity.raw }),
    rules: ruleEntries.map(({ rule }) => rule),
  });
  return Object.freeze({
    mode,
    defaults,
    record: { durability },
    targets,
    rules,
    detectors,
    identity: identity.settings,
    digest,
    broken: null,
    cacheable,
    decisions: new Map(),
  });
}

function mergeIdentity(
  raw: readonly { readonly source: Source; readonly value: Raw }[],
  problems: PolicyProblem[],
): { settings: IdentitySettings; raw: readonly unknown[] } {
  const issuers = raw.flatMap(({ source, value }) =>
    (value.identity?.issuers ?? []).map((issuer, i) => ({ source, issuer, path: ["identity", "issuers", i] })),
  );
  const mappings = raw.flatMap(({ source, value }) =>
    (value.identity?.mappings ?? []).map((mapping, i) => ({ source, mapping, path: ["identity", "mappings", i] })),
  );
  const named = issuers.map(({ source, issuer, path }) => ({
    source,
    name: issuerName(issuer),
    path: issuer.issuer === undefined ? path : [...path, "issuer"],
  }));
  refuseClashes("issuer", named, problems);
  return {
    settings: Object.freeze({
      issuers: issuers.map(({ source, issuer, path }) => compileIssuer(issuer, { source, path, problems })),
      mappings: mappings.map(({ source, mapping, path }) => compileMapping(mapping, { source, path, problems })),
    }),
    raw: [...issuers.map(({ issuer }) => issuer), ...mappings.map(({ mapping }) => mapping)],
  };
}

function mergeDefaults(sources: readonly Source[], problems: PolicyProblem[]): PolicyDefaults {
  const pick = <T>(...path: string[]): T | undefined => one<T>(sources, ["defaults", ...path], problems);
  const timeout = pick<string>("approval", "timeout");
  const whose = sources.find((source) => at(source.value, ["defaults", "approval", "timeout"]) !== undefined);
  return Object.freeze({
    egress: pick<"deny">("egress") ?? standardDefaults.egress,
    operation: pick<"deny">("operation") ?? standardDefaults.operation,
    undecodable: pick<"deny">("undecodable") ?? standardDefaults.undecodable,
    approval: Object.freeze({
      timeoutMs:
        timeout === undefined
          ? standardDefaults.approval.timeoutMs
          : holdTimeout(timeout, (message) => {
              problems.push(
                whose!.problem(["defaults", "approval", "timeout"], `defaults.approval.timeout: ${message}`),
              );
            }),
      onTimeout: pick<"deny">("approval", "onTimeout") ?? standardDefaults.approval.onTimeout,
    }),
  });
}

/** A setting of the whole policy: two files may say the same, not two things. */
function one<T>(sources: readonly Source[], path: readonly string[], problems: PolicyProblem[]): T | undefined {
  let found: { value: T; source: Source } | undefined;
  for (const source of sources) {
    const value = at(source.value, path) as T | undefined;
    if (value === undefined) continue;
    if (found !== undefined && found.value !== value) {
      problems.push(
        source.problem(
          path,
          `${path.join(".")} is ${String(value)} here and ${String(found.value)} in ${found.source.file}.`,
        ),
      );
    }
    found ??= { value, source };
  }
  return found?.value;
}

function at(value: unknown, path: readonly string[]): unknown {
  let here = value;
  for (const step of path) {
    if (here === null || typeof here !== "object" || !Object.hasOwn(here, step)) return undefined;
    here = (here as Record<string, unknown>)[step];
  }
  return here;
}

function refuseClashes(
  what: string,
  entries: readonly { source: Source; name: string; path: readonly (string | number)[] }[],
  problems: PolicyProblem[],
): void {
  const first = new Map<string, { source: Source; path: readonly (string | number)[] }>();
  for (const { source, name, path } of entries) {
    const earlier = first.get(name);
    if (earlier === undefined) first.set(name, { source, path });
    else {
      const { file, line } = earlier.source.problem(earlier.path, "", "key");
      problems.push(source.problem(path, `There is a ${what} named ${name} already, in ${file}:${line}.`, "key"));
    }
  }
}

function digestOf(value: unknown): string {
  return createHash("sha256").update(canonical(value)).digest("hex");
}

/** JSON with sorted keys. */
function canonical(value: unknown): string {
  if (Array.isArray(value)) return `[${value.map(canonical).join(",")}]`;
  if (value === null || typeof value !== "object") return JSON.stringify(value) ?? "null";
  const entries = Object.entries(value).filter(([, v]) => v !== undefined);
  return `{${entries
    .sort(([a], [b]) => (a < b ? -1 : 1))
    .map(([k, v]) => `${JSON.stringify(k)}:${canonical(v)}`)
    .join(",")}}`;
}
