/**
 * Judges the first packet of each new flow and reads DNS answers. It decides and never waits; what the kernel then does
 * with the mark is in firewall-rules.ts. Pure but for its callbacks: the queue and the clock are given.
 */
import type { Endpoint } from "../core/flow.ts";
import { isLoopback } from "./address.ts";
import { parseDnsAnswer } from "./dns-answer.ts";
import type { NameTable } from "./name-table.ts";
import { type Packet, parsePacket } from "./packet.ts";
import type { TargetMap } from "./target-map.ts";

const quicPort = 443;

export type Judgement =
  | { readonly kind: "answer"; readonly learned: readonly { name: string; address: string }[] }
  | { readonly kind: "redirect"; readonly source: Endpoint; readonly destination: Endpoint }
  | { readonly kind: "pass" }
  /** Nothing is decided: a later hook asks again. */
  | { readonly kind: "later" }
  | { readonly kind: "refuse"; readonly packet: Packet | null; readonly reason: string };

export interface JudgeFacts {
  readonly targets: TargetMap;
  readonly egress: "deny" | "allow";
}

/** Where the packet was met, and what the links it came by and goes by are. */
export interface Passage {
  /**
   * `in`: for the host itself. `arriving`: from a link, for somebody else, not routed yet. `through`: the same, routed.
   * `out`: a process of the host sends it.
   */
  readonly way: "in" | "arriving" | "through" | "out";
  /** It came from a bridge that has only namespaces of this host behind it, or goes to one. */
  readonly fromLocal: boolean;
  readonly toLocal: boolean;
}

export function judgePacket(
  bytes: Uint8Array,
  { way, fromLocal, toLocal }: Passage,
  facts: JudgeFacts,
  names: NameTable,
  nowMs: number,
): Judgement {
  const packet = parsePacket(bytes);
  const isAnswer = packet !== null && packet.protocol === 17 && packet.source.port === 53;
  if (way === "in" || (way === "through" && isAnswer)) {
    // A container can send with the resolver's address as its own: what it says about names is not believed.
    return { kind: "answer", learned: isAnswer && !fromLocal ? learn(packet, names, nowMs) : [] };
  }
  if (packet === null) return { kind: "refuse", packet, reason: "the packet cannot be read" };
  const { address, port } = packet.destination;
  const target = facts.targets.match(address, port, names.namesOf(address, nowMs));
  if (way === "arriving") {
    // A stranger's flow through this host is not taken: it would get the credentials of the policy's targets.
    if (packet.tcp === null || target === null || !fromLocal) return { kind: "later" };
    return { kind: "redirect", source: packet.source, destination: packet.destination };
  }
  if (packet.tcp !== null) {
    if (target !== null && way === "out")
      return { kind: "redirect", source: packet.source, destination: packet.destination };
    if (target !== null) {
      return {
        kind: "refuse",
        packet,
        reason: `the target ${target.name} is reached from this host's own networks only`,
      };
    }
    if (mayPass(facts, toLocal)) return { kind: "pass" };
    return { kind: "refuse", packet, reason: "no target of the policy names this destination, and egress is denied" };
  }
  if (target !== null) return { kind: "refuse", packet, reason: `UDP to the target ${target.name} is not let through` };
  if (packet.protocol === 17 && port === quicPort) {
    return { kind: "refuse", packet, reason: "QUIC cannot be read; clients fall back to TCP" };
  }
  if (mayPass(facts, toLocal)) return { kind: "pass" };
  return { kind: "refuse", packet, reason: "egress is denied" };
}

/** What no target names. */
function mayPass({ egress }: JudgeFacts, toLocal: boolean): boolean {
  return egress === "allow" || toLocal;
}

/** Of a connection of the host's own that is open already: a first packet to there would pass unread. */
export function passesUnread(
  { address, port }: Endpoint,
  toLocal: boolean,
  facts: JudgeFacts,
  names: NameTable,
  nowMs: number,
): boolean {
  if (facts.targets.match(address, port, names.namesOf(address, nowMs)) !== null) return false;
  return isLoopback(address) || mayPass(facts, toLocal);
}

function learn(packet: Packet, names: NameTable, nowMs: number): { name: string; address: string }[] {
  const answer = parseDnsAnswer(packet.payload);
  if (answer === null) return [];
  const learned: { name: string; address: string }[] = [];
  for (const { address, ttlSeconds } of answer.addresses) {
    if (names.learn(answer.name, address, ttlSeconds, nowMs)) learned.push({ name: answer.name, address });
  }
  return learned;
}
