/**
 * Entries that are too old or too many go, each agent's oldest first; where its chain and its sessions stood there stays,
 * so that what is left still proves that it follows from it. Only what the agent has signed for goes: what is broken, has
 * a gap before it or no head behind it is evidence.
 */
import { decodeEntry } from "../../agent/record/chain.ts";
import { type ChainPlace, followChain, type StoredLink } from "./chain-walk.ts";

export interface RetentionRules {
  /** Entries younger than that stay; null: of any age. */
  readonly ageMs: number | null;
  /** The entries may have that many bytes, without their indices; null: any number. */
  readonly bytes: number | null;
}

export interface RemovedCount {
  readonly entries: number;
  /** Sessions of which nothing is left but where they ended. */
  readonly sessions: number;
}

export interface KeptAgent extends ChainPlace {
  readonly num: number;
  readonly agent: string;
  /** Entries that it has signed for; `size` and `link` are where its removed ones end. */
  readonly signed: number;
  readonly broken: string | null;
  /** Of its entries here. */
  readonly bytes: number;
}

export interface OldEntry extends StoredLink {
  /** The session's number in the store. */
  readonly session: number;
  readonly seq: number;
  readonly payload: Uint8Array;
}

/** Where a session stood when it was cut. */
export interface SessionCut {
  readonly seq: number;
  /** Of its last entry that goes. */
  readonly untilMs: number;
}

/** One agent's entries from `from` on and before `place.size`. */
export interface Cut {
  readonly agent: number;
  readonly from: number;
  readonly place: ChainPlace;
  readonly bytes: number;
  readonly sessions: ReadonlyMap<number, SessionCut>;
}

/** A store's side of it. */
export interface Remover {
  agents(): Promise<readonly KeptAgent[]>;
  /** In the chain's order, from an entry on, at most `limit`. */
  oldest(agent: number, from: number, limit: number): Promise<readonly OldEntry[]>;
  /** In one transaction. */
  remove(cut: Cut): Promise<RemovedCount>;
}

/** Looked at, and removed in one transaction: others write in between. */
const atOnceMax = 1_000;

export async function removeOld(remover: Remover, rules: RetentionRules, nowMs: number): Promise<RemovedCount> {
  const total = { entries: 0, sessions: 0 };
  const agents = (await remover.agents()).filter(({ broken }) => broken === null);
  let excess = rules.bytes === null ? 0 : agents.reduce((sum, { bytes }) => sum + bytes, 0) - rules.bytes;

  /** False: nothing more of it may go. */
  async function step(agent: KeptAgent, due: (timeMs: number, freed: number) => boolean): Promise<KeptAgent | null> {
    const rows = await remover.oldest(agent.num, agent.size, atOnceMax);
    const cut = cutOf(agent, rows, due);
    if (cut === null) return null;
    const removed = await remover.remove(cut);
    total.entries += removed.entries;
    total.sessions += removed.sessions;
    excess -= cut.bytes;
    return { ...agent, ...cut.place };
  }

  const left: KeptAgent[] = [];
  for (const agent of agents) {
    let at = agent;
    const { ageMs } = rules;
    if (ageMs !== null)
      for (let next = await step(at, (timeMs) => nowMs - timeMs > ageMs); next !== null; ) {
        at = next;
        next = await step(at, (timeMs) => nowMs - timeMs > ageMs);
      }
    left.push(at);
  }
  if (excess > 0) await shrink(left);
  return total;

  /** The agent whose first entry is the oldest gives some, again and again. */
  async function shrink(some: readonly KeptAgent[]): Promise<void> {
    const firsts = new Map<KeptAgent, number>();
    const know = async (agent: KeptAgent): Promise<void> => {
      const [first] = await remover.oldest(agent.num, agent.size, 1);
      if (first !== undefined && agent.size < agent.signed) firsts.set(agent, timeOf(first));
    };
    for (const agent of some) await know(agent);
    while (excess > 0 && firsts.size > 0) {
      const [oldest] = [...firsts].reduce((a, b) => (b[1] < a[1] ? b : a));
      firsts.delete(oldest);
      const over = excess;
      const next = await step(oldest, (_, freed) => freed < over);
      if (next !== null) await know(next);
    }
  }
}

function timeOf({ payload }: OldEntry): number {
  return decodeEntry(Buffer.from(payload.buffer, payload.byteOffset, payload.length)).timeMs;
}

/** Null when nothing of these rows may go. */
function cutOf(
  agent: KeptAgent,
  rows: readonly OldEntry[],
  due: (timeMs: number, freed: number) => boolean,
): Cut | null {
  // A number that is there twice goes with both, and the page's last one may be such.
  let to = rows.length < atOnceMax ? Number.POSITIVE_INFINITY : (rows.at(-1)?.agentSeq ?? 0);
  let freed = 0;
  const times: number[] = [];
  for (const row of rows) {
    const timeMs = timeOf(row);
    if (row.agentSeq >= to || row.agentSeq >= agent.signed || !due(timeMs, freed)) {
      to = Math.min(to, row.agentSeq);
      break;
    }
    freed += row.payload.length;
    times.push(timeMs);
  }
  const going = rows.filter(({ agentSeq }) => agentSeq < to).slice(0, times.length);
  const { size, link } = followChain(agent.agent, agent, going);
  const last = going.at(-1);
  // It was followed when it came; where that is not so any more, somebody was at the database.
  if (last === undefined || size !== last.agentSeq + 1) return null;
  const sessions = new Map<number, SessionCut>();
  for (const [at, { session, seq }] of going.entries()) sessions.set(session, { seq, untilMs: times[at] as number });
  const bytes = going.reduce((sum, { payload }) => sum + payload.length, 0);
  return { agent: agent.num, from: agent.size, place: { size, link }, bytes, sessions };
}
