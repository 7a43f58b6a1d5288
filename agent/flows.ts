/**
 * What happens to a connection that the kernel brought: named, sniffed, matched with its target, its TLS ended, and run
 * as a session. The agent and the tests' relay (an agent without a kernel) are joined by this one function.
 */
import { randomBytes } from "node:crypto";
import { lookup } from "node:dns/promises";
import type { Socket } from "node:net";
import type { Arrival } from "./accept/arrival.ts";
import { readFirstBytes } from "./accept/first-bytes.ts";
import { flowId } from "./accept/flow-id.ts";
import { connectThrough } from "./accept/proxy-connect.ts";
import type { Anomalies } from "./act/anomalies.ts";
import type { Budgets } from "./act/budgets.ts";
import { CancelRegistry } from "./act/cancels.ts";
import { CatalogReader } from "./act/catalog.ts";
import { type Detectors, sliceCharactersMax } from "./act/detectors.ts";
import type { Gate } from "./act/gate.ts";
import { openGrpcDescriptors } from "./act/grpc-descriptors.ts";
import { openHttp } from "./act/http-opening.ts";
import { Http2Session } from "./act/http2-session.ts";
import { joinHolds } from "./act/joint-holds.ts";
import { type LargeBodies, openLargeBodies } from "./act/large-bodies.ts";
import { refusesCertificate, rememberPinnedClients } from "./act/pinned-clients.ts";
import type { Held, HoldOutcome, HoldRequest, SessionPorts } from "./act/ports.ts";
import { readCredential, readHttpCredential } from "./act/secrets.ts";
import { type FlowSession, Session } from "./act/session.ts";
import type { Endpoint, Flow, JobHint, ProcessInfo } from "./core/flow.ts";
import { type Operation, speaksHttp } from "./core/operation.ts";
import type { EntryBody } from "./core/record.ts";
import { type ReadonlyRoster, Roster } from "./core/roster.ts";
import type { Target } from "./core/target.ts";
import { streamOf, type Unsecured } from "./core/unsecured.ts";
import type { Decision, Verdict } from "./core/verdict.ts";
import { WeirError } from "./errors.ts";
import type { Identities } from "./identity/registry.ts";
import { approve, decide, findTarget, type Policy, refuse } from "./policy/index.ts";
import type { Authority } from "./tls/authority.ts";
import { readClientHello } from "./tls/client-hello.ts";
import type { TlsEngine } from "./tls/engine.ts";
import { openForetold } from "./tls/foretold.ts";
import type { Pins } from "./tls/pins.ts";
import { judgesChain, negotiatePostgresTls, plainRefusal } from "./tls/upstream.ts";
import type { Dial } from "./tls/upstream-native.ts";
import type { HttpContext } from "./wire/http/context.ts";
import { beginsHttp2 } from "./wire/http/preface.ts";
import type { ConversationContext } from "./wire/protocol.ts";
import { dialects, openTunnel, protocolNamed } from "./wire/registry.ts";

export interface FlowsOptions {
  policy(): Policy;
  record(session: string, body: EntryBody): void;
  readonly gate: Gate;
  readonly authority: Authority;
  readonly pins: Pins;
  readonly tls: TlsEngine;
  readonly maskKey: Buffer;
  readonly budgets: Budgets;
  readonly anomalies: Anomalies;
  /** Of the policy in force. */
  detectors(): Detectors;
  /** Shows a held operation to a person and answers once. */
  hold(request: HoldRequest, decided: (outcome: HoldOutcome) => void): Held;
  dial(destination: Endpoint): Promise<Socket>;
  /** The same for the TLS engine alone; left out: it gets what `dial` brings. */
  readonly dialBeneath?: (destination: Endpoint) => Dial;
  /** Who stands behind a process; left out: nobody is proven. */
  readonly identities?: Pick<Identities, "of" | "jobOf" | "refusal">;
  /** What MCP's tools were at first sight. */
  readonly toolPins: Pick<HttpContext, "pin" | "pinned">;
  /** Left out: a thread with limits of its own. */
  readonly largeBodies?: LargeBodies;
  log(level: "info" | "warn", message: string): void;
}

/** Where a connection wanted to go, and who opened it. */
export interface FlowOrigin {
  readonly destination: Endpoint;
  readonly process: ProcessInfo | null;
  readonly hostname: string | null;
  /** Every name that the host was told leads there. */
  readonly hostnames: readonly string[];
  readonly via: Flow["via"];
}

export interface Flows {
  readonly sessions: ReadonlyRoster<FlowSession>;
  /** Rejects when it may not go on; the caller ends it. */
  accept(arrival: Arrival, origin: FlowOrigin): Promise<void>;
  /** Ends what was opened to a target that the policy now in force does not have, or not as it was. */
  policyChanged(): void;
  /** Ends every session with a word in its protocol. */
  close(): Promise<void>;
}

export function joinFlows(options: FlowsOptions): Flows {
  const { authority, pins, tls, maskKey, log } = options;
  const sessions = new Roster<FlowSession>();
  const standing = new WeakMap<FlowSession, Standing>();
  const heldNames = new Map<string, () => void>();
  const pinnedClients = rememberPinnedClients();
  const foretold = openForetold();
  const cancels = new CancelRegistry();
  const catalog = new CatalogReader(openUpstream);
  const largeBodies = options.largeBodies ?? openLargeBodies({ log });
  const ports: SessionPorts = {
    decide: judge,
    prepare,
    approve,
    refuse,
    budgets: options.budgets,
    anomalies: options.anomalies,
    hold: joinHolds(options.hold),
    record: options.record,
    gate: options.gate,
    largeBodies,
    dial,
    dialSecurely,
    secureUpstream: (socket, target, flow, alpn, serverName = null) =>
      tls.secureUpstream(socket, upstreamTls(target, flow, alpn, serverName)),
    openUpstream,
    negotiatePostgresTls,
    plainRefusal: (flow, target) =>
      plainRefusal({ tls: target.tls, hostname: flow.hostname, ...flow.destination, pins }),
    foretold: (flow, { tls }, serverName) =>
      foretold({ tls, hostname: serverName ?? flow.hostname, ...flow.destination }, serverName),
    terminateClient: (client, { leftover, names, flow, alpn, serverName = null }) =>
      tls.terminateClient(client, { leftover, alpn, leaf: authority.leafFor(names ?? ownNames(flow, serverName)) }),
    catalog: (flow, target, login, question) => catalog.answer(flow, target, login, question),
    cancels,
    log,
  };

  const descriptors = openGrpcDescriptors(ports);

  /** To the server itself, or by a tunnel through the target's proxy. */
  async function dial(flow: Flow, { proxy }: Target): Promise<Socket> {
    const { destination, hostname } = flow;
    if (proxy === undefined) return options.dial(destination);
    const { address } = await lookup(proxy.host).catch((cause: unknown) => {
      throw new WeirError("WEIR_UPSTREAM_UNREACHABLE", `The proxy ${proxy.host} has no address.`, { cause });
    });
    const socket = await options.dial({ address, port: proxy.port });
    try {
      await connectThrough(socket, { host: hostname ?? destination.address, port: destination.port });
    } catch (error) {
      socket.destroy();
      throw error;
    }
    return socket;
  }

  async function dialSecurely(flow: Flow, target: Target, alpn: readonly string[], serverName: string | null) {
    const how = upstreamTls(target, flow, alpn, serverName);
    const beneath = target.proxy === undefined ? options.dialBeneath?.(flow.destination) : undefined;
    const secured = beneath === undefined ? null : tls.connectUpstream(beneath, how);
    return secured ?? tls.secureUpstream(await dial(flow, target), how);
  }

  function upstreamTls({ tls }: Target, flow: Flow, alpn: readonly string[], serverName: string | null) {
    return { tls, hostname: serverName ?? flow.hostname, ...flow.destination, alpn, pins };
  }

  function judge(flow: Flow, target: Target, operation: Operation): Decision {
    const decision = decide(options.policy(), {
      flow,
      target,
      operation,
      finds: options.detectors().knownOf(operation),
    });
    const reason = options.identities?.refusal(flow.process) ?? null;
    if (reason === null) return decision;
    return refuse(decidedBy("identity", decision), reason);
  }

  /** Only what goes over HTTP brings whole bodies at once. */
  function prepare(flow: Flow, target: Target, operation: Operation): Promise<void> | null {
    if (operation.http === undefined || operation.bytes <= sliceCharactersMax) return null;
    return options.detectors().scan(operation, (finds) => {
      decide(options.policy(), { flow, target, operation, finds });
    });
  }

  async function accept(arrival: Arrival, origin: FlowOrigin): Promise<void> {
    const flow: Flow = {
      id: flowId(Date.now()),
      destination: origin.destination,
      source: arrival.source,
      hostname: origin.hostname,
      process: withJob(origin.process, options.identities?.jobOf(origin.process) ?? null),
      identity: options.identities?.of(origin.process) ?? null,
      openedAtMs: Date.now(),
      via: origin.via,
    };
    const place = { ...flow.destination, hostname: flow.hostname };
    const chosenBy = options.policy();
    let serverName: string | null = null;
    const choose = (): Target | null =>
      serverName === null
        ? findTarget(options.policy(), { ...place, serverName })
        : targetNamed(serverName, flow, origin);
    const standsAs = (target: Target | null) => (): boolean =>
      options.policy() === chosenBy || sameTarget(choose(), target);
    const known = choose();
    // Where the server speaks first, or TLS comes later, nothing may be waited for.
    if (known !== null && !speaksHttp(known.protocol)) {
      const conversation = await converse(known);
      run(new Session({ flow, target: known, client: arrival.socket(), conversation, ports }), standsAs(known));
      return;
    }
    const client = tls.listenTo(arrival);
    const first = await readFirstBytes(client, (bytes) => {
      const read = readClientHello(bytes);
      // Nothing more is waited for where nobody will speak HTTP.
      return read !== null || known === null ? read : beginsHttp2(bytes);
    });
    const hello = typeof first === "boolean" ? null : first;
    serverName = hello?.serverName ?? null;
    const target = choose();
    const stands = standsAs(target);
    if (target === null) {
      splice(client, flow, serverName, stands);
      return;
    }
    if (!speaksHttp(target.protocol)) {
      const conversation = await converse(target);
      run(new Session({ flow, target, client: streamOf(client), conversation, ports }), stands);
      return;
    }
    const server = serverName ?? flow.hostname ?? flow.destination.address;
    // A name that the client only claims is proven by the server's certificate, which nobody looks at when it is spliced.
    const mayPin = target.tls.pinned === "splice" && (serverName === null || origin.hostnames.includes(serverName));
    if (hello !== null && mayPin && pinnedClients.isPinned(flow, server, Date.now())) {
      runOpaque(client, flow, { ...target, protocol: "opaque" }, stands);
      options.record(flow.id, { type: "notice", text: `spliced unread: the client pins the certificate of ${server}` });
      return;
    }
    // Before anything is open that would have to be closed again.
    let own = ports;
    const credential = await readHttpCredential(target.httpCredential ?? null).catch((error: unknown) => {
      if (!(error instanceof WeirError)) throw error;
      own = { ...ports, decide: (...asked) => refuse(decidedBy("credential", judge(...asked)), error.message) };
      return null;
    });
    const grpcDescriptors = await descriptors.of(flow, target, hello);
    const opened = await openHttp({
      ...{ client, flow, target, hello, http2: first === true, ports: own },
      alpn: ["h2", "http/1.1"],
    }).catch((error: unknown) => {
      throw refusedCertificate(error, flow, server);
    });
    if (hello !== null) pinnedClients.accepted(flow, server);
    const masking = { maskKey, custom: options.detectors().custom };
    const http: HttpContext = {
      destination: {
        ...flow.destination,
        hostname: flow.hostname,
        serverName: opened.serverName,
        hosts: target.hosts,
      },
      scheme: hello === null ? "http" : "https",
      targetProtocol: target.protocol,
      credential,
      ...masking,
      tunnel: (head, verdict) => openTunnel(head, verdict, masking),
      would: (described) => judge(flow, target, { ...emptyOperation, ...described }).verdict,
      grpcDescriptors,
      pin: (name, digest, text) => options.toolPins.pin(name, digest, text),
      pinned: (name) => options.toolPins.pinned(name),
      named: heldOf(flow),
    };
    const session =
      opened.alpn === "h2"
        ? new Http2Session({ flow, target, client: opened.client, opened, ports: own, dialects, http })
        : new Session({
            flow,
            target,
            client: opened.client,
            conversation: await converse(target, http),
            ports: own,
            opened,
          });
    run(session, stands);
  }

  /**
   * Many names may share one address: the one in the hello says which server is meant. It is believed when the host
   * asked the DNS for it; else only where the server has to prove it (see findTarget).
   */
  function targetNamed(serverName: string, { destination }: Flow, { hostnames }: FlowOrigin): Target | null {
    const asked = hostnames.includes(serverName);
    return findTarget(options.policy(), {
      ...destination,
      hostname: asked ? serverName : null,
      serverName: asked ? null : serverName,
    });
  }

  /** Says of a client that refuses our certificate what it is, once it is known. */
  function refusedCertificate(error: unknown, flow: Flow, server: string): unknown {
    if (!(error instanceof WeirError) || error.code !== "WEIR_CLIENT_TLS" || !refusesCertificate(error.message))
      return error;
    if (!pinnedClients.refused(flow, server, Date.now())) return error;
    const who = flow.process === null ? flow.source.address : `${flow.process.exe} (uid ${flow.process.uid})`;
    const what = `${who} refuses Weir's certificate for ${server} time and again: it pins the server's own, or does not trust Weir's authority (weir trust status).`;
    return new WeirError("WEIR_CLIENT_PINNED", what, { cause: error });
  }

  /** What no target names passes unread where `egress: allow` says so, and is recorded by name and bytes. */
  function splice(client: Unsecured<Socket>, flow: Flow, serverName: string | null, stands: Standing): void {
    const allowed = (): boolean => options.policy().defaults.egress === "allow";
    if (!allowed())
      throw new WeirError(
        "WEIR_DENIED",
        `No target of the policy names ${serverName ?? flow.hostname ?? flow.destination.address}:${flow.destination.port}.`,
      );
    runOpaque(client, flow, egressTarget, () => allowed() && stands());
    if (serverName !== null) options.record(flow.id, { type: "notice", text: `TLS server name ${serverName}` });
  }

  /** Bytes both ways, unread. */
  function runOpaque(client: Unsecured<Socket>, flow: Flow, target: Target, stands: Standing): void {
    const context = { destinationPort: flow.destination.port, credential: null, upstreamTlsRequired: false };
    const conversation = protocolNamed("opaque").open({ ...context, random: randomBytes, now: Date.now });
    run(new Session({ flow, target, client: streamOf(client), conversation, ports }), stands);
  }

  /** Names of a client's held requests, by which another of its requests may give one up; never another client's. */
  function heldOf({ id, process }: Flow): HttpContext["named"] {
    const client = process === null ? id : `${process.pid} ${process.startTicks}`;
    return {
      held(name, giveUp) {
        const key = `${client} ${name}`;
        heldNames.set(key, giveUp);
        return () => {
          if (heldNames.get(key) === giveUp) heldNames.delete(key);
        };
      },
      giveUp: (name) => heldNames.get(`${client} ${name}`)?.(),
    };
  }

  function run(session: FlowSession, stands: Standing): void {
    const leave = sessions.add(session);
    standing.set(session, stands);
    void session.done.then(leave);
    session.start();
    // The policy may have changed since the target was chosen.
    if (!stands()) endOutdated(session);
  }

  /** Rules name targets: under another policy nothing of it would match any more, its masks included. */
  function endOutdated(session: FlowSession): void {
    standing.delete(session);
    const reason = "The policy has changed what this connection's target is; connect again.";
    try {
      options.record(session.flow.id, { type: "refused", code: "WEIR_DENIED", reason, flow: null });
    } catch (error) {
      log("warn", `${session.flow.id}: WEIR_SPOOL_WRITE: ${error instanceof Error ? error.message : String(error)}`);
    }
    session.terminate("WEIR_DENIED", reason);
  }

  async function converse(target: Target, http?: HttpContext) {
    let noCredential: ConversationContext["noCredential"];
    const credential = await readCredential(target.credential).catch((error: unknown) => {
      if (!(error instanceof WeirError)) throw error;
      noCredential = { code: error.code, message: error.message };
      return null;
    });
    const context: ConversationContext = {
      destinationPort: target.ports[0] ?? 0,
      credential,
      ...(noCredential === undefined ? {} : { noCredential }),
      upstreamTlsRequired: judgesChain(target.tls),
      random: randomBytes,
      now: Date.now,
      maskKey,
      custom: options.detectors().custom,
      ...(http === undefined ? {} : { http }),
    };
    return protocolNamed(target.protocol).open(context);
  }

  async function openUpstream(flow: Flow, target: Target): Promise<Socket> {
    const socket = await ports.dial(flow, target);
    if ((await negotiatePostgresTls(socket)) === "S")
      return (await ports.secureUpstream(socket, target, flow, ["postgresql"])).socket;
    const refusal = ports.plainRefusal(flow, target);
    if (refusal === null) return socket;
    socket.destroy();
    throw refusal;
  }

  return {
    sessions,
    accept,
    policyChanged() {
      for (const session of sessions) if (standing.get(session)?.() === false) endOutdated(session);
    },
    async close() {
      const open = [...sessions];
      for (const session of open) session.terminate("WEIR_SHUTDOWN", "Weir is stopping.");
      await Promise.all(open.map((session) => session.done));
      await catalog.close();
      await largeBodies.close();
    },
  };
}

/** Whatever the policy's mode is. */
function decidedBy(rule: string, { verdict }: Decision): Verdict {
  return { ...verdict, rule, mode: "enforce", wouldBe: null };
}

/** False: the policy in force would not open the session as it was opened. */
type Standing = () => boolean;

/** Which destinations a target has besides does not matter to those that are open. */
function sameTarget(left: Target | null, right: Target | null): boolean {
  const text = (target: Target | null) => JSON.stringify(target === null ? null : { ...target, hosts: [], ports: [] });
  return left === right || text(left) === text(right);
}

/** A proven job counts; what the process says of itself is only a hint. */
function withJob(process: ProcessInfo | null, job: JobHint | null): ProcessInfo | null {
  return process === null || job === null ? process : { ...process, job };
}

/** Stands for what no target names, where `defaults.egress` allows it. */
const egressTarget: Target = Object.freeze({
  name: "egress",
  protocol: "opaque",
  hosts: [{ kind: "any" }],
  ports: [80, 443],
  tls: { verify: "none", ca: null, clientCertificate: null, serverName: null },
  credential: null,
} satisfies Target);

/** What the kernel brings: the policy's targets and, where the rest may leave, the web's ports of everything else. */
export function redirectedTargets({ targets, defaults }: Policy): readonly Target[] {
  const web = defaults.egress === "allow" && targets.some(({ protocol }) => speaksHttp(protocol));
  return web ? [...targets, egressTarget] : targets;
}

const none: readonly never[] = Object.freeze([]);
const emptyOperation = {
  kind: "request",
  user: "",
  database: "",
  relations: none,
  columns: none,
  functions: none,
  parameters: none,
  bytes: 0,
} as const;

/** Names for our leaf when no upstream certificate can be mirrored: what the client called the server. */
function ownNames(flow: Flow, serverName: string | null) {
  const name = serverName ?? flow.hostname;
  return {
    commonName: name ?? flow.destination.address,
    dns: name === null ? [] : [name],
    ip: [flow.destination.address],
  };
}
