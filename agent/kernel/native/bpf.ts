/** The BPF programs of bpf/weir.bpf.c: loading, attaching, pinning and their maps. */
import type { Endpoint } from "../../core/flow.ts";

/** What the kernel wrote down at connect(2), before the destination was rewritten. */
export interface FlowRecord {
  readonly destination: Endpoint;
  readonly pid: number;
  readonly ppid: number;
  readonly uid: number;
  readonly gid: number;
  readonly comm: string;
  readonly cgroupId: bigint;
  /** Nanoseconds since boot of the process's start; 0n where the kernel has no BTF to find it by. */
  readonly startNs: bigint;
  readonly netnsCookie: bigint;
  readonly socketCookie: bigint;
}

export interface BpfConfig {
  /** Connections of this process are never taken. 0: none. */
  readonly agentPid: number;
  /** SO_MARK of sockets that are never taken. 0: none. */
  readonly agentMark: number;
  /** The network namespace of the listener; sockets of others are left to the firewall. */
  readonly netnsCookie: bigint;
  /** The agent's listener on 127.0.0.1; 0: IPv4 is not taken. */
  readonly port4: number;
  /** The agent's listener on ::1; 0: IPv6 is not taken. */
  readonly port6: number;
}

export interface BpfTarget {
  /** IPv4 or IPv6 in text; an IPv4 target also takes ::ffff:a.b.c.d. */
  readonly address: string;
  readonly prefix: number;
  readonly port: number;
  /** Without it, 127.0.0.0/8 and ::1 are not taken even where the network holds them. */
  readonly takeLoopback: boolean;
}

export interface BpfCounters {
  /** Connections rewritten to the agent's listener. */
  readonly redirected: number;
  /** Connections to targets from other network namespaces, left alone. */
  readonly foreignNetns: number;
  /** The agent's own connections to targets, left alone. */
  readonly own: number;
  /** Records that found no room, so that the connection was refused (EPERM). */
  readonly recordFailures: number;
  /** Connections established without a record. */
  readonly flowFailures: number;
}

export interface Bpf {
  setConfig(config: BpfConfig): void;
  addTarget(target: BpfTarget): void;
  /** False when there was none. */
  removeTarget(target: Omit<BpfTarget, "takeLoopback">): boolean;
  /** Attaches all programs to the cgroup and everything below it (multi mode); more than one cgroup may be attached. */
  attach(cgroupPath: string): void;
  /**
   * Pins the links below a directory of a bpffs (mounted when it is not), so that redirection stays, closed, when the
   * agent dies. Pins of an agent before are removed after ours stand: at no moment is the scope open.
   */
  pin(dir: string): void;
  /** Finds the record by the accepted socket's peer, once: it is deleted. Null: the flow did not come through BPF. */
  takeFlow(netnsCookie: bigint, source: Endpoint): FlowRecord | null;
  counters(): BpfCounters;
  /** Detaches and unpins; `keepPins` leaves the pinned redirection standing (closed). */
  close(options?: { keepPins?: boolean }): void;
}

export function loadBpf(): Bpf {
  throw new Error("not yet");
}
