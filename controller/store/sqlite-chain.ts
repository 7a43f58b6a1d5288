/** Follows an agent's chain over the entries that are here, and holds its signed heads against it. */
import type { DatabaseSync } from "node:sqlite";

/** Entries in one transaction. */
const entriesAtOnceMax = 20_000;

interface AgentState {
  readonly size: number;
  readonly link: Uint8Array;
  readonly signed: number;
}

/** True when it went as far as it goes for now. */
export function advanceAgent(db: DatabaseSync, num: number, agent: string, nowMs: number): boolean {
  const state = db.prepare("SELECT size, link, signed FROM agents WHERE num = ?").get(num) as unknown as AgentState;
  const rows = db
    .prepare(
      "SELECT agent_seq, previous, link FROM entries WHERE agent = ? AND agent_seq >= ? ORDER BY agent_seq LIMIT ?",
    )
    .all(num, state.size, entriesAtOnceMax) as unknown as {
    agent_seq: number;
    previous: Uint8Array;
    link: Uint8Array;
  }[];
  let { size, link } = state;
  let broken: string | null = null;
  for (const row of rows) {
    // Behind the one before: a second one for the same place that does not follow. It counts for nothing.
    if (row.agent_seq < size) continue;
    if (row.agent_seq > size) break;
    if (Buffer.compare(row.previous, link) === 0) {
      size += 1;
      link = row.link;
      broken = null;
    } else broken = `Entry ${size} of agent ${agent} does not follow from the one before it.`;
  }
  const last = rows.at(-1);
  // Others for the same place may be in the next rows.
  const whole = rows.length < entriesAtOnceMax;
  if (!whole && last?.agent_seq === size) broken = null;
  const heads = judgeHeads(db, num, agent, size, state.signed);
  broken ??= heads.broken;
  db.prepare("UPDATE agents SET size = ?, link = ?, signed = ?, broken = ? WHERE num = ?").run(
    size,
    link,
    heads.signed,
    broken,
    num,
  );
  if (broken !== null)
    db.prepare(
      "INSERT INTO faults (at, kind, agent, session, sentence) VALUES (?, 'altered', ?, '', ?) ON CONFLICT DO NOTHING",
    ).run(nowMs, agent, broken);
  return whole || broken !== null || size === state.size;
}

function judgeHeads(
  db: DatabaseSync,
  num: number,
  agent: string,
  size: number,
  signedBefore: number,
): { signed: number; broken: string | null } {
  const heads = db
    .prepare("SELECT size, link FROM heads WHERE agent = ? AND size <= ? ORDER BY size")
    .all(num, size) as unknown as { size: number; link: string }[];
  const linkAt = db.prepare("SELECT link FROM entries WHERE agent = ? AND agent_seq = ?");
  let signed = signedBefore;
  for (const head of heads) {
    const found = linkAt.all(num, head.size - 1) as unknown as { link: Uint8Array }[];
    if (head.size > 0 && !found.some(({ link }) => Buffer.from(link).toString("hex") === head.link)) {
      const broken = `Entry ${head.size - 1} of agent ${agent} is not the one that the agent signed for.`;
      return { signed, broken };
    }
    signed = Math.max(signed, head.size);
  }
  if (heads.length > 0) db.prepare("DELETE FROM heads WHERE agent = ? AND size <= ?").run(num, size);
  return { signed, broken: null };
}
