/** Entries as the consumer has checked them, made by the agent's own chain. */
import type { EntryBody } from "../../../agent/core/record.ts";
import { Chain, decodeEntry, linkOf } from "../../../agent/record/chain.ts";
import type { CheckedEntry } from "../../../controller/consume/sink.ts";

export class Writer {
  readonly chain: Chain;
  #timeMs: number;

  constructor(agent: string, timeMs = 1_790_000_000_000) {
    this.chain = new Chain(agent);
    this.#timeMs = timeMs;
  }

  append(session: string, body: EntryBody): CheckedEntry {
    this.#timeMs += 10;
    const payload = Buffer.from(this.chain.append(session, body, this.#timeMs));
    return { entry: decodeEntry(payload), payload, link: linkOf(payload) };
  }

  wait(ms: number): void {
    this.#timeMs += ms;
  }

  get timeMs(): number {
    return this.#timeMs;
  }
}

export function batch(entries: readonly CheckedEntry[]) {
  return { entries, heads: [], faults: [] };
}
