/** One agent's chain in the SQLite store, a step further. */
import type { DatabaseSync } from "node:sqlite";
import { entriesAtOnceMax, followChain, judgeHeads, type StoredLink } from "./chain-walk.ts";

interface AgentState {
  readonly size: number;
  readonly link: Uint8Array;
  readonly signed: number;
  readonly removed: number;
}

/** True when it went as far as it goes for now. */
export function advanceAgent(db: DatabaseSync, num: number, agent: string, nowMs: number): boolean {
  const state = db
    .prepare("SELECT size, link, signed, removed FROM agents WHERE num = ?")
    .get(num) as unknown as AgentState;
  const rows = db
    .prepare(
      `SELECT agent_seq AS agentSeq, previous, link FROM entries WHERE agent = ? AND agent_seq >= ?
       ORDER BY agent_seq LIMIT ?`,
    )
    .all(num, state.size, entriesAtOnceMax) as unknown as StoredLink[];
  const { size, link, broken, more } = followChain(agent, state, rows);
  const linkAt = db.prepare("SELECT link FROM entries WHERE agent = ? AND agent_seq = ?");
  const heads = db
    .prepare("SELECT size, link FROM heads WHERE agent = ? AND size <= ? ORDER BY size")
    .all(num, size) as unknown as { size: number; link: string }[];
  const held = heads.map((head) => ({
    ...head,
    found: linkAt.all(num, head.size - 1).map((row) => Buffer.from(row["link"] as Uint8Array).toString("hex")),
  }));
  const judged = judgeHeads(agent, held, state.signed, state.removed);
  const fault = broken ?? judged.broken;
  if (judged.broken === null) db.prepare("DELETE FROM heads WHERE agent = ? AND size <= ?").run(num, size);
  db.prepare("UPDATE agents SET size = ?, link = ?, signed = ?, broken = ? WHERE num = ?").run(
    ...([size, link, judged.signed, fault, num] as const),
  );
  if (fault !== null)
    db.prepare(
      "INSERT INTO faults (at, kind, agent, session, sentence) VALUES (?, 'altered', ?, '', ?) ON CONFLICT DO NOTHING",
    ).run(nowMs, agent, fault);
  return !more;
}
