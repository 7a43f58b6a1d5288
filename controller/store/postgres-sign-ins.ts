/** Sign-ins in PostgreSQL, for every controller on it. What is taken is deleted, so that one of them alone has it. */
import type { Pool } from "pg";
import type { SignedIn } from "../identity/claims.ts";
import {
  type Ended,
  idleMsMax,
  type KeptOnce,
  type KeptSession,
  keptMax,
  personIn,
  type SignInStore,
  sessionMsMax,
  sessionsMax,
} from "../identity/kept.ts";

export const signInTables = `
CREATE TABLE page_sessions (
  key text PRIMARY KEY, issuer text NOT NULL, subject text NOT NULL, sid text, person text NOT NULL,
  at bigint NOT NULL, seen bigint NOT NULL);
CREATE INDEX page_sessions_seen ON page_sessions (seen);
CREATE TABLE page_once (
  kind text NOT NULL, key text NOT NULL, value text NOT NULL, until bigint NOT NULL, PRIMARY KEY (kind, key));
CREATE INDEX page_once_until ON page_once (until);
`;

export class PostgresSignIns implements SignInStore {
  readonly #pool: Pool;

  constructor(pool: Pool) {
    this.#pool = pool;
  }

  // What another controller is deleting just now is skipped: two that wait for each other's rows would both fail.
  async addSession({ key, person, atMs, seenMs }: KeptSession, max = sessionsMax): Promise<void> {
    await this.#pool.query(
      `DELETE FROM page_sessions WHERE key IN (
         SELECT key FROM page_sessions WHERE at < $1 OR seen < $2 FOR UPDATE SKIP LOCKED)`,
      [atMs - sessionMsMax, atMs - idleMsMax],
    );
    const { rows } = await this.#pool.query<{ count: string }>("SELECT count(*) AS count FROM page_sessions");
    const over = Number(rows[0]?.count) - max + 1;
    if (over > 0)
      await this.#pool.query(
        `DELETE FROM page_sessions WHERE key IN (
           SELECT key FROM page_sessions ORDER BY seen LIMIT $1 FOR UPDATE SKIP LOCKED)`,
        [over],
      );
    const { issuer, subject, sid } = person;
    await this.#pool.query(
      "INSERT INTO page_sessions (key, issuer, subject, sid, person, at, seen) VALUES ($1, $2, $3, $4, $5, $6, $7)",
      [key, issuer, subject, sid, JSON.stringify(person), atMs, seenMs],
    );
  }

  async session(key: string): Promise<KeptSession | null> {
    const { rows } = await this.#pool.query<{ person: string; at: string; seen: string }>(
      "SELECT person, at, seen FROM page_sessions WHERE key = $1",
      [key],
    );
    const [row] = rows;
    if (row === undefined) return null;
    return { key, person: personIn(row.person), atMs: Number(row.at), seenMs: Number(row.seen) };
  }

  async seenSession(key: string, seenMs: number): Promise<void> {
    await this.#pool.query("UPDATE page_sessions SET seen = greatest(seen, $1) WHERE key = $2", [seenMs, key]);
  }

  async removeSession(key: string): Promise<SignedIn | null> {
    const { rows } = await this.#pool.query<{ person: string }>(
      "DELETE FROM page_sessions WHERE key = $1 RETURNING person",
      [key],
    );
    return rows[0] === undefined ? null : personIn(rows[0].person);
  }

  async endSessions({ issuer, subject, sid }: Ended, beforeMs: number): Promise<void> {
    const [column, whose] = sid === null ? ["subject", subject] : ["sid", sid];
    await this.#pool.query(
      `DELETE FROM page_sessions WHERE ${column} = $1 AND issuer = coalesce($2, issuer) AND at <= $3`,
      [whose, issuer, beforeMs],
    );
  }

  async keep(
    { kind, key, value, untilMs }: KeptOnce,
    nowMs: number,
    full: "evict" | "refuse",
    max = keptMax,
  ): Promise<boolean> {
    await this.#pool.query(
      `DELETE FROM page_once WHERE (kind, key) IN (
         SELECT kind, key FROM page_once WHERE until <= $1 FOR UPDATE SKIP LOCKED)`,
      [nowMs],
    );
    const { rows } = await this.#pool.query<{ count: string }>(
      "SELECT count(*) AS count FROM page_once WHERE kind = $1",
      [kind],
    );
    const over = Number(rows[0]?.count) - max + 1;
    if (over > 0) {
      if (full === "refuse") return false;
      await this.#pool.query(
        `DELETE FROM page_once WHERE (kind, key) IN (
           SELECT kind, key FROM page_once WHERE kind = $1 ORDER BY until LIMIT $2 FOR UPDATE SKIP LOCKED)`,
        [kind, over],
      );
    }
    const { rowCount } = await this.#pool.query(
      "INSERT INTO page_once (kind, key, value, until) VALUES ($1, $2, $3, $4) ON CONFLICT DO NOTHING",
      [kind, key, value, untilMs],
    );
    return rowCount === 1;
  }

  async kept(kind: KeptOnce["kind"], key: string, nowMs: number): Promise<string | null> {
    const { rows } = await this.#pool.query<{ value: string }>(
      "SELECT value FROM page_once WHERE kind = $1 AND key = $2 AND until > $3",
      [kind, key, nowMs],
    );
    return rows[0]?.value ?? null;
  }

  async take(kind: KeptOnce["kind"], key: string, nowMs: number): Promise<string | null> {
    const { rows } = await this.#pool.query<{ value: string; until: string }>(
      "DELETE FROM page_once WHERE kind = $1 AND key = $2 RETURNING value, until",
      [kind, key],
    );
    const [row] = rows;
    return row === undefined || Number(row.until) <= nowMs ? null : row.value;
  }
}
