/**
 * The agent: the ten steps that every byte goes through. Each step is a folder; this file and flows.ts alone join them.
 *
 *   redirect, accept          kernel/ brings a connection to a listener of accept/; `accept` below takes it
 *   sniff, terminate          flows.ts finds the target that is meant, and tls/ ends the TLS
 *   decode, describe          a conversation of wire/ makes operations of the bytes
 *   decide, record, act       act/session.ts asks policy/, writes by record/, and only then sends
 *   publish                   what is written goes on to Kafka by publish/ (commands/kafka-join.ts)
 */
import { join } from "node:path";
import type { Arrival } from "./accept/arrival.ts";
import { connectMsMax, dialUpstream, unreachable } from "./accept/dial.ts";
import { type Listeners, startListeners } from "./accept/listener.ts";
import { openAnomalies } from "./act/anomalies.ts";
import { openBudgets } from "./act/budgets.ts";
import { makeDetectors } from "./act/detectors.ts";
import { createGate } from "./act/gate.ts";
import type { PolicyInForce, PolicyOrigin } from "./act/policy-in-force.ts";
import type { Held, HoldOutcome, HoldRequest } from "./act/ports.ts";
import { openMaskKey } from "./act/secrets.ts";
import type { FlowSession } from "./act/session.ts";
import { openToolPins, type ToolPins } from "./act/tool-pins.ts";
import { type AgentConfig, readPolicyFiles } from "./config.ts";
import type { EntryBody } from "./core/record.ts";
import type { ReadonlyRoster } from "./core/roster.ts";
import { WeirError } from "./errors.ts";
import { joinFlows, redirectedTargets } from "./flows.ts";
import { watchCgroups } from "./identity/cgroups.ts";
import { guardSessions } from "./identity/guard.ts";
import { type Identities, openIdentities } from "./identity/registry.ts";
import { createRevoker, type Revoker } from "./identity/revoke.ts";
import { cgroupRoot } from "./kernel/cgroup.ts";
import { type Interception, startInterception } from "./kernel/interception.ts";
import { tcpOptions } from "./kernel/native.ts";
import { openStartPolicy } from "./policy-source.ts";
import { openRecorder, type Recorder } from "./record/recorder.ts";
import { type Authority, openAuthority } from "./tls/authority.ts";
import { openTlsEngine } from "./tls/engine.ts";
import { openPins } from "./tls/pins.ts";
import { prepareProtocols } from "./wire/registry.ts";

export interface AgentOptions {
  readonly config: AgentConfig;
  /** Shows a held operation to a person and answers once: the controller's queue. */
  hold(request: HoldRequest, decided: (outcome: HoldOutcome) => void): Held;
  log(level: "info" | "warn", message: string): void;
}

export interface Agent {
  readonly recorder: Recorder;
  readonly policy: PolicyInForce;
  readonly interception: Interception;
  readonly authority: Authority;
  readonly sessions: ReadonlyRoster<FlowSession>;
  readonly identities: Identities;
  /** Ends live flows and refuses the next: for the command, the page and whatever else may revoke. */
  readonly revoker: Revoker;
  readonly toolPins: Pick<ToolPins, "changes" | "accept">;
  /** How often somebody changed the firewall, and it was put back. */
  readonly firewallRestored: number;
  /** Why a newer policy is not in force; null: none was refused since this one came. */
  readonly policyProblem: string | null;
  /** A policy was not taken, and why: into the record, and onto the page. */
  policyRejected(problems: string): void;
  /** Into the agent's own record. */
  note(body: EntryBody): void;
  close(): Promise<void>;
}

export async function startAgent({ config, hold, log }: AgentOptions): Promise<Agent> {
  const detectors = makeDetectors(new Map());
  let [firewallRestored, policyProblem] = [0, null as string | null];
  const { policy, problem } = await openStartPolicy(config, {
    paths: config.policyPaths,
    read: readPolicyFiles,
    prepared: ({ custom }) => detectors.use(custom),
    loaded: policyLoaded,
    rejected: policyRejected,
  });
  const recorder = await openRecorder({ stateDir: config.stateDir });
  const tls = openTlsEngine(config.tls);
  if (tls.name !== config.tls) log("info", "build/weir-tls.node does not load with this Node: node:tls ends TLS.");
  const gate = createGate(recorder, () => policy.current.record.durability, tls.atTurnEnd);
  const authority = await openAuthority(config.stateDir);
  const pins = await openPins(config.stateDir);
  const budgets = openBudgets(join(config.stateDir, "budgets.json"));
  const anomalies = openAnomalies(join(config.stateDir, "baselines.json"));
  const toolPins = openToolPins(config.stateDir);
  const identities = openIdentities({
    settings: () => policy.current.identity,
    cgroups: watchCgroups(cgroupRoot() ?? "/sys/fs/cgroup"),
    path: join(config.stateDir, "identities.json"),
    now: Date.now,
  });
  await prepareProtocols();
  const listeners: Listeners = await startListeners({
    bridges: config.scope.kind === "host",
    prepare: tcpOptions,
    onFlow: (arrival) => void accept(arrival),
    onFull: (reason) => {
      log("warn", reason);
      note({ type: "refused", code: "WEIR_LIMIT_REACHED", reason, flow: null });
    },
  });
  const interception = await startInterception({
    scope: config.scope,
    instance: config.instance,
    stateDir: config.stateDir,
    targets: redirectedTargets(policy.current),
    egress: policy.current.defaults.egress,
    onFailure: config.onFailure,
    onStop: config.onStop,
    ports: listeners.ports,
    ...(listeners.bridgePorts === null ? {} : { bridgePorts: listeners.bridgePorts }),
    onRefused: (event) => {
      const to = `${event.destination.address}:${event.destination.port}/${event.transport}`;
      note({ type: "refused", code: "WEIR_DENIED", reason: `${to}: ${event.reason}`, flow: null });
    },
    onRestored: (detail) => {
      firewallRestored += 1;
      log("warn", `somebody changed the firewall, it is put back: ${detail}`);
      note({ type: "agent", event: "firewall-restored", detail });
    },
    onEnded: (detail) => {
      log("info", `connections older than the rules are ended: ${detail}`);
      note({ type: "agent", event: "flows-ended", detail });
    },
    onNotice: (text) => log("info", text),
  }).catch(async (error: unknown) => {
    await listeners.close();
    await recorder.close();
    throw error;
  });
  const flows = joinFlows({
    policy: () => policy.current,
    record: (session, body) => recorder.append(session, body),
    gate,
    authority,
    pins,
    tls,
    maskKey: openMaskKey(config.stateDir),
    budgets,
    anomalies,
    detectors: () => detectors,
    hold,
    dial: (destination) => dialUpstream(interception, destination),
    dialBeneath: (destination) => ({
      connect: () => interception.connect(destination),
      timeoutMs: connectMsMax,
      unreachable: (cause) => unreachable(destination, cause),
    }),
    toolPins,
    identities,
    log,
  });
  const record = (session: string, body: EntryBody): void => {
    recorder.append(session, body);
    gate.touch();
  };
  const guard = guardSessions({ identities, sessions: flows.sessions, record, log });
  const revoker = createRevoker({ identities, guard, sessions: flows.sessions, note, now: Date.now });
  note({ type: "agent", event: "start", detail: `policy ${policy.current.digest}${from(policy.origin)}` });
  if (problem !== null) policyRejected(problem);
  policy.follow();
  if (config.onFailure === "open") note({ type: "agent", event: "bypass-open", detail: "--on-failure open" });

  /** redirect and accept are behind us: the kernel brought the flow, and flows.ts takes it through the other steps. */
  async function accept(arrival: Arrival): Promise<void> {
    try {
      const origin = interception.lookup(arrival);
      if (origin === null) throw new WeirError("WEIR_PROTOCOL_UNKNOWN", "The connection did not come by a redirect.");
      await flows.accept(arrival, origin);
    } catch (error) {
      note({
        type: "refused",
        code: error instanceof WeirError ? error.code : "WEIR_INTERNAL",
        reason: error instanceof Error ? error.message : String(error),
        flow: null,
      });
      arrival.reset();
    }
  }

  function policyLoaded(next: PolicyInForce["current"], origin: PolicyOrigin | null): void {
    policyProblem = null;
    log("info", `policy ${next.digest}${from(origin)} in force`);
    note({ type: "agent", event: "policy-loaded", detail: `${next.digest}${from(origin)}` });
    interception.setTargets(redirectedTargets(next), next.defaults.egress);
    flows.policyChanged();
  }

  function policyRejected(problems: string): void {
    policyProblem = problems;
    log("warn", `policy NOT reloaded, the last good one stays in force: ${problems}`);
    note({ type: "agent", event: "policy-rejected", detail: problems });
  }

  function note(body: EntryBody): void {
    try {
      recorder.append("agent", body);
      gate.touch();
    } catch (error) {
      log("warn", `WEIR_SPOOL_WRITE: ${error instanceof Error ? error.message : String(error)}`);
    }
  }

  return {
    recorder,
    policy,
    interception,
    authority,
    sessions: flows.sessions,
    identities,
    revoker,
    toolPins,
    get firewallRestored() {
      return firewallRestored;
    },
    get policyProblem() {
      return policyProblem;
    },
    policyRejected,
    note,
    /** Every session ends with a word in its protocol; then the interception goes, then the record is closed. */
    async close() {
      guard.close();
      await flows.close();
      await interception.close();
      await listeners.close();
      policy.close();
      budgets.close();
      anomalies.close();
      note({ type: "agent", event: "stop", detail: "" });
      await recorder.close();
    },
  };
}

/** After the digest, in the record. */
function from(origin: PolicyOrigin | null): string {
  if (origin === null) return "";
  const { id, version, signer, by } = origin;
  return ` (version ${version} of ${id} over Kafka, signed by ${signer}, published by ${by})`;
}
