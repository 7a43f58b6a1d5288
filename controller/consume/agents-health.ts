/**
 * How the agents are, as they said last. A word counts when the agent's pinned key signed it and it is newer than the
 * one before; one whose key did not come yet waits for it.
 */
import type { KeyObject } from "node:crypto";
import type { FeedMessage } from "../../agent/kafka/feed.ts";
import { asHealth, type HealthWord, healthKind } from "../../agent/kafka/health-messages.ts";
import { readSigned, type SignedMessage } from "../../agent/kafka/signed.ts";
import type { AgentState } from "../http/state-routes.ts";
import type { AgentRow } from "../store/store.ts";

/** Agents that are remembered, 2 KB each. */
const agentsMax = 10_000;
/** Of agents whose key did not come yet, and who may be nobody: 256 KB each at most. */
const unknownMax = 256;
/** So many words in a row that do not come are told as silence. */
const wordsMissedMax = 3;
/** An agent's clock may be so far behind; an older word that somebody writes again is no sign of life. */
const clockBehindMsMax = 300_000;

interface Heard {
  readonly word: HealthWord;
  /** When Kafka took it. */
  readonly atMs: number;
}

export interface AgentsHealthOptions {
  keyOf(agent: string): Promise<KeyObject | null>;
  log(level: "info" | "warn", message: string): void;
}

export class AgentsHealth {
  readonly #options: AgentsHealthOptions;
  readonly #heard = new Map<string, Heard>();
  /** Signed by nobody who is known yet. */
  readonly #unknown = new Map<string, Heard & { readonly signed: SignedMessage }>();

  constructor(options: AgentsHealthOptions) {
    this.#options = options;
  }

  async take({ key, value, timeMs }: FeedMessage): Promise<void> {
    const signed = readSigned(healthKind, value);
    const word = signed === null ? null : asHealth(signed.body);
    if (signed === null || word === null || word.agent !== key) {
      if (value !== null) this.#options.log("warn", "health: a message cannot be read.");
      return;
    }
    const { agent } = word;
    const heard = { word, atMs: Math.min(timeMs, word.atMs + clockBehindMsMax), signed };
    if (this.#heard.size >= agentsMax && !this.#heard.has(agent)) return;
    await this.#check(agent, heard);
  }

  async #check(agent: string, heard: Heard & { readonly signed: SignedMessage }): Promise<void> {
    const known = await this.#options.keyOf(agent);
    if (known === null) {
      this.#unknown.set(agent, heard);
      if (this.#unknown.size > unknownMax) this.#unknown.delete(this.#unknown.keys().next().value as string);
      return;
    }
    this.#unknown.delete(agent);
    if (!heard.signed.isSignedBy(known))
      return this.#options.log("warn", `health: a word in the name of ${agent} is not signed by it.`);
    if (heard.word.atMs > (this.#heard.get(agent)?.word.atMs ?? 0))
      this.#heard.set(agent, { word: heard.word, atMs: heard.atMs });
  }

  /** How many are how; those that never said it do not count. */
  counts(nowMs: number): Record<"alive" | "silent" | "stopped", number> {
    const counts = { alive: 0, silent: 0, stopped: 0 };
    for (const heard of this.#heard.values()) counts[healthOf(heard, nowMs)] += 1;
    return counts;
  }

  /** With those that never said how they are, by their record alone. */
  async list(rows: readonly AgentRow[], nowMs: number): Promise<AgentState[]> {
    for (const [agent, heard] of [...this.#unknown]) await this.#check(agent, heard);
    const records = new Map(rows.map((row) => [row.agent, row]));
    const ids = new Set([...records.keys(), ...this.#heard.keys()]);
    return [...ids]
      .map((id) => stateOf(id, this.#heard.get(id) ?? null, records.get(id) ?? null, nowMs))
      .sort((a, b) => (a.name < b.name ? -1 : a.name > b.name ? 1 : a.id < b.id ? -1 : 1));
  }
}

function stateOf(id: string, heard: Heard | null, row: AgentRow | null, nowMs: number): AgentState {
  const record = row === null ? null : { ...row, lastAtMs: row.lastAtMs };
  if (heard === null) return { id, name: id, health: "unknown", heardAtMs: null, record };
  const { agent: _, atMs: __, everyMs: ___, stopped: ____, policy, ...word } = heard.word;
  const health = healthOf(heard, nowMs);
  return { ...word, id, health, heardAtMs: heard.atMs, record, policy: { ...policy, files: [] } };
}

function healthOf({ word: { stopped, everyMs }, atMs }: Heard, nowMs: number): "alive" | "silent" | "stopped" {
  if (stopped) return "stopped";
  return nowMs - atMs > wordsMissedMax * everyMs ? "silent" : "alive";
}
