/** Keys and values of the BPF maps, byte for byte as bpf/weir-maps.h has them; bpf/maps.md says what they mean. Pure. */

import { formatAddress, parseAddress, parseHostAddress, unmapped } from "../../core/address.ts";
import type { Endpoint } from "../../core/flow.ts";
import type { BpfConfig, BpfCounters, BpfTarget, FlowRecord } from "./bpf.ts";
import type { KernelOffsets } from "./kernel-offsets.ts";

/** Numbers of linux/bpf.h. */
const mapType = { array: 2, lruHash: 9, lpmTrie: 11 } as const;
const noPreallocation = 1;

export const targetsMax = 65_536;
/** Connections between connect(2) and their SYN: soon over. */
export const pendingMax = 4_096;
/** Connections between their SYN and the agent's accept; the oldest make room. */
export const flowsMax = 65_536;

const configBytes = 56;
const flowBytes = 88;
const flowKeyBytes = 32;
const countersBytes = 48;
const targetBytes = { 4: 12, 6: 24 } as const;
const commBytes = 16;
const portBits = 16;

export const bpfMaps = {
  config: { type: mapType.array, key: 4, value: configBytes, entriesMax: 1, flags: 0 },
  targets4: { type: mapType.lpmTrie, key: targetBytes[4], value: 4, entriesMax: targetsMax, flags: noPreallocation },
  targets6: { type: mapType.lpmTrie, key: targetBytes[6], value: 4, entriesMax: targetsMax, flags: noPreallocation },
  pending: { type: mapType.lruHash, key: 8, value: flowBytes, entriesMax: pendingMax, flags: 0 },
  flows: { type: mapType.lruHash, key: flowKeyBytes, value: flowBytes, entriesMax: flowsMax, flags: 0 },
  counters: { type: mapType.array, key: 4, value: countersBytes, entriesMax: 1, flags: 0 },
} as const;

export function encodeConfig(config: BpfConfig, { task, net }: KernelOffsets): Buffer {
  const out = Buffer.alloc(configBytes);
  out.writeBigUInt64LE(config.netnsCookie, 0);
  out.writeUInt32LE(config.agentPid, 8);
  out.writeUInt32LE(config.agentMark, 12);
  out.writeUInt16BE(config.port4, 16);
  out.writeUInt16BE(config.port6, 18);
  if (task !== null) {
    out.writeUInt32LE(1, 20);
    out.writeUInt32LE(task.realParent, 24);
    out.writeUInt32LE(task.tgid, 28);
    out.writeUInt32LE(task.groupLeader, 32);
    out.writeUInt32LE(task.start, 36);
    out.writeUInt32LE(task.execId ?? 0, 52);
  }
  if (net !== null) {
    out.writeUInt32LE(config.wallMark, 40);
    out.writeUInt32LE(net.socketNet, 44);
    out.writeUInt32LE(net.cookie, 48);
  }
  return out;
}

/** The port comes first in the key and always matches whole: 0.0.0.0/0 on a port has a prefix of 16 bits. */
export function encodeTarget(target: Omit<BpfTarget, "takeLoopback">): { family: 4 | 6; key: Buffer } {
  const address = parseAddress(target.address);
  const { prefix, port } = target;
  if (address === null || !isWhole(prefix, address.length * 8) || !isWhole(port, 65_535) || port === 0) {
    throw new TypeError(`not a target: ${target.address}/${prefix} port ${port}`);
  }
  const bytes = prefix >= 96 ? unmapped(address) : address;
  const family = bytes.length === 4 ? 4 : 6;
  const key = Buffer.alloc(targetBytes[family]);
  key.writeUInt32LE(portBits + prefix - (address.length - bytes.length) * 8, 0);
  key.writeUInt16BE(port, 4);
  key.set(bytes, 6);
  return { family, key };
}

export function encodeTargetValue(takeLoopback: boolean): Buffer {
  const out = Buffer.alloc(4);
  out.writeUInt32LE(takeLoopback ? 1 : 0, 0);
  return out;
}

export const newFlow = (): Buffer => Buffer.alloc(flowBytes);
export const newFlowKey = (): Buffer => Buffer.alloc(flowKeyBytes);
export const newCounters = (): Buffer => Buffer.alloc(countersBytes);

/** Into `key`, which is used again and again; false when the source is no address. */
export function encodeFlowKey(key: Buffer, netnsCookie: bigint, source: Endpoint): boolean {
  // A listener on :: sees IPv4 as ::ffff:a.b.c.d.
  const address = parseHostAddress(source.address);
  if (address === null) return false;
  key.fill(0);
  key.writeBigUInt64LE(netnsCookie, 0);
  key.set(address, 8);
  key.writeUInt16LE(source.port, 24);
  key[26] = address.length === 4 ? 4 : 6;
  return true;
}

export function decodeFlow(value: Buffer): FlowRecord {
  const family = value[82] === 4 ? 4 : 6;
  const comm = value.subarray(48, 48 + commBytes);
  const end = comm.indexOf(0);
  return {
    destination: {
      address: formatAddress(value.subarray(64, family === 4 ? 68 : 80)),
      port: value.readUInt16BE(80),
    },
    pid: value.readUInt32LE(32),
    ppid: value.readUInt32LE(36),
    uid: value.readUInt32LE(40),
    gid: value.readUInt32LE(44),
    comm: comm.toString("utf8", 0, end < 0 ? commBytes : end),
    cgroupId: value.readBigUInt64LE(16),
    startNs: value.readBigUInt64LE(24),
    execId: value.readUInt32LE(84),
    netnsCookie: value.readBigUInt64LE(0),
    socketCookie: value.readBigUInt64LE(8),
  };
}

export function decodeCounters(value: Buffer): BpfCounters {
  const at = (index: number): number => Number(value.readBigUInt64LE(index * 8));
  return {
    redirected: at(0),
    foreignNetns: at(1),
    own: at(2),
    recordFailures: at(3),
    flowFailures: at(4),
    walled: at(5),
  };
}

function isWhole(value: number, most: number): boolean {
  return Number.isInteger(value) && value >= 0 && value <= most;
}
