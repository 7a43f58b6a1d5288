/** One agent's chain in the PostgreSQL store, a step further. One controller at a time does it. */
import type { PoolClient } from "pg";
import { entriesAtOnceMax, followChain, judgeHeads } from "./chain-walk.ts";

/** True when there is more to follow. */
export async function advanceAgent(client: PoolClient, num: number, agent: string, nowMs: number): Promise<boolean> {
  const { rows: states } = await client.query<{ size: string; link: Buffer; signed: string; removed: string }>(
    "SELECT size, link, signed, removed FROM agents WHERE num = $1 FOR UPDATE SKIP LOCKED",
    [num],
  );
  const [state] = states;
  if (state === undefined) return false;
  const { rows } = await client.query<{ agent_seq: string; previous: Buffer; link: Buffer }>(
    "SELECT agent_seq, previous, link FROM entries WHERE agent = $1 AND agent_seq >= $2 ORDER BY agent_seq LIMIT $3",
    [num, state.size, entriesAtOnceMax],
  );
  const links = rows.map(({ agent_seq, previous, link }) => ({ agentSeq: Number(agent_seq), previous, link }));
  const { size, link, broken, more } = followChain(agent, { size: Number(state.size), link: state.link }, links);
  const { rows: heads } = await client.query<{ size: string; link: string; found: Buffer[] }>(
    `SELECT h.size, h.link, array(SELECT e.link FROM entries e WHERE e.agent = h.agent AND e.agent_seq = h.size - 1) AS found
     FROM heads h WHERE h.agent = $1 AND h.size <= $2 ORDER BY h.size`,
    [num, size],
  );
  const held = heads.map((head) => ({
    size: Number(head.size),
    link: head.link,
    found: head.found.map((one) => one.toString("hex")),
  }));
  const judged = judgeHeads(agent, held, Number(state.signed), Number(state.removed));
  const fault = broken ?? judged.broken;
  if (judged.broken === null) await client.query("DELETE FROM heads WHERE agent = $1 AND size <= $2", [num, size]);
  await client.query("UPDATE agents SET size = $1, link = $2, signed = $3, broken = $4 WHERE num = $5", [
    ...[size, link, judged.signed, fault, num],
  ]);
  if (fault !== null)
    await client.query(
      `INSERT INTO faults (at, kind, agent, session, sentence) VALUES ($1, 'altered', $2, '', $3)
       ON CONFLICT DO NOTHING`,
      [nowMs, agent, fault],
    );
  return more;
}
