/**
 * Where the kernel's structures have the fields that the BPF programs read, from its own BTF. Pure.
 * https://docs.kernel.org/bpf/btf.html
 */
export interface KernelOffsets {
  readonly task: TaskOffsets | null;
  readonly net: NetOffsets | null;
}

export interface TaskOffsets {
  readonly realParent: number;
  readonly tgid: number;
  readonly groupLeader: number;
  /** Start since boot, suspended time included (what /proc/PID/stat shows). */
  readonly start: number;
  /** Counts the programs that the process became; 64 bits since Linux 5.7. Null: there is no such field. */
  readonly execId: number | null;
}

export interface NetOffsets {
  /** Of the network namespace in a socket. */
  readonly socketNet: number;
  /** Of its cookie. */
  readonly cookie: number;
}

const magic = 0xeb9f;
const typeBytes = 12;
const kindStruct = 4;
const memberBytes = 12;
/** Bytes that follow a type, by kind: fixed, or so many an entry. */
const trailing: Readonly<Record<number, { fixed?: number; each?: number }>> = {
  1: { fixed: 4 },
  3: { fixed: 12 },
  4: { each: memberBytes },
  5: { each: memberBytes },
  6: { each: 8 },
  13: { each: 8 },
  14: { fixed: 4 },
  15: { each: 12 },
  17: { fixed: 4 },
  19: { each: 12 },
};

type Fields = ReadonlyMap<string, number>;

/** Null where this is no BTF that holds them: a record then has no parent and start, and the firewall no wall behind it. */
export function kernelOffsets(btf: Buffer): KernelOffsets {
  let found: ReadonlyMap<string, Fields> = new Map();
  try {
    found = structures(btf, ["task_struct", "sock_common", "net"]);
  } catch (error) {
    if (!(error instanceof RangeError)) throw error;
  }
  return { task: taskOffsets(found.get("task_struct")), net: netOffsets(found) };
}

function taskOffsets(task: Fields | undefined): TaskOffsets | null {
  const realParent = task?.get("real_parent");
  const tgid = task?.get("tgid");
  const groupLeader = task?.get("group_leader");
  // Renamed in Linux 5.5.
  const start = task?.get("start_boottime") ?? task?.get("real_start_time");
  if (realParent === undefined || tgid === undefined || groupLeader === undefined || start === undefined) return null;
  return { realParent, tgid, groupLeader, start, execId: task?.get("self_exec_id") ?? null };
}

function netOffsets(found: ReadonlyMap<string, Fields>): NetOffsets | null {
  const socketNet = found.get("sock_common")?.get("skc_net");
  const cookie = found.get("net")?.get("net_cookie");
  return socketNet === undefined || cookie === undefined ? null : { socketNet, cookie };
}

/** Fields and their offsets in bytes, of the structures with these names. */
function structures(btf: Buffer, names: readonly string[]): ReadonlyMap<string, Fields> {
  const found = new Map<string, Fields>();
  if (btf.readUInt16LE(0) !== magic) return found;
  const headerBytes = btf.readUInt32LE(4);
  const types = headerBytes + btf.readUInt32LE(8);
  const end = types + btf.readUInt32LE(12);
  const strings = headerBytes + btf.readUInt32LE(16);
  const name = (at: number): string => btf.toString("latin1", strings + at, btf.indexOf(0, strings + at));
  const wanted = new Map(names.map((one) => [btf.subarray(strings).indexOf(`\0${one}\0`) + 1, one]));
  for (let at = types; at < end && found.size < names.length; ) {
    const info = btf.readUInt32LE(at + 4);
    const kind = (info >>> 24) & 0x1f;
    const count = info & 0xffff;
    const known = kind === kindStruct ? wanted.get(btf.readUInt32LE(at)) : undefined;
    if (known !== undefined) found.set(known, fields(btf, at + typeBytes, count, (info & 0x80000000) !== 0, name));
    const extra = trailing[kind];
    at += typeBytes + (extra?.fixed ?? 0) + (extra?.each ?? 0) * count;
  }
  return found;
}

function fields(btf: Buffer, members: number, count: number, bitfields: boolean, name: (at: number) => string): Fields {
  const found = new Map<string, number>();
  for (let index = 0; index < count; index++) {
    const at = members + index * memberBytes;
    const bits = btf.readUInt32LE(at + 8);
    found.set(name(btf.readUInt32LE(at)), (bitfields ? bits & 0xffffff : bits) / 8);
  }
  return found;
}
