/**
 * One agent's chain over all its sessions. Entries of different sessions come by different partitions, so they come out
 * of order: links wait until the one before is there. Signed heads say which link has to stand where. Pure.
 */
import { firstLink } from "../../agent/record/chain.ts";

export interface ChainLink {
  readonly agentSeq: number;
  readonly previous: Buffer;
  readonly link: Buffer;
}

export interface AgentFault {
  readonly fault: "fork" | "altered" | "cut";
  readonly agentSeq: number;
  readonly sentence: string;
}

/** Links that wait for one before them, 200 bytes each; partitions are not further apart than this. */
const waitingMax = 262_144;
const headsMax = 4_096;

export class AgentChain {
  readonly #agent: string;
  readonly #waiting = new Map<number, ChainLink>();
  readonly #heads = new Map<number, string>();
  #size: number;
  #link: Buffer | null;
  #signed = 0;

  /** Null as link: this agent's record began before; the first entry is taken as it comes. */
  constructor(agent: string, size = 0, link: Buffer | null = firstLink) {
    this.#agent = agent;
    this.#size = size;
    this.#link = link;
  }

  /** Entries in an unbroken chain from the first. */
  get size(): number {
    return this.#size;
  }

  /** Entries that the agent has signed for and that are all here, as it signed them. */
  get signed(): number {
    return this.#signed;
  }

  /** The first entry that is not here, when later ones are. */
  get missing(): number | null {
    return this.#waiting.size === 0 ? null : this.#size;
  }

  get link(): Buffer | null {
    return this.#link;
  }

  add(entry: ChainLink): AgentFault | null {
    const { agentSeq } = entry;
    if (agentSeq < this.#size) return null;
    const twin = this.#waiting.get(agentSeq);
    if (twin !== undefined)
      return twin.link.equals(entry.link) ? null : this.#fault("fork", agentSeq, "is there twice, and they differ");
    if (agentSeq > this.#size && this.#waiting.size >= waitingMax)
      return this.#fault("cut", this.#size, `did not come, and ${waitingMax} after it are here`);
    this.#waiting.set(agentSeq, entry);
    return this.#advance();
  }

  /** A head whose signature was checked. */
  head(size: number, link: string): AgentFault | null {
    if (size > this.#size) {
      if (this.#heads.size >= headsMax) this.#heads.delete(this.#heads.keys().next().value as number);
      this.#heads.set(size, link);
      return null;
    }
    return size === this.#size ? this.#compare(size, link) : null;
  }

  #advance(): AgentFault | null {
    for (let next = this.#waiting.get(this.#size); next !== undefined; next = this.#waiting.get(this.#size)) {
      this.#waiting.delete(this.#size);
      if (this.#link !== null && !next.previous.equals(this.#link))
        return this.#fault("altered", this.#size, "does not follow from the one before it");
      this.#link = next.link;
      this.#size += 1;
      const head = this.#heads.get(this.#size);
      if (head === undefined) continue;
      this.#heads.delete(this.#size);
      const fault = this.#compare(this.#size, head);
      if (fault !== null) return fault;
    }
    return null;
  }

  #compare(size: number, link: string): AgentFault | null {
    if (this.#link?.toString("hex") !== link)
      return this.#fault("altered", size - 1, "is not the one that the agent signed for");
    this.#signed = Math.max(this.#signed, size);
    return null;
  }

  #fault(fault: AgentFault["fault"], agentSeq: number, what: string): AgentFault {
    return { fault, agentSeq, sentence: `Entry ${agentSeq} of agent ${this.#agent} ${what}.` };
  }
}
