/**
 * Heads on their way into the tree: what is covered already is left out, and a second head of the same size with another
 * link is a fork that the agent itself signed for; both become leaves, since together they are the proof.
 */
import type { Head } from "../../agent/record/heads.ts";
import type { Receipt } from "../../agent/record/receipts.ts";
import type { AddedHead, AuditLog } from "./log.ts";

export interface HeadFault {
  readonly kind: "fork" | "shrunk";
  readonly agent: string;
  readonly sentence: string;
}

export interface TakenHeads {
  readonly added: number;
  readonly faults: readonly HeadFault[];
  /** Of each agent's last head that was added; resolves once a checkpoint covers them all. */
  receipts(): Promise<readonly Receipt[]>;
}

/** Agents whose last head is remembered, 400 bytes each; the log itself knows the others. */
const agentsMax = 10_000;

export class HeadIntake {
  readonly #log: AuditLog;
  readonly #last = new Map<string, Head>();

  constructor(log: AuditLog) {
    this.#log = log;
  }

  /** The caller has checked the signatures. Throws WEIR_LIMIT_REACHED when too many wait for a checkpoint. */
  take(heads: readonly Head[]): TakenHeads {
    const added = new Map<string, AddedHead>();
    const faults: HeadFault[] = [];
    let count = 0;
    for (const head of heads) {
      const last = this.#lastOf(head.agent);
      const fault = last === null ? null : faultOf(last, head);
      if (fault !== null) faults.push(fault);
      if (last !== null && fault === null && !follows(last, head)) continue;
      added.set(head.agent, this.#log.addHead(head));
      count += 1;
      // A fork does not become what later heads are held against.
      if (fault === null) this.#remember(head);
    }
    return { added: count, faults, receipts: () => Promise.all([...added.values()].map((one) => one.receipt())) };
  }

  #lastOf(agent: string): Head | null {
    const known = this.#last.get(agent);
    if (known !== undefined) return known;
    const found = this.#log.lastHeadOf(agent);
    if (found !== null) this.#remember(found);
    return found;
  }

  #remember(head: Head): void {
    this.#last.delete(head.agent);
    this.#last.set(head.agent, head);
    if (this.#last.size > agentsMax) this.#last.delete(this.#last.keys().next().value as string);
  }
}

/** Longer, or the same with the word that it ended in order. */
function follows(last: Head, head: Head): boolean {
  return head.size > last.size || (head.size === last.size && head.closed && !last.closed);
}

function faultOf(last: Head, head: Head): HeadFault | null {
  const { agent, size } = head;
  if (size === last.size && head.link !== last.link) {
    const sentence = `Agent ${agent} signed two different records of ${size} entries: its record forked.`;
    return { kind: "fork", agent, sentence };
  }
  // Heads come again after a crash; one that was signed later and says less is no repetition.
  if (size < last.size && head.timeMs > last.timeMs) {
    const sentence = `Agent ${agent} signed for ${last.size} entries and later for ${size}: its record was cut in between.`;
    return { kind: "shrunk", agent, sentence };
  }
  return null;
}
