/** The tables of the PostgreSQL store, as in sqlite-schema.ts; the index is a column of `documents`. */
import type { PoolClient } from "pg";
import { WeirError } from "../../agent/errors.ts";
import { signInTables } from "./postgres-sign-ins.ts";

/** Controllers that start at the same time make the tables one after another. */
const lockNumber = 7_214_022;

export async function migrate(client: PoolClient): Promise<void> {
  await client.query("BEGIN");
  try {
    // A step over a large store, and the wait for who does it, take longer than any question may.
    await client.query("SET LOCAL statement_timeout = 0");
    await client.query("SELECT pg_advisory_xact_lock($1)", [lockNumber]);
    await client.query("CREATE TABLE IF NOT EXISTS weir_schema (version integer NOT NULL)");
    const { rows } = await client.query<{ version: number }>("SELECT max(version) AS version FROM weir_schema");
    const version = rows[0]?.version ?? 0;
    if (version > steps.length)
      throw new WeirError("WEIR_CONFIG_INVALID", "The store's tables were made by a later version of Weir.");
    for (const [at, step] of steps.entries())
      if (at >= version) {
        await client.query(step);
        await client.query("INSERT INTO weir_schema VALUES ($1)", [at + 1]);
      }
    await client.query("COMMIT");
  } catch (error) {
    await client.query("ROLLBACK");
    throw error;
  }
}

const tables = `
CREATE TABLE agents (
  num bigint PRIMARY KEY GENERATED ALWAYS AS IDENTITY, agent text NOT NULL UNIQUE, key text,
  size bigint NOT NULL DEFAULT 0, link bytea NOT NULL, signed bigint NOT NULL DEFAULT 0,
  top bigint NOT NULL DEFAULT -1, last_at bigint NOT NULL DEFAULT 0, broken text);
CREATE TABLE sessions (
  num bigint PRIMARY KEY GENERATED ALWAYS AS IDENTITY, agent bigint NOT NULL, id text NOT NULL, tail bytea NOT NULL,
  entries bigint NOT NULL, started_at bigint NOT NULL, ended_at bigint, last_at bigint NOT NULL,
  target text NOT NULL, protocol text NOT NULL, destination text NOT NULL, hostname text, process text NOT NULL,
  uid bigint, job text, identity text, issuer text, "user" text NOT NULL, database text NOT NULL,
  operations bigint NOT NULL, denied bigint NOT NULL, held bigint NOT NULL, ending text,
  rows bigint NOT NULL, masked bigint NOT NULL, UNIQUE (id, agent));
CREATE INDEX sessions_started ON sessions (started_at, num);
CREATE TABLE entries (
  session bigint NOT NULL, seq bigint NOT NULL, agent bigint NOT NULL, agent_seq bigint NOT NULL,
  previous bytea NOT NULL, link bytea NOT NULL, payload bytea NOT NULL, PRIMARY KEY (session, seq));
CREATE INDEX entries_chain ON entries (agent, agent_seq);
CREATE TABLE heads (agent bigint NOT NULL, size bigint NOT NULL, link text NOT NULL, PRIMARY KEY (agent, size, link));
CREATE TABLE faults (
  num bigint PRIMARY KEY GENERATED ALWAYS AS IDENTITY, at bigint NOT NULL, kind text NOT NULL, agent text NOT NULL,
  session text NOT NULL, sentence text NOT NULL, UNIQUE (sentence, kind, agent, session));
CREATE TABLE documents (
  num bigint PRIMARY KEY GENERATED ALWAYS AS IDENTITY, session bigint NOT NULL, at bigint NOT NULL,
  words tsvector NOT NULL);
CREATE INDEX documents_words ON documents USING gin (words);
CREATE TABLE approvals (
  agent text NOT NULL, id text NOT NULL, session text NOT NULL, status text NOT NULL, created_at bigint NOT NULL,
  expires_at bigint NOT NULL, decided_by text, decided_reason text, request text NOT NULL, PRIMARY KEY (agent, id));
CREATE INDEX approvals_created ON approvals (created_at);
CREATE TABLE revocations (identity text PRIMARY KEY, version bigint NOT NULL, message text NOT NULL);
`;

/** As in sqlite-schema.ts. */
const retention = `
ALTER TABLE agents ADD COLUMN removed bigint NOT NULL DEFAULT 0,
  ADD COLUMN removed_link bytea NOT NULL DEFAULT decode(repeat('00', 32), 'hex'),
  ADD COLUMN bytes bigint NOT NULL DEFAULT 0;
UPDATE agents a SET bytes = (SELECT coalesce(sum(octet_length(payload)), 0) FROM entries e WHERE e.agent = a.num);
ALTER TABLE sessions ADD COLUMN first bigint NOT NULL DEFAULT 0;
CREATE TABLE removed (
  agent bigint NOT NULL, id text NOT NULL, entries bigint NOT NULL, tail bytea NOT NULL, PRIMARY KEY (agent, id));
CREATE INDEX documents_session ON documents (session, at);
`;

/** Each makes the next version of the one before it. */
const steps: readonly string[] = [tables, retention, signInTables];
