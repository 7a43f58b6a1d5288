/** Where checked entries go: the store's side of the consumer. The one here is in memory, for tests and small trials. */
import type { KeyObject } from "node:crypto";
import type { ChainedEntry } from "../../agent/record/chain.ts";
import type { Head } from "../../agent/record/heads.ts";
import { AgentChain } from "./agent-chain.ts";
import type { FaultKind, SessionTail } from "./session-chain.ts";

export interface CheckedEntry {
  readonly entry: ChainedEntry;
  /** Its bytes as the chain has them. */
  readonly payload: Buffer;
  readonly link: Buffer;
}

export interface Fault {
  readonly kind: FaultKind;
  readonly agent: string | null;
  readonly session: string | null;
  readonly sentence: string;
}

export interface CheckedBatch {
  /** In order, each following from the one before it in its session. */
  readonly entries: readonly CheckedEntry[];
  /** Signed by their agent's key. */
  readonly heads: readonly Head[];
  readonly faults: readonly Fault[];
}

export interface SessionName {
  readonly agent: string;
  readonly session: string;
}

export interface RecordSink {
  /** Where these sessions end, in the same order; null for one that is not here. */
  tailsOf(sessions: readonly SessionName[]): Promise<readonly (SessionTail | null)[]>;
  /**
   * Stores all of it or nothing; offsets are committed to Kafka after it. An entry that is here already is left as it
   * is: after a rebalance, or a crash before the commit, the same entries come again.
   */
  store(batch: CheckedBatch): Promise<void>;
  /** The key an agent signs with, pinned when it was first seen or enrolled by hand. */
  keyOf(agent: string): Promise<KeyObject | null>;
  pinKey(agent: string, key: KeyObject): Promise<void>;
}

export class MemorySink implements RecordSink {
  readonly sessions = new Map<string, CheckedEntry[]>();
  readonly agents = new Map<string, AgentChain>();
  readonly faults: Fault[] = [];
  readonly #keys = new Map<string, KeyObject>();

  async tailsOf(names: readonly SessionName[]): Promise<(SessionTail | null)[]> {
    return names.map((name) => {
      const last = this.sessions.get(nameOf(name))?.at(-1);
      return last === undefined ? null : { seq: last.entry.seq, link: last.link };
    });
  }

  async store({ entries, heads, faults }: CheckedBatch): Promise<void> {
    for (const checked of entries) {
      const { entry } = checked;
      const name = nameOf(entry);
      const list = this.sessions.get(name) ?? [];
      this.sessions.set(name, list);
      const last = list.at(-1);
      if (last !== undefined && last.entry.seq >= entry.seq) continue;
      list.push(checked);
      this.#note(entry.agent, this.#chainOf(entry.agent).add({ ...entry, link: checked.link }));
    }
    for (const { agent, size, link } of heads) this.#note(agent, this.#chainOf(agent).head(size, link));
    this.faults.push(...faults);
  }

  async keyOf(agent: string): Promise<KeyObject | null> {
    return this.#keys.get(agent) ?? null;
  }

  async pinKey(agent: string, key: KeyObject): Promise<void> {
    this.#keys.set(agent, key);
  }

  #chainOf(agent: string): AgentChain {
    const chain = this.agents.get(agent) ?? new AgentChain(agent);
    this.agents.set(agent, chain);
    return chain;
  }

  #note(agent: string, fault: ReturnType<AgentChain["add"]>): void {
    if (fault !== null) this.faults.push({ kind: fault.fault, agent, session: null, sentence: fault.sentence });
  }
}

/** Sessions have names of their own, but for `agent`, which each agent has. */
export function nameOf({ agent, session }: SessionName): string {
  return `${agent}\n${session}`;
}
