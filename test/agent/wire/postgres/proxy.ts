/**
 * A small engine for tests: a listener whose flows all go to one server, run by the real `agent/act` session with the
 * real policy and TLS, and a record that is only kept in memory.
 */
import { randomBytes } from "node:crypto";
import { mkdtempSync, rmSync } from "node:fs";
import { type AddressInfo, connect, createServer, type Socket } from "node:net";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { openAnomalies } from "../../../../agent/act/anomalies.ts";
import { openBudgets } from "../../../../agent/act/budgets.ts";
import { CancelRegistry } from "../../../../agent/act/cancels.ts";
import { CatalogReader } from "../../../../agent/act/catalog.ts";
import { createGate } from "../../../../agent/act/gate.ts";
import { openLargeBodies } from "../../../../agent/act/large-bodies.ts";
import type { HoldOutcome, HoldRequest, SessionPorts } from "../../../../agent/act/ports.ts";
import { Session } from "../../../../agent/act/session.ts";
import type { Flow } from "../../../../agent/core/flow.ts";
import type { EntryBody } from "../../../../agent/core/record.ts";
import type { Target } from "../../../../agent/core/target.ts";
import { WeirError } from "../../../../agent/errors.ts";
import { approve, decide, findTarget, loadPolicy, type Policy, refuse } from "../../../../agent/policy/index.ts";
import { openAuthority } from "../../../../agent/tls/authority.ts";
import { openTlsEngine } from "../../../../agent/tls/engine.ts";
import { openPins } from "../../../../agent/tls/pins.ts";
import { negotiatePostgresTls, plainRefusal } from "../../../../agent/tls/upstream.ts";
import { postgresProtocol } from "../../../../agent/wire/postgres/protocol.ts";
import type { LoginCredential, WireEvent } from "../../../../agent/wire/protocol.ts";

export interface TestProxy {
  readonly host: string;
  readonly port: number;
  readonly caPath: string;
  readonly records: EntryBody[];
  readonly logs: string[];
  readonly holds: { request: HoldRequest; decide: (outcome: HoldOutcome) => void; withdrawn: string | null }[];
  close(): Promise<void>;
}

export interface ProxyOptions {
  readonly server: { readonly host: string; readonly port: number };
  readonly policy?: string;
  readonly credential?: LoginCredential;
  readonly tls?: string;
  readonly keepRecords?: boolean;
  /** Sees every event and every random draw: for capturing vectors. */
  readonly tap?: (event: WireEvent) => void;
  readonly random?: (bytes: number) => Buffer;
}

export async function startProxy(options: ProxyOptions): Promise<TestProxy> {
  const state = mkdtempSync(join(tmpdir(), "weir-proxy-"));
  const authority = await openAuthority(state);
  const pins = await openPins(state);
  const tls = openTlsEngine("native");
  await postgresProtocol.prepare();
  const policy = readPolicy(options);
  const records: EntryBody[] = [];
  const logs: string[] = [];
  const holds: TestProxy["holds"] = [];
  const cancels = new CancelRegistry();
  const sessions = new Set<Session>();
  const gate = createGate({ flush: () => {}, synced: () => Promise.resolve() }, () => "process");
  const log = (level: string, message: string): void => {
    logs.push(`${level} ${message}`);
  };
  const dial = (): Promise<Socket> =>
    new Promise((resolve, reject) => {
      const socket = connect(options.server.port, options.server.host);
      socket.setNoDelay(true);
      socket.once("connect", () => resolve(socket));
      socket.once("error", (error) => reject(new WeirError("WEIR_UPSTREAM_UNREACHABLE", error.message)));
    });
  const secure: SessionPorts["secureUpstream"] = (socket, target, flow, alpn) =>
    tls.secureUpstream(socket, {
      tls: target.tls,
      hostname: flow.hostname,
      address: flow.destination.address,
      port: flow.destination.port,
      alpn,
      pins,
    });
  const openUpstream = async (flow: Flow, target: Target): Promise<Socket> => {
    const socket = await dial();
    return (await negotiatePostgresTls(socket)) === "S"
      ? (await secure(socket, target, flow, ["postgresql"])).socket
      : socket;
  };
  const catalog = new CatalogReader(openUpstream);
  const ports: SessionPorts = {
    decide: (flow, target, operation) => decide(policy, { flow, target, operation }),
    prepare: () => null,
    largeBodies: openLargeBodies({ log: () => {} }),
    approve,
    refuse,
    budgets: openBudgets(null),
    anomalies: openAnomalies(null),
    hold: (request, decided) => {
      const id = `approval-${holds.length + 1}`;
      const held = { request, decide: decided, withdrawn: null as string | null };
      holds.push(held);
      return {
        id,
        withdraw: (reason) => {
          held.withdrawn = reason;
        },
      };
    },
    record: (_session, body) => {
      if (options.keepRecords !== false) records.push(body);
    },
    gate,
    dial,
    dialSecurely: async (flow, target, alpn) => secure(await dial(), target, flow, alpn),
    secureUpstream: secure,
    foretold: () => ({ names: null, verified() {} }),
    openUpstream,
    negotiatePostgresTls,
    plainRefusal: (flow, target) =>
      plainRefusal({ tls: target.tls, hostname: flow.hostname, ...flow.destination, pins }),
    terminateClient: (socket, { leftover, names, alpn }) =>
      tls.terminateClient(socket, {
        leftover,
        alpn,
        leaf: authority.leafFor(names ?? { commonName: "127.0.0.1", dns: [], ip: ["127.0.0.1"] }),
      }),
    catalog: (flow, target, login, question) => catalog.answer(flow, target, login, question),
    cancels,
    log,
  };
  const listener = createServer({ noDelay: true, pauseOnConnect: true }, (socket) => {
    const flow: Flow = {
      id: `flow-${records.length}-${sessions.size}`,
      destination: { address: options.server.host, port: options.server.port },
      source: { address: "127.0.0.1", port: 0 },
      hostname: null,
      process: null,
      identity: null,
      openedAtMs: Date.now(),
      via: "redirect",
    };
    const target = findTarget(policy, { ...flow.destination, hostname: null, serverName: null });
    if (target === null) throw new Error("the test's policy names no target");
    const conversation = postgresProtocol.open({
      destinationPort: options.server.port,
      credential: options.credential ?? null,
      upstreamTlsRequired: target.tls.verify === "ca" || target.tls.verify === "full",
      random: options.random ?? randomBytes,
      now: Date.now,
    });
    const { tap } = options;
    if (tap !== undefined) {
      const handle = conversation.handle.bind(conversation);
      conversation.handle = (event, out) => {
        tap(event);
        handle(event, out);
      };
    }
    const session = new Session({ flow, target, client: socket, conversation, ports });
    sessions.add(session);
    void session.done.then(() => sessions.delete(session));
    session.start();
  });
  await new Promise<void>((resolve) => listener.listen(0, "127.0.0.1", resolve));
  return {
    host: "127.0.0.1",
    port: (listener.address() as AddressInfo).port,
    caPath: authority.caPath,
    records,
    logs,
    holds,
    async close() {
      const open = [...sessions];
      for (const session of open) session.terminate("WEIR_INTERNAL", "the test ends");
      await Promise.all(open.map((session) => session.done));
      await new Promise((resolve) => listener.close(resolve));
      await catalog.close();
      rmSync(state, { recursive: true, force: true });
    },
  };
}

function readPolicy({ server, policy, tls }: ProxyOptions): Policy {
  const text = `apiVersion: weir/v1
mode: enforce
targets:
  db: { protocol: postgres, hosts: ["${server.host}"], ports: [${server.port}], tls: ${tls ?? "{ verify: none }"} }
${policy ?? ""}
`;
  const loaded = loadPolicy([{ file: "test.yaml", text }]);
  if ("errors" in loaded) throw new Error(loaded.errors.map((problem) => JSON.stringify(problem)).join("\n"));
  return loaded.policy;
}
