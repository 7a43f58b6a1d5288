/** Targets and rules as the file has them (their shape already checked) to their compiled form. */
import type { SecretSource, Target } from "../core/target.ts";
import type { Action, DerivedAction, DetectorName, MaskSpec, MaskStyle, RowLimit } from "../core/verdict.ts";
import { compileCondition } from "./cel.ts";
import { compileGlob } from "./glob.ts";
import { compileCheck, readWanted, type Wanted } from "./match.ts";
import type { Check, Mode, PolicyDefaults, PolicyProblem, Rule } from "./policy.ts";
import { nameOf } from "./shape.ts";
import type { Path, Source } from "./source.ts";
import { parseHost } from "./targets.ts";
import { detectorNames } from "./words.ts";

export interface RawTarget {
  protocol: Target["protocol"];
  hosts: string | string[];
  ports?: number | number[];
  tls?: { verify?: Target["tls"]["verify"]; ca?: string; cert?: string; key?: string; serverName?: string };
  credential?: { user: string; password?: RawSecret; clientPassword?: RawSecret };
}

interface RawSecret {
  file?: string;
  env?: string;
  exec?: string[];
}

export interface RawRule {
  name: string;
  mode?: Mode;
  match?: Record<string, Wanted>;
  verdict?: Action;
  reason?: string;
  mask?: { column?: string; detector?: string | string[]; with?: MaskStyle | null; derived?: DerivedAction }[];
  limit?: { rows: number; then?: "deny" | "hold"; reason?: string };
  record?: "statement" | "result";
  approvers?: { groups: string[] };
  timeout?: string;
  onTimeout?: "deny" | "allow";
}

export interface Place {
  readonly source: Source;
  readonly path: Path;
  readonly problems: PolicyProblem[];
}

const defaultPorts: Readonly<Record<Target["protocol"], readonly number[]>> = { postgres: [5432], opaque: [] };
/** A hold longer than this is a forgotten one. */
const holdTimeoutMsMax = 7 * 86_400_000;
const holdTimeoutMsMin = 1_000;

export function compileTarget(name: string, raw: RawTarget, place: Place): Target {
  const complain = complainer(place);
  const hosts: Target["hosts"][number][] = [];
  for (const [i, text] of [raw.hosts].flat().entries()) {
    const host = parseHost(text);
    if ("error" in host)
      complain(Array.isArray(raw.hosts) ? ["hosts", i] : ["hosts"], `${host.error}, not "${text.slice(0, 60)}".`);
    else hosts.push(host);
  }
  const ports = raw.ports === undefined ? defaultPorts[raw.protocol] : [...new Set([raw.ports].flat())];
  if (ports.length === 0) complain([], `a target of the protocol ${raw.protocol} has to name its \`ports\`.`);
  if (raw.protocol === "opaque" && raw.credential !== undefined)
    complain(["credential"], "an opaque target is not decoded, so no credential can be used.");
  const { verify = "full", ca = null, cert, key, serverName = null } = raw.tls ?? {};
  if ((cert === undefined) !== (key === undefined)) complain(["tls"], "`cert` and `key` go together.");
  const clientCertificate = cert === undefined || key === undefined ? null : { cert, key };
  const credential =
    raw.credential === undefined
      ? null
      : {
          user: raw.credential.user,
          password: secretOf(raw.credential.password),
          clientPassword: secretOf(raw.credential.clientPassword),
        };
  return { name, protocol: raw.protocol, hosts, ports, tls: { verify, ca, clientCertificate, serverName }, credential };
}

export function compileRule(
  raw: RawRule,
  policyMode: Mode,
  defaults: PolicyDefaults,
  targets: readonly string[],
  place: Place,
): { rule: Rule; variable: boolean } {
  const complain = complainer(place);
  const match = raw.match ?? {};
  if (raw.verdict === undefined && raw.mask === undefined && raw.limit === undefined && raw.record === undefined) {
    complain([], `the rule ${raw.name} does nothing; it needs a verdict, mask, limit or record.`);
  }
  checkTargetNames(match.target, targets, complain);
  const restrictive = raw.verdict !== "allow";
  const checks: Check[] = [];
  let variable = false;
  let when: Rule["when"] = null;
  for (const [key, wanted] of Object.entries(match)) {
    if (key === "when") {
      const condition = compileCondition(wanted as string);
      if ("error" in condition)
        complain(["match", "when"], `${condition.error}, at character ${condition.offset + 1} of the expression.`);
      else {
        when = { text: wanted as string, evaluate: condition.evaluate };
        variable ||= condition.variable;
      }
    } else {
      checks.push(compileCheck(key, wanted, restrictive));
      variable ||= key === "bytes";
    }
  }
  // What costs least and fails most goes first.
  checks.sort((a, b) => Number(a.textual) - Number(b.textual));
  if (raw.approvers !== undefined && raw.verdict !== "hold" && raw.limit?.then !== "hold")
    complain(["approvers"], "approvers are for a rule that holds.");
  const rule: Rule = {
    name: raw.name,
    mode: raw.mode ?? policyMode,
    checks,
    when,
    verdict: raw.verdict ?? null,
    reason: raw.reason ?? standardReason(raw),
    masks: (raw.mask ?? []).map((mask, i) => compileMask(raw.name, mask, (message) => complain(["mask", i], message))),
    limit: raw.limit === undefined ? null : compileLimit(raw.name, raw.limit),
    record: raw.record ?? null,
    approvers: raw.approvers?.groups ?? [],
    timeoutMs:
      raw.timeout === undefined
        ? defaults.approval.timeoutMs
        : holdTimeout(raw.timeout, (message) => complain(["timeout"], message)),
    onTimeout: raw.onTimeout ?? defaults.approval.onTimeout,
    namesKind: match.kind !== undefined,
    textual: when !== null || checks.some((check) => check.textual),
    namesTrait: traitNamer(match.trait),
  };
  return { rule: Object.freeze(rule), variable };
}

/** Milliseconds; complains when it is out of bounds. */
export function holdTimeout(text: string, complain: (message: string) => void): number {
  const [, count, unit] = /^(\d+)(ms|s|m|h|d)$/.exec(text)!;
  const ms = Number(count) * { ms: 1, s: 1_000, m: 60_000, h: 3_600_000, d: 86_400_000 }[unit as "ms"];
  if (ms < holdTimeoutMsMin || ms > holdTimeoutMsMax) complain(`a time-out is from 1s to 7d, not ${text}.`);
  return ms;
}

function complainer(place: Place): (path: Path, message: string) => void {
  return (path, message) => {
    const full = [...place.path, ...path];
    place.problems.push(place.source.problem(full, `${nameOf(full)}: ${message}`));
  };
}

function checkTargetNames(
  wanted: Wanted | undefined,
  targets: readonly string[],
  complain: (path: Path, message: string) => void,
): void {
  if (wanted === undefined) return;
  const { how, patterns } = readWanted(wanted);
  for (const pattern of patterns) {
    const glob = compileGlob(pattern);
    if (targets.some(glob)) continue;
    const there =
      targets.length === 0 ? "there are none" : `there ${targets.length === 1 ? "is" : "are"} ${targets.join(", ")}`;
    complain(
      how === "any" ? ["match", "target"] : ["match", "target", how],
      `no target is named "${pattern}"; ${there}.`,
    );
  }
}

function compileMask(
  rule: string,
  raw: NonNullable<RawRule["mask"]>[number],
  complain: (message: string) => void,
): MaskSpec {
  if ((raw.column === undefined) === (raw.detector === undefined))
    complain("a mask has either a column or a detector.");
  const style = raw.with === undefined ? "redact" : (raw.with ?? "null");
  if (raw.column !== undefined)
    return { rule, column: raw.column, detectors: null, with: style, derived: raw.derived ?? "deny" };
  const names = [raw.detector ?? []].flat();
  const bad = names.filter((name) => name !== "all" && !detectorNames.includes(name as DetectorName));
  if (bad.length > 0) complain(`"${bad[0]!.slice(0, 60)}" is no detector; there are ${detectorNames.join(", ")}, all.`);
  if (raw.derived !== undefined) complain("`derived` is for masks of columns; a detector looks at every value anyway.");
  const detectors = names.includes("all") ? detectorNames : (names as DetectorName[]);
  return { rule, column: null, detectors, with: style, derived: "detect" };
}

function compileLimit(rule: string, raw: NonNullable<RawRule["limit"]>): RowLimit {
  const then = raw.then ?? "deny";
  const standard = `More than ${raw.rows} rows ${then === "hold" ? "need an approval" : "are not let through"}.`;
  return { rule, rows: raw.rows, then, reason: raw.reason ?? standard };
}

function standardReason(raw: RawRule): string {
  if (raw.verdict === "deny") return `The rule ${raw.name} denies this.`;
  if (raw.verdict === "hold") return `The rule ${raw.name} asks for an approval.`;
  return `The rule ${raw.name} allows this.`;
}

function traitNamer(wanted: Wanted | undefined): Rule["namesTrait"] {
  if (wanted === undefined) return null;
  const { how, patterns } = readWanted(wanted);
  return how === "not" ? null : (trait) => patterns.includes(trait);
}

function secretOf(raw: RawSecret | undefined): SecretSource | null {
  if (raw === undefined) return null;
  if (raw.file !== undefined) return { from: "file", path: raw.file };
  if (raw.env !== undefined) return { from: "env", name: raw.env };
  return { from: "exec", command: raw.exec ?? [] };
}
