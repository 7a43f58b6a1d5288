/**
 * Redirect: takes the scope's connections, by BPF at connect(2) and, behind it, by the firewall at the first packet.
 * README.md tells how the two back each other.
 */
import { randomInt } from "node:crypto";
import { Socket } from "node:net";
import type { Endpoint, ProcessInfo } from "../core/flow.ts";
import type { Target } from "../core/target.ts";
import { WeirError } from "../errors.ts";
import { canonicalAddress, familyOf, isLoopback } from "./address.ts";
import { processInfo } from "./attribution.ts";
import { type BpfRoutes, bpfRoutes } from "./bpf-routes.ts";
import { type CgroupTree, createRunCgroup, killAndRemove, openCgroup, processesOf, removeIfEmpty } from "./cgroup.ts";
import { containerOwners } from "./container-owner.ts";
import { type EndedFlows, endDirectFlows, endEarlierFlows } from "./earlier-flows.ts";
import { type FirewallPlan, type Ports, setFirewall } from "./firewall.ts";
import { type Marks, wallMark } from "./firewall-rules.ts";
import { type FirewallWatch, watchFirewall } from "./firewall-watch.ts";
import { findOwner, openFirstPackets, type RefusedEvent } from "./first-packets.ts";
import { type JudgeFacts, passesUnread } from "./judge.ts";
import { localBridges } from "./local-bridges.ts";
import { createNameTable } from "./name-table.ts";
import {
  type Bpf,
  connectMarked,
  loadBpf,
  netnsCookie,
  originalDestination,
  socketMarked,
  watchRules,
} from "./native.ts";
import { configuredResolvers, resolveNames } from "./resolvers.ts";
import { compileTargets, type Route } from "./target-map.ts";

const bpffs = "/sys/fs/bpf";
/** Names of targets are looked up again so often, and entries of names that nobody asked for any more go. */
const refreshMs = 30_000;
/** Start does not wait longer for a resolver; what it says later is taken in then. */
const firstLookupMsMax = 500;
/** Chain names of iptables end at 28 characters. */
const instanceCharsMax = 18;

export type Scope =
  | { readonly kind: "run" }
  | { readonly kind: "host" }
  | { readonly kind: "cgroup"; readonly path: string };

/** A connection that was accepted. Its descriptor is asked for only where BPF did not tell where it wanted to go. */
export interface Arrived {
  readonly fd: number;
  /** Port 0: it is gone already. */
  readonly source: Endpoint;
  readonly localPort: number;
}

export interface InterceptionOptions {
  readonly scope: Scope;
  /** Suffix of chains, cgroup and pins: several agents, each in its own network namespace, do not meet. */
  readonly instance: string;
  readonly stateDir: string;
  readonly targets: readonly Target[];
  readonly egress: "deny" | "allow";
  readonly onFailure: "closed" | "open";
  /** What an ordered end leaves: `closed` keeps rules and redirection standing for the next start. Default `open`. */
  readonly onStop?: "closed" | "open";
  /** The agent's listeners on 127.0.0.1 and ::1. */
  readonly ports: Ports;
  /** For a whole host, those on every address, where what comes over a bridge arrives. Left out: that is refused. */
  readonly bridgePorts?: Ports;
  /** False: the firewall alone redirects (a kernel without cgroup BPF; the tests of the second line). */
  readonly bpf?: boolean;
  /** Those of /etc/resolv.conf when not given. */
  readonly resolvers?: readonly string[];
  onRefused(event: RefusedEvent): void;
  /** Somebody changed our rules, and they stand again. */
  onRestored?(detail: string): void;
  /** Connections that were open before the rules of a whole host, or before a target named where they lead, ended now. */
  onEnded?(detail: string): void;
  onNotice(text: string): void;
}

export interface Origin {
  readonly destination: Endpoint;
  readonly process: ProcessInfo | null;
  readonly hostname: string | null;
  /** Every name that the host was told leads to this address. */
  readonly hostnames: readonly string[];
  readonly via: "bpf" | "redirect";
}

export interface Interception {
  /** SO_MARK of the agent's own upstream sockets. */
  readonly mark: number;
  /** Where an accepted connection wanted to go and who opened it; null: it came by no redirect. */
  lookup(arrived: Arrived): Origin | null;
  /** A marked socket that is connecting. */
  dial(destination: Endpoint): Socket;
  /** The same as a bare descriptor. The caller owns it. */
  connect(destination: Endpoint): number;
  createRun(run: { pid: number; uid: number; name: string }): Promise<{ cgroup: string; remove(): Promise<void> }>;
  setTargets(targets: readonly Target[], egress: "deny" | "allow"): void;
  hostnameOf(address: string): string | null;
  stats(): InterceptionStats;
  close(): Promise<void>;
}

export interface InterceptionStats {
  readonly bpf: ReturnType<Bpf["counters"]> | null;
  readonly queue: { received: number; accepted: number; dropped: number; overruns: number; verdictErrors: number };
  readonly routes: number;
  readonly names: number;
}

export async function startInterception(options: InterceptionOptions): Promise<Interception> {
  const { scope, instance, onNotice } = options;
  if (process.getuid?.() !== 0) throw new WeirError("WEIR_NOT_ROOT");
  if (!/^[A-Za-z0-9_.-]+$/.test(instance) || instance.length > instanceCharsMax) {
    throw new WeirError(
      "WEIR_CONFIG_INVALID",
      `The instance name ${instance} is not 1 to ${instanceCharsMax} of A-Z a-z 0-9 _ . -`,
    );
  }
  const marks = newMarks();
  const names = createNameTable();
  const containers = containerOwners();
  const bridges = localBridges();
  const bridgePorts =
    scope.kind === "host" && options.bridgePorts !== undefined ? options.bridgePorts : { v4: 0, v6: 0 };
  let targets = compileTargets(options.targets);
  let egress = options.egress;
  let reject = true;
  let closed = false;
  const tree = openScope(scope, instance);
  const candidates = (): readonly number[] | null => (scope.kind === "host" ? null : processesOf(tree));
  const packets = openFirstPackets({
    marks,
    names,
    facts: () => ({ targets, egress }),
    reject: () => reject,
    candidates,
    containers,
    bridges,
    onRefused: options.onRefused,
    onLearned: (name, address) => {
      if (!targets.wantsName(name) || closed) return;
      routes?.add(targets.routesOf(address, [name]));
    },
    onNotice,
  });
  const plan = (): FirewallPlan => ({
    instance,
    scope: scope.kind === "host" ? { kind: "host" } : { kind: "cgroup", path: tree.path },
    marks,
    queue: packets.queue,
    ports: options.ports,
    bridgePorts,
    resolvers: options.resolvers ?? configuredResolvers(),
    egress,
    onFailure: options.onFailure,
    loopback: wantedRoutes().filter((route) => isLoopback(route.address)),
    targetPorts: targets.ports,
  });
  const undo: (() => unknown)[] = [() => packets.close()];
  if (scope.kind === "run") undo.push(() => removeIfEmpty(tree));
  let routes: BpfRoutes | null = null;
  try {
    await Promise.race([learnNames(), new Promise((done) => setTimeout(done, firstLookupMsMax))]);
    const firewall = await setFirewall(plan());
    // A start that fails behind rules that have to outlast it leaves them: closed, as it found them.
    if (options.onStop !== "closed") undo.push(() => firewall.remove());
    reject = firewall.reject;
    const bpf = options.bpf === false ? null : openBpf();
    if (bpf !== null) undo.push(() => bpf.close());
    const watch = await watchFirewall({
      generation: firewall.generation,
      watch: (onChange) => {
        if (firewall.generation() === null) throw new Error("nf_tables tells nothing of these rules");
        return watchRules(onChange);
      },
      standing: firewall.standing,
      restore: () => firewall.replace(plan()),
      onRestored: (detail) => options.onRestored?.(detail),
      onNotice,
    });
    undo.push(() => watch.close());
    if (scope.kind === "host" && options.onFailure === "closed") await ending(endEarlierFlows(takes));
    if (scope.kind !== "host" || options.onFailure === "closed") await endUnread();
    return running(firewall, bpf, watch);
  } catch (error) {
    for (const step of undo.reverse()) await step();
    throw error;
  }

  /** Without BPF the firewall alone redirects: slower, and the owner of a flow is found by search. That is no failure. */
  function openBpf(): Bpf | null {
    let bpf: Bpf | null = null;
    try {
      bpf = loadBpf();
      bpf.setConfig({
        agentPid: process.pid,
        agentMark: marks.agent,
        netnsCookie: netnsCookie(),
        port4: options.ports.v4,
        port6: options.ports.v6,
        wallMark: options.onFailure === "closed" ? wallMark : 0,
      });
      if (bpf.noWall !== null) onNotice(`Without rules this host is open until they are put back: ${bpf.noWall}`);
      routes = bpfRoutes(bpf);
      routes.set(wantedRoutes());
      bpf.attach(tree.directory);
      if (options.onFailure === "closed") bpf.pin(`${bpffs}/weir-${instance}`);
      return bpf;
    } catch (error) {
      bpf?.close();
      routes = null;
      onNotice(`BPF is not in force, the firewall alone redirects: ${error instanceof Error ? error.message : error}`);
      return null;
    }
  }

  function takes({ address, port }: Endpoint): boolean {
    return targets.match(address, port, names.namesOf(address, Date.now())) !== null;
  }

  /**
   * What the scope has open past the agent, where the policy in force does not let it go unread. `before`: what was in force;
   * where nothing could go unread under that either, somebody has come in, and his listener is gone.
   */
  function endUnread(before: JudgeFacts | null = null): Promise<void> {
    const resolvers = options.resolvers ?? configuredResolvers();
    const passes = (to: Endpoint, facts: JudgeFacts): boolean =>
      passesUnread(to, bridges.leadTo(to.address), facts, names, Date.now());
    return ending(
      endDirectFlows({
        ports: [...Object.values(options.ports), ...Object.values(bridgePorts)].filter((port) => port !== 0),
        cgroup: scope.kind === "host" ? null : tree.path,
        passes: (to) =>
          (to.port === 53 && resolvers.includes(to.address)) ||
          passes(to, { targets, egress }) ||
          (before !== null && !passes(to, before)),
        containers: () => (scope.kind === "host" ? containers.processes() : []),
        isContainer: (address) => bridges.leadTo(address),
      }),
    );
  }

  async function ending(work: Promise<EndedFlows>): Promise<void> {
    try {
      const { ended, left } = await work;
      if (ended !== "") options.onEnded?.(ended);
      if (left !== "") onNotice(`Connections older than the rules go on, this kernel does not close them: ${left}`);
    } catch (error) {
      onNotice(`Connections older than the rules go on: ${error instanceof Error ? error.message : error}`);
    }
  }

  function wantedRoutes(): Route[] {
    const nowMs = Date.now();
    const learned = names
      .addressesWhere((name) => targets.wantsName(name), nowMs)
      .flatMap((address) => targets.routesOf(address, names.namesOf(address, nowMs)));
    return [...targets.routes, ...learned];
  }

  async function learnNames(): Promise<void> {
    const found = await resolveNames(targets.names);
    // Anew each refresh: a name is remembered for longer than the time between two.
    for (const { name, address } of found) names.learn(name, address, 0, Date.now());
  }

  function running(
    firewall: Awaited<ReturnType<typeof setFirewall>>,
    bpf: Bpf | null,
    watch: FirewallWatch,
  ): Interception {
    let updates = Promise.resolve();
    let applied = JSON.stringify(plan());
    /** One after the other: two restores at once could leave the older one standing. */
    function applyRules(): void {
      routes?.set(wantedRoutes());
      updates = updates.then(async () => {
        const next = plan();
        if (closed || JSON.stringify(next) === applied) return;
        try {
          await watch.change(() => firewall.update(next));
          applied = JSON.stringify(next);
        } catch (error) {
          onNotice(`The firewall keeps its former rules: ${error instanceof Error ? error.message : error}`);
        }
      });
    }
    const refresh = async (): Promise<void> => {
      await learnNames();
      if (!closed) applyRules();
    };
    const timer = setInterval(() => void refresh(), refreshMs);
    timer.unref();
    const cookie = netnsCookie();
    const hostnameOf = (address: string): string | null => {
      const known = names.namesOf(address, Date.now());
      return known.find((name) => targets.wantsName(name)) ?? known[0] ?? null;
    };

    function lookup(arrived: Arrived): Origin | null {
      if (arrived.source.port === 0) return null;
      const source = { address: canonicalAddress(arrived.source.address), port: arrived.source.port };
      const overBridge = scope.kind === "host" && isPortOf(arrived.localPort, source.address, bridgePorts);
      const flow = overBridge ? null : (bpf?.takeFlow(cookie, source) ?? null);
      if (flow !== null) {
        const { destination, uid, gid, comm, startNs, ppid, execId, cgroupId } = flow;
        const known = { uid, gid, comm, ...(startNs === 0n ? {} : { startNs, ppid, execId, cgroupId }) };
        return {
          destination,
          process: processInfo(flow.pid, known),
          hostname: hostnameOf(destination.address),
          hostnames: names.namesOf(destination.address, Date.now()),
          via: "bpf",
        };
      }
      const seen = packets.takeRedirected(source);
      const destination = originalDestination(arrived.fd);
      if (destination === null || isOwnListener(destination)) return null;
      const owner = overBridge
        ? containers.find("tcp", source, destination)
        : findOwner("tcp", source, destination, seen?.uid ?? null, candidates);
      const hostnames = names.namesOf(destination.address, Date.now());
      return { destination, process: owner, hostname: hostnameOf(destination.address), hostnames, via: "redirect" };
    }

    /** Asked for by itself, and not redirected: it would connect to itself for ever. */
    function isOwnListener({ address, port }: Endpoint): boolean {
      return isLoopback(address) && [options.ports, bridgePorts].some((ports) => isPortOf(port, address, ports));
    }

    function isPortOf(port: number, address: string, ports: Ports): boolean {
      return port !== 0 && port === (familyOf(address) === 4 ? ports.v4 : ports.v6);
    }

    function dial(destination: Endpoint): Socket {
      const socket = new Socket({ fd: socketMarked(familyOf(destination.address), marks.agent) });
      return socket.connect({ host: destination.address, port: destination.port });
    }

    function connect(destination: Endpoint): number {
      return connectMarked(familyOf(destination.address), destination, marks.agent);
    }

    async function createRun(run: { pid: number; uid: number; name: string }) {
      if (scope.kind === "cgroup") {
        throw new WeirError("WEIR_CONTROL_REFUSED", "The scope is a cgroup of its own; start the command in there.");
      }
      const parent = scope.kind === "run" ? tree : openCgroup(`weir-${instance}`, { create: true });
      const own = createRunCgroup(parent, run.pid, run.name);
      const remove = async (): Promise<void> => {
        // What the command left running stays governed; its cgroup goes with the agent.
        removeIfEmpty(own);
      };
      return { cgroup: `/${own.path}`, remove };
    }

    function setTargets(next: readonly Target[], nextEgress: "deny" | "allow"): void {
      const before = { targets, egress };
      targets = compileTargets(next);
      egress = nextEgress;
      applyRules();
      // At once what is known, and then what lies behind names that nobody has asked for yet.
      const known = endUnread(before);
      void refresh()
        .then(() => known)
        .then(() => endUnread(before));
    }

    /** The governed go first, then the redirection, then the rules: nothing of the scope runs ungoverned in between. */
    async function close(): Promise<void> {
      if (closed) return;
      closed = true;
      clearInterval(timer);
      await updates;
      await watch.close();
      if (options.onStop === "closed" && scope.kind !== "run") {
        // The next agent takes both over; until then the kernel refuses, as if this one had been killed.
        bpf?.close({ keepPins: true });
        packets.close();
        return;
      }
      const emptied = scope.kind === "run" ? await killAndRemove(tree) : true;
      if (!emptied) {
        onNotice("Processes of the scope would not end; redirection and rules stay, closed.");
        bpf?.close({ keepPins: options.onFailure === "closed" });
        packets.close();
        return;
      }
      bpf?.close();
      await firewall.remove();
      packets.close();
      if (scope.kind === "host") removeRuns(instance);
    }

    void refresh();
    return {
      mark: marks.agent,
      lookup,
      dial,
      connect,
      createRun,
      setTargets,
      hostnameOf,
      stats: () => ({
        bpf: bpf?.counters() ?? null,
        queue: packets.counters(),
        routes: routes?.size ?? 0,
        names: names.size,
      }),
      close,
    };
  }
}

function openScope(scope: Scope, instance: string): CgroupTree {
  if (scope.kind === "host") return openCgroup("", { create: false });
  if (scope.kind === "cgroup") return openCgroup(scope.path, { create: false });
  const tree = openCgroup(`weir-${instance}`, { create: true });
  // Runs of an agent that was killed: empty ones go, the others are governed again from now on.
  if (processesOf(tree).length === 0) {
    removeIfEmpty(tree);
    return openCgroup(`weir-${instance}`, { create: true });
  }
  return tree;
}

/** In the host's scope a run's cgroup only names its processes: ending the agent ends none of them. */
function removeRuns(instance: string): void {
  try {
    removeIfEmpty(openCgroup(`weir-${instance}`, { create: false }));
  } catch {
    // no run was ever made
  }
}

/** 0x57 ("W"), 16 random bits that a container with CAP_NET_RAW cannot know, and the meaning. */
function newMarks(): Marks {
  const base = 0x57000000 + randomInt(0x10000) * 0x100;
  return { agent: base + 1, redirect: base + 2, pass: base + 3, refuse: base + 4 };
}
