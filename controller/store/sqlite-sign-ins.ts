/** Sign-ins in SQLite: in the store's file, or in memory for the page of an agent's own controller. */
import { DatabaseSync } from "node:sqlite";
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
  key TEXT PRIMARY KEY, issuer TEXT NOT NULL, subject TEXT NOT NULL, sid TEXT, person TEXT NOT NULL,
  at INTEGER NOT NULL, seen INTEGER NOT NULL) WITHOUT ROWID;
CREATE INDEX page_sessions_seen ON page_sessions (seen);
CREATE TABLE page_once (
  kind TEXT NOT NULL, key TEXT NOT NULL, value TEXT NOT NULL, until INTEGER NOT NULL, PRIMARY KEY (kind, key))
  WITHOUT ROWID;
CREATE INDEX page_once_until ON page_once (until);
`;

/** Nobody else sees it, and it ends with the process. */
export function signInsInMemory(): SignInStore {
  const db = new DatabaseSync(":memory:");
  db.exec(signInTables);
  return new SqliteSignIns(db);
}

export class SqliteSignIns implements SignInStore {
  readonly #db: DatabaseSync;

  constructor(db: DatabaseSync) {
    this.#db = db;
  }

  async addSession({ key, person, atMs, seenMs }: KeptSession, max = sessionsMax): Promise<void> {
    this.#run("DELETE FROM page_sessions WHERE at < ? OR seen < ?", atMs - sessionMsMax, atMs - idleMsMax);
    const { count } = this.#db.prepare("SELECT count(*) AS count FROM page_sessions").get() as { count: number };
    if (count >= max)
      this.#run(
        "DELETE FROM page_sessions WHERE key IN (SELECT key FROM page_sessions ORDER BY seen LIMIT ?)",
        count - max + 1,
      );
    const { issuer, subject, sid } = person;
    this.#run(
      "INSERT INTO page_sessions (key, issuer, subject, sid, person, at, seen) VALUES (?, ?, ?, ?, ?, ?, ?)",
      ...[key, issuer, subject, sid, JSON.stringify(person), atMs, seenMs],
    );
  }

  async session(key: string): Promise<KeptSession | null> {
    const row = this.#db.prepare("SELECT person, at, seen FROM page_sessions WHERE key = ?").get(key);
    if (row === undefined) return null;
    return { key, person: personIn(row["person"]), atMs: Number(row["at"]), seenMs: Number(row["seen"]) };
  }

  async seenSession(key: string, seenMs: number): Promise<void> {
    this.#run("UPDATE page_sessions SET seen = max(seen, ?) WHERE key = ?", seenMs, key);
  }

  async removeSession(key: string): Promise<SignedIn | null> {
    const row = this.#db.prepare("DELETE FROM page_sessions WHERE key = ? RETURNING person").get(key);
    return row === undefined ? null : personIn(row["person"]);
  }

  async endSessions({ issuer, subject, sid }: Ended, beforeMs: number): Promise<void> {
    const [column, whose] = sid === null ? ["subject", subject] : ["sid", sid];
    this.#run(
      `DELETE FROM page_sessions WHERE ${column} = ? AND issuer = coalesce(?, issuer) AND at <= ?`,
      ...[whose, issuer, beforeMs],
    );
  }

  async keep(
    { kind, key, value, untilMs }: KeptOnce,
    nowMs: number,
    full: "evict" | "refuse",
    max = keptMax,
  ): Promise<boolean> {
    this.#run("DELETE FROM page_once WHERE until <= ?", nowMs);
    const { count } = this.#db.prepare("SELECT count(*) AS count FROM page_once WHERE kind = ?").get(kind) as {
      count: number;
    };
    if (count >= max) {
      if (full === "refuse") return false;
      this.#run(
        `DELETE FROM page_once WHERE (kind, key) IN (
           SELECT kind, key FROM page_once WHERE kind = ? ORDER BY until LIMIT ?)`,
        ...[kind, count - max + 1],
      );
    }
    const { changes } = this.#db
      .prepare("INSERT INTO page_once (kind, key, value, until) VALUES (?, ?, ?, ?) ON CONFLICT DO NOTHING")
      .run(kind, key, value, untilMs);
    return Number(changes) > 0;
  }

  async kept(kind: KeptOnce["kind"], key: string, nowMs: number): Promise<string | null> {
    const row = this.#db
      .prepare("SELECT value FROM page_once WHERE kind = ? AND key = ? AND until > ?")
      .get(kind, key, nowMs);
    return row === undefined ? null : String(row["value"]);
  }

  async take(kind: KeptOnce["kind"], key: string, nowMs: number): Promise<string | null> {
    const row = this.#db
      .prepare("DELETE FROM page_once WHERE kind = ? AND key = ? RETURNING value, until")
      .get(kind, key);
    return row === undefined || Number(row["until"]) <= nowMs ? null : String(row["value"]);
  }

  #run(sql: string, ...values: (string | number | null)[]): void {
    this.#db.prepare(sql).run(...values);
  }
}
