/**
 * Who opened a flow that came over a local bridge: the namespace of a container has its own table of sockets, which
 * /proc/PID/net shows from outside. The socket is found there by both of its ends, then the process that holds it.
 */
import { readdirSync, readFileSync, readlinkSync } from "node:fs";
import type { Endpoint, ProcessInfo } from "../core/flow.ts";
import { processInfo } from "./attribution.ts";
import { findHolder, hexEndpoint, searchTable } from "./socket-owner.ts";

/** Processes are listed anew for an address nobody is known for, but not more often. */
const listEveryMs = 20;
/** Namespaces looked into for one flow. */
const namespacesMax = 512;
const addressesMax = 4096;

export interface ContainerOwners {
  /** Null when no namespace of this host has such a socket (any more). */
  find(transport: "tcp" | "udp", source: Endpoint, destination: Endpoint): ProcessInfo | null;
  /** A process of each namespace that is not the agent's own. */
  processes(): number[];
}

/** Process ids by the namespace they are in, the agent's own left out. */
type Namespaces = ReadonlyMap<string, readonly number[]>;

export function containerOwners(now: () => number = Date.now): ContainerOwners {
  let namespaces: Namespaces = new Map();
  let listedMs = Number.NEGATIVE_INFINITY;
  /** Where an address was found last: one namespace is looked into, and not all. */
  const lastOf = new Map<string, string>();

  function list(): boolean {
    if (now() - listedMs < listEveryMs) return false;
    listedMs = now();
    namespaces = listNamespaces();
    return true;
  }

  function search(names: Iterable<string>, local: string[], remote: string[], transport: "tcp" | "udp") {
    let seen = 0;
    for (const name of names) {
      if (++seen > namespacesMax) return null;
      const pids = namespaces.get(name);
      if (pids === undefined) continue;
      const inode = inodeIn(pids, local, remote, transport);
      if (inode === null) continue;
      const pid = findHolder(inode, pids);
      if (pid !== null) return { name, pid };
    }
    return null;
  }

  return {
    find(transport, source, destination) {
      // An IPv4 socket of a program that uses IPv6 stands in the other table, with mapped addresses.
      const local = [hexEndpoint(source, false), hexEndpoint(source, true)];
      const remote = [hexEndpoint(destination, false), hexEndpoint(destination, true)];
      const last = lastOf.get(source.address);
      // A process that has just begun is in no list yet; so the second look is at a new one.
      const found =
        (last === undefined ? null : search([last], local, remote, transport)) ??
        (list() ? search(namespaces.keys(), local, remote, transport) : null);
      if (found === null) return null;
      lastOf.delete(source.address);
      lastOf.set(source.address, found.name);
      if (lastOf.size > addressesMax) lastOf.delete(lastOf.keys().next().value!);
      return processInfo(found.pid);
    },
    processes: () => [...listNamespaces().values()].slice(0, namespacesMax).flatMap(([pid]) => pid ?? []),
  };
}

function inodeIn(pids: readonly number[], local: string[], remote: string[], transport: "tcp" | "udp"): number | null {
  for (const [at, name] of [transport, `${transport}6`].entries()) {
    const table = tableOf(pids, name);
    // The first ends are as the family writes them, the second as IPv4 in IPv6.
    for (const form of at === 0 ? [0] : [0, 1]) {
      const found = searchTable(table, local[form] as string, remote[form] as string);
      if (found !== null) return found.inode;
    }
  }
  return null;
}

/** Any process of the namespace shows the same; the first may have ended. */
function tableOf(pids: readonly number[], name: string): string {
  for (const pid of pids.slice(0, 4)) {
    try {
      return readFileSync(`/proc/${pid}/net/${name}`, "latin1");
    } catch {
      // ended
    }
  }
  return "";
}

function listNamespaces(): Namespaces {
  const own = readlinkSync("/proc/self/ns/net");
  const found = new Map<string, number[]>();
  for (const entry of readdirSync("/proc")) {
    const pid = Number(entry);
    if (!Number.isInteger(pid)) continue;
    try {
      const name = readlinkSync(`/proc/${pid}/ns/net`);
      if (name === own) continue;
      const pids = found.get(name);
      if (pids === undefined) found.set(name, [pid]);
      else pids.push(pid);
    } catch {
      // ended, or a thread of the kernel
    }
  }
  return found;
}
