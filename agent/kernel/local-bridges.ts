/**
 * Bridges that lead nowhere but to namespaces of this host, as Docker makes one for a network: each port is one end of a
 * veth, and no gateway lies behind. What comes from there is the job's own, and may be governed under the host's
 * policy and credentials; what goes there does not leave the host. Any other link (a device, a tunnel, a virtual machine's
 * tap, a veth without a bridge) may have strangers behind it.
 */
import { readFileSync } from "node:fs";
import { networkInterfaces } from "node:os";
import { parseAddress } from "../core/address.ts";
import { cidrContains, parseCidr } from "./address.ts";
import { links } from "./native.ts";

/** Looked at anew when older, for ports come and go; and at once for a link that was not there then. */
const freshMs = 250;
const portKinds: ReadonlySet<string> = new Set(["veth", "dummy"]);

export interface LocalBridges {
  /** By index of the link; false where the kernel does not say. */
  has(index: number): boolean;
  /** An address of the network that the host has on one of them. */
  leadTo(address: string): boolean;
}

export function localBridges(now: () => number = Date.now): LocalBridges {
  let known: ReadonlyMap<string, number> = new Map();
  let indexes: ReadonlySet<number> = new Set();
  let found: ReadonlySet<number> = new Set();
  let readMs = Number.NEGATIVE_INFINITY;
  function read(): void {
    readMs = now();
    const listed = list();
    known = new Map(
      listed.split("\n").map((line) => {
        const [index = "", , name = ""] = line.split(" ");
        return [name, Number(index)];
      }),
    );
    indexes = new Set(known.values());
    found = bridgesIn(listed, gatewayLinks(table("route"), table("ipv6_route")));
  }
  return {
    has(index) {
      if (index === 0) return false;
      if (now() - readMs >= freshMs || !indexes.has(index)) read();
      return found.has(index);
    },
    leadTo(address) {
      const bytes = parseAddress(address);
      if (bytes === null) return false;
      if (now() - readMs >= freshMs) read();
      return Object.entries(networkInterfaces()).some(
        ([name, own = []]) =>
          found.has(known.get(name) ?? 0) && own.some(({ cidr }) => cidr !== null && contains(cidr, bytes)),
      );
    },
  };
}

function contains(network: string, address: Uint8Array): boolean {
  const [start = "", prefix] = network.split("/");
  const cidr = parseCidr(start, Number(prefix));
  return cidr !== null && cidrContains(cidr, address);
}

function list(): string {
  try {
    return links();
  } catch {
    return "";
  }
}

function table(name: string): string {
  try {
    return readFileSync(`/proc/self/net/${name}`, "utf8");
  } catch {
    return "";
  }
}

/** Pure. Lines of `links`: index, bridge's index or 0, name, kind. */
export function bridgesIn(listed: string, behindGateway: ReadonlySet<string>): ReadonlySet<number> {
  const bridges = new Set<number>();
  const open = new Set<number>();
  for (const line of listed.split("\n")) {
    const [index = "", master = "", name = "", kind = ""] = line.split(" ");
    if (kind === "bridge" && !behindGateway.has(name)) bridges.add(Number(index));
    if (master !== "0" && !portKinds.has(kind)) open.add(Number(master));
    // A bridge may itself be a port, or be a link of a VLAN; only the plain case is taken.
    if (master !== "0" && kind === "bridge") open.add(Number(index));
  }
  for (const index of open) bridges.delete(index);
  return bridges;
}

/** Names of links through which a route with a gateway goes. Pure; proc(5), `route` and `ipv6_route` of /proc/net. */
export function gatewayLinks(routes4: string, routes6: string): ReadonlySet<string> {
  const names = new Set<string>();
  for (const line of routes4.split("\n").slice(1)) {
    const [name = "", , gateway = ""] = line.split("\t");
    if (/[1-9A-F]/.test(gateway)) names.add(name);
  }
  for (const line of routes6.split("\n")) {
    const fields = line.trim().split(/\s+/);
    if (/[1-9a-f]/.test(fields[4] ?? "")) names.add(fields[9] ?? "");
  }
  return names;
}
