/** Targets and rules as the file has them (their shape already checked) to their compiled form. */
import { unbracketed } from "../core/address.ts";
import { speaksHttp } from "../core/operation.ts";
import type { GrpcDescriptors, Target } from "../core/target.ts";
import type { Action } from "../core/verdict.ts";
import { compileCondition } from "./cel.ts";
import { compileCredential, type RawCredential } from "./credential.ts";
import { compileGlob } from "./glob.ts";
import { compileCheck } from "./match.ts";
import { readWanted, type Wanted } from "./match-request.ts";
import type { Check, Mode, PolicyDefaults, PolicyProblem, Rule } from "./policy.ts";
import { nameOf } from "./shape.ts";
import type { Path, Source } from "./source.ts";
import { parseHost } from "./targets.ts";
import {
  compileLimit,
  compileMask,
  compileRedaction,
  type RawLimit,
  type RawMask,
  type RawRedaction,
} from "./transforms.ts";
import { defaultPorts } from "./words.ts";

export interface RawTarget {
  protocol: Target["protocol"];
  hosts: string | string[];
  ports?: number | number[];
  tls?: {
    verify?: Target["tls"]["verify"];
    ca?: string;
    cert?: string;
    key?: string;
    serverName?: string;
    pinned?: "deny" | "splice";
  };
  proxy?: string;
  credential?: RawCredential;
  grpc?: { descriptors?: string; reflection?: true };
}

export interface RawRule {
  name: string;
  mode?: Mode;
  match?: Record<string, Wanted>;
  verdict?: Action;
  reason?: string;
  mask?: RawMask[];
  redact?: RawRedaction[];
  limit?: RawLimit;
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
  const given = raw.ports === undefined ? defaultPorts[raw.protocol] : [...new Set([raw.ports].flat())];
  // Port 80 is plain text: a credential goes there only when the policy names it.
  const ports = raw.ports === undefined && raw.credential !== undefined ? given.filter((port) => port !== 80) : given;
  if (ports.length === 0) complain([], `a target of the protocol ${raw.protocol} has to name its \`ports\`.`);
  const { credential, httpCredential } =
    raw.credential === undefined
      ? { credential: null, httpCredential: null }
      : compileCredential(raw.credential, raw.protocol, (path, message) => complain(["credential", ...path], message));
  if (httpCredential !== null && hosts.some(({ kind }) => kind === "any"))
    complain(["hosts"], "a credential goes to hosts that are named, not to any.");
  const { verify = "full", ca = null, cert, key, serverName = null, pinned } = raw.tls ?? {};
  if ((cert === undefined) !== (key === undefined)) complain(["tls"], "`cert` and `key` go together.");
  const clientCertificate = cert === undefined || key === undefined ? null : { cert, key };
  const tls = { verify, ca, clientCertificate, serverName, ...(pinned === undefined ? {} : { pinned }) };
  const target = { name, protocol: raw.protocol, hosts, ports, tls, ...proxyOf(raw.proxy), credential };
  if (raw.grpc !== undefined && raw.protocol !== "grpc")
    complain(["grpc"], "`grpc` is for targets of the protocol grpc.");
  const described = raw.grpc === undefined ? {} : { grpc: compileGrpc(raw.grpc) };
  return speaksHttp(raw.protocol) ? { ...target, httpCredential, ...described } : target;
}

function compileGrpc({ descriptors }: NonNullable<RawTarget["grpc"]>): GrpcDescriptors {
  return descriptors === undefined ? { from: "reflection" } : { from: "file", path: descriptors };
}

function proxyOf(text: string | undefined): Pick<Target, "proxy"> {
  if (text === undefined) return {};
  const colon = text.lastIndexOf(":");
  return { proxy: { host: unbracketed(text.slice(0, colon)), port: Number(text.slice(colon + 1)) } };
}

export function compileRule(
  raw: RawRule,
  policyMode: Mode,
  defaults: PolicyDefaults,
  targets: readonly string[],
  detectors: readonly string[],
  place: Place,
): { rule: Rule; variable: boolean } {
  const complain = complainer(place);
  const match = raw.match ?? {};
  const effects = [raw.verdict, raw.mask, raw.redact, raw.limit, raw.record];
  if (effects.every((effect) => effect === undefined))
    complain([], `the rule ${raw.name} does nothing; it needs a verdict, mask, redact, limit or record.`);
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
      const names = key === "detector" ? detectors : [];
      checks.push(
        compileCheck(key, wanted, restrictive, names, (path, message) => complain(["match", key, ...path], message)),
      );
      variable ||= key === "bytes" || key === "detector";
    }
  }
  // What costs least and fails most goes first.
  checks.sort((a, b) => a.cost - b.cost);
  if (raw.approvers !== undefined && raw.verdict !== "hold" && raw.limit?.then !== "hold")
    complain(["approvers"], "approvers are for a rule that holds.");
  const { limit, budget } =
    raw.limit === undefined
      ? { limit: null, budget: null }
      : compileLimit(raw.name, raw.limit, (message) => complain(["limit"], message));
  const rule: Rule = {
    name: raw.name,
    mode: raw.mode ?? policyMode,
    checks,
    when,
    verdict: raw.verdict ?? null,
    reason: raw.reason ?? standardReason(raw),
    masks: (raw.mask ?? []).map((mask, i) =>
      compileMask(raw.name, mask, detectors, (message, path = []) => complain(["mask", i, ...path], message)),
    ),
    redactions: (raw.redact ?? []).map((redaction, i) =>
      compileRedaction(raw.name, redaction, detectors, (message, path = []) =>
        complain(["redact", i, ...path], message),
      ),
    ),
    limit,
    budget,
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
