/**
 * What a controller keeps and what it is asked: sessions with their entries, agents with their chains, approvals and
 * revocations. SQLite (sqlite.ts) and PostgreSQL (postgres.ts) stand behind it, held by the same tests.
 */
import { WeirError } from "../../agent/errors.ts";
import type { ReadEntry, SessionSummary } from "../../agent/record/read.ts";
import type { Fault, RecordSink } from "../consume/sink.ts";
import type { SignInStore } from "../identity/kept.ts";
import type { RemovedCount, RetentionRules } from "./retention.ts";

export interface Store extends RecordSink, SessionQueries, ApprovalHistory, RevocationList {
  readonly signIns: SignInStore;
  /** Follows each agent's chain as far as it is here now. It is done about once a second anyway. */
  advance(): Promise<void>;
  /** Takes out what is too old or too much; the proof stays (retention.ts). */
  remove(rules: RetentionRules): Promise<RemovedCount>;
  close(): Promise<void>;
}

export interface SessionQueries {
  /**
   * Newest first. With `text` or a facet by the newest statement that was found, and one that was found by more
   * statements may come again on a later page.
   */
  sessions(query: SessionQuery): Promise<SessionPage>;
  /** `agent` is needed for the session `agent` alone, which each agent has. */
  session(id: string, agent?: string): Promise<SessionRow | null>;
  /** A page of a session, from the entry `from` on; empty past its end. */
  entries(id: string, options?: { from?: number; limit?: number; agent?: string }): Promise<readonly ReadEntry[]>;
  agents(): Promise<readonly AgentRow[]>;
  /** What was put aside, newest first. */
  faults(limit?: number): Promise<readonly FaultRow[]>;
}

export interface SessionQuery {
  /** Words that one operation or the session's own facts have, all of them; `drop*` is the beginning of a word, two letters at least. */
  readonly text?: string;
  /** Facets, equal but for upper and lower case. */
  readonly identity?: string;
  readonly target?: string;
  /** The agent, or the destination by its name or address. */
  readonly host?: string;
  /** `github:12345` or `12345`. */
  readonly job?: string;
  readonly user?: string;
  readonly database?: string;
  readonly protocol?: string;
  /** Sessions with an operation of this verdict; with `text` it is the same operation. */
  readonly verdict?: "allow" | "deny" | "hold";
  readonly fromMs?: number;
  readonly toMs?: number;
  /** `next` of the page before. */
  readonly cursor?: string | null;
  /** At most `sessionsPageMax`. */
  readonly limit?: number;
}

export interface SessionPage {
  readonly sessions: readonly SessionRow[];
  /** For the next page; null: this was the last one. */
  readonly next: string | null;
}

export interface SessionRow extends SessionSummary {
  readonly agent: string;
  readonly protocol: string;
  readonly hostname: string | null;
  /** Subject and issuer of who was proven to stand behind it. */
  readonly identity: string | null;
  readonly issuer: string | null;
  readonly lastAtMs: number;
  /** Over all its results. */
  readonly rows: number;
  readonly masked: number;
  /** Entries that came: the next one's `seq`. */
  readonly entries: number;
  /** Those before it were removed by retention. */
  readonly first: number;
}

export interface AgentRow {
  readonly agent: string;
  /** Entries in an unbroken chain from the first. */
  readonly size: number;
  /** Entries that the agent has signed for and that are here as it signed them. */
  readonly signed: number;
  /** Of these, entries that retention took out: the first ones. */
  readonly removed: number;
  /** Later entries are here and this one is not (yet). */
  readonly missing: number | null;
  /** Why its chain does not go on; null: nothing is wrong. */
  readonly broken: string | null;
  readonly lastAtMs: number;
}

export interface FaultRow extends Fault {
  readonly atMs: number;
}

/** An approval as people decided it, over all agents; the queue of what is pending is in memory. */
export interface ApprovalRow {
  readonly id: string;
  readonly agent: string;
  readonly session: string;
  readonly status: string;
  readonly createdAtMs: number;
  readonly expiresAtMs: number;
  readonly decidedBy: string | null;
  readonly decidedReason: string | null;
  /** What the agent asked, as JSON. */
  readonly request: string;
}

export interface ApprovalHistory {
  /** A row with the same agent and id is replaced, unless that one is decided and this one is pending. */
  putApproval(row: ApprovalRow): Promise<void>;
  approval(agent: string, id: string): Promise<ApprovalRow | null>;
  /** Newest first. */
  approvals(limit?: number): Promise<readonly ApprovalRow[]>;
}

export interface RevocationRow {
  /** Of issuer and subject; the topic's key. */
  readonly identity: string;
  /** Grows with each change of the same identity: an older one changes nothing. */
  readonly version: number;
  /** The signed message as it went out. */
  readonly message: string;
}

export interface RevocationList {
  /** False: what is here is as new or newer. */
  putRevocation(row: RevocationRow): Promise<boolean>;
  revocations(): Promise<readonly RevocationRow[]>;
}

export const sessionsPageMax = 200;
export const entriesPageMax = 5_000;
/** Of a page, as stored; a session of large entries comes in more pages. */
export const entriesPageBytesMax = 16 * 1024 * 1024;
export const faultsPageMax = 1_000;
export const approvalsPageMax = 1_000;

/** `postgres://…` or a directory for SQLite. */
export async function openStore(where: string): Promise<Store> {
  if (/^postgres(ql)?:\/\//.test(where)) return (await import("./postgres.ts")).openPostgresStore(where);
  if (/^[a-z]+:\/\//.test(where))
    throw new WeirError("WEIR_USAGE", `--store ${where.replace(/:\/\/.*/, "://…")}: expected postgres://…`);
  return (await import("./sqlite.ts")).openSqliteStore(where);
}
