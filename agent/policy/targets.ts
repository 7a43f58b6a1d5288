/**
 * Which target a connection goes to, the most specific first: a name, then a suffix, then the longest network, then
 * `any`. (A suffix is a name that the operator wrote; a network may hold many names.)
 *
 * A name that the client only claims (the SNI of its TLS hello) selects a target where the server has to prove that
 * name: `tls.verify: full`. Else any client could choose the laxer of two targets by lying.
 */
import { formatAddress, hasPrefix, networkOf, parseHostAddress } from "../core/address.ts";
import type { HostPattern, Target } from "../core/target.ts";
import type { Policy } from "./policy.ts";

export interface Destination {
  readonly address: string;
  readonly port: number;
  /** The name that the host asked the DNS for. */
  readonly hostname?: string | null;
  /** The name that the client claims in its TLS hello. */
  readonly serverName?: string | null;
}

interface NetworkEntry {
  readonly network: Uint8Array;
  readonly prefix: number;
  readonly target: Target;
}

interface TargetIndex {
  /** `port name` to target. */
  readonly names: ReadonlyMap<string, Target>;
  readonly suffixes: readonly { readonly suffix: string; readonly target: Target }[];
  readonly networks: readonly NetworkEntry[];
  readonly any: readonly Target[];
}

const indexes = new WeakMap<Policy, TargetIndex>();

export function findTarget(policy: Policy, to: Destination): Target | null {
  let index = indexes.get(policy);
  if (index === undefined) {
    index = buildIndex(policy.targets);
    indexes.set(policy, index);
  }
  const known = to.hostname == null ? null : findByName(index, nameOf(to.hostname), to.port, false);
  if (known !== null) return known;
  const claimed = to.serverName == null ? null : findByName(index, nameOf(to.serverName), to.port, true);
  if (claimed !== null) return claimed;
  if (index.networks.length > 0) {
    const address = parseHostAddress(to.address);
    if (address !== null) {
      for (const entry of index.networks) {
        if (entry.target.ports.includes(to.port) && hasPrefix(address, entry.network, entry.prefix))
          return entry.target;
      }
    }
  }
  return index.any.find((target) => target.ports.includes(to.port)) ?? null;
}

function findByName(index: TargetIndex, name: string, port: number, claimed: boolean): Target | null {
  const usable = (target: Target): boolean =>
    !claimed || (target.protocol !== "opaque" && target.tls.verify === "full");
  const exact = index.names.get(`${port} ${name}`);
  if (exact !== undefined && usable(exact)) return exact;
  for (const { suffix, target } of index.suffixes) {
    if (name.endsWith(suffix) && name.length > suffix.length && target.ports.includes(port) && usable(target))
      return target;
  }
  return null;
}

function buildIndex(targets: readonly Target[]): TargetIndex {
  const names = new Map<string, Target>();
  const suffixes: { suffix: string; target: Target }[] = [];
  const networks: NetworkEntry[] = [];
  const any: Target[] = [];
  for (const target of targets) {
    for (const host of target.hosts) {
      if (host.kind === "any") any.push(target);
      else if (host.kind === "suffix") suffixes.push({ suffix: host.suffix, target });
      else if (host.kind === "cidr")
        networks.push({ network: parseHostAddress(host.address)!, prefix: host.prefix, target });
      else
        for (const port of target.ports)
          if (!names.has(`${port} ${host.name}`)) names.set(`${port} ${host.name}`, target);
    }
  }
  suffixes.sort((a, b) => b.suffix.length - a.suffix.length);
  networks.sort((a, b) => b.prefix - a.prefix);
  return { names, suffixes, networks, any };
}

/** A host as a policy writes it; an object with `error` when it is none. */
export function parseHost(text: string): HostPattern | { readonly error: string } {
  if (text === "any" || text === "*") return { kind: "any" };
  const slash = text.indexOf("/");
  const address = parseHostAddress(slash === -1 ? text : text.slice(0, slash));
  if (address !== null) {
    const bits = address.length * 8;
    const prefix = slash === -1 ? bits : /^\d{1,3}$/.test(text.slice(slash + 1)) ? Number(text.slice(slash + 1)) : -1;
    if (prefix < 0 || prefix > bits) return { error: `expected a prefix from 0 to ${bits} after the slash` };
    const network = formatAddress(networkOf(address, prefix));
    if (network !== formatAddress(address))
      return { error: `the address has bits beyond its prefix; write ${network}/${prefix}` };
    return { kind: "cidr", family: address.length === 4 ? 4 : 6, address: network, prefix };
  }
  const name = nameOf(text);
  const label = "(?!-)[a-z0-9_-]{1,63}(?<!-)";
  if (text.length > 253 || /^[\d.]+$/.test(name))
    return { error: "expected a name, *.suffix, an address, a network, or any" };
  if (new RegExp(`^\\*(\\.${label}){1,127}$`).test(name)) return { kind: "suffix", suffix: name.slice(1) };
  if (new RegExp(`^${label}(\\.${label}){0,126}$`).test(name)) return { kind: "name", name };
  return { error: "expected a name, *.suffix, an address, a network, or any" };
}

function nameOf(text: string): string {
  const lower = text.toLowerCase();
  return lower.endsWith(".") ? lower.slice(0, -1) : lower;
}
