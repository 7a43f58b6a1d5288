/** Sets and removes the firewall's rules: one iptables-restore per family, atomic per table. */
import { spawn } from "node:child_process";
import { existsSync } from "node:fs";
import { WeirError } from "../errors.ts";
import { chainNames, type FirewallFacts, firewallRules, type StaleJumps, type TableName } from "./firewall-rules.ts";
import { rulesGeneration } from "./native.ts";

/** Seconds to wait for another program that holds the firewall's lock (Docker, ufw). */
const lockSecondsMax = 5;
const outputBytesMax = 4 * 1024 * 1024;

export type FirewallPlan = Omit<FirewallFacts, "family" | "port" | "bridgePort" | "reject"> & {
  readonly ports: Ports;
  /** 0 where nothing is listened on for bridges. */
  readonly bridgePorts: Ports;
};

export interface Ports {
  readonly v4: number;
  readonly v6: number;
}

export interface Firewall {
  /** True when the kernel rejects; false: the judge has to answer for it by raw socket. */
  readonly reject: boolean;
  /** Replaces the contents of the chains. */
  update(plan: FirewallPlan): Promise<void>;
  /** Sets the chains and the jumps anew, whatever somebody has made of them. */
  replace(plan: FirewallPlan): Promise<void>;
  /** What stands now of ours, and what was put before it; equal texts mean that nobody has touched it. */
  standing(): Promise<Standing>;
  /** Grows with every change of the rules; null where the kernel does not count them. */
  generation(): number | null;
  remove(): Promise<void>;
}

export interface Standing {
  readonly text: string;
  /** Every rule of the last change is there, and nothing of others before it. */
  readonly whole: boolean;
}

export async function setFirewall(plan: FirewallPlan): Promise<Firewall> {
  const families = ipFamilies();
  let reject = true;
  const counts = new Map<4 | 6, number>();
  const counted = await areCounted();
  const generation = counted ? rulesGeneration : () => null;
  const saved = savedRules(generation);
  const set = async (next: FirewallPlan, stale: "keep" | "replace"): Promise<void> => {
    await Promise.all(
      families.map(async (family) => {
        const old = stale === "replace" ? leftovers(await saved(family), next.instance).jumps : null;
        const [port, bridgePort] = [next.ports, next.bridgePorts].map((ports) => ports[`v${family}`]) as [
          number,
          number,
        ];
        const facts = { ...next, family, port, bridgePort, reject };
        await restore(family, firewallRules(facts, old));
        counts.set(family, firewallRules(facts, {}).match(/^-[AI] /gm)?.length ?? 0);
      }),
    );
  };
  try {
    await set(plan, "replace");
  } catch (error) {
    if (!(error instanceof WeirError) || !error.message.includes("REJECT")) throw error;
    reject = false;
    await set(plan, "replace");
  }
  // The host's alternative may have been another one when an agent before us was killed: its rules would refuse for ever.
  await removeFirewall(plan.instance, counted ? "-legacy" : "-nft").catch(() => {}); // not installed
  return {
    reject,
    generation,
    update: (next) => set(next, "keep"),
    replace: (next) => set(next, "replace"),
    async standing() {
      const found = await Promise.all(families.map(async (family) => standing(await saved(family), plan.instance)));
      return {
        text: found.map(({ lines }) => lines.join("\n")).join("\n"),
        whole: found.every(({ own, foreign }, at) => foreign === 0 && own === counts.get(families[at] as 4 | 6)),
      };
    },
    remove: () => removeFirewall(plan.instance),
  };
}

/**
 * Our rules as the kernel lists them, and what comes before our jumps: an ACCEPT there would let out what we reject.
 * Other agents' jumps are no such thing.
 */
function standing(saved: string, instance: string): { lines: string[]; own: number; foreign: number } {
  const names = Object.values(chainNames(instance));
  const isOurs = (line: string): boolean => names.some((name) => line.split(" ").includes(name));
  const lines: string[] = [];
  let own = 0;
  let foreign = 0;
  let before: string[] = [];
  for (const line of saved.split("\n")) {
    if (line.startsWith("*")) {
      lines.push(line);
      before = [];
    } else if (line.startsWith("-A ")) {
      const [, chain] = line.split(" ");
      if (isOurs(line)) {
        // Before those two an ACCEPT lets nothing out, and other tools like to be first there.
        const others = before.filter((one) => one.startsWith(`-A ${chain} `) && !/^-A (INPUT|PREROUTING) /.test(one));
        lines.push(...others, line);
        own += 1;
        foreign += others.length;
      } else if (!/ -j WEIR-/.test(line)) before.push(line);
    }
  }
  return { lines, own, foreign };
}

/** As the kernel lists them. Asked twice between two changes, it lists them once: putting rules back begins sooner. */
function savedRules(generationOf: () => number | null): (family: 4 | 6) => Promise<string> {
  const known = new Map<4 | 6, { generation: number; text: string }>();
  return async (family) => {
    // Asked before the listing: a change meanwhile makes it old.
    const generation = generationOf();
    const last = known.get(family);
    if (generation !== null && last?.generation === generation) return last.text;
    const text = await save(family);
    if (generation !== null) known.set(family, { generation, text });
    return text;
  };
}

/**
 * The count is of nf_tables. Of rules that the legacy iptables sets in the same kernel it says nothing: taken for theirs, it
 * would show them as unchanged for ever.
 */
async function areCounted(): Promise<boolean> {
  const versions = await Promise.all(
    ipFamilies().map((family) => run(family === 4 ? "iptables-save" : "ip6tables-save", ["--version"], "")),
  );
  return versions.every((version) => version.includes("(nf_tables)"));
}

/** Of the two that a host may have beside each other; empty: its alternative. */
type Flavour = "" | "-legacy" | "-nft";

function save(family: 4 | 6, flavour: Flavour = ""): Promise<string> {
  return run(`${family === 4 ? "iptables" : "ip6tables"}${flavour}-save`, [], "");
}

/** Takes out whatever is left of this instance, and nothing else. */
export async function removeFirewall(instance: string, flavour: Flavour = ""): Promise<void> {
  await Promise.all(
    ipFamilies().map(async (family) => {
      const left = leftovers(await save(family, flavour), instance);
      const lines = (Object.keys(left.chains) as TableName[]).flatMap((table) => [
        `*${table}`,
        ...left.jumps[table].map((rule) => rule.replace(/^-A /, "-D ")),
        ...left.chains[table].flatMap((chain) => [`-F ${chain}`]),
        ...left.chains[table].flatMap((chain) => [`-X ${chain}`]),
        "COMMIT",
      ]);
      if (Object.values(left.chains).some((chains) => chains.length > 0))
        await restore(family, `${lines.join("\n")}\n`, flavour);
    }),
  );
}

/** A kernel without IPv6 has nothing to guard there. */
function ipFamilies(): (4 | 6)[] {
  return existsSync("/proc/net/if_inet6") ? [4, 6] : [4];
}

interface Leftovers {
  readonly jumps: Record<TableName, string[]> & StaleJumps;
  readonly chains: Record<TableName, string[]>;
}

function leftovers(saved: string, instance: string): Leftovers {
  const names = new Set<string>(Object.values(chainNames(instance)));
  const found: Leftovers = {
    jumps: { filter: [], nat: [], mangle: [] },
    chains: { filter: [], nat: [], mangle: [] },
  };
  let table: TableName | null = null;
  for (const line of saved.split("\n")) {
    if (line.startsWith("*")) table = line.slice(1) in found.jumps ? (line.slice(1) as TableName) : null;
    if (table === null) continue;
    const chain = /^:(\S+) /.exec(line)?.[1];
    if (chain !== undefined && names.has(chain)) found.chains[table].push(chain);
    const jump = /^-A (\S+) .*-j (\S+)$/.exec(line);
    if (jump !== null && names.has(jump[2]!) && !names.has(jump[1]!)) found.jumps[table].push(line);
  }
  return found;
}

async function restore(family: 4 | 6, rules: string, flavour: Flavour = ""): Promise<void> {
  const program = `${family === 4 ? "iptables" : "ip6tables"}${flavour}-restore`;
  await run(program, ["--noflush", "-w", String(lockSecondsMax)], rules);
}

function run(program: string, args: readonly string[], input: string): Promise<string> {
  return new Promise((resolve, reject) => {
    const child = spawn(program, args, { stdio: ["pipe", "pipe", "pipe"] });
    let output = "";
    let problem = "";
    child.stdout.on("data", (data: Buffer) => {
      if (output.length < outputBytesMax) output += data.toString();
    });
    child.stderr.on("data", (data: Buffer) => {
      if (problem.length < outputBytesMax) problem += data.toString();
    });
    child.on("error", (cause) =>
      reject(new WeirError("WEIR_FIREWALL", `${program} cannot be run; install the package iptables.`, { cause })),
    );
    child.on("close", (code) => {
      if (code === 0) return resolve(output);
      const line = Number(/line:? (\d+)/.exec(problem)?.[1] ?? 0);
      const rule = line > 0 ? ` (${input.split("\n")[line - 1]})` : "";
      reject(new WeirError("WEIR_FIREWALL", `${program}: ${problem.trim().split("\n")[0] || `exit ${code}`}${rule}`));
    });
    child.stdin.on("error", () => {}); // the close event tells why
    child.stdin.end(input);
  });
}
