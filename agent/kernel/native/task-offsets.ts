/**
 * Where task_struct has the fields that the BPF programs read, from the kernel's own BTF. Pure.
 * https://docs.kernel.org/bpf/btf.html
 */
export interface TaskOffsets {
  readonly realParent: number;
  readonly tgid: number;
  readonly groupLeader: number;
  /** Start since boot, suspended time included (what /proc/PID/stat shows). */
  readonly start: number;
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

/** Null when this is no BTF that holds them: parent and start are then left out of a record. */
export function taskOffsets(btf: Buffer): TaskOffsets | null {
  try {
    return find(btf);
  } catch (error) {
    if (error instanceof RangeError) return null;
    throw error;
  }
}

function find(btf: Buffer): TaskOffsets | null {
  if (btf.readUInt16LE(0) !== magic) return null;
  const headerBytes = btf.readUInt32LE(4);
  const types = headerBytes + btf.readUInt32LE(8);
  const end = types + btf.readUInt32LE(12);
  const strings = headerBytes + btf.readUInt32LE(16);
  const name = (at: number): string => btf.toString("latin1", strings + at, btf.indexOf(0, strings + at));
  const wanted = strings + btf.subarray(strings).indexOf("\0task_struct\0") + 1;
  for (let at = types; at < end; ) {
    const info = btf.readUInt32LE(at + 4);
    const kind = (info >>> 24) & 0x1f;
    const count = info & 0xffff;
    if (kind === kindStruct && strings + btf.readUInt32LE(at) === wanted) {
      return fields(btf, at + typeBytes, count, (info & 0x80000000) !== 0, name);
    }
    const extra = trailing[kind];
    at += typeBytes + (extra?.fixed ?? 0) + (extra?.each ?? 0) * count;
  }
  return null;
}

function fields(
  btf: Buffer,
  members: number,
  count: number,
  bitfields: boolean,
  name: (at: number) => string,
): TaskOffsets | null {
  const found = new Map<string, number>();
  for (let index = 0; index < count; index++) {
    const at = members + index * memberBytes;
    const bits = btf.readUInt32LE(at + 8);
    found.set(name(btf.readUInt32LE(at)), (bitfields ? bits & 0xffffff : bits) / 8);
  }
  const realParent = found.get("real_parent");
  const tgid = found.get("tgid");
  const groupLeader = found.get("group_leader");
  // Renamed in Linux 5.5.
  const start = found.get("start_boottime") ?? found.get("real_start_time");
  if (realParent === undefined || tgid === undefined || groupLeader === undefined || start === undefined) return null;
  return { realParent, tgid, groupLeader, start };
}
