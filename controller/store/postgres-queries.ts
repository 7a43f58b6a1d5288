/** The questions to the PostgreSQL store. */
import type pg from "pg";
import { decodeEntry } from "../../agent/record/chain.ts";
import { type ReadEntry, simplify } from "../../agent/record/read.ts";
import { periodsOf, termsOf, tokensOf } from "./search.ts";
import {
  type AgentRow,
  entriesPageBytesMax,
  entriesPageMax,
  type FaultRow,
  faultsPageMax,
  type SessionPage,
  type SessionQueries,
  type SessionQuery,
  type SessionRow,
  sessionsPageMax,
} from "./store.ts";
import { sessionOf } from "./stored-row.ts";

type Row = Readonly<Record<string, unknown>>;

export const sessionColumns = `s.num, a.agent, s.id, s.entries, s.started_at, s.ended_at, s.last_at, s.target, s.protocol,
  s.destination, s.hostname, s.process, s.uid, s.job, s.identity, s.issuer, s."user", s.database, s.operations, s.denied,
  s.held, s.ending, s.rows, s.masked, s.first`;
const fromSessions = "FROM sessions s JOIN agents a ON a.num = s.agent";
/** Documents of one page: a session whose statements match many times has many. */
const documentsAtOnce = 1_000;
const documentsMax = 20_000;
const numberMax = Number.MAX_SAFE_INTEGER;

export class PostgresQueries implements SessionQueries {
  readonly #db: pg.Pool;

  constructor(db: pg.Pool) {
    this.#db = db;
  }

  sessions(query: SessionQuery): Promise<SessionPage> {
    const limit = Math.min(query.limit ?? 50, sessionsPageMax);
    const { facets, words } = termsOf(query);
    return facets.length + words.length === 0 ? this.#newest(query, limit) : this.#found(query, facets, words, limit);
  }

  async session(id: string, agent?: string): Promise<SessionRow | null> {
    const row = await this.#one(id, agent);
    return row === null ? null : sessionOf(row);
  }

  async entries(id: string, options: { from?: number; limit?: number; agent?: string } = {}): Promise<ReadEntry[]> {
    const { from = 0, limit = 1_000, agent } = options;
    const session = await this.#one(id, agent);
    if (session === null) return [];
    // Sizes first: of large entries a page has fewer.
    const { rows } = await this.#db.query<{ payload: Buffer }>(
      `SELECT payload FROM entries WHERE session = $1 AND seq IN (
         SELECT seq FROM (
           SELECT seq, sum(octet_length(payload)) OVER (ORDER BY seq) - octet_length(payload) AS before
           FROM (SELECT seq, payload FROM entries WHERE session = $1 AND seq >= $2 ORDER BY seq LIMIT $3) e) p
         WHERE before < $4) ORDER BY seq`,
      [session["num"], from, Math.min(limit, entriesPageMax), entriesPageBytesMax],
    );
    return rows.map(({ payload }) => simplify(decodeEntry(payload)));
  }

  async agents(): Promise<AgentRow[]> {
    const { rows } = await this.#db.query<Row>(
      "SELECT agent, size, signed, removed, top, last_at, broken FROM agents ORDER BY agent",
    );
    return rows.map((row) => ({
      agent: String(row["agent"]),
      size: Number(row["size"]),
      signed: Number(row["signed"]),
      removed: Number(row["removed"]),
      missing: Number(row["top"]) >= Number(row["size"]) ? Number(row["size"]) : null,
      broken: row["broken"] === null ? null : String(row["broken"]),
      lastAtMs: Number(row["last_at"]),
    }));
  }

  async faults(limit = 100): Promise<FaultRow[]> {
    const { rows } = await this.#db.query<Row>(
      "SELECT at, kind, agent, session, sentence FROM faults ORDER BY num DESC LIMIT $1",
      [Math.min(limit, faultsPageMax)],
    );
    return rows.map((row) => ({
      atMs: Number(row["at"]),
      kind: row["kind"] as FaultRow["kind"],
      agent: row["agent"] === "" ? null : String(row["agent"]),
      session: row["session"] === "" ? null : String(row["session"]),
      sentence: String(row["sentence"]),
    }));
  }

  async #one(id: string, agent?: string): Promise<Row | null> {
    const { rows } = await this.#db.query<Row>(
      `SELECT ${sessionColumns} ${fromSessions} WHERE s.id = $1 AND ($2::text IS NULL OR a.agent = $2) LIMIT 1`,
      [id, agent ?? null],
    );
    return rows[0] ?? null;
  }

  async #newest({ fromMs = 0, toMs = numberMax, cursor }: SessionQuery, limit: number): Promise<SessionPage> {
    const [at, num] = (cursor ?? "").split(".").map(Number);
    const { rows } = await this.#db.query<Row>(
      `SELECT ${sessionColumns} ${fromSessions}
       WHERE s.id <> 'agent' AND s.started_at >= $1 AND s.started_at <= $2 AND (s.started_at, s.num) < ($3, $4)
       ORDER BY s.started_at DESC, s.num DESC LIMIT $5`,
      [fromMs, toMs, at || numberMax, num ?? numberMax, limit + 1],
    );
    const last = rows[limit - 1];
    const next = rows.length > limit && last ? `${last["started_at"]}.${last["num"]}` : null;
    return { sessions: rows.slice(0, limit).map(sessionOf), next };
  }

  async #found(
    query: SessionQuery,
    facets: readonly string[],
    words: readonly string[],
    limit: number,
  ): Promise<SessionPage> {
    const { fromMs = 0, toMs = numberMax } = query;
    const match = matchOf(facets, periodsOf(query), words);
    const seen = new Set<string>();
    let next = Number(query.cursor ?? numberMax);
    for (let looked = 0; looked < documentsMax && seen.size < limit; ) {
      const { rows } = await this.#db.query<{ num: string; session: string }>(
        `SELECT num, session FROM documents WHERE words @@ $1::tsquery AND num < $2 AND at >= $3 AND at <= $4
         ORDER BY num DESC LIMIT $5`,
        [match, next, fromMs, toMs, documentsAtOnce],
      );
      for (const { num, session } of rows) {
        seen.add(session);
        next = Number(num);
        if (seen.size === limit) break;
      }
      looked += rows.length;
      if (rows.length < documentsAtOnce && seen.size < limit) return { sessions: await this.#rows(seen), next: null };
    }
    return { sessions: await this.#rows(seen), next: String(next) };
  }

  async #rows(nums: ReadonlySet<string>): Promise<SessionRow[]> {
    const { rows } = await this.#db.query<Row>(`SELECT ${sessionColumns} ${fromSessions} WHERE s.num = ANY ($1)`, [
      [...nums],
    ]);
    const found = new Map(rows.map((row) => [String(row["num"]), sessionOf(row)]));
    return [...nums].flatMap((num) => found.get(num) ?? []);
  }
}

/** Tokens are letters and digits, facets begin with `#`: nothing in them ends a quoted word. */
function matchOf(facets: readonly string[], periods: readonly string[], words: readonly string[]): string {
  const quoted = (lexeme: string): string => `'${lexeme}'`;
  return [
    ...facets.map((facet) => quoted(`#${facet}`)),
    ...(periods.length > 0 ? [`(${periods.map((period) => quoted(`#${period}`)).join(" | ")})`] : []),
    ...words.flatMap((word) => {
      const tokens = tokensOf(word);
      return tokens.map((token, at) => `${quoted(token)}${word.endsWith("*") && at === tokens.length - 1 ? ":*" : ""}`);
    }),
  ].join(" & ");
}
