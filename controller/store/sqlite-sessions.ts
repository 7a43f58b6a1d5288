/** Sessions as rows that grow with their entries: the newest ones in memory, written once for each batch. */
import { hash } from "node:crypto";
import type { DatabaseSync, StatementSync } from "node:sqlite";
import { type ChainedEntry, firstLink } from "../../agent/record/chain.ts";
import type { SessionTail } from "../consume/session-chain.ts";
import { documentOf } from "./search.ts";
import { emptyRow, withEntry } from "./session-row.ts";
import { sessionColumns } from "./sqlite-queries.ts";
import type { SessionRow } from "./store.ts";
import { sessionOf } from "./stored-row.ts";

/** Rows in memory, about 1 KB each. */
const sessionsMax = 10_000;
/** Statements of sessions that are known to be in the index already, 80 bytes each. */
const repeatedMax = 50_000;

interface Known {
  readonly num: number;
  row: SessionRow;
  tail: Buffer;
}

export interface OpenSession {
  readonly num: number;
  /** False: it is here already. */
  takes(entry: ChainedEntry): boolean;
  add(entry: ChainedEntry, link: Buffer): void;
  save(): void;
}

export class SqliteSessions {
  readonly #known = new Map<string, Known>();
  readonly #indexed = new Set<string>();
  readonly #statements: Record<
    "find" | "removed" | "insert" | "unremove" | "update" | "document" | "found",
    StatementSync
  >;

  constructor(db: DatabaseSync) {
    this.#statements = {
      find: db.prepare(
        `SELECT ${sessionColumns}, s.tail FROM sessions s JOIN agents a ON a.num = s.agent WHERE s.id = ? AND s.agent = ?`,
      ),
      removed: db.prepare("SELECT entries, tail FROM removed WHERE agent = ? AND id = ?"),
      unremove: db.prepare("DELETE FROM removed WHERE agent = ? AND id = ?"),
      insert: db.prepare(
        `INSERT INTO sessions (agent, id, tail, entries, first, started_at, last_at, target, protocol, destination, process,
           user, database, operations, denied, held) VALUES (?, ?, ?, ?, ?, ?, ?, '', '', '', '', '', '', 0, 0, 0)`,
      ),
      update: db.prepare(
        `UPDATE sessions SET tail = ?, entries = ?, started_at = ?, ended_at = ?, last_at = ?, target = ?, protocol = ?,
           destination = ?, hostname = ?, process = ?, uid = ?, job = ?, identity = ?, issuer = ?, user = ?,
           database = ?, operations = ?, denied = ?, held = ?, ending = ?, rows = ?, masked = ? WHERE num = ?`,
      ),
      document: db.prepare("INSERT INTO documents (rowid, words, facets) VALUES (?, ?, ?)"),
      found: db.prepare("INSERT INTO found (session, at) VALUES (?, ?)"),
    };
  }

  /** What is in memory may not have been written. */
  forget(): void {
    this.#known.clear();
    this.#indexed.clear();
  }

  tail(agent: number, session: string): SessionTail | null {
    const known = this.#find(agent, session);
    return known === null ? this.#removed(agent, session) : { seq: known.row.entries - 1, link: known.tail };
  }

  /** For entries from `first` to `last`; null when they were here and are removed. */
  open(agent: number, first: ChainedEntry, last: ChainedEntry): OpenSession | null {
    const found = this.#find(agent, first.session);
    const removed = found === null ? this.#removed(agent, first.session) : null;
    if (removed !== null && last.seq <= removed.seq) return null;
    const known = found ?? this.#create(agent, first, removed);
    return {
      num: known.num,
      takes: ({ seq }) => seq >= known.row.entries,
      add: (entry, link) => {
        known.row = withEntry(known.row, entry);
        known.tail = link;
        this.#index(known, entry);
      },
      save: () => this.#save(known),
    };
  }

  #find(agent: number, session: string): Known | null {
    const key = `${agent}\n${session}`;
    const known = this.#known.get(key);
    if (known !== undefined) return known;
    const row = this.#statements.find.get(session, agent);
    if (row === undefined) return null;
    const tail = row["tail"] as Uint8Array;
    return this.#remember(key, { num: Number(row["num"]), row: sessionOf(row as never), tail: Buffer.from(tail) });
  }

  /** Where a session ended that retention took out. */
  #removed(agent: number, session: string): SessionTail | null {
    const row = this.#statements.removed.get(agent, session);
    if (row === undefined) return null;
    return { seq: Number(row["entries"]) - 1, link: Buffer.from(row["tail"] as Uint8Array) };
  }

  /** One that goes on after all of it was removed goes on from there. */
  #create(agent: number, first: ChainedEntry, removed: SessionTail | null): Known {
    const entries = removed === null ? 0 : removed.seq + 1;
    const tail = removed?.link ?? firstLink;
    const { lastInsertRowid } = this.#statements.insert.run(
      ...([agent, first.session, tail, entries, entries, first.timeMs, first.timeMs] as const),
    );
    if (removed !== null) this.#statements.unremove.run(agent, first.session);
    const known = { num: Number(lastInsertRowid), row: { ...emptyRow(first), entries, first: entries }, tail };
    return this.#remember(`${agent}\n${first.session}`, known);
  }

  #remember(key: string, known: Known): Known {
    this.#known.set(key, known);
    if (this.#known.size > sessionsMax) this.#known.delete(this.#known.keys().next().value as string);
    return known;
  }

  #index({ num, row }: Known, entry: ChainedEntry): void {
    if (entry.session === "agent") return;
    const document = documentOf(row, entry);
    if (document === null) return;
    const { words, facets } = document;
    // The same statement a thousand times is found once.
    const key = hash("sha256", `${num}\n${facets.join(" ")}\n${words}`, "base64");
    if (this.#indexed.has(key)) return;
    this.#indexed.add(key);
    if (this.#indexed.size > repeatedMax) this.#indexed.clear();
    const { lastInsertRowid } = this.#statements.found.run(num, entry.timeMs);
    this.#statements.document.run(lastInsertRowid, words, facets.join(" "));
  }

  #save({ num, row, tail }: Known): void {
    const { entries, startedAtMs, endedAtMs, lastAtMs, target, protocol, destination, hostname, process, uid } = row;
    const { job, identity, issuer, user, database, operations, denied, held, end, rows, masked } = row;
    const times = [startedAtMs, endedAtMs, lastAtMs] as const;
    const place = [target, protocol, destination, hostname, process, uid, job] as const;
    const who = [identity, issuer, user, database] as const;
    this.#statements.update.run(
      tail,
      entries,
      ...times,
      ...place,
      ...who,
      operations,
      denied,
      held,
      end,
      rows,
      masked,
      num,
    );
  }
}
