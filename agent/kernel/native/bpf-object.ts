/** Reads the compiled object bpf/weir.bpf.o. Pure. ELF: https://refspecs.linuxfoundation.org/elf/gabi4+/contents.html */
import { WeirError } from "../../errors.ts";

export interface BpfProgram {
  /** `cgroup/connect4`, `sockops`: says how it is loaded. */
  readonly section: string;
  readonly instructions: Buffer;
  /** Where a map's descriptor has to be put: byte offsets of `lddw` instructions. */
  readonly maps: readonly { readonly offset: number; readonly name: string }[];
}

export interface BpfObject {
  readonly license: string;
  readonly programs: readonly BpfProgram[];
}

const headerBytes = 64;
const sectionBytes = 64;
const symbolBytes = 24;
const relocationBytes = 16;
const instructionBytes = 8;
const sectionType = { progbits: 1, symbols: 2, relocations: 9 } as const;
const machineBpf = 247;
/** R_BPF_64_64: the 64-bit immediate of `lddw`. Any other needs libbpf, and the source is written to need none. */
const relocationLoad = 1;
const opcodeLoad = 0x18;
const pseudoMapFd = 1;

interface Section {
  readonly name: string;
  readonly type: number;
  readonly link: number;
  readonly info: number;
  readonly data: Buffer;
}

export function readBpfObject(file: Buffer): BpfObject {
  try {
    return read(file);
  } catch (cause) {
    if (cause instanceof WeirError) throw cause;
    throw broken("it is cut or damaged", cause);
  }
}

function read(file: Buffer): BpfObject {
  if (file.length < headerBytes || file.readUInt32BE(0) !== 0x7f454c46 || file[4] !== 2 || file[5] !== 1) {
    throw broken("it is not a little-endian 64-bit ELF file");
  }
  if (file.readUInt16LE(18) !== machineBpf) throw broken("it is not made for BPF");
  const sections = readSections(file);
  const license = sections.find((section) => section.name === "license");
  if (license === undefined) throw broken("it has no license section");
  const programs = sections
    .map((section, index) => ({ section, index }))
    .filter(
      ({ section }) => section.type === sectionType.progbits && /^(cgroup\/|cgroup_skb\/|sockops$)/.test(section.name),
    )
    .map(({ section, index }) => ({
      section: section.name,
      instructions: Buffer.from(section.data),
      maps: mapUses(sections, index, section),
    }));
  return { license: textAt(license.data, 0), programs };
}

/** A copy of the instructions with the maps' descriptors in place. */
export function linkMaps(program: BpfProgram, fds: ReadonlyMap<string, number>): Buffer {
  const linked = Buffer.from(program.instructions);
  for (const { offset, name } of program.maps) {
    const fd = fds.get(name);
    if (fd === undefined) throw broken(`it uses a map ${name} that the loader does not know`);
    linked[offset + 1] = ((linked[offset + 1] as number) & 0x0f) | (pseudoMapFd << 4);
    linked.writeInt32LE(fd, offset + 4);
  }
  return linked;
}

function mapUses(sections: readonly Section[], index: number, program: Section): BpfProgram["maps"] {
  const table = sections.find((section) => section.type === sectionType.relocations && section.info === index);
  const symbols = table === undefined ? undefined : sections[table.link];
  const names = symbols === undefined ? undefined : sections[symbols.link];
  if (table === undefined || symbols === undefined || names === undefined) return [];
  const uses: { offset: number; name: string }[] = [];
  for (let at = 0; at + relocationBytes <= table.data.length; at += relocationBytes) {
    const offset = Number(table.data.readBigUInt64LE(at));
    const type = table.data.readUInt32LE(at + 8);
    const symbol = table.data.readUInt32LE(at + 12);
    if (type !== relocationLoad || offset % instructionBytes !== 0 || program.data[offset] !== opcodeLoad) {
      throw broken(`${program.name} has a relocation of type ${type} at ${offset}`);
    }
    uses.push({ offset, name: textAt(names.data, symbols.data.readUInt32LE(symbol * symbolBytes)) });
  }
  return uses;
}

function readSections(file: Buffer): Section[] {
  const start = Number(file.readBigUInt64LE(40));
  const count = file.readUInt16LE(60);
  if (start + count * sectionBytes > file.length) throw broken("its table of sections ends beyond the file");
  const raw = Array.from({ length: count }, (_, index) => {
    const at = start + index * sectionBytes;
    const type = file.readUInt32LE(at + 4);
    const offset = Number(file.readBigUInt64LE(at + 24));
    const size = Number(file.readBigUInt64LE(at + 32));
    if (type !== 8 && offset + size > file.length) throw broken(`section ${index} ends beyond the file`);
    return {
      name: file.readUInt32LE(at),
      type,
      link: file.readUInt32LE(at + 40),
      info: file.readUInt32LE(at + 44),
      data: file.subarray(offset, offset + size),
    };
  });
  const names = raw[file.readUInt16LE(62)];
  if (names === undefined) throw broken("it has no section names");
  return raw.map((section) => ({ ...section, name: textAt(names.data, section.name) }));
}

function textAt(data: Buffer, at: number): string {
  const end = data.indexOf(0, at);
  return data.toString("latin1", at, end < 0 ? data.length : end);
}

function broken(why: string, cause?: unknown): WeirError {
  return new WeirError("WEIR_BPF_LOAD", `The BPF object cannot be read: ${why}.`, { cause });
}
