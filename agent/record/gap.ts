/**
 * What a hole in the agent's numbers means: entries that stand elsewhere (reordered), a whole session that was taken out
 * (what is left of the others is complete), or single entries (a session does not go on where it stopped). Pure.
 */
import type { ChainedEntry } from "./chain.ts";

export interface Placed {
  readonly agentSeq: number;
  readonly session: string;
  readonly seq: number;
  readonly ends: boolean;
}

export type Hole = "gap" | "reordered" | "removed-session";

/** Sessions as far as they were read before the hole: the number of their last entry. */
export class HoleFinder {
  readonly #from: number;
  readonly #to: number;
  readonly #before: Map<string, number>;
  readonly #tails: Map<string, number>;
  #missing: number;
  #torn = false;
  #elsewhere = false;
  #next: number;

  /** Entry `expected` should have come, and `found` came. */
  constructor(expected: number, found: number, tails: ReadonlyMap<string, number>) {
    this.#from = expected;
    this.#to = found;
    this.#next = found;
    this.#missing = found - expected;
    this.#before = new Map(tails);
    this.#tails = new Map(tails);
  }

  /** The entry behind the hole, and every later one. */
  add({ agentSeq, session, seq, ends }: Placed): void {
    if (agentSeq >= this.#from && agentSeq < this.#to) this.#elsewhere = true;
    if (agentSeq > this.#next) this.#missing += agentSeq - this.#next;
    this.#next = Math.max(this.#next, agentSeq + 1);
    if (seq !== (this.#tails.get(session) ?? -1) + 1) this.#torn = true;
    this.#before.delete(session);
    if (ends) this.#tails.delete(session);
    else this.#tails.set(session, seq);
  }

  /** At the end of the log. A session that was open and says nothing more may be where the entries are missing. */
  get hole(): Hole {
    if (this.#elsewhere) return "reordered";
    this.#before.delete("agent");
    return this.#torn || this.#before.size > 0 ? "gap" : "removed-session";
  }

  get missing(): number {
    return this.#missing;
  }
}

export function placed(entry: ChainedEntry): Placed {
  const { agentSeq, session, seq } = entry;
  return { agentSeq, session, seq, ends: Object.hasOwn(entry.body, "weir.v1.SessionEnd") };
}

export function sentenceOf(finder: HoleFinder, expected: number, found: number): string {
  const between = `After entry ${expected - 1} comes entry ${found}`;
  switch (finder.hole) {
    case "reordered":
      return `${between}: an entry stands where it does not belong.`;
    case "removed-session":
      return `${between}: ${finder.missing} entries are missing, and every other session is whole: a session was removed.`;
    default:
      return `${between}: ${finder.missing} entries are missing.`;
  }
}
