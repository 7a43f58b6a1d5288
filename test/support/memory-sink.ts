/** A store of checked entries in memory, which follows each agent's chain. */
import type { KeyObject } from "node:crypto";
import type { SessionTail } from "../../controller/consume/session-chain.ts";
import {
  type CheckedBatch,
  type CheckedEntry,
  type Fault,
  nameOf,
  type RecordSink,
  type SessionName,
} from "../../controller/consume/sink.ts";
import { AgentChain } from "./agent-chain.ts";

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
