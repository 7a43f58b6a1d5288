/** Takes a part of an agent's chain out of the SQLite store. */
import type { DatabaseSync } from "node:sqlite";
import type { Cut, KeptAgent, OldEntry, RemovedCount, SessionCut } from "./retention.ts";

export function keptAgents(db: DatabaseSync): KeptAgent[] {
  return db
    .prepare("SELECT num, agent, signed, broken, bytes, removed AS size, removed_link AS link FROM agents")
    .all() as unknown as KeptAgent[];
}

export function oldestEntries(db: DatabaseSync, agent: number, from: number, limit: number): OldEntry[] {
  return db
    .prepare(
      `SELECT agent_seq AS agentSeq, previous, link, session, seq, payload FROM entries
       WHERE agent = ? AND agent_seq >= ? ORDER BY agent_seq LIMIT ?`,
    )
    .all(agent, from, limit) as unknown as OldEntry[];
}

/** In a transaction of its caller. */
export function removeEntries(db: DatabaseSync, { agent, from, place, bytes, sessions }: Cut): RemovedCount {
  const { changes } = db
    .prepare("DELETE FROM entries WHERE agent = ? AND agent_seq >= ? AND agent_seq < ?")
    .run(agent, from, place.size);
  let ended = 0;
  for (const [num, cut] of sessions) if (cutSession(db, num, cut)) ended += 1;
  db.prepare("UPDATE agents SET removed = ?, removed_link = ?, bytes = max(0, bytes - ?) WHERE num = ?").run(
    ...([place.size, place.link, bytes, agent] as const),
  );
  return { entries: Number(changes), sessions: ended };
}

/** True when it had ended and nothing of it is left. */
function cutSession(db: DatabaseSync, num: number, { seq, untilMs }: SessionCut): boolean {
  db.prepare("UPDATE sessions SET first = ? WHERE num = ?").run(seq + 1, num);
  const isOver = Number(
    db
      .prepare(
        "INSERT OR REPLACE INTO removed SELECT agent, id, entries, tail FROM sessions WHERE num = ? AND first >= entries AND ended_at IS NOT NULL",
      )
      .run(num).changes,
  );
  if (isOver > 0) db.prepare("DELETE FROM sessions WHERE num = ?").run(num);
  const until = isOver > 0 ? Number.MAX_SAFE_INTEGER : untilMs;
  db.prepare("DELETE FROM documents WHERE rowid IN (SELECT num FROM found WHERE session = ? AND at <= ?)").run(
    num,
    until,
  );
  db.prepare("DELETE FROM found WHERE session = ? AND at <= ?").run(num, until);
  return isOver > 0;
}
