/** Runs the queue of first packets: reads each, asks the judge, gives the kernel its verdict. */
import type { Endpoint, ProcessInfo } from "../core/flow.ts";
import { WeirError } from "../errors.ts";
import { processInfo } from "./attribution.ts";
import type { ContainerOwners } from "./container-owner.ts";
import type { Marks } from "./firewall-rules.ts";
import { type JudgeFacts, judgePacket, type Passage } from "./judge.ts";
import type { LocalBridges } from "./local-bridges.ts";
import type { NameTable } from "./name-table.ts";
import {
  openQueue,
  type PacketQueue,
  type PacketQueueCounters,
  type QueuedPacket,
  sendRaw4,
  sendRaw6,
} from "./native.ts";
import type { Packet } from "./packet.ts";
import { buildRefusal } from "./refusal-packet.ts";
import { findHolder, findSocket, processesOfUser } from "./socket-owner.ts";

/** Headers and a whole DNS answer over UDP. */
const copyBytesMax = 4096;
const queueLengthMax = 4096;
const queueNumberFirst = 5700;
/** Queue numbers tried: so many agents may share a network namespace. */
const queueNumbersMax = 64;
/** Refused flows told one by one; more in one second are only counted, so that a port scan does not flood the record. */
const refusedEventsPerSecondMax = 100;
/** The kernel walks its whole socket table for one owner (5 ms): beyond so many in a second, refusals are told without. */
const attributedPerSecondMax = 10;
/** Redirected flows remembered until they are accepted. */
const redirectedMax = 8192;

/** By the number of the hook (linux/netfilter.h). */
const ways: readonly Passage["way"][] = ["arriving", "in", "through", "out"];

export interface RefusedEvent {
  readonly destination: Endpoint;
  readonly transport: "tcp" | "udp";
  readonly process: ProcessInfo | null;
  readonly reason: string;
}

export interface FirstPacketsOptions {
  readonly marks: Marks;
  readonly names: NameTable;
  facts(): JudgeFacts;
  /** False: refusals are answered by raw socket. */
  reject(): boolean;
  /** Processes of the scope; null: those of the packet's user. */
  candidates(): Iterable<number> | null;
  /** Of flows that come through the host. */
  readonly containers: ContainerOwners;
  readonly bridges: Pick<LocalBridges, "has">;
  onRefused(event: RefusedEvent): void;
  onLearned(name: string, address: string): void;
  onNotice(text: string): void;
}

export interface FirstPackets {
  readonly queue: number;
  /** What the judge saw of a redirected flow, once; null when it saw none. */
  takeRedirected(source: Endpoint): { readonly destination: Endpoint; readonly uid: number | null } | null;
  counters(): PacketQueueCounters;
  close(): void;
}

export function openFirstPackets(options: FirstPacketsOptions): FirstPackets {
  const { marks, names, bridges } = options;
  const redirected = new Map<string, { destination: Endpoint; uid: number | null }>();
  let secondStartMs = 0;
  let eventsInSecond = 0;
  let untold = 0;

  function onPacket(queued: QueuedPacket): void {
    const nowMs = Date.now();
    // Whatever goes wrong in here must not let a packet out, nor leave it waiting.
    try {
      judge(queued, nowMs);
    } catch (error) {
      handle.verdict(queued.id, "drop");
      options.onNotice(`A first packet was dropped: ${error instanceof Error ? error.message : String(error)}`);
    }
  }

  function judge(queued: QueuedPacket, nowMs: number): void {
    const way = ways[queued.hook] ?? "out";
    const fromLocal = way !== "out" && bridges.has(queued.inIface);
    const passage = { way, fromLocal, toLocal: bridges.has(queued.outIface) };
    const judgement = judgePacket(queued.payload, passage, options.facts(), names, nowMs);
    if (judgement.kind === "answer") {
      // Learned before the client gets its answer: its connect comes after the map knows the address.
      for (const { name, address } of judgement.learned) options.onLearned(name, address);
      handle.verdict(queued.id, "accept");
    } else if (judgement.kind === "redirect") {
      remember(judgement.source, judgement.destination, queued.uid);
      handle.verdict(queued.id, "accept", marks.redirect);
    } else if (judgement.kind === "pass") {
      handle.verdict(queued.id, "accept", marks.pass);
    } else if (judgement.kind === "later") {
      handle.verdict(queued.id, "accept");
    } else {
      refuse(queued, judgement.packet, judgement.reason, nowMs);
    }
  }

  function refuse(queued: QueuedPacket, packet: Packet | null, reason: string, nowMs: number): void {
    // The owner is looked for first: a refused socket leaves the kernel's tables at once.
    const told = packet !== null && mayTell(nowMs);
    const process = told && eventsInSecond <= attributedPerSecondMax ? ownerOf(packet, queued) : null;
    if (options.reject()) {
      handle.verdict(queued.id, "accept", marks.refuse);
    } else {
      handle.verdict(queued.id, "drop");
      if (packet !== null) {
        (packet.family === 4 ? sendRaw4 : sendRaw6)(buildRefusal(packet, queued.payload), marks.agent);
      }
    }
    if (!told) return;
    const transport = packet.tcp === null ? "udp" : "tcp";
    options.onRefused({ destination: packet.destination, transport, process, reason });
  }

  function mayTell(nowMs: number): boolean {
    if (nowMs - secondStartMs >= 1000) {
      if (untold > 0) options.onNotice(`${untold} more refused flows were not told one by one.`);
      secondStartMs = nowMs;
      eventsInSecond = 0;
      untold = 0;
    }
    if (++eventsInSecond <= refusedEventsPerSecondMax) return true;
    untold++;
    return false;
  }

  function ownerOf(packet: Packet, queued: QueuedPacket): ProcessInfo | null {
    const transport = packet.tcp === null ? "udp" : "tcp";
    if (ways[queued.hook] === "through") return options.containers.find(transport, packet.source, packet.destination);
    return findOwner(transport, packet.source, packet.destination, queued.uid, options.candidates);
  }

  function remember(source: Endpoint, destination: Endpoint, uid: number | null): void {
    redirected.set(keyOf(source), { destination, uid });
    if (redirected.size > redirectedMax) redirected.delete(redirected.keys().next().value!);
  }

  const { queue, handle } = openFree(onPacket);
  return {
    queue,
    takeRedirected(source) {
      const found = redirected.get(keyOf(source)) ?? null;
      redirected.delete(keyOf(source));
      return found;
    },
    counters: () => handle.counters(),
    close: () => handle.close(),
  };
}

/** Who held the last sockets that were asked for: one client mostly opens many. */
const recentHoldersMax = 4;
let recentHolders: readonly number[] = [];

/** By inode and file descriptor; the kernel's user of the packet narrows the search. */
export function findOwner(
  transport: "tcp" | "udp",
  local: Endpoint,
  remote: Endpoint,
  uid: number | null,
  candidates: () => Iterable<number> | null,
): ProcessInfo | null {
  const socket = findSocket(transport, local, remote);
  if (socket === null) return null;
  const { inode } = socket;
  const pid = findHolder(inode, recentHolders) ?? findHolder(inode, candidates() ?? processesOfUser(uid ?? socket.uid));
  if (pid === null) return null;
  if (recentHolders[0] !== pid)
    recentHolders = [pid, ...recentHolders.filter((other) => other !== pid)].slice(0, recentHoldersMax);
  return processInfo(pid);
}

function keyOf(source: Endpoint): string {
  return `${source.address} ${source.port}`;
}

function openFree(onPacket: (packet: QueuedPacket) => void): { queue: number; handle: PacketQueue } {
  let last: unknown;
  for (let queue = queueNumberFirst; queue < queueNumberFirst + queueNumbersMax; queue++) {
    try {
      return { queue, handle: openQueue({ queue, copyBytesMax, queueLengthMax }, onPacket) };
    } catch (error) {
      last = error;
      // Another agent's queue: the kernel says EPERM or EBUSY, as its version likes.
      if (!["EBUSY", "EPERM"].includes((error as NodeJS.ErrnoException).code ?? "")) break;
    }
  }
  throw new WeirError("WEIR_KERNEL_UNSUPPORTED", "No NFQUEUE could be opened; `weir doctor` tells why.", {
    cause: last,
  });
}
