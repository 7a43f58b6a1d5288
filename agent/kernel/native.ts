/**
 * What the kernel gives that Node does not: cgroup BPF, NFQUEUE, raw packets, socket options. One native addon in C
 * (agent/kernel/native/, build/weir.node), reached only through this page.
 *
 * Arguments are checked in C and a wrong one is a TypeError. What the kernel refuses is an Error with `code` (EPERM),
 * `errno` and `syscall`, like Node's own.
 */
import type { Endpoint } from "../core/flow.ts";
import { addon } from "./native/addon.ts";

export { type Bpf, loadBpf } from "./native/bpf.ts";
export { removePins } from "./native/bpf-pins.ts";

/** A packet of the queue; it waits in the kernel until its verdict. */
export interface QueuedPacket {
  readonly id: number;
  /** From the IP header on, cut at `copyBytesMax`. It is the callback's to keep. */
  readonly payload: Buffer;
  readonly mark: number;
  /** Of the socket that sent it; null where the kernel knows none (an incoming packet, a closed socket). */
  readonly uid: number | null;
  readonly gid: number | null;
  /** Interface indexes, 0 where there is none: `outIface` is 0 for an incoming packet. */
  readonly inIface: number;
  readonly outIface: number;
  /** Of linux/netfilter.h: 0 PREROUTING, 1 INPUT, 2 FORWARD, 3 OUTPUT. */
  readonly hook: number;
}

export interface PacketQueueOptions {
  readonly queue: number;
  /** Bytes of a packet that are copied to the callback; the packet itself leaves whole. 65531 at most. */
  readonly copyBytesMax: number;
  /** Packets waiting for a verdict; what comes beyond is dropped by the kernel. */
  readonly queueLengthMax: number;
  /** Bytes of the socket's receive buffer. */
  readonly receiveBufferBytes?: number;
}

export interface PacketQueueCounters {
  readonly received: number;
  readonly accepted: number;
  readonly dropped: number;
  /** Times that the socket's buffer was full (ENOBUFS): packets were dropped unseen. */
  readonly overruns: number;
  /** Verdicts that the kernel did not take: mostly of a packet that is gone. */
  readonly verdictErrors: number;
}

export interface PacketQueue {
  /** Given in the callback, verdicts leave together when it has seen every packet of the wake-up; else at once. */
  verdict(id: number, verdict: "accept" | "drop", mark?: number): void;
  /** For every waiting packet with an id up to and including this one. */
  verdictUpTo(id: number, verdict: "accept" | "drop", mark?: number): void;
  counters(): PacketQueueCounters;
  /** Unbinds; what is still waiting is dropped by the kernel. */
  close(): void;
}

/**
 * Opens an NFQUEUE in the process's network namespace. The fail-open flag stays off: a full queue drops. A callback
 * that throws is an uncaught exception; its packet has no verdict then and waits.
 */
export function openQueue(options: PacketQueueOptions, onPacket: (packet: QueuedPacket) => void): PacketQueue {
  const { queue, copyBytesMax, queueLengthMax, receiveBufferBytes = 4 * 1024 * 1024 } = options;
  const native = addon();
  const handle = native.queueOpen(
    queue,
    copyBytesMax,
    queueLengthMax,
    receiveBufferBytes,
    (id, payload, mark, uid, gid, inIface, outIface, hook) =>
      onPacket({
        id,
        payload,
        mark,
        uid: uid < 0 ? null : uid,
        gid: gid < 0 ? null : gid,
        inIface,
        outIface,
        hook,
      }),
  );
  return {
    verdict: (id, verdict, mark) => native.queueVerdict(handle, id, verdict === "accept", mark ?? -1, false),
    verdictUpTo: (id, verdict, mark) => native.queueVerdict(handle, id, verdict === "accept", mark ?? -1, true),
    counters: () => native.queueCounters(handle),
    close: () => native.queueClose(handle),
  };
}

/** Sends one packet, from its IPv4 header on (IP_HDRINCL); the destination is the header's. Never queued or marked by us but by `mark`. */
export function sendRaw4(packet: Uint8Array, mark: number): void {
  addon().sendRaw(4, packet, mark);
}

/** Sends one packet, from its IPv6 header on (IPV6_HDRINCL). */
export function sendRaw6(packet: Uint8Array, mark: number): void {
  addon().sendRaw(6, packet, mark);
}

/** A TCP socket with SO_MARK, not yet connected: `new net.Socket({ fd }).connect(…)`. The caller owns the descriptor. */
export function socketMarked(family: 4 | 6, mark: number): number {
  return addon().socketMarked(family, mark);
}

/** One that is connecting, as `to` says. The caller owns the descriptor. */
export function connectMarked(family: 4 | 6, to: Endpoint, mark: number): number {
  return addon().connectMarked(family, to.address, to.port, mark);
}

/** No delay of what is written, and keep-alive; a listener's connections inherit both. */
export function tcpOptions(fd: number): void {
  addon().tcpOptions(fd);
}

export function setMark(fd: number, mark: number): void {
  addon().setMark(fd, mark);
}

/** Before nat REDIRECT took it (SO_ORIGINAL_DST); null where conntrack knows of no redirection. */
export function originalDestination(fd: number): Endpoint | null {
  return addon().originalDestination(fd);
}

/** Null where the kernel has no such connection (any more). Throws where it cannot be asked (sock_diag(7)). */
export function tcpOwner(local: Endpoint, remote: Endpoint): { readonly uid: number; readonly inode: number } | null {
  const family = local.address.includes(":") ? 6 : 4;
  return addon().tcpOwner(family, local.address, local.port, remote.address, remote.port);
}

/** Of the process at the other end of a Unix socket, as it was at connect (SO_PEERCRED). */
export function peerCredentials(fd: number): { readonly pid: number; readonly uid: number; readonly gid: number } {
  return addon().peerCredentials(fd);
}

export function socketCookie(fd: number): bigint {
  return addon().socketCookie(fd);
}

/** Of the socket's network namespace, or of the process's own. */
export function netnsCookie(fd = -1): bigint {
  return addon().netnsCookie(fd);
}

/** A bound and listening TCP socket inside the network namespace at `path`, for `server.listen({ fd })`. */
export function listenInNamespace(path: string, family: 4 | 6, address: string, port: number): number {
  return addon().listenInNamespace(path, family, address, port);
}

/** One datagram to a Unix socket; `@` at the front names an abstract one. How a service speaks to systemd (sd_notify(3)). */
export function sendDatagram(path: string, message: string): void {
  addon().sendDatagram(path, Buffer.from(message));
}

/** Grows with every change of nf_tables in this network namespace; null where the kernel has none (legacy iptables). */
export function rulesGeneration(): number | null {
  return addon().rulesGeneration();
}

/**
 * Calls back after each change of nf_tables in this network namespace, until the returned function is called. Once a process.
 * It keeps no process alive.
 */
export function watchRules(onChange: () => void): () => void {
  addon().watchRules(onChange);
  return () => addon().unwatchRules();
}

/** Of this network namespace, one line each: index, index of the bridge it is a port of or 0, name, kind (`-`: none). */
export function links(): string {
  return addon().links();
}

/** Ends the process at once: no handler of its end runs, and no thread is waited for. */
export function endNow(code: number): never {
  return addon().endNow(code);
}
