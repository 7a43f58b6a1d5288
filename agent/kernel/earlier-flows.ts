/**
 * Ends connections that nobody has judged: those of a whole host from before the rules stood, and those that went past
 * before a policy named where they lead. Connections that came in (ssh) go on. By iproute2's `ss -K`, which asks the kernel
 * to close a socket (SOCK_DESTROY).
 */
import { execFile } from "node:child_process";
import { readdirSync, readlinkSync } from "node:fs";
import { bracketed } from "../core/address.ts";
import type { Endpoint } from "../core/flow.ts";
import { canonicalAddress, isLoopback } from "./address.ts";

const answerMsMax = 5_000;
const outputBytesMax = 16 * 1024 * 1024;
/** Named in the record; the rest is counted. */
const toldMax = 20;

interface Connection {
  /** Words before `ss`: into the network namespace that it is of. */
  readonly enter: readonly string[];
  readonly transport: "tcp" | "udp";
  /** As `ss` writes them, for asking it again. */
  readonly ends: readonly [string, string];
  readonly local: Endpoint;
  readonly remote: Endpoint;
  readonly inode: string;
  /** With a leading slash; empty where the kernel does not say. */
  readonly cgroup: string;
}

/** In words; empty when there was none. */
export interface EndedFlows {
  readonly ended: string;
  /** The kernel would not close them. */
  readonly left: string;
}

/** All that left the host before there were rules, UDP too. `takes`: a target names this, be it on loopback. */
export async function endEarlierFlows(takes: (destination: Endpoint) => boolean): Promise<EndedFlows> {
  const leaves = ({ remote }: Connection): boolean => !isLoopback(remote.address) || takes(remote);
  const open = await connections();
  return end([...outgoing(open).filter(leaves), ...(await sockets("udp", ["state", "established"])).filter(leaves)]);
}

export interface DirectFlows {
  /** The agent's listeners: who is connected to them is governed, whatever its socket says of its destination. */
  readonly ports: readonly number[];
  /** Null: the whole host. Without a leading slash. */
  readonly cgroup: string | null;
  /** May leave without being read. */
  passes(destination: Endpoint): boolean;
  /** A process each of the other network namespaces that may be containers of this host. */
  containers(): Iterable<number>;
  /** An address of a network that containers of this host have. */
  isContainer(address: string): boolean;
}

/** The scope's TCP connections, a host's containers' too, that go directly to where only the agent may go now, or nobody. */
export async function endDirectFlows({
  ports,
  cgroup,
  passes,
  containers,
  isContainer,
}: DirectFlows): Promise<EndedFlows> {
  const open = await connections();
  // After the list of all: what the agent has opened meanwhile is not in there.
  const own = ownSockets();
  const governed = new Set(open.filter(({ local }) => ports.includes(local.port)).map(({ remote }) => keyOf(remote)));
  const inside = ({ cgroup: path }: Connection): boolean =>
    cgroup === null || path === `/${cgroup}` || path.startsWith(`/${cgroup}/`);
  const direct = outgoing(open).filter((one) => inside(one) && !own.has(one.inode));
  for (const pid of containers()) {
    // A namespace that is gone has nothing open.
    const theirs = await connections(["nsenter", `--net=/proc/${pid}/ns/net`]).catch(() => []);
    direct.push(
      ...outgoing(theirs).filter(({ local, remote }) => isContainer(local.address) && !isLoopback(remote.address)),
    );
  }
  return end(direct.filter(({ local, remote }) => !governed.has(keyOf(local)) && !passes(remote)));
}

/** All of TCP; those that are listened for stand among them with nobody at the other end. */
function connections(enter: readonly string[] = []): Promise<Connection[]> {
  return sockets("tcp", ["state", "all", "exclude", "time-wait", "exclude", "closed"], enter);
}

/** But for those to a port that somebody here listens on. */
function outgoing(open: readonly Connection[]): Connection[] {
  const listening = new Set(open.filter(isListener).map(({ local }) => local.port));
  return open.filter((one) => !isListener(one) && !listening.has(one.local.port));
}

function isListener({ remote }: Connection): boolean {
  return remote.port === 0;
}

async function end(flows: readonly Connection[]): Promise<EndedFlows> {
  for (const { enter, transport, ends } of flows)
    await ss(["-K", "-H", `--${transport}`, "src", ends[0], "dst", ends[1]], enter);
  // Where the kernel cannot do it, `ss` is silent.
  const still = new Set<string>();
  for (const enter of new Map(flows.map(({ enter }) => [enter.join(" "), enter])).values()) {
    for (const one of await connections(enter)) still.add(idOf(one));
    for (const one of await sockets("udp", ["state", "established"], enter)) still.add(idOf(one));
  }
  return {
    ended: told(flows.filter((flow) => !still.has(idOf(flow)))),
    left: told(flows.filter((flow) => still.has(idOf(flow)))),
  };
}

function told(flows: readonly Connection[]): string {
  const words = flows
    .slice(0, toldMax)
    .map(({ transport, remote: { address, port } }) => `${transport} ${bracketed(address)}:${port}`);
  if (flows.length > toldMax) words.push(`${flows.length - toldMax} more`);
  return words.join(", ");
}

async function sockets(
  transport: Connection["transport"],
  states: readonly string[],
  enter: readonly string[] = [],
): Promise<Connection[]> {
  const listed = await ss(["-HnO", "--extended", "--cgroup", `--${transport}`, ...states], enter);
  return listed.split("\n").flatMap((line) => {
    // The state is a column of its own only where several are asked for.
    const words = line.trim().split(/\s+/);
    const [from = "", to = ""] = words.filter((word) => /:(\d+|\*)$/.test(word));
    const local = endpoint(from);
    const remote = endpoint(to);
    if (local === null || remote === null) return [];
    const after = (name: string): string => words.find((word) => word.startsWith(name))?.slice(name.length) ?? "";
    return [
      { enter, transport, ends: [from, to] as const, local, remote, inode: after("ino:"), cgroup: after("cgroup:") },
    ];
  });
}

/** `[::1]:22`, `10.0.0.1:22`, `[fe80::1]%eth0:22`, `0.0.0.0:*`. */
function endpoint(text: string): Endpoint | null {
  const at = text.lastIndexOf(":");
  if (at < 0) return null;
  const address = text.slice(0, at).replace(/[[\]]|%.*/g, "");
  return { address: canonicalAddress(address), port: Number(text.slice(at + 1)) || 0 };
}

function keyOf({ address, port }: Endpoint): string {
  return `${address} ${port}`;
}

function idOf({ transport, ends, inode }: Connection): string {
  return `${transport} ${ends[0]} ${ends[1]} ${inode}`;
}

/** Inodes of the agent's own. */
function ownSockets(): ReadonlySet<string> {
  const inodes = new Set<string>();
  for (const fd of readdirSync("/proc/self/fd")) {
    try {
      const inode = /^socket:\[(\d+)\]$/.exec(readlinkSync(`/proc/self/fd/${fd}`))?.[1];
      if (inode !== undefined) inodes.add(inode);
    } catch {
      // closed meanwhile
    }
  }
  return inodes;
}

function ss(words: readonly string[], enter: readonly string[]): Promise<string> {
  const [program = "", ...rest] = [...enter, "ss", ...words];
  return new Promise((resolve, reject) => {
    execFile(program, rest, { timeout: answerMsMax, maxBuffer: outputBytesMax }, (error, stdout) => {
      if (error === null) resolve(stdout);
      else reject(error);
    });
  });
}
