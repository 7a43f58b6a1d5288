/**
 * The agent without the kernel: a listener on loopback whose every connection is a flow to one server. Everything
 * behind the redirection is the real thing: TLS, conversation, policy, record, approvals.
 */
import { mkdtempSync, rmSync } from "node:fs";
import { connect } from "node:net";
import { tmpdir } from "node:os";
import { join } from "node:path";
import type { Arrival } from "../../agent/accept/arrival.ts";
import { unreachable } from "../../agent/accept/dial.ts";
import { startListeners } from "../../agent/accept/listener.ts";
import { openAnomalies } from "../../agent/act/anomalies.ts";
import { openBudgets } from "../../agent/act/budgets.ts";
import { makeDetectors } from "../../agent/act/detectors.ts";
import { createGate } from "../../agent/act/gate.ts";
import type { LargeBodies } from "../../agent/act/large-bodies.ts";
import { openMaskKey } from "../../agent/act/secrets.ts";
import type { FlowSession } from "../../agent/act/session.ts";
import { openToolPins } from "../../agent/act/tool-pins.ts";
import { holdIn } from "../../agent/commands/hold-in.ts";
import type { Endpoint } from "../../agent/core/flow.ts";
import type { ReadonlyRoster } from "../../agent/core/roster.ts";
import { joinFlows } from "../../agent/flows.ts";
import { connectMarked, tcpOptions } from "../../agent/kernel/native.ts";
import { loadPolicy, type Policy } from "../../agent/policy/index.ts";
import { type ReadEntry, readEntries } from "../../agent/record/read.ts";
import { openRecorder, type Recorder } from "../../agent/record/recorder.ts";
import { type Authority, openAuthority } from "../../agent/tls/authority.ts";
import { openTlsEngine } from "../../agent/tls/engine.ts";
import { openPins } from "../../agent/tls/pins.ts";
import type { Dial } from "../../agent/tls/upstream-native.ts";
import { prepareProtocols } from "../../agent/wire/registry.ts";
import type { ApprovalStore } from "../../controller/approvals/store.ts";
import { createController } from "../../controller/main.ts";

export interface Relay {
  readonly port: number;
  readonly stateDir: string;
  readonly authority: Authority;
  readonly approvals: ApprovalStore;
  readonly recorder: Recorder;
  readonly logs: readonly string[];
  /** That are open. */
  readonly sessions: ReadonlyRoster<FlowSession>;
  /** Puts another policy in force. */
  usePolicy(text: string): void;
  /** What is written so far. */
  entries(): ReadEntry[];
  close(): Promise<void>;
}

export interface RelayOptions {
  readonly policy: string;
  readonly server: { readonly host: string; readonly port: number };
  /** The name the client is taken to have asked the DNS for. */
  readonly hostname?: string | null;
  readonly largeBodies?: LargeBodies;
  readonly tls?: "native" | "node";
}

export async function startRelay({
  policy: text,
  server,
  hostname = "db.internal",
  largeBodies,
  tls = "native",
}: RelayOptions): Promise<Relay> {
  let policy = policyOf(text);
  await prepareProtocols();
  const stateDir = mkdtempSync(join(tmpdir(), "weir-relay-"));
  const recorder = await openRecorder({ stateDir });
  const gate = createGate(recorder, () => policy.record.durability);
  const authority = await openAuthority(stateDir);
  const pins = await openPins(stateDir);
  const detectors = makeDetectors(new Map());
  const toolPins = openToolPins(stateDir);
  const controller = await createController({ stateDir, listen: null });
  const logs: string[] = [];
  const flows = joinFlows({
    policy: () => policy,
    record: (session, body) => recorder.append(session, body),
    gate,
    authority,
    pins,
    tls: openTlsEngine(tls),
    maskKey: openMaskKey(stateDir),
    hold: holdIn(controller.approvals),
    budgets: openBudgets(null),
    anomalies: openAnomalies(null),
    detectors: () => detectors,
    toolPins,
    dial: (destination) =>
      new Promise((resolve, reject) => {
        const socket = connect({ host: destination.address, port: destination.port, noDelay: true });
        socket.once("connect", () => {
          socket.off("error", reject);
          resolve(socket);
        });
        socket.once("error", reject);
      }),
    // A mark needs root.
    ...(process.getuid?.() === 0 ? { dialBeneath } : {}),
    ...(largeBodies === undefined ? {} : { largeBodies }),
    log: (_level, message) => void logs.push(message),
  });
  const accept = (arrival: Arrival): void => {
    const origin = {
      destination: { address: server.host, port: server.port },
      process: null,
      hostname,
      hostnames: hostname === null ? [] : [hostname],
      via: "redirect" as const,
    };
    flows.accept(arrival, origin).catch((error: unknown) => {
      logs.push(`refused: ${String(error)}`);
      arrival.destroy();
    });
  };
  const listeners = await startListeners({ prepare: tcpOptions, onFlow: accept, onFull: (why) => void logs.push(why) });
  return {
    port: listeners.ports.v4,
    stateDir,
    authority,
    approvals: controller.approvals,
    recorder,
    logs,
    sessions: flows.sessions,
    usePolicy(next) {
      policy = policyOf(next);
      flows.policyChanged();
    },
    entries() {
      recorder.flush();
      return [...readEntries(stateDir)];
    },
    async close() {
      await flows.close();
      await listeners.close();
      await controller.close();
      await recorder.close();
      rmSync(stateDir, { recursive: true, force: true });
    },
  };
}

function policyOf(text: string): Policy {
  const loaded = loadPolicy([{ file: "test.yaml", text }]);
  if (!("policy" in loaded)) throw new Error(loaded.errors.map(String).join("\n"));
  return loaded.policy;
}

function dialBeneath(to: Endpoint): Dial {
  return {
    connect: () => connectMarked(to.address.includes(":") ? 6 : 4, to, 0),
    timeoutMs: 10_000,
    unreachable: (cause) => unreachable(to, cause),
  };
}
