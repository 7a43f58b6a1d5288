/** The BPF programs of bpf/weir.bpf.c: loading, attaching, pinning and their maps. */
import { closeSync, openSync, readFileSync } from "node:fs";
import { join } from "node:path";
import type { Endpoint } from "../../core/flow.ts";
import { WeirError } from "../../errors.ts";
import { type Addon, addon } from "./addon.ts";
import {
  bpfMaps,
  decodeCounters,
  decodeFlow,
  encodeConfig,
  encodeFlowKey,
  encodeTarget,
  encodeTargetValue,
  newCounters,
  newFlow,
  newFlowKey,
} from "./bpf-maps.ts";
import { linkMaps, readBpfObject } from "./bpf-object.ts";
import { openPinDirectory, type PinDirectory } from "./bpf-pins.ts";
import { type KernelOffsets, kernelOffsets } from "./kernel-offsets.ts";

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
  /** Counts the programs that the process became (low 32 bits); 0 where the kernel does not tell. */
  readonly execId: number;
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
  /** What leaves without this bit of a packet's mark is dropped. 0: nothing is. */
  readonly wallMark: number;
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
  /** Packets that the firewall's rules had not seen, for they were gone: dropped. */
  readonly walled: number;
}

export interface Bpf {
  setConfig(config: BpfConfig): void;
  /** Why this kernel does not take the wall; null when it does. */
  readonly noWall: string | null;
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

const objectPath = join(import.meta.dirname, "../../../bpf/weir.bpf.o");
const btfPath = "/sys/kernel/btf/vmlinux";

/** Numbers of linux/bpf.h, by the section that the program stands in. */
const kinds: Readonly<Record<string, { name: string; type: number; attach: number }>> = {
  "cgroup/connect4": { name: "weir_connect4", type: 18, attach: 10 },
  "cgroup/connect6": { name: "weir_connect6", type: 18, attach: 11 },
  sockops: { name: "weir_sockops", type: 13, attach: 3 },
  "cgroup_skb/egress": { name: "weir_wall", type: 8, attach: 1 },
};
/** Redirecting without a record would send flows to a listener that cannot tell where they wanted to go. */
const attachOrder = ["sockops", "cgroup/connect4", "cgroup/connect6", "cgroup_skb/egress"] as const;
/** Where the kernel does not take it, the rest goes without. */
const wallSection = "cgroup_skb/egress";

interface Link {
  readonly fd: number;
  readonly name: string;
}

/** Loads the programs, attached to nothing yet. WEIR_BPF_LOAD tells what the verifier said. */
export function loadBpf(): Bpf {
  const native = addon();
  const fds: number[] = [];
  try {
    return open(native, fds);
  } catch (error) {
    for (const fd of fds) native.closeFd(fd);
    throw explained(error);
  }
}

function open(native: Addon, fds: number[]): Bpf {
  const maps = new Map<string, number>();
  for (const [name, map] of Object.entries(bpfMaps)) {
    const fd = native.bpfMapCreate(map.type, map.key, map.value, map.entriesMax, map.flags, name);
    fds.push(fd);
    maps.set(name, fd);
  }
  const object = readBpfObject(readFileSync(objectPath));
  const programs = new Map<string, number>();
  let noWall: string | null = null;
  for (const program of object.programs) {
    const kind = kinds[program.section];
    if (kind === undefined) continue;
    try {
      const fd = native.bpfProgLoad(kind.type, kind.attach, linkMaps(program, maps), object.license, kind.name);
      fds.push(fd);
      programs.set(program.section, fd);
    } catch (error) {
      if (program.section !== wallSection) throw error;
      noWall = explained(error).message;
    }
  }
  const mapFd = (name: keyof typeof bpfMaps): number => maps.get(name) as number;
  const offsets = readOffsets();
  if (offsets.net === null) noWall ??= "the kernel has no BTF to tell a socket's network namespace by";
  const zero = Buffer.alloc(4);
  const key = newFlowKey();
  const flow = newFlow();
  const flowsFd = mapFd("flows");
  const links: Link[] = [];
  let pins: PinDirectory | null = null;
  let closed = false;

  function attach(cgroupPath: string): void {
    const cgroup = openSync(cgroupPath, "r");
    const made: Link[] = [];
    try {
      for (const section of attachOrder) {
        const kind = kinds[section];
        const program = programs.get(section);
        if (section === wallSection && noWall !== null) continue;
        if (kind === undefined || program === undefined) {
          throw new WeirError("WEIR_BPF_LOAD", `The BPF object has no program ${section}.`);
        }
        const fd = native.bpfLinkCreate(program, cgroup, kind.attach);
        made.push({ fd, name: `${kind.name}-${links.length + made.length}` });
      }
    } catch (error) {
      for (const link of made) native.closeFd(link.fd);
      throw explained(error);
    } finally {
      closeSync(cgroup);
    }
    links.push(...made);
  }

  function close(options: { keepPins?: boolean } = {}): void {
    if (closed) return;
    closed = true;
    if (options.keepPins !== true) {
      // A pin that cannot be removed must not keep the redirection: the link itself is taken off.
      for (const link of links) native.bpfLinkDetach(link.fd);
      pins?.remove();
    }
    for (const link of links) native.closeFd(link.fd);
    for (const fd of fds) native.closeFd(fd);
  }

  return {
    noWall,
    setConfig: (config) => native.bpfMapUpdate(mapFd("config"), zero, encodeConfig(config, offsets)),
    addTarget(target) {
      const { family, key: network } = encodeTarget(target);
      native.bpfMapUpdate(mapFd(`targets${family}`), network, encodeTargetValue(target.takeLoopback));
    },
    removeTarget(target) {
      const { family, key: network } = encodeTarget(target);
      return native.bpfMapDelete(mapFd(`targets${family}`), network);
    },
    attach,
    pin(dir) {
      pins = openPinDirectory(dir);
      try {
        pins.replace(links);
      } catch (error) {
        throw explained(error);
      }
    },
    takeFlow(netnsCookie, source) {
      if (!encodeFlowKey(key, netnsCookie, source)) return null;
      return native.bpfMapLookup(flowsFd, key, flow, true) ? decodeFlow(flow) : null;
    },
    counters() {
      const value = newCounters();
      native.bpfMapLookup(mapFd("counters"), zero, value, false);
      return decodeCounters(value);
    },
    close,
  };
}

function readOffsets(): KernelOffsets {
  try {
    return kernelOffsets(readFileSync(btfPath));
  } catch {
    return { task: null, net: null };
  }
}

/** What the kernel refuses, in words with the next step. */
function explained(error: unknown): WeirError {
  if (error instanceof WeirError) return error;
  const { code, message } = error as NodeJS.ErrnoException;
  const reason =
    code === "EPERM" || code === "EACCES"
      ? "not permitted: this needs root (CAP_BPF, CAP_NET_ADMIN, CAP_PERFMON) and a kernel that is not locked down"
      : code === "EINVAL" || code === "ENOSYS"
        ? "this kernel does not know it: Linux 5.15 or newer with CONFIG_CGROUP_BPF is needed"
        : code === "ENOENT"
          ? "the cgroup or the object is not there"
          : "the kernel refused";
  return new WeirError("WEIR_BPF_LOAD", `BPF: ${reason}. ${message}`, { cause: error });
}
