/**
 * The firewall's rules as text for iptables-restore and ip6tables-restore. Pure: given the same facts, the same text.
 *
 *   mangle OUTPUT → WEIR-i-M   first packets of new flows go to the judge (NFQUEUE), which marks them
 *   mangle INPUT  → WEIR-i-I   DNS answers go past the judge, so that it knows a name before the client uses it
 *   nat OUTPUT    → WEIR-i-N   marked `redirect`: to the agent's listener
 *   filter OUTPUT → WEIR-i-F   what bears no mark of the judge is rejected
 *   mangle POSTROUTING → WEIR-i-V  → WEIR-i-X, the same once more by DROP, so that an ACCEPT that stands before us in filter
 *                                  opens nothing; what is left gets the mark without which BPF lets nothing leave
 *
 * and for a whole host, for containers and namespaces behind a bridge:
 *
 *   mangle PREROUTING → WEIR-i-P   first packets go to the judge before they are routed: it marks what it takes
 *   nat PREROUTING → WEIR-i-R      marked `redirect`: to the listener that is there for them
 *   filter INPUT → WEIR-i-E        which lets in what was redirected, and nothing else
 *   mangle and filter FORWARD → WEIR-i-M and WEIR-i-W, and WEIR-i-Y behind WEIR-i-X: as for the host's own
 *
 * The queue may be bypassed on purpose (`--queue-bypass`): when nobody listens any more, a first packet gets on without a
 * mark and filter rejects it, so that a dead agent is closed and answers at once, where a queue without bypass would
 * drop and let clients run into their time-outs.
 */
import { isLoopback } from "./address.ts";
import type { Route } from "./target-map.ts";

export interface FirewallFacts {
  readonly family: 4 | 6;
  readonly instance: string;
  readonly scope: { readonly kind: "host" } | { readonly kind: "cgroup"; readonly path: string };
  readonly marks: Marks;
  readonly queue: number;
  /** The agent's listener on loopback. */
  readonly port: number;
  /** The agent's listener for what comes over a bridge; 0: nothing of it is redirected. */
  readonly bridgePort: number;
  readonly resolvers: readonly string[];
  readonly egress: "deny" | "allow";
  readonly onFailure: "closed" | "open";
  /** Destinations on loopback that a target names. */
  readonly loopback: readonly Route[];
  /** Ports of targets: direct UDP to them is refused. */
  readonly targetPorts: readonly number[];
  /** False where the kernel has no REJECT: refused packets are dropped, and the judge answers by raw socket. */
  readonly reject: boolean;
}

/** Values of SO_MARK and of the packet mark; compared as a whole. */
export interface Marks {
  readonly agent: number;
  readonly redirect: number;
  readonly pass: number;
  readonly refuse: number;
}

/**
 * The bit that everything bears which the rules have let out; what leaves without it is dropped by bpf/weir.bpf.c. One bit, none
 * of the marks': rules of others after ours compare theirs with a mask. The same for every agent: the next one's rules
 * serve the wall of the one before.
 */
export const wallMark = 0x2000_0000;

/** `-m multiport` takes no more. */
const portsPerRuleMax = 15;
const quicPort = 443;

export function chainNames(instance: string) {
  const base = `WEIR-${instance}`;
  return {
    judge: `${base}-M`,
    answers: `${base}-I`,
    redirect: `${base}-N`,
    last: `${base}-F`,
    forwarded: `${base}-W`,
    seen: `${base}-V`,
    net: `${base}-X`,
    forwardedNet: `${base}-Y`,
    arriving: `${base}-P`,
    taken: `${base}-R`,
    entrance: `${base}-E`,
  } as const;
}

/** Rules of a table in the form of iptables-save: the jumps that an agent before us has left. */
export type StaleJumps = Readonly<Partial<Record<TableName, readonly string[]>>>;
export type TableName = "filter" | "nat" | "mangle";

/**
 * With `stale`, the jumps are set too and the stale ones taken out in the same commit, so that at no moment the scope is
 * open; with null only the contents of the chains are replaced.
 */
export function firewallRules(facts: FirewallFacts, stale: StaleJumps | null): string {
  const chains = chainNames(facts.instance);
  const scope = facts.scope.kind === "host" ? "" : ` -m cgroup --path ${JSON.stringify(facts.scope.path)}`;
  const jumps = (from: string, chain: string, match: string): string[] =>
    stale === null ? [] : [`-I ${from} 1${match} -j ${chain}`];
  const host = facts.scope.kind === "host";
  const hosts = (from: string, chain: string): string[] => (host ? jumps(from, chain, "") : []);
  const own = (chain: string, rules: readonly string[]): string[] => rules.map((rule) => `-A ${chain} ${rule}`);
  const seenRules = [`-j ${chains.net}`, `-j MARK --or-mark ${hex(wallMark)}`];
  const declare = (chain: string, needed = true): string[] => (needed ? [`:${chain} - [0:0]`] : []);
  const drops = (table: TableName): string[] => (stale?.[table] ?? []).map((rule) => rule.replace(/^-A /, "-D "));
  // The last line of defence is set first: between the two commits a new flow is rejected, never let through.
  const lines = [
    "*filter",
    ...declare(chains.last),
    ...declare(chains.forwarded, host),
    ...declare(chains.entrance, host),
    ...drops("filter"),
    ...own(chains.last, lastRules(facts)),
    ...own(chains.forwarded, host ? forwardedRules(facts) : []),
    ...own(chains.entrance, host ? entranceRules(facts) : []),
    ...jumps("OUTPUT", chains.last, scope),
    ...hosts("FORWARD", chains.forwarded),
    ...hosts("INPUT", chains.entrance),
    "COMMIT",
    "*nat",
    ...declare(chains.redirect),
    ...declare(chains.taken, host),
    ...drops("nat"),
    ...own(chains.redirect, redirectRules(facts, facts.port)),
    ...own(chains.taken, host ? redirectRules(facts, facts.bridgePort) : []),
    ...jumps("OUTPUT", chains.redirect, ""),
    ...hosts("PREROUTING", chains.taken),
    "COMMIT",
    "*mangle",
    ...declare(chains.judge),
    ...declare(chains.answers),
    ...declare(chains.net),
    ...declare(chains.seen),
    ...declare(chains.forwardedNet, host),
    ...declare(chains.arriving, host),
    ...drops("mangle"),
    ...own(chains.judge, judgeRules(facts)),
    ...own(chains.answers, answerRules(facts)),
    ...own(chains.net, [...(host ? strangers(facts, chains.forwardedNet) : []), ...dropping(lastRules(facts))]),
    ...own(chains.forwardedNet, host ? dropping(forwardedRules(facts)) : []),
    ...own(chains.arriving, host ? arrivingRules(facts) : []),
    ...jumps("OUTPUT", chains.judge, scope),
    ...own(chains.seen, seenRules),
    ...jumps("POSTROUTING", chains.seen, scope),
    ...hosts("FORWARD", chains.judge),
    ...(host ? jumps("FORWARD", chains.answers, " -p udp --sport 53") : []),
    ...hosts("PREROUTING", chains.arriving),
    ...jumps("INPUT", chains.answers, " -p udp --sport 53"),
    "COMMIT",
  ];
  return `${lines.join("\n")}\n`;
}

/**
 * A whole host without an agent: what `weir install` sets before the network comes up. The chains are the agent's, so that
 * it takes them over in one commit. No mark lets anything out, for nobody has given one yet.
 */
export function closedRules(family: 4 | 6, instance: string): string {
  const never = { agent: 1, redirect: 2, pass: 3, refuse: 4 };
  const facts: FirewallFacts = {
    family,
    instance,
    scope: { kind: "host" },
    marks: never,
    queue: 0,
    port: 0,
    bridgePort: 0,
    resolvers: [],
    egress: "deny",
    onFailure: "closed",
    loopback: [],
    targetPorts: [],
    reject: true,
  };
  const { last, forwarded, seen, net, forwardedNet } = chainNames(instance);
  const unmarked = (rules: string[]): string[] => rules.filter((rule) => !rule.includes("--mark"));
  return [
    "*filter",
    `:${last} - [0:0]`,
    `:${forwarded} - [0:0]`,
    ...unmarked(lastRules(facts)).map((rule) => `-A ${last} ${rule}`),
    ...unmarked(forwardedRules(facts)).map((rule) => `-A ${forwarded} ${rule}`),
    `-I OUTPUT 1 -j ${last}`,
    `-I FORWARD 1 -j ${forwarded}`,
    "COMMIT",
    "*mangle",
    `:${net} - [0:0]`,
    `:${forwardedNet} - [0:0]`,
    ...unmarked([...strangers(facts, forwardedNet), ...dropping(lastRules(facts))]).map((rule) => `-A ${net} ${rule}`),
    ...unmarked(dropping(forwardedRules(facts))).map((rule) => `-A ${forwardedNet} ${rule}`),
    `:${seen} - [0:0]`,
    `-A ${seen} -j ${net}`,
    `-A ${seen} -j MARK --or-mark ${hex(wallMark)}`,
    `-I POSTROUTING 1 -j ${seen}`,
    "COMMIT",
    "",
  ].join("\n");
}

function judgeRules(facts: FirewallFacts): string[] {
  const queue = `-j NFQUEUE --queue-num ${facts.queue} --queue-bypass`;
  return [
    ...settled(facts),
    ...loopbackMatches(facts).map((match) => `${match} ${opening} ${queue}`),
    `-d ${loopbackNet(facts)} -j RETURN`,
    ...plumbing(facts),
    `-p tcp ${opening} ${queue}`,
    ...(facts.egress === "deny"
      ? [`-p udp ${queue}`]
      : chunks(refusedUdpPorts(facts)).map((ports) => `-p udp -m multiport --dports ${ports} ${queue}`)),
  ];
}

/** Of a question that somebody asked: what nobody asked for is no answer. */
function answerRules(facts: FirewallFacts): string[] {
  const asked = "-m conntrack --ctstate ESTABLISHED --ctdir REPLY";
  return familyResolvers(facts).map(
    (resolver) => `-p udp -s ${resolver} --sport 53 ${asked} -j NFQUEUE --queue-num ${facts.queue} --queue-bypass`,
  );
}

/** Only what is to be routed on: the host's own addresses are another matter, published ports among them. */
function arrivingRules(facts: FirewallFacts): string[] {
  if (facts.bridgePort === 0) return [];
  const match = `! -i lo -p tcp ${opening} -m addrtype ! --dst-type LOCAL`;
  return [`${match} -j NFQUEUE --queue-num ${facts.queue} --queue-bypass`];
}

function redirectRules(facts: FirewallFacts, port: number): string[] {
  // Without a listener of this family nothing is redirected; such a flow is rejected by the last rules.
  if (port === 0) return [];
  return [`-p tcp -m mark --mark ${hex(facts.marks.redirect)} -j REDIRECT --to-ports ${port}`];
}

/** That listener is on every address, for a bridge may come and go: nobody reaches it but by the redirection. */
function entranceRules(facts: FirewallFacts): string[] {
  if (facts.bridgePort === 0) return [];
  const match = `-p tcp -m tcp --dport ${facts.bridgePort}`;
  return [`${match} -m conntrack --ctstate DNAT -j ACCEPT`, `${match} ${rejectTcp(facts)}`];
}

/** What bears no address of the host's comes through it. A host without one yet asks for it. */
function strangers(facts: FirewallFacts, chain: string): string[] {
  const unnamed =
    facts.family === 4 ? "-s 0.0.0.0/32 -p udp --sport 68 --dport 67 -j RETURN" : "-s ::/128 -p ipv6-icmp -j RETURN";
  return [unnamed, `-m addrtype ! --src-type LOCAL -g ${chain}`];
}

/** The mangle table cannot reject. */
function dropping(rules: readonly string[]): string[] {
  return rules.map((rule) => rule.replace(/-j REJECT.*/, "-j DROP"));
}

function lastRules(facts: FirewallFacts): string[] {
  // Open on failure: only what the judge has refused is rejected; what it never saw passes.
  const refused = facts.onFailure === "open" ? ` -m mark --mark ${hex(facts.marks.refuse)}` : "";
  const unjudged = facts.onFailure === "open" ? refused : ` -m mark ! --mark ${hex(facts.marks.pass)}`;
  return [
    ...settled(facts),
    ...loopbackMatches(facts).map((match) => `${match}${unjudged} ${rejectTcp(facts)}`),
    `-d ${loopbackNet(facts)} -j RETURN`,
    // Our own answer to a refused SYN, and the kernel's to a stray packet.
    "-p tcp -m tcp --tcp-flags RST RST -j RETURN",
    ...plumbing(facts),
    `-m mark --mark ${hex(facts.marks.pass)} -j RETURN`,
    `-p tcp${refused} ${rejectTcp(facts)}`,
    ...(facts.egress === "deny"
      ? [`${refused === "" ? "" : `${refused.trim()} `}${rejectOther(facts)}`]
      : chunks(refusedUdpPorts(facts)).map(
          (ports) => `-p udp -m multiport --dports ${ports}${refused} ${rejectOther(facts)}`,
        )),
  ];
}

/**
 * What comes from a container or another network namespace is decided at the same first packet; what is redirected does not
 * come here. Answers alone go on unseen: a raw socket in a container could send segments that open nothing, so none of
 * them passes without a mark, its own or that of the flow it belongs to.
 */
function forwardedRules(facts: FirewallFacts): string[] {
  const pass = hex(facts.marks.pass);
  const answer = "-m conntrack --ctstate RELATED,ESTABLISHED --ctdir REPLY -j RETURN";
  if (facts.onFailure === "open") {
    const refused = `-m mark --mark ${hex(facts.marks.refuse)}`;
    return [answer, `-p tcp ${refused} ${rejectTcp(facts)}`, `${refused} ${rejectOther(facts)}`];
  }
  const judged = [`-m mark --mark ${pass} -j RETURN`, `-p tcp ${rejectTcp(facts)}`];
  if (facts.egress === "allow") {
    return [
      answer,
      ...names(facts),
      // Datagrams are judged each: a policy may name later where they go.
      "! -p udp -m conntrack --ctstate RELATED,ESTABLISHED -j RETURN",
      ...judged,
      ...chunks(refusedUdpPorts(facts)).map((ports) => `-p udp -m multiport --dports ${ports} ${rejectOther(facts)}`),
    ];
  }
  return [
    answer,
    ...names(facts),
    // Between networks of this host: the flow remembers that its first packet was let pass.
    `-m mark --mark ${pass} -j CONNMARK --save-mark`,
    `-m connmark --mark ${pass} -j RETURN`,
    ...judged,
    rejectOther(facts),
  ];
}

/** A segment that opens a connection, whatever else it carries; a SYN-ACK answers an inbound one. */
const opening = "-m tcp --tcp-flags SYN,RST,ACK SYN";

/** What is decided already: flows under way, replies of inbound ones (ssh), the agent's own. First, for it is nearly all. */
function settled(facts: FirewallFacts): string[] {
  // On a whole host with egress denied nothing of its own passes by being established: redirected flows go to loopback, the
  // agent's bear its mark, and what was open before the start (QUIC, a tunnel) has to be judged like a first packet. Elsewhere
  // datagrams have to, for a policy may name their destination later; earlier-flows.ts ends TCP's connections then.
  const all = facts.scope.kind === "host" && facts.egress === "deny" && facts.onFailure === "closed";
  return [
    "-m conntrack --ctstate RELATED,ESTABLISHED --ctdir REPLY -j RETURN",
    ...(all ? [] : ["! -p udp -m conntrack --ctstate RELATED,ESTABLISHED -j RETURN"]),
    `-m mark --mark ${hex(facts.marks.agent)} -j RETURN`,
  ];
}

/** Name resolution, and for a whole host what keeps its network alive. */
function plumbing(facts: FirewallFacts): string[] {
  const rules = names(facts);
  if (facts.scope.kind !== "host") return rules;
  // A connection older than the rules is unknown to conntrack: its next segment is no SYN. Cutting it would cut ssh.
  rules.push(`-p tcp -m tcp ! --tcp-flags SYN,RST,ACK SYN -j RETURN`);
  if (facts.family === 4) {
    // ICMP errors are the answer to a refused datagram, which conntrack has forgotten by then: they are not RELATED.
    const errors = [3, 11, 12].map((type) => `-p icmp -m icmp --icmp-type ${type} -j RETURN`);
    return [...rules, ...errors, "-p udp --sport 68 --dport 67 -j RETURN"];
  }
  // DHCPv6; errors, neighbour discovery and multicast listener reports, without which IPv6 stops (RFC 4890).
  const types = [1, 2, 3, 4, 130, 131, 132, 133, 134, 135, 136, 143];
  return [
    ...rules,
    "-p udp --sport 546 --dport 547 -j RETURN",
    ...types.map((type) => `-p ipv6-icmp -m icmp6 --icmpv6-type ${type} -j RETURN`),
  ];
}

/** Questions to the host's resolvers; a container has the same ones. */
function names(facts: FirewallFacts): string[] {
  return familyResolvers(facts).flatMap((resolver) => [
    `-d ${resolver} -p udp --dport 53 -j RETURN`,
    `-d ${resolver} -p tcp --dport 53 -j RETURN`,
  ]);
}

function familyResolvers(facts: FirewallFacts): string[] {
  return facts.resolvers.filter((address) => address.includes(":") === (facts.family === 6));
}

function loopbackNet(facts: FirewallFacts): string {
  return facts.family === 4 ? "127.0.0.0/8" : "::1/128";
}

function loopbackMatches(facts: FirewallFacts): string[] {
  const byNet = new Map<string, number[]>();
  for (const route of facts.loopback) {
    if (route.family !== facts.family || !isLoopback(route.address)) continue;
    const net = `${route.address}/${route.prefix}`;
    byNet.set(net, [...(byNet.get(net) ?? []), route.port]);
  }
  return [...byNet].flatMap(([net, ports]) =>
    chunks(ports).map((list) => `-d ${net} -p tcp -m multiport --dports ${list} -m conntrack --ctstate NEW`),
  );
}

/** QUIC would carry HTTP past the reader of TCP; a refused client goes back to TCP (RFC 9308 section 2.1). */
function refusedUdpPorts(facts: FirewallFacts): number[] {
  return [...new Set([quicPort, ...facts.targetPorts])].sort((a, b) => a - b);
}

function chunks(ports: readonly number[]): string[] {
  const lists: string[] = [];
  for (let at = 0; at < ports.length; at += portsPerRuleMax)
    lists.push(ports.slice(at, at + portsPerRuleMax).join(","));
  return lists;
}

function rejectTcp(facts: FirewallFacts): string {
  return facts.reject ? "-j REJECT --reject-with tcp-reset" : "-j DROP";
}

function rejectOther(facts: FirewallFacts): string {
  if (!facts.reject) return "-j DROP";
  return `-j REJECT --reject-with ${facts.family === 4 ? "icmp-admin-prohibited" : "icmp6-adm-prohibited"}`;
}

function hex(mark: number): string {
  return `0x${mark.toString(16)}`;
}
