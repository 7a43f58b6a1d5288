/** Takes a part of an agent's chain out of the PostgreSQL store. Any number of controllers may try; one does. */
import type { Pool, PoolClient } from "pg";
import type { Cut, KeptAgent, OldEntry, RemovedCount } from "./retention.ts";

export async function keptAgents(db: Pool): Promise<KeptAgent[]> {
  const { rows } = await db.query<Record<string, unknown>>(
    "SELECT num, agent, signed, broken, bytes, removed, removed_link FROM agents",
  );
  return rows.map((row) => ({
    num: Number(row["num"]),
    agent: String(row["agent"]),
    signed: Number(row["signed"]),
    broken: row["broken"] === null ? null : String(row["broken"]),
    bytes: Number(row["bytes"]),
    size: Number(row["removed"]),
    link: row["removed_link"] as Buffer,
  }));
}

export async function oldestEntries(db: Pool, agent: number, from: number, limit: number): Promise<OldEntry[]> {
  const { rows } = await db.query<Record<string, unknown>>(
    `SELECT agent_seq, previous, link, session, seq, payload FROM entries
     WHERE agent = $1 AND agent_seq >= $2 ORDER BY agent_seq LIMIT $3`,
    [agent, from, limit],
  );
  return rows.map((row) => ({
    agentSeq: Number(row["agent_seq"]),
    previous: row["previous"] as Buffer,
    link: row["link"] as Buffer,
    session: Number(row["session"]),
    seq: Number(row["seq"]),
    payload: row["payload"] as Buffer,
  }));
}

/** In a transaction of its caller. Sessions are locked before the agent, in order, as whoever stores does. */
export async function removeEntries(client: PoolClient, cut: Cut): Promise<RemovedCount> {
  const { agent, from, place, bytes, sessions } = cut;
  const nums = [...sessions.keys()];
  await client.query("SELECT 1 FROM sessions WHERE num = ANY ($1) ORDER BY num FOR UPDATE", [nums]);
  const { rows } = await client.query("SELECT 1 FROM agents WHERE num = $1 AND removed = $2 FOR UPDATE", [agent, from]);
  // Another controller was faster.
  if (rows.length === 0) return { entries: 0, sessions: 0 };
  const { rowCount } = await client.query(
    "DELETE FROM entries WHERE agent = $1 AND agent_seq >= $2 AND agent_seq < $3",
    [...[agent, from, place.size]],
  );
  const cuts = [...sessions.values()];
  await client.query(
    `UPDATE sessions s SET first = w.seq + 1 FROM unnest($1::bigint[], $2::bigint[]) AS w (num, seq) WHERE s.num = w.num`,
    [nums, cuts.map(({ seq }) => seq)],
  );
  await client.query(
    `DELETE FROM documents d USING unnest($1::bigint[], $2::bigint[]) AS w (session, until)
     WHERE d.session = w.session AND d.at <= w.until`,
    [nums, cuts.map(({ untilMs }) => untilMs)],
  );
  const over = await client.query<{ num: string }>(
    `WITH over AS (
       DELETE FROM sessions WHERE num = ANY ($1) AND first >= entries AND ended_at IS NOT NULL RETURNING *),
     kept AS (
       INSERT INTO removed (agent, id, entries, tail) SELECT agent, id, entries, tail FROM over
       ON CONFLICT (agent, id) DO UPDATE SET entries = excluded.entries, tail = excluded.tail)
     SELECT num FROM over`,
    [nums],
  );
  const ended = over.rows.map(({ num }) => num);
  await client.query("DELETE FROM documents WHERE session = ANY ($1)", [ended]);
  await client.query(
    "UPDATE agents SET removed = $1, removed_link = $2, bytes = greatest(0, bytes - $3) WHERE num = $4",
    [...[place.size, place.link, bytes, agent]],
  );
  return { entries: rowCount ?? 0, sessions: ended.length };
}
