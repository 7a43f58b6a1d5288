/** The tables of the SQLite store, and how a connection to it is opened. */
import { join } from "node:path";
import { DatabaseSync } from "node:sqlite";
import { WeirError } from "../../agent/errors.ts";
import { signInTables } from "./sqlite-sign-ins.ts";

export const storeFile = "controller.sqlite";
/** Of the file, for one connection. */
const cacheKiB = 32 * 1024;
const busyWaitMs = 5_000;
/** The journal is cut back to it after a checkpoint. */
const journalBytesMax = 64 * 1024 * 1024;

export function openWriter(dir: string): DatabaseSync {
  const db = new DatabaseSync(join(dir, storeFile));
  // FULL: offsets are committed to Kafka after a transaction, so that must be on the disk by then.
  db.exec(`PRAGMA journal_mode = WAL; PRAGMA synchronous = FULL; PRAGMA cache_size = -${cacheKiB};
    PRAGMA busy_timeout = ${busyWaitMs}; PRAGMA journal_size_limit = ${journalBytesMax};`);
  const { user_version: version } = db.prepare("PRAGMA user_version").get() as { user_version: number };
  if (version > steps.length) {
    db.close();
    throw new WeirError("WEIR_CONFIG_INVALID", `${join(dir, storeFile)} was written by a later version of Weir.`);
  }
  for (const [at, step] of steps.entries())
    if (at >= version) db.exec(`BEGIN; ${step} PRAGMA user_version = ${at + 1}; COMMIT;`);
  return db;
}

export function openReader(dir: string): DatabaseSync {
  const db = new DatabaseSync(join(dir, storeFile), { readOnly: true });
  db.exec(`PRAGMA cache_size = -${cacheKiB}; PRAGMA busy_timeout = ${busyWaitMs};`);
  return db;
}

/**
 * `entries` lie in the order they came. An agent's number for an entry is not unique: who may write to the topic could
 * take a number before the agent does, and the true entry would be lost; the chain tells which one is true.
 * `documents` keeps no text: the index alone (an FTS5 table without contents).
 */
const tables = `
CREATE TABLE agents (
  num INTEGER PRIMARY KEY, agent TEXT NOT NULL UNIQUE, key TEXT,
  size INTEGER NOT NULL DEFAULT 0, link BLOB NOT NULL, signed INTEGER NOT NULL DEFAULT 0,
  top INTEGER NOT NULL DEFAULT -1, last_at INTEGER NOT NULL DEFAULT 0, broken TEXT);
CREATE TABLE sessions (
  num INTEGER PRIMARY KEY, agent INTEGER NOT NULL, id TEXT NOT NULL, tail BLOB NOT NULL,
  entries INTEGER NOT NULL, started_at INTEGER NOT NULL, ended_at INTEGER, last_at INTEGER NOT NULL,
  target TEXT NOT NULL, protocol TEXT NOT NULL, destination TEXT NOT NULL, hostname TEXT, process TEXT NOT NULL,
  uid INTEGER, job TEXT, identity TEXT, issuer TEXT, user TEXT NOT NULL, database TEXT NOT NULL,
  operations INTEGER NOT NULL, denied INTEGER NOT NULL, held INTEGER NOT NULL, ending TEXT,
  rows INTEGER NOT NULL DEFAULT 0, masked INTEGER NOT NULL DEFAULT 0,
  UNIQUE (id, agent));
CREATE INDEX sessions_started ON sessions (started_at);
CREATE TABLE entries (
  num INTEGER PRIMARY KEY, session INTEGER NOT NULL, seq INTEGER NOT NULL, agent INTEGER NOT NULL,
  agent_seq INTEGER NOT NULL, previous BLOB NOT NULL, link BLOB NOT NULL, payload BLOB NOT NULL);
CREATE UNIQUE INDEX entries_place ON entries (session, seq);
CREATE INDEX entries_chain ON entries (agent, agent_seq);
CREATE TABLE heads (agent INTEGER NOT NULL, size INTEGER NOT NULL, link TEXT NOT NULL, PRIMARY KEY (agent, size, link))
  WITHOUT ROWID;
CREATE TABLE faults (
  num INTEGER PRIMARY KEY, at INTEGER NOT NULL, kind TEXT NOT NULL, agent TEXT NOT NULL, session TEXT NOT NULL,
  sentence TEXT NOT NULL, UNIQUE (sentence, kind, agent, session));
CREATE TABLE found (num INTEGER PRIMARY KEY, session INTEGER NOT NULL, at INTEGER NOT NULL);
CREATE INDEX found_at ON found (at);
CREATE VIRTUAL TABLE documents USING fts5(words, facets, content='', contentless_delete=1, detail=full,
  tokenize="unicode61 remove_diacritics 2");
CREATE TABLE approvals (
  agent TEXT NOT NULL, id TEXT NOT NULL, session TEXT NOT NULL, status TEXT NOT NULL, created_at INTEGER NOT NULL,
  expires_at INTEGER NOT NULL, decided_by TEXT, decided_reason TEXT, request TEXT NOT NULL, PRIMARY KEY (agent, id));
CREATE INDEX approvals_created ON approvals (created_at);
CREATE TABLE revocations (identity TEXT PRIMARY KEY, version INTEGER NOT NULL, message TEXT NOT NULL) WITHOUT ROWID;
`;

/**
 * What was removed leaves where the agent's chain stood (`removed`, `removed_link`) and where each session ended: an entry
 * that comes again is known, and a later one has to follow from it.
 */
const retention = `
ALTER TABLE agents ADD COLUMN removed INTEGER NOT NULL DEFAULT 0;
ALTER TABLE agents ADD COLUMN removed_link BLOB NOT NULL DEFAULT x'0000000000000000000000000000000000000000000000000000000000000000';
ALTER TABLE agents ADD COLUMN bytes INTEGER NOT NULL DEFAULT 0;
UPDATE agents SET bytes = (SELECT coalesce(sum(length(payload)), 0) FROM entries WHERE agent = agents.num);
ALTER TABLE sessions ADD COLUMN first INTEGER NOT NULL DEFAULT 0;
CREATE TABLE removed (
  agent INTEGER NOT NULL, id TEXT NOT NULL, entries INTEGER NOT NULL, tail BLOB NOT NULL, PRIMARY KEY (agent, id))
  WITHOUT ROWID;
DROP INDEX found_at;
CREATE INDEX found_session ON found (session, at);
`;

/** Each makes the next version of the one before it. */
const steps: readonly string[] = [tables, retention, signInTables];
