/**
 * The store in PostgreSQL, shared by controllers side by side. A batch is one transaction; the sessions it touches are
 * locked first, in order, so that two controllers that have the same entries after a rebalance store them once.
 */
import { createPublicKey, type KeyObject } from "node:crypto";
import pg from "pg";
import { WeirError } from "../../agent/errors.ts";
import { firstLink } from "../../agent/record/chain.ts";
import type { SessionTail } from "../consume/session-chain.ts";
import { type CheckedBatch, type CheckedEntry, nameOf, type SessionName } from "../consume/sink.ts";
import { advanceAgent } from "./postgres-chain.ts";
import { PostgresQueries } from "./postgres-queries.ts";
import { keptAgents, oldestEntries, removeEntries } from "./postgres-removal.ts";
import { migrate } from "./postgres-schema.ts";
import { storeSessions } from "./postgres-sessions.ts";
import { PostgresSignIns } from "./postgres-sign-ins.ts";
import { type RemovedCount, type RetentionRules, removeOld } from "./retention.ts";
import { type ApprovalRow, approvalsPageMax, type RevocationRow, type Store } from "./store.ts";

const connectionsMax = 8;
const connectWithinMs = 10_000;
const statementWithinMs = 60_000;
const advanceEveryMs = 1_000;

export async function openPostgresStore(url: string, now: () => number = Date.now): Promise<Store> {
  const pool = new pg.Pool({
    connectionString: url,
    max: connectionsMax,
    connectionTimeoutMillis: connectWithinMs,
    statement_timeout: statementWithinMs,
    application_name: "weir controller",
  });
  // A connection that breaks while nobody uses it; the next one is made when it is needed.
  pool.on("error", () => {});
  try {
    const client = await pool.connect();
    try {
      await migrate(client);
    } finally {
      client.release();
    }
  } catch (error) {
    await pool.end();
    if (error instanceof WeirError) throw error;
    const reason = error instanceof Error ? error.message : String(error);
    throw new WeirError("WEIR_CONFIG_INVALID", `The store cannot be opened: ${reason}`, { cause: error });
  }
  return new PostgresStore(pool, now);
}

class PostgresStore extends PostgresQueries implements Store {
  readonly signIns: PostgresSignIns;
  readonly #pool: pg.Pool;
  readonly #now: () => number;
  readonly #agents = new Map<string, number>();
  /** Agents with entries that their chain has not been followed to; others' are found by the first of each start. */
  readonly #behind = new Set<string>();
  readonly #timer: NodeJS.Timeout;
  #advancing: Promise<void> = Promise.resolve();

  constructor(pool: pg.Pool, now: () => number) {
    super(pool);
    this.signIns = new PostgresSignIns(pool);
    this.#pool = pool;
    this.#now = now;
    this.#timer = setInterval(() => void this.advance().catch(() => {}), advanceEveryMs);
    this.#timer.unref();
  }

  async tailsOf(names: readonly SessionName[]): Promise<(SessionTail | null)[]> {
    const { rows } = await this.#pool.query<{ agent: string; id: string; entries: string; tail: Buffer }>(
      `SELECT a.agent, s.id, s.entries, s.tail FROM unnest($1::text[], $2::text[]) AS w (agent, id)
       JOIN agents a ON a.agent = w.agent JOIN sessions s ON s.id = w.id AND s.agent = a.num`,
      [names.map(({ agent }) => agent), names.map(({ session }) => session)],
    );
    const removed = await this.#pool.query<{ agent: string; id: string; entries: string; tail: Buffer }>(
      `SELECT a.agent, r.id, r.entries, r.tail FROM unnest($1::text[], $2::text[]) AS w (agent, id)
       JOIN agents a ON a.agent = w.agent JOIN removed r ON r.id = w.id AND r.agent = a.num`,
      [names.map(({ agent }) => agent), names.map(({ session }) => session)],
    );
    // A session that went on after all of it was removed is in both.
    const found = new Map(
      [...removed.rows, ...rows].map(({ agent, id, entries, tail }) => [
        nameOf({ agent, session: id }),
        { seq: Number(entries) - 1, link: tail },
      ]),
    );
    return names.map((name) => found.get(nameOf(name)) ?? null);
  }

  async store({ entries, heads, faults }: CheckedBatch): Promise<void> {
    const names = [...new Set([...entries.map(({ entry }) => entry.agent), ...heads.map(({ agent }) => agent)])];
    const agents = new Map<string, number>();
    for (const name of names.sort()) agents.set(name, await this.#agent(name));
    await this.#transaction(async (client) => {
      const bytes = await storeSessions(client, agents, entries);
      for (const [agent, { agentSeq, timeMs }] of topsOf(entries))
        await client.query(
          "UPDATE agents SET top = greatest(top, $1), last_at = greatest(last_at, $2), bytes = bytes + $3 WHERE num = $4",
          [agentSeq, timeMs, bytes.get(agent) ?? 0, agents.get(agent)],
        );
      for (const { agent, size, link } of heads)
        await client.query("INSERT INTO heads (agent, size, link) VALUES ($1, $2, $3) ON CONFLICT DO NOTHING", [
          agents.get(agent),
          size,
          link,
        ]);
      for (const { kind, agent, session, sentence } of faults)
        await client.query(
          "INSERT INTO faults (at, kind, agent, session, sentence) VALUES ($1, $2, $3, $4, $5) ON CONFLICT DO NOTHING",
          [this.#now(), kind, agent ?? "", session ?? "", sentence],
        );
    });
    for (const name of names) this.#behind.add(name);
  }

  async keyOf(agent: string): Promise<KeyObject | null> {
    const { rows } = await this.#pool.query<{ key: string | null }>("SELECT key FROM agents WHERE agent = $1", [agent]);
    return rows[0]?.key ? createPublicKey(rows[0].key) : null;
  }

  async pinKey(agent: string, key: KeyObject): Promise<void> {
    const pem = key.export({ type: "spki", format: "pem" }).toString();
    // The first one stays: two controllers may see an agent for the first time.
    await this.#pool.query("UPDATE agents SET key = $1 WHERE num = $2 AND key IS NULL", [
      pem,
      await this.#agent(agent),
    ]);
  }

  advance(): Promise<void> {
    this.#advancing = this.#advancing.catch(() => {}).then(() => this.#advanceAll());
    return this.#advancing;
  }

  async #advanceAll(): Promise<void> {
    const { rows } = await this.#pool.query<{ agent: string }>(
      "SELECT agent FROM agents WHERE top >= size OR num IN (SELECT agent FROM heads)",
    );
    for (const agent of new Set([...this.#behind, ...rows.map((row) => row.agent)])) {
      const num = await this.#agent(agent);
      while (await this.#transaction((client) => advanceAgent(client, num, agent, this.#now())));
      this.#behind.delete(agent);
    }
  }

  async remove(rules: RetentionRules): Promise<RemovedCount> {
    await this.advance();
    return removeOld(
      {
        agents: () => keptAgents(this.#pool),
        oldest: (agent, from, limit) => oldestEntries(this.#pool, agent, from, limit),
        remove: (cut) => this.#transaction((client) => removeEntries(client, cut)),
      },
      rules,
      this.#now(),
    );
  }

  async putApproval(row: ApprovalRow): Promise<void> {
    const { id, agent, session, status, createdAtMs, expiresAtMs, decidedBy, decidedReason, request } = row;
    await this.#pool.query(
      `INSERT INTO approvals (agent, id, session, status, created_at, expires_at, decided_by, decided_reason, request)
       VALUES ($1, $2, $3, $4, $5, $6, $7, $8, $9) ON CONFLICT (agent, id) DO UPDATE SET status = excluded.status,
         decided_by = excluded.decided_by, decided_reason = excluded.decided_reason
       WHERE excluded.status <> 'pending'`,
      [agent, id, session, status, createdAtMs, expiresAtMs, decidedBy, decidedReason, request],
    );
  }

  async approval(agent: string, id: string): Promise<ApprovalRow | null> {
    const query = "SELECT * FROM approvals WHERE agent = $1 AND id = $2";
    const { rows } = await this.#pool.query<Record<string, string | null>>(query, [agent, id]);
    return rows[0] === undefined ? null : approvalOf(rows[0]);
  }

  async approvals(limit = 100): Promise<ApprovalRow[]> {
    const { rows } = await this.#pool.query<Record<string, string | null>>(
      "SELECT * FROM approvals ORDER BY created_at DESC LIMIT $1",
      [Math.min(limit, approvalsPageMax)],
    );
    return rows.map(approvalOf);
  }

  async putRevocation({ identity, version, message }: RevocationRow): Promise<boolean> {
    const { rowCount } = await this.#pool.query(
      `INSERT INTO revocations (identity, version, message) VALUES ($1, $2, $3) ON CONFLICT (identity) DO UPDATE
       SET version = excluded.version, message = excluded.message WHERE excluded.version > revocations.version`,
      [identity, version, message],
    );
    return (rowCount ?? 0) > 0;
  }

  async revocations(): Promise<RevocationRow[]> {
    const { rows } = await this.#pool.query<{ identity: string; version: string; message: string }>(
      "SELECT identity, version, message FROM revocations ORDER BY identity",
    );
    return rows.map((row) => ({ ...row, version: Number(row.version) }));
  }

  async close(): Promise<void> {
    clearInterval(this.#timer);
    await this.advance().catch(() => {});
    await this.#pool.end();
  }

  async #agent(agent: string): Promise<number> {
    const known = this.#agents.get(agent);
    if (known !== undefined) return known;
    await this.#pool.query("INSERT INTO agents (agent, link) VALUES ($1, $2) ON CONFLICT DO NOTHING", [
      agent,
      firstLink,
    ]);
    const { rows } = await this.#pool.query<{ num: string }>("SELECT num FROM agents WHERE agent = $1", [agent]);
    const num = Number(rows[0]?.num);
    this.#agents.set(agent, num);
    return num;
  }

  async #transaction<T>(work: (client: pg.PoolClient) => Promise<T>): Promise<T> {
    const client = await this.#pool.connect();
    let broken = true;
    try {
      await client.query("BEGIN");
      try {
        const result = await work(client);
        await client.query("COMMIT");
        broken = false;
        return result;
      } catch (error) {
        await client.query("ROLLBACK");
        broken = false;
        throw error;
      }
    } finally {
      client.release(broken);
    }
  }
}

function topsOf(entries: readonly CheckedEntry[]): Map<string, CheckedEntry["entry"]> {
  const tops = new Map<string, CheckedEntry["entry"]>();
  for (const { entry } of entries) {
    const known = tops.get(entry.agent);
    if (known === undefined || known.agentSeq < entry.agentSeq) tops.set(entry.agent, entry);
  }
  // Rows are locked in the same order by every controller.
  return new Map([...tops].sort(([a], [b]) => (a < b ? -1 : 1)));
}

function approvalOf(row: Readonly<Record<string, string | null>>): ApprovalRow {
  return {
    id: String(row["id"]),
    agent: String(row["agent"]),
    session: String(row["session"]),
    status: String(row["status"]),
    createdAtMs: Number(row["created_at"]),
    expiresAtMs: Number(row["expires_at"]),
    decidedBy: row["decided_by"] ?? null,
    decidedReason: row["decided_reason"] ?? null,
    request: String(row["request"]),
  };
}
