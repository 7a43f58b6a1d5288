/**
 * Which process owns a local socket, where BPF has not told: the inode by sock_diag(7), or from /proc/net (proc(5)) for UDP
 * and kernels without it, then the file descriptor that points to it. /proc/net/tcp is written out whole for each reader:
 * 10 ms with a few thousand sockets, three quarters of the agent's time under new connections.
 */
import { readdirSync, readFileSync, readlinkSync, statSync } from "node:fs";
import { parseAddress } from "../core/address.ts";
import type { Endpoint } from "../core/flow.ts";
import { tcpOwner } from "./native.ts";

/** Descriptors looked at for one socket: a bound on how long one look-up may keep the agent. */
const descriptorsMax = 8192;

export interface SocketOwner {
  readonly uid: number;
  readonly inode: number;
}

/** Null when the kernel has no such socket (any more). */
export function findSocket(transport: "tcp" | "udp", local: Endpoint, remote: Endpoint): SocketOwner | null {
  const family = local.address.includes(":") ? 6 : 4;
  if (transport === "tcp") {
    try {
      return tcpOwner(local, remote);
    } catch {
      // No addon, or a kernel without tcp_diag.
    }
  }
  return findInTables(transport, family, local, remote);
}

/** By /proc/net alone. */
export function findInTables(
  transport: "tcp" | "udp",
  family: 4 | 6,
  local: Endpoint,
  remote: Endpoint,
): SocketOwner | null {
  const names = family === 4 ? [transport, `${transport}6`] : [`${transport}6`];
  for (const name of names) {
    const mapped = family === 4 && name.endsWith("6");
    const found = searchTable(readTable(name), hexEndpoint(local, mapped), hexEndpoint(remote, mapped));
    if (found !== null) return found;
  }
  return null;
}

/** An unconnected UDP socket stands with its local port only. Pure. */
export function searchTable(table: string, local: string, remote: string): SocketOwner | null {
  const at = table.indexOf(` ${local} ${remote} `);
  if (at < 0) return null;
  const end = table.indexOf("\n", at);
  // local, remote, state, queues, timer, retransmits, uid, timeout, inode
  const fields = table
    .slice(at + 1, end < 0 ? undefined : end)
    .trim()
    .split(/\s+/);
  const uid = Number(fields[6]);
  const inode = Number(fields[8]);
  return Number.isInteger(uid) && Number.isInteger(inode) && inode > 0 ? { uid, inode } : null;
}

/** As /proc/net writes it: each 32-bit word in the host's (little-endian) order, the port as a number. Pure. */
export function hexEndpoint(endpoint: Endpoint, mapped: boolean): string {
  const bytes = parseAddress(endpoint.address) ?? new Uint8Array(4);
  const full = mapped ? Uint8Array.from([0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0xff, 0xff, ...bytes]) : bytes;
  let text = "";
  for (let word = 0; word < full.length; word += 4) {
    for (let at = 3; at >= 0; at--) text += full[word + at]!.toString(16).padStart(2, "0");
  }
  return `${text}:${endpoint.port.toString(16).padStart(4, "0")}`.toUpperCase();
}

/** The first of the processes that holds the socket; null when none does or the search is too long. */
export function findHolder(inode: number, candidates: Iterable<number>): number | null {
  const wanted = `socket:[${inode}]`;
  let seen = 0;
  for (const pid of candidates) {
    let descriptors: string[];
    try {
      descriptors = readdirSync(`/proc/${pid}/fd`);
    } catch {
      continue;
    }
    // The newest first: it is a connection that has just been made.
    for (const descriptor of descriptors.reverse()) {
      if (++seen > descriptorsMax) return null;
      try {
        if (readlinkSync(`/proc/${pid}/fd/${descriptor}`) === wanted) return pid;
      } catch {
        // closed meanwhile
      }
    }
  }
  return null;
}

/** Processes of a user, the youngest first: a connection is mostly made by one that has just begun. */
export function* processesOfUser(uid: number): Generator<number> {
  const pids = readdirSync("/proc").map(Number).filter(Number.isInteger);
  for (const pid of pids.sort((a, b) => b - a)) {
    try {
      if (statSync(`/proc/${pid}`).uid === uid) yield pid;
    } catch {
      // gone meanwhile
    }
  }
}

function readTable(name: string): string {
  try {
    return readFileSync(`/proc/net/${name}`, "latin1");
  } catch {
    return "";
  }
}
