/**
 * The store in one SQLite file: written here, in transactions that are on the disk when they resolve; asked over a
 * thread of its own (reader.ts), so that a search holds up neither the consumer nor a page.
 */
import { createPublicKey, type KeyObject } from "node:crypto";
import { mkdirSync } from "node:fs";
import type { DatabaseSync, StatementSync } from "node:sqlite";
import { firstLink } from "../../agent/record/chain.ts";
import { lockDirectory } from "../../agent/record/lock.ts";
import type { SessionTail } from "../consume/session-chain.ts";
import { type CheckedBatch, type CheckedEntry, nameOf, type SessionName } from "../consume/sink.ts";
import { type RemovedCount, type RetentionRules, removeOld } from "./retention.ts";
import { advanceAgent } from "./sqlite-chain.ts";
import { openStoreReader, type StoreReader } from "./sqlite-reader.ts";
import { keptAgents, oldestEntries, removeEntries } from "./sqlite-removal.ts";
import { openWriter } from "./sqlite-schema.ts";
import { SqliteSessions } from "./sqlite-sessions.ts";
import { SqliteSignIns } from "./sqlite-sign-ins.ts";
import {
  type ApprovalRow,
  approvalsPageMax,
  type RevocationRow,
  type SessionPage,
  type SessionQuery,
  type Store,
} from "./store.ts";

const advanceEveryMs = 1_000;

export function openSqliteStore(dir: string, now: () => number = Date.now): Store {
  mkdirSync(dir, { recursive: true, mode: 0o700 });
  const unlock = lockDirectory(dir, (pid) => `The process with pid ${pid} uses the store in ${dir}.`);
  try {
    return new SqliteStore(dir, now, unlock);
  } catch (error) {
    unlock();
    throw error;
  }
}

class SqliteStore implements Store {
  readonly signIns: SqliteSignIns;
  readonly #db: DatabaseSync;
  readonly #reader: StoreReader;
  readonly #sessions: SqliteSessions;
  readonly #now: () => number;
  readonly #unlock: () => void;
  readonly #agents = new Map<string, number>();
  /** Agents with entries that their chain has not been followed to. */
  readonly #behind = new Set<string>();
  readonly #statements: Record<"entry" | "head" | "top" | "fault", StatementSync>;
  readonly #timer: NodeJS.Timeout;

  constructor(dir: string, now: () => number, unlock: () => void) {
    this.#db = openWriter(dir);
    this.#now = now;
    this.#unlock = unlock;
    this.signIns = new SqliteSignIns(this.#db);
    this.#sessions = new SqliteSessions(this.#db);
    this.#reader = openStoreReader(dir);
    this.#statements = {
      entry: this.#db.prepare(
        `INSERT INTO entries (session, seq, agent, agent_seq, previous, link, payload) VALUES (?, ?, ?, ?, ?, ?, ?)
         ON CONFLICT DO NOTHING`,
      ),
      head: this.#db.prepare("INSERT INTO heads (agent, size, link) VALUES (?, ?, ?) ON CONFLICT DO NOTHING"),
      top: this.#db.prepare(
        "UPDATE agents SET top = max(top, ?), last_at = max(last_at, ?), bytes = bytes + ? WHERE num = ?",
      ),
      fault: this.#db.prepare(
        "INSERT INTO faults (at, kind, agent, session, sentence) VALUES (?, ?, ?, ?, ?) ON CONFLICT DO NOTHING",
      ),
    };
    for (const { agent } of this.#db.prepare("SELECT agent FROM agents WHERE top >= size").all())
      this.#behind.add(String(agent));
    this.#timer = setInterval(() => void this.advance().catch(() => {}), advanceEveryMs);
    this.#timer.unref();
  }

  async tailsOf(names: readonly SessionName[]): Promise<(SessionTail | null)[]> {
    return names.map(({ agent, session }) => this.#sessions.tail(this.#agent(agent), session));
  }

  async store({ entries, heads, faults }: CheckedBatch): Promise<void> {
    this.#transaction(() => {
      const bytes = new Map<string, number>();
      for (const list of bySession(entries)) {
        const { agent } = (list[0] as CheckedEntry).entry;
        bytes.set(agent, (bytes.get(agent) ?? 0) + this.#storeSession(list));
      }
      for (const [agent, last] of lastOfAgents(entries)) {
        this.#statements.top.run(last.agentSeq, last.timeMs, bytes.get(agent) ?? 0, this.#agent(agent));
        this.#behind.add(agent);
      }
      for (const { agent, size, link } of heads) {
        this.#statements.head.run(this.#agent(agent), size, link);
        this.#behind.add(agent);
      }
      for (const { kind, agent, session, sentence } of faults)
        this.#statements.fault.run(this.#now(), kind, agent ?? "", session ?? "", sentence);
    });
  }

  async keyOf(agent: string): Promise<KeyObject | null> {
    const row = this.#db.prepare("SELECT key FROM agents WHERE agent = ?").get(agent) as
      | { key: string | null }
      | undefined;
    return row?.key ? createPublicKey(row.key) : null;
  }

  async pinKey(agent: string, key: KeyObject): Promise<void> {
    const pem = key.export({ type: "spki", format: "pem" }).toString();
    this.#db.prepare("UPDATE agents SET key = ? WHERE num = ?").run(pem, this.#agent(agent));
  }

  async advance(): Promise<void> {
    for (const agent of [...this.#behind]) {
      // One transaction each, and room for others in between: an agent may be a million entries behind.
      while (!this.#transaction(() => advanceAgent(this.#db, this.#agent(agent), agent, this.#now())))
        await new Promise((resolve) => setImmediate(resolve));
      this.#behind.delete(agent);
    }
  }

  async remove(rules: RetentionRules): Promise<RemovedCount> {
    await this.advance();
    return removeOld(
      {
        agents: async () => keptAgents(this.#db),
        oldest: async (agent, from, limit) => oldestEntries(this.#db, agent, from, limit),
        remove: async (cut) => {
          const count = this.#transaction(() => removeEntries(this.#db, cut));
          this.#sessions.forget();
          // Room for others in between.
          await new Promise((resolve) => setImmediate(resolve));
          return count;
        },
      },
      rules,
      this.#now(),
    );
  }

  sessions(query: SessionQuery): Promise<SessionPage> {
    return this.#reader.ask("sessions", query);
  }

  session: Store["session"] = (id, agent) => this.#reader.ask("session", id, agent);
  entries: Store["entries"] = (id, options) => this.#reader.ask("entries", id, options);
  agents: Store["agents"] = () => this.#reader.ask("agents");
  faults: Store["faults"] = (limit) => this.#reader.ask("faults", limit);

  async putApproval(row: ApprovalRow): Promise<void> {
    const { id, agent, session, status, createdAtMs, expiresAtMs, decidedBy, decidedReason, request } = row;
    this.#db
      .prepare(
        `INSERT INTO approvals (agent, id, session, status, created_at, expires_at, decided_by, decided_reason, request)
         VALUES (?, ?, ?, ?, ?, ?, ?, ?, ?) ON CONFLICT (agent, id) DO UPDATE SET status = excluded.status,
           decided_by = excluded.decided_by, decided_reason = excluded.decided_reason
         WHERE excluded.status <> 'pending'`,
      )
      .run(agent, id, session, status, createdAtMs, expiresAtMs, decidedBy, decidedReason, request);
  }

  async approval(agent: string, id: string): Promise<ApprovalRow | null> {
    const row = this.#db.prepare(`SELECT ${approvalColumns} FROM approvals WHERE agent = ? AND id = ?`).get(agent, id);
    return row === undefined ? null : ({ ...row } as unknown as ApprovalRow);
  }

  async approvals(limit = 100): Promise<ApprovalRow[]> {
    const rows = this.#db
      .prepare(`SELECT ${approvalColumns} FROM approvals ORDER BY created_at DESC LIMIT ?`)
      .all(Math.min(limit, approvalsPageMax));
    return rows.map((row) => ({ ...row }) as unknown as ApprovalRow);
  }

  async putRevocation({ identity, version, message }: RevocationRow): Promise<boolean> {
    const { changes } = this.#db
      .prepare(
        `INSERT INTO revocations (identity, version, message) VALUES (?, ?, ?) ON CONFLICT (identity) DO UPDATE
         SET version = excluded.version, message = excluded.message WHERE excluded.version > version`,
      )
      .run(identity, version, message);
    return Number(changes) > 0;
  }

  async revocations(): Promise<RevocationRow[]> {
    const rows = this.#db.prepare("SELECT identity, version, message FROM revocations ORDER BY identity").all();
    return rows.map((row) => ({ ...row }) as unknown as RevocationRow);
  }

  async close(): Promise<void> {
    clearInterval(this.#timer);
    await this.advance();
    await this.#reader.close();
    this.#db.close();
    this.#unlock();
  }

  /** Answers with the bytes that came to it. */
  #storeSession(list: readonly CheckedEntry[]): number {
    const [first] = list as readonly [CheckedEntry, ...CheckedEntry[]];
    const agent = this.#agent(first.entry.agent);
    const session = this.#sessions.open(agent, first.entry, (list.at(-1) as CheckedEntry).entry);
    if (session === null) return 0;
    let bytes = 0;
    for (const { entry, link, payload } of list) {
      if (!session.takes(entry)) continue;
      this.#statements.entry.run(session.num, entry.seq, agent, entry.agentSeq, entry.previous, link, payload);
      session.add(entry, link);
      bytes += payload.length;
    }
    session.save();
    return bytes;
  }

  #agent(agent: string): number {
    const known = this.#agents.get(agent);
    if (known !== undefined) return known;
    this.#db.prepare("INSERT INTO agents (agent, link) VALUES (?, ?) ON CONFLICT DO NOTHING").run(agent, firstLink);
    const { num } = this.#db.prepare("SELECT num FROM agents WHERE agent = ?").get(agent) as { num: number };
    this.#agents.set(agent, num);
    return num;
  }

  #transaction<T>(work: () => T): T {
    this.#db.exec("BEGIN IMMEDIATE");
    try {
      const result = work();
      this.#db.exec("COMMIT");
      return result;
    } catch (error) {
      this.#db.exec("ROLLBACK");
      this.#sessions.forget();
      this.#agents.clear();
      throw error;
    }
  }
}

const approvalColumns = `agent, id, session, status, created_at AS createdAtMs, expires_at AS expiresAtMs,
  decided_by AS decidedBy, decided_reason AS decidedReason, request`;

function bySession(entries: readonly CheckedEntry[]): Iterable<CheckedEntry[]> {
  const lists = new Map<string, CheckedEntry[]>();
  for (const checked of entries) {
    const name = nameOf(checked.entry);
    const list = lists.get(name);
    if (list === undefined) lists.set(name, [checked]);
    else list.push(checked);
  }
  return lists.values();
}

function lastOfAgents(entries: readonly CheckedEntry[]): Map<string, CheckedEntry["entry"]> {
  const last = new Map<string, CheckedEntry["entry"]>();
  for (const { entry } of entries) {
    const known = last.get(entry.agent);
    if (known === undefined || known.agentSeq < entry.agentSeq) last.set(entry.agent, entry);
  }
  return last;
}
