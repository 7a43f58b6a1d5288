/** The questions to the SQLite store, over a connection of their own: synchronous, for a thread that may wait. */
import type { DatabaseSync } from "node:sqlite";
import { decodeEntry } from "../../agent/record/chain.ts";
import { type ReadEntry, simplify } from "../../agent/record/read.ts";
import { periodsOf, termsOf } from "./search.ts";
import {
  type AgentRow,
  entriesPageBytesMax,
  entriesPageMax,
  type FaultRow,
  faultsPageMax,
  type SessionPage,
  type SessionQuery,
  type SessionRow,
  sessionsPageMax,
} from "./store.ts";
import { sessionOf } from "./stored-row.ts";

type Row = Readonly<Record<string, string | number | null | Uint8Array>>;

export const sessionColumns = `s.num, a.agent, s.id, s.entries, s.started_at, s.ended_at, s.last_at, s.target, s.protocol,
  s.destination, s.hostname, s.process, s.uid, s.job, s.identity, s.issuer, s.user, s.database, s.operations, s.denied,
  s.held, s.ending, s.rows, s.masked, s.first`;
const fromSessions = "FROM sessions s JOIN agents a ON a.num = s.agent";
/** Documents looked at for one page: sessions with many statements that match come many times. */
const documentsMax = 20_000;

export class SqliteQueries {
  readonly #db: DatabaseSync;

  constructor(db: DatabaseSync) {
    this.#db = db;
  }

  sessions(query: SessionQuery): SessionPage {
    const limit = Math.min(query.limit ?? 50, sessionsPageMax);
    const { facets, words } = termsOf(query);
    return facets.length + words.length === 0 ? this.#newest(query, limit) : this.#found(query, facets, words, limit);
  }

  session(id: string, agent?: string): SessionRow | null {
    const row = this.#db
      .prepare(`SELECT ${sessionColumns} ${fromSessions} WHERE s.id = ? AND (? IS NULL OR a.agent = ?) LIMIT 1`)
      .get(id, agent ?? null, agent ?? null);
    return row === undefined ? null : sessionOf(row as Row);
  }

  entries(id: string, { from = 0, limit = 1_000, agent }: { from?: number; limit?: number; agent?: string } = {}) {
    const found = this.#db
      .prepare(`SELECT s.num ${fromSessions} WHERE s.id = ? AND (? IS NULL OR a.agent = ?) LIMIT 1`)
      .get(id, agent ?? null, agent ?? null) as { num: number } | undefined;
    const entries: ReadEntry[] = [];
    if (found === undefined) return entries;
    const rows = this.#db
      .prepare("SELECT payload FROM entries WHERE session = ? AND seq >= ? ORDER BY seq LIMIT ?")
      .iterate(found.num, from, Math.min(limit, entriesPageMax));
    let bytes = 0;
    for (const { payload } of rows as Iterable<{ payload: Uint8Array }>) {
      bytes += payload.length;
      if (bytes > entriesPageBytesMax && entries.length > 0) break;
      entries.push(simplify(decodeEntry(Buffer.from(payload.buffer, payload.byteOffset, payload.length))));
    }
    return entries;
  }

  agents(): AgentRow[] {
    const rows = this.#db
      .prepare("SELECT agent, size, signed, removed, top, last_at, broken FROM agents ORDER BY agent")
      .all();
    return (rows as Row[]).map(({ agent, size, signed, removed, top, last_at, broken }) => ({
      agent: String(agent),
      size: Number(size),
      signed: Number(signed),
      removed: Number(removed),
      missing: Number(top) >= Number(size) ? Number(size) : null,
      broken: broken === null ? null : String(broken),
      lastAtMs: Number(last_at),
    }));
  }

  faults(limit = 100): FaultRow[] {
    const rows = this.#db
      .prepare("SELECT at, kind, agent, session, sentence FROM faults ORDER BY num DESC LIMIT ?")
      .all(Math.min(limit, faultsPageMax)) as Row[];
    return rows.map(({ at, kind, agent, session, sentence }) => ({
      atMs: Number(at),
      kind: kind as FaultRow["kind"],
      agent: agent === "" ? null : String(agent),
      session: session === "" ? null : String(session),
      sentence: String(sentence),
    }));
  }

  #newest({ fromMs = 0, toMs = Number.MAX_SAFE_INTEGER, cursor }: SessionQuery, limit: number): SessionPage {
    const [at, num] = (cursor ?? "").split(".").map(Number);
    const rows = this.#db
      .prepare(
        `SELECT ${sessionColumns} ${fromSessions}
         WHERE s.id <> 'agent' AND s.started_at >= ? AND s.started_at <= ? AND (s.started_at, s.num) < (?, ?)
         ORDER BY s.started_at DESC, s.num DESC LIMIT ?`,
      )
      .all(fromMs, toMs, at || Number.MAX_SAFE_INTEGER, num ?? Number.MAX_SAFE_INTEGER, limit + 1) as Row[];
    const sessions = rows.slice(0, limit).map(sessionOf);
    const last = rows[limit - 1];
    return { sessions, next: rows.length > limit && last ? `${last["started_at"]}.${last["num"]}` : null };
  }

  #found(query: SessionQuery, facets: readonly string[], words: readonly string[], limit: number): SessionPage {
    const { fromMs = 0, toMs = Number.MAX_SAFE_INTEGER, cursor } = query;
    const times = periodsOf(query);
    const match = [
      ...facets.map((facet) => `facets : ${facet}`),
      ...(times.length > 0 ? [`facets : (${times.join(" OR ")})`] : []),
      ...words.map((word) => {
        const text = word.replace(/\*+$/, "").replaceAll('"', '""');
        return `words : "${text}"${word.endsWith("*") ? "*" : ""}`;
      }),
    ].join(" AND ");
    const rows = this.#db
      .prepare(
        `SELECT d.rowid AS num, f.session FROM documents d JOIN found f ON f.num = d.rowid
         WHERE d.documents MATCH ? AND d.rowid < ? AND f.at >= ? AND f.at <= ? ORDER BY d.rowid DESC LIMIT ?`,
      )
      .iterate(match, Number(cursor ?? Number.MAX_SAFE_INTEGER), fromMs, toMs, documentsMax);
    const one = this.#db.prepare(`SELECT ${sessionColumns} ${fromSessions} WHERE s.num = ?`);
    const seen = new Set<number>();
    const sessions: SessionRow[] = [];
    let looked = 0;
    for (const { num, session } of rows as Iterable<{ num: number; session: number }>) {
      looked += 1;
      if (!seen.has(session)) {
        seen.add(session);
        sessions.push(sessionOf(one.get(session) as Row));
      }
      if (sessions.length === limit || looked === documentsMax) return { sessions, next: String(num) };
    }
    return { sessions, next: null };
  }
}
