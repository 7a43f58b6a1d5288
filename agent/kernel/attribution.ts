/**
 * Who opened a flow: what /proc says about a process. Read at accept, because a process may be gone a moment later.
 * See proc(5): stat, status, cmdline, exe, cgroup, environ.
 */
import { readFileSync, readlinkSync } from "node:fs";
import type { ProcessInfo } from "../core/flow.ts";
import { jobHint, jobVariables } from "./job-hint.ts";

const argumentsMax = 32;
const argumentBytesMax = 256;
/** Of the whole line: it goes into every session's record. */
const commandLineBytesMax = 2048;
/** Of an environment, only so much is searched for the listed CI variables. */
const environBytesMax = 256 * 1024;
const userHz = 100;
/** One client may open hundreds of connections a second: what only an exec changes of it is read once in so long. */
const imageMs = 1_000;
const imagesMax = 64;

/** What is known already from the kernel at connect; it stands in where /proc has nothing any more. */
export interface KnownProcess {
  readonly ppid?: number;
  readonly uid?: number;
  readonly gid?: number;
  readonly comm?: string;
  readonly cgroup?: string;
  /** Start in nanoseconds since boot: tells a reused pid from the process that connected. */
  readonly startNs?: bigint;
  /** Counts the programs that the process became; 0: the kernel does not tell. */
  readonly execId?: number;
  readonly cgroupId?: bigint;
}

/** Null when nothing is known: no such process, and nothing from the kernel. */
export function processInfo(pid: number, known: KnownProcess = {}): ProcessInfo | null {
  const sign = signOf(known);
  if (sign === null) return look(pid, known);
  const seen = lookedAt.get(pid, sign);
  if (seen !== null) return seen;
  const info = look(pid, known);
  if (info !== null && info.exe !== "") lookedAt.set(pid, sign, info);
  return info;
}

/** What was read of processes a moment ago; a process whose sign is another one became another program. */
class Recent<Read> {
  readonly #kept = new Map<number, { readonly sign: string; readonly untilMs: number; readonly read: Read }>();

  get(pid: number, sign: string): Read | null {
    const kept = this.#kept.get(pid);
    return kept !== undefined && kept.sign === sign && Date.now() < kept.untilMs ? kept.read : null;
  }

  set(pid: number, sign: string, read: Read): void {
    if (this.#kept.size >= imagesMax) this.#kept.clear();
    this.#kept.set(pid, { sign, untilMs: Date.now() + imageMs, read });
  }
}

/** Processes that connect again and again, as the kernel told them apart at connect. */
const lookedAt = new Recent<ProcessInfo>();

/** Null: the kernel told too little to say that it is the same program in the same place. */
function signOf({ startNs, execId = 0, cgroupId, ppid, uid, gid, comm }: KnownProcess): string | null {
  if (startNs === undefined || execId === 0 || cgroupId === undefined) return null;
  return `${startNs} ${execId} ${cgroupId} ${ppid} ${uid} ${gid} ${comm}`;
}

function look(pid: number, known: KnownProcess): ProcessInfo | null {
  const stat = readStat(pid);
  const reused = stat !== null && known.startNs !== undefined && !sameStart(stat.startTicks, known.startNs);
  if (stat === null || reused) return knownOnly(pid, known);
  const ids = known.uid === undefined || known.gid === undefined ? readIds(pid) : null;
  const cgroup = known.cgroup ?? readCgroup(pid);
  const containerId = containerIdOf(cgroup);
  const { exe, commandLine, job } = imageOf(pid, stat);
  return {
    pid,
    ppid: stat.ppid,
    uid: known.uid ?? ids?.uid ?? -1,
    gid: known.gid ?? ids?.gid ?? -1,
    comm: known.comm ?? stat.comm,
    exe,
    commandLine,
    startTicks: stat.startTicks,
    cgroup,
    ...(containerId === null ? {} : { containerId }),
    ...(job === null ? {} : { job }),
  };
}

interface Image {
  readonly exe: string;
  readonly commandLine: readonly string[];
  readonly job: ReturnType<typeof jobHint>;
}

const images = new Recent<Image>();

function imageOf(pid: number, { startTicks, layout }: Stat): Image {
  const exe = readExe(pid);
  const sign = `${startTicks} ${layout} ${exe}`;
  const known = images.get(pid, sign);
  if (known !== null) return known;
  const image: Image = {
    exe,
    commandLine: readCommandLine(pid),
    job: jobHint(readVariables(pid, jobVariables)),
  };
  if (layout !== "") images.set(pid, sign, image);
  return image;
}

function knownOnly(pid: number, known: KnownProcess): ProcessInfo | null {
  if (known.uid === undefined) return null;
  const cgroup = known.cgroup ?? "";
  const containerId = containerIdOf(cgroup);
  return {
    pid,
    ppid: known.ppid ?? 0,
    uid: known.uid,
    gid: known.gid ?? -1,
    comm: known.comm ?? "",
    exe: "",
    commandLine: [],
    startTicks: known.startNs === undefined ? 0 : ticksOf(known.startNs),
    cgroup,
    ...(containerId === null ? {} : { containerId }),
  };
}

/** Runtimes put 64 hex digits into the path: docker-ID.scope, /docker/ID, cri-containerd-ID.scope, libpod-ID.scope. */
export function containerIdOf(cgroup: string): string | null {
  const found = /(?:^|[/:_-])([0-9a-f]{64})(?:\.scope)?(?=\/|$)/.exec(cgroup);
  return found?.[1] ?? null;
}

function ticksOf(startNs: bigint): number {
  return Number(startNs / BigInt(1_000_000_000 / userHz));
}

/** The kernel rounds in one place and cuts in another: one tick of difference is the same process. */
function sameStart(startTicks: number, startNs: bigint): boolean {
  return Math.abs(startTicks - ticksOf(startNs)) <= 1;
}

interface Stat {
  readonly comm: string;
  readonly ppid: number;
  readonly startTicks: number;
  /** Where its code, stack, arguments and environment lie: an exec makes other places. Empty: it is not told. */
  readonly layout: string;
}

export function readStat(pid: number): Stat | null {
  const text = read(pid, "stat");
  if (text === null) return null;
  // The name may hold spaces and parentheses: the last `)` ends it.
  const open = text.indexOf("(");
  const close = text.lastIndexOf(")");
  if (open < 0 || close < open) return null;
  const fields = text.slice(close + 2).split(" ");
  const places = [fields[23], fields[25], ...fields.slice(45, 49)];
  const layout = Number(fields[25]) > 1 && places.length === 6 ? places.join() : "";
  return { comm: text.slice(open + 1, close), ppid: Number(fields[1]), startTicks: Number(fields[19]), layout };
}

function readIds(pid: number): { uid: number; gid: number } | null {
  const text = read(pid, "status");
  const uid = text === null ? null : /^Uid:\s+(\d+)/m.exec(text);
  const gid = text === null ? null : /^Gid:\s+(\d+)/m.exec(text);
  return uid && gid ? { uid: Number(uid[1]), gid: Number(gid[1]) } : null;
}

export function readCgroup(pid: number): string {
  const found = /^0::(.*)$/m.exec(read(pid, "cgroup") ?? "");
  return found?.[1] ?? "";
}

function readExe(pid: number): string {
  try {
    return readlinkSync(`/proc/${pid}/exe`);
  } catch {
    return "";
  }
}

function readCommandLine(pid: number): string[] {
  const text = read(pid, "cmdline");
  if (text === null || text === "") return [];
  const line = text.slice(0, commandLineBytesMax).split("\0");
  if (line.at(-1) === "") line.pop();
  return line.slice(0, argumentsMax).map((argument) => withoutSecret(argument).slice(0, argumentBytesMax));
}

/** `psql postgres://app:secret@db`, `password=secret`: a command line is recorded, so its secrets are taken out first. */
function withoutSecret(argument: string): string {
  return argument
    .replace(/(:\/\/[^/@:\s]*):[^@\s]*@/g, "$1:***@")
    .replace(/((?:password|passwd|pwd|secret|token|api[-_]?key)["']?\s*[=:]\s*)("[^"]*"|'[^']*'|[^\s&;,]+)/gi, "$1***");
}

/** The values of these variables only; the rest of an environment is full of secrets and is never looked at. */
function readVariables(pid: number, names: ReadonlySet<string>): Map<string, string> {
  const values = new Map<string, string>();
  const text = read(pid, "environ");
  if (text === null) return values;
  const end = Math.min(text.length, environBytesMax);
  for (let at = 0; at < end; ) {
    const next = text.indexOf("\0", at);
    const stop = next < 0 ? end : next;
    const equals = text.indexOf("=", at);
    if (equals > at && equals < stop && names.has(text.slice(at, equals))) {
      values.set(text.slice(at, equals), text.slice(equals + 1, stop));
    }
    at = stop + 1;
  }
  return values;
}

function read(pid: number, name: string): string | null {
  try {
    return readFileSync(`/proc/${pid}/${name}`, "utf8");
  } catch {
    return null;
  }
}
