/**
 * The agent: the ten steps that every byte goes through. Each step is a folder, and this file alone joins them.
 *
 *   redirect → accept → sniff → terminate → decode → describe → decide → record → act → publish
 */
import { randomBytes } from "node:crypto";
import type { Socket } from "node:net";
import { dialUpstream } from "./accept/dial.ts";
import { flowId } from "./accept/flow-id.ts";
import { type Listeners, startListeners } from "./accept/listener.ts";
import { CancelRegistry } from "./act/cancels.ts";
import { CatalogReader } from "./act/catalog.ts";
import { createGate } from "./act/gate.ts";
import { openPolicy, type PolicyInForce } from "./act/policy-in-force.ts";
import type { Held, HoldOutcome, HoldRequest, SessionPorts } from "./act/ports.ts";
import { openMaskKey, readCredential } from "./act/secrets.ts";
import { Session } from "./act/session.ts";
import { type AgentConfig, readPolicyFiles } from "./config.ts";
import type { Flow } from "./core/flow.ts";
import type { Target } from "./core/target.ts";
import { WeirError } from "./errors.ts";
import { type Interception, startInterception } from "./kernel/interception.ts";
import { approve, decide, findTarget, refuse } from "./policy/index.ts";
import { openRecorder, type Recorder } from "./record/recorder.ts";
import { type Authority, openAuthority } from "./tls/authority.ts";
import { openPins } from "./tls/pins.ts";
import { terminateClient } from "./tls/terminate.ts";
import { negotiatePostgresTls, plainRefusal, secureUpstream } from "./tls/upstream.ts";
import { prepareProtocols, protocolNamed } from "./wire/registry.ts";

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
  readonly sessions: ReadonlySet<Session>;
  close(): Promise<void>;
}

export async function startAgent({ config, hold, log }: AgentOptions): Promise<Agent> {
  const policy = openPolicy({
    paths: config.policyPaths,
    read: readPolicyFiles,
    loaded: policyLoaded,
    rejected: policyRejected,
  });
  const recorder = await openRecorder({ stateDir: config.stateDir });
  const gate = createGate(recorder, () => policy.current.record.durability);
  const authority = await openAuthority(config.stateDir);
  const pins = await openPins(config.stateDir);
  const maskKey = openMaskKey(config.stateDir);
  await prepareProtocols();
  const cancels = new CancelRegistry();
  const sessions = new Set<Session>();
  const listeners: Listeners = await startListeners({ onFlow: (socket) => void accept(socket), log });
  const interception = await startInterception({
    scope: config.scope,
    instance: config.instance,
    stateDir: config.stateDir,
    targets: policy.current.targets,
    egress: policy.current.defaults.egress,
    onFailure: config.onFailure,
    ports: listeners.ports,
    onRefused: (event) => {
      const to = `${event.destination.address}:${event.destination.port}/${event.transport}`;
      note({ type: "refused", code: "WEIR_DENIED", reason: `${to}: ${event.reason}`, flow: null });
    },
    onNotice: (text) => log("info", text),
  }).catch(async (error: unknown) => {
    await listeners.close();
    await recorder.close();
    throw error;
  });
  const catalog = new CatalogReader(openUpstream);
  const ports: SessionPorts = {
    decide: (flow, target, operation) => decide(policy.current, { flow, target, operation }),
    approve,
    refuse,
    hold,
    record: (session, body) => recorder.append(session, body),
    gate,
    dial: (flow) => dialUpstream(interception, flow.destination),
    secureUpstream: (socket, target, flow, alpn) =>
      secureUpstream(socket, {
        tls: target.tls,
        hostname: flow.hostname,
        address: flow.destination.address,
        port: flow.destination.port,
        alpn,
        pins,
      }),
    negotiatePostgresTls,
    plainRefusal: (flow, target) =>
      plainRefusal({ tls: target.tls, hostname: flow.hostname, ...flow.destination, pins }),
    terminateClient: (socket, { leftover, names, flow, alpn }) =>
      terminateClient(socket, { leftover, alpn, leaf: authority.leafFor(names ?? ownNames(flow)) }),
    catalog: (flow, target, login, oids) => catalog.columns(flow, target, login, oids),
    cancels,
    log,
  };
  note({ type: "agent", event: "start", detail: `policy ${policy.current.digest}` });
  if (config.onFailure === "open") note({ type: "agent", event: "bypass-open", detail: "--on-failure open" });

  /** redirect and accept are behind us: the kernel brought the flow, now it is named, matched with its target and run. */
  async function accept(socket: Socket): Promise<void> {
    socket.pause();
    try {
      const origin = interception.lookup(socket);
      if (origin === null) throw new WeirError("WEIR_PROTOCOL_UNKNOWN", "The connection did not come by a redirect.");
      const flow: Flow = {
        id: flowId(Date.now()),
        destination: origin.destination,
        source: { address: socket.remoteAddress ?? "", port: socket.remotePort ?? 0 },
        hostname: origin.hostname,
        process: origin.process,
        identity: null,
        openedAtMs: Date.now(),
        via: origin.via,
      };
      const target = findTarget(policy.current, { ...flow.destination, hostname: flow.hostname, serverName: null });
      if (target === null) throw new WeirError("WEIR_DENIED", "No target of the policy names this destination.");
      const session = new Session({ flow, target, client: socket, conversation: await converse(target), ports });
      sessions.add(session);
      void session.done.then(() => sessions.delete(session));
      session.start();
    } catch (error) {
      const message = error instanceof Error ? error.message : String(error);
      note({
        type: "refused",
        code: error instanceof WeirError ? error.code : "WEIR_INTERNAL",
        reason: message,
        flow: null,
      });
      socket.resetAndDestroy();
    }
  }

  async function converse(target: Target) {
    return protocolNamed(target.protocol).open({
      destinationPort: target.ports[0] ?? 0,
      credential: await readCredential(target.credential),
      upstreamTlsRequired: target.tls.verify === "ca" || target.tls.verify === "full",
      random: randomBytes,
      now: Date.now,
      maskKey,
    });
  }

  /** A connection of the agent's own to a flow's server, secured as the target says. */
  async function openUpstream(flow: Flow, target: Target): Promise<Socket> {
    const socket = await ports.dial(flow);
    if ((await negotiatePostgresTls(socket)) === "S")
      return (await ports.secureUpstream(socket, target, flow, ["postgresql"])).socket;
    const refusal = ports.plainRefusal(flow, target);
    if (refusal === null) return socket;
    socket.destroy();
    throw refusal;
  }

  function policyLoaded(next: PolicyInForce["current"]): void {
    log("info", `policy ${next.digest} in force`);
    note({ type: "agent", event: "policy-loaded", detail: next.digest });
    interception.setTargets(next.targets, next.defaults.egress);
  }

  function policyRejected(problems: string): void {
    log("warn", `policy NOT reloaded, the last good one stays in force: ${problems}`);
    note({ type: "agent", event: "policy-rejected", detail: problems });
  }

  function note(body: Parameters<Recorder["append"]>[1]): void {
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
    sessions,
    /** Every session ends with a word in its protocol; then the interception goes, then the record is closed. */
    async close() {
      const open = [...sessions];
      for (const session of open) session.terminate("WEIR_SHUTDOWN", "Weir is stopping.");
      await Promise.all(open.map((session) => session.done));
      await interception.close();
      await listeners.close();
      await catalog.close();
      policy.close();
      note({ type: "agent", event: "stop", detail: "" });
      await recorder.close();
    },
  };
}

/** Names for our leaf when no upstream certificate can be mirrored: what the client called the server. */
function ownNames(flow: Flow) {
  return {
    commonName: flow.hostname ?? flow.destination.address,
    dns: flow.hostname === null ? [] : [flow.hostname],
    ip: [flow.destination.address],
  };
}
