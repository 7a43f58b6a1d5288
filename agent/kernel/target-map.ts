/**
 * Which target an address and port belong to. Pure: the one place that says what is taken, used by the judge of first
 * packets and for filling the BPF maps, so that both mechanisms take the same flows.
 */

import { parseAddress } from "../core/address.ts";
import type { HostPattern, Target } from "../core/target.ts";
import { type Cidr, cidrContains, isLoopback, parseCidr } from "./address.ts";

export interface Route {
  readonly family: 4 | 6;
  readonly address: string;
  readonly prefix: number;
  readonly port: number;
}

export interface TargetMap {
  /** The first target that takes this destination; `names` are those that lead to the address. */
  match(address: string, port: number, names: readonly string[]): Target | null;
  /** True when some target is written by this name. */
  wantsName(name: string): boolean;
  /** Names that the agent has to resolve itself. */
  readonly names: readonly string[];
  /** Networks and ports written in the policy as such. */
  readonly routes: readonly Route[];
  /** Networks and ports for an address reached by these names. */
  routesOf(address: string, names: readonly string[]): readonly Route[];
  /** Every port of every target. */
  readonly ports: readonly number[];
}

interface Compiled {
  readonly target: Target;
  readonly ports: ReadonlySet<number>;
  readonly any: boolean;
  readonly cidrs: readonly { cidr: Cidr; loopback: boolean }[];
  readonly names: ReadonlySet<string>;
  readonly suffixes: readonly string[];
}

export function compileTargets(targets: readonly Target[]): TargetMap {
  const compiled = targets.map(compile);

  function match(address: string, port: number, names: readonly string[]): Target | null {
    const bytes = parseAddress(address);
    if (bytes === null) return null;
    const loopback = isLoopback(address);
    for (const one of compiled) {
      if (!one.ports.has(port)) continue;
      if (one.any && !loopback) return one.target;
      if (one.cidrs.some(({ cidr, loopback: inside }) => inside === loopback && cidrContains(cidr, bytes))) {
        return one.target;
      }
      if (names.some((name) => takesName(one, name, loopback))) return one.target;
    }
    return null;
  }

  function routesOf(address: string, names: readonly string[]): readonly Route[] {
    const loopback = isLoopback(address);
    const ports = new Set<number>();
    for (const one of compiled) {
      if (names.some((name) => takesName(one, name, loopback))) for (const port of one.ports) ports.add(port);
    }
    const family = address.includes(":") ? 6 : 4;
    return [...ports].map((port) => ({ family, address, prefix: family === 4 ? 32 : 128, port }));
  }

  return {
    match,
    routesOf,
    wantsName: (name) => compiled.some((one) => takesName(one, name, false)),
    names: [...new Set(compiled.flatMap((one) => [...one.names]))],
    routes: compiled.flatMap(writtenRoutes),
    ports: [...new Set(compiled.flatMap((one) => [...one.ports]))].sort((a, b) => a - b),
  };
}

/**
 * A suffix never makes a loopback address a target: whoever owns a name below it could point it at 127.0.0.1 and have
 * local services taken. An exact name may, because the policy's author wrote it.
 */
function takesName(one: Compiled, name: string, loopback: boolean): boolean {
  if (one.names.has(name)) return true;
  return !loopback && one.suffixes.some((suffix) => name.endsWith(suffix));
}

function compile(target: Target): Compiled {
  const cidrs: { cidr: Cidr; loopback: boolean }[] = [];
  for (const host of target.hosts) {
    const cidr = host.kind === "cidr" ? parseCidr(host.address, host.prefix) : null;
    if (cidr !== null) cidrs.push({ cidr, loopback: isInsideLoopback(cidr) });
  }
  return {
    target,
    ports: new Set(target.ports),
    any: target.hosts.some((host) => host.kind === "any"),
    cidrs,
    names: new Set(target.hosts.flatMap((host) => (host.kind === "name" ? [host.name] : []))),
    suffixes: target.hosts.flatMap((host) => (host.kind === "suffix" ? [host.suffix] : [])),
  };
}

/** 127.0.0.0/8 and longer, ::1/128: the pattern names loopback. 0.0.0.0/0 does not. */
function isInsideLoopback(cidr: Cidr): boolean {
  if (cidr.family === 4) return cidr.prefix >= 8 && cidr.bytes[0] === 127;
  return cidr.prefix === 128 && cidr.bytes.every((byte, at) => byte === (at === 15 ? 1 : 0));
}

function writtenRoutes(one: Compiled): Route[] {
  const nets = one.target.hosts.flatMap(writtenNetworks);
  return nets.flatMap((net) => [...one.ports].map((port) => ({ ...net, port })));
}

function writtenNetworks(host: HostPattern): Omit<Route, "port">[] {
  if (host.kind === "any") {
    return [
      { family: 4, address: "0.0.0.0", prefix: 0 },
      { family: 6, address: "::", prefix: 0 },
    ];
  }
  return host.kind === "cidr" ? [{ family: host.family, address: host.address, prefix: host.prefix }] : [];
}
