/**
 * The agent without the kernel: a listener on loopback whose every connection is a flow to one server. Everything
 * behind the redirection is the real thing: TLS, conversation, policy, record, approvals.
 */
import { randomBytes } from "node:crypto";
import { mkdtempSync, rmSync } from "node:fs";
import { connect, createServer, type Socket } from "node:net";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { flowId } from "../../agent/accept/flow-id.ts";
import { CancelRegistry } from "../../agent/act/cancels.ts";
import { CatalogReader } from "../../agent/act/catalog.ts";
import { createGate } from "../../agent/act/gate.ts";
import type { SessionPorts } from "../../agent/act/ports.ts";
import { readCredential } from "../../agent/act/secrets.ts";
import { Session } from "../../agent/act/session.ts";
import { holdIn } from "../../agent/commands/control-answers.ts";
import type { Flow } from "../../agent/core/flow.ts";
import type { Target } from "../../agent/core/target.ts";
import { approve, decide, findTarget, loadPolicy, refuse } from "../../agent/policy/index.ts";
import { type ReadEntry, readEntries } from "../../agent/record/read.ts";
import { openRecorder, type Recorder } from "../../agent/record/recorder.ts";
import { type Authority, openAuthority } from "../../agent/tls/authority.ts";
import { openPins } from "../../agent/tls/pins.ts";
import { terminateClient } from "../../agent/tls/terminate.ts";
import { negotiatePostgresTls, plainRefusal, secureUpstream } from "../../agent/tls/upstream.ts";
import { prepareProtocols, protocolNamed } from "../../agent/wire/registry.ts";
import type { ApprovalStore } from "../../controller/approvals/store.ts";
import { createController } from "../../controller/main.ts";

export interface Relay {
  readonly port: number;
  readonly stateDir: string;
  readonly authority: Authority;
  readonly approvals: ApprovalStore;
  readonly recorder: Recorder;
  readonly logs: readonly string[];
  /** What is written so far. */
  entries(): ReadEntry[];
  close(): Promise<void>;
}

export interface RelayOptions {
  readonly policy: string;
  readonly server: { readonly host: string; readonly port: number };
  /** The name the client is taken to have asked the DNS for. */
  readonly hostname?: string;
}

export async function startRelay({ policy: text, server, hostname = "db.internal" }: RelayOptions): Promise<Relay> {
  const loaded = loadPolicy([{ file: "test.yaml", text }]);
  if (!("policy" in loaded)) throw new Error(loaded.errors.map(String).join("\n"));
  const { policy } = loaded;
  await prepareProtocols();
  const stateDir = mkdtempSync(join(tmpdir(), "weir-relay-"));
  const recorder = await openRecorder({ stateDir });
  const gate = createGate(recorder, () => policy.record.durability);
  const authority = await openAuthority(stateDir);
  const pins = await openPins(stateDir);
  const cancels = new CancelRegistry();
  const controller = await createController({ stateDir, listen: null });
  const sessions = new Set<Session>();
  const logs: string[] = [];
  const openUpstream = async (flow: Flow, target: Target): Promise<Socket> => {
    const socket = await ports.dial(flow);
    if ((await negotiatePostgresTls(socket)) === "N") return socket;
    return (await ports.secureUpstream(socket, target, flow, ["postgresql"])).socket;
  };
  const catalog = new CatalogReader(openUpstream);
  const ports: SessionPorts = {
    decide: (flow, target, operation) => decide(policy, { flow, target, operation }),
    approve,
    refuse,
    hold: holdIn(controller.approvals),
    record: (session, body) => recorder.append(session, body),
    gate,
    dial: (flow) =>
      new Promise((resolve, reject) => {
        const socket = connect({ host: flow.destination.address, port: flow.destination.port, noDelay: true });
        socket.once("connect", () => {
          socket.off("error", reject);
          resolve(socket);
        });
        socket.once("error", reject);
      }),
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
    terminateClient: (socket, { leftover, names, alpn }) =>
      terminateClient(socket, {
        leftover,
        alpn,
        leaf: authority.leafFor(names ?? { commonName: hostname, dns: [hostname], ip: [] }),
      }),
    catalog: (flow, target, login, oids) => catalog.columns(flow, target, login, oids),
    cancels,
    log: (_level, message) => void logs.push(message),
  };
  const accept = async (client: Socket): Promise<void> => {
    client.on("error", () => {});
    const flow: Flow = {
      id: flowId(Date.now()),
      destination: { address: server.host, port: server.port },
      source: { address: client.remoteAddress ?? "", port: client.remotePort ?? 0 },
      hostname,
      process: null,
      identity: null,
      openedAtMs: Date.now(),
      via: "redirect",
    };
    const target = findTarget(policy, { ...flow.destination, hostname, serverName: null });
    if (target === null) throw new Error("the test's policy has no target for its server");
    const conversation = protocolNamed(target.protocol).open({
      destinationPort: server.port,
      credential: await readCredential(target.credential),
      upstreamTlsRequired: target.tls.verify === "ca" || target.tls.verify === "full",
      random: randomBytes,
      now: Date.now,
    });
    const session = new Session({ flow, target, client, conversation, ports });
    sessions.add(session);
    void session.done.then(() => sessions.delete(session));
    session.start();
  };
  const listener = createServer({ noDelay: true, pauseOnConnect: true }, (client) => void accept(client));
  await new Promise<void>((resolve) => listener.listen(0, "127.0.0.1", resolve));
  const address = listener.address();
  return {
    port: typeof address === "object" && address !== null ? address.port : 0,
    stateDir,
    authority,
    approvals: controller.approvals,
    recorder,
    logs,
    entries() {
      recorder.flush();
      return [...readEntries(stateDir)];
    },
    async close() {
      const open = [...sessions];
      for (const session of open) session.terminate("WEIR_SHUTDOWN", "Weir is stopping.");
      await Promise.all(open.map((session) => session.done));
      await new Promise<void>((resolve) => listener.close(() => resolve()));
      await catalog.close();
      await controller.close();
      await recorder.close();
      rmSync(stateDir, { recursive: true, force: true });
    },
  };
}
