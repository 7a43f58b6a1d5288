/**
 * Reads table and column names on a connection of the agent's own, since RowDescription names an origin only by
 * object id and attribute number (PostgreSQL docs §55.7). It never runs inside the client's session, so it changes
 * no transaction and no statement log of the client. A table that this connection cannot see (not committed yet)
 * stays unknown, and the masks treat it as such.
 */

import type { Socket } from "node:net";
import { Duplex } from "node:stream";
import { Client } from "pg";
import type { Flow } from "../core/flow.ts";
import type { Target } from "../core/target.ts";
import { WeirError } from "../errors.ts";
import { describeStatement } from "../wire/postgres/describe/index.ts";
import { mayCarry } from "../wire/postgres/describe/may-carry.ts";
import type { CatalogAnswer, CatalogColumn, CatalogQuestion, ColumnName, TableName } from "../wire/protocol.ts";
import type { UpstreamLogin } from "./ports.ts";

/** A name that was read is used this long; a rename inside it still masks by the old name. */
const catalogEntryMs = 30_000;
const catalogTablesMax = 10_000;
const catalogConnectionsMax = 16;
const catalogIdleMs = 30_000;
const catalogQueryMs = 5_000;
/** Views of views are followed this deep; deeper ones stay unknown. */
const viewDepthMax = 8;
/** Tables of one family by inheritance whose names are read; of more, every table counts. */
const relativesMax = 500;
/** Tables by the names of one text, over all schemas. */
const sameNamesMax = 2_000;

export type OpenUpstream = (flow: Flow, target: Target) => Promise<Socket>;

interface Cached {
  readonly columns: readonly CatalogColumn[];
  readonly untilMs: number;
}

interface Connection {
  readonly client: Client;
  readonly idle: NodeJS.Timeout;
  /** Questions are transactions, one after the other. */
  last: Promise<unknown>;
}

export class CatalogReader {
  readonly #open: OpenUpstream;
  readonly #tables = new Map<string, Cached>();
  readonly #connections = new Map<string, Promise<Connection>>();

  constructor(open: OpenUpstream) {
    this.#open = open;
  }

  /**
   * Columns of these tables; an object id that is not found is simply absent. Throws when the server cannot be asked.
   * `fresh`: as they are now, whatever was read before.
   */
  async answer(
    flow: Flow,
    target: Target,
    login: UpstreamLogin,
    { tableOids, tables = [], fresh = false, versionOf }: CatalogQuestion,
  ): Promise<CatalogAnswer> {
    const server = `${flow.destination.address}:${flow.destination.port}/${login.database}`;
    const now = Date.now();
    const known: CatalogColumn[] = [];
    const missing: number[] = [];
    const key = `${server}@${login.user}`;
    const ask = <T>(question: (client: Client) => Promise<T>): Promise<T> =>
      this.#ask(key, flow, target, login, question);
    const version = versionOf === undefined ? null : await ask((client) => readVersion(client, versionOf));
    const named = tables.length === 0 ? [] : await ask((client) => readOids(client, tables));
    for (const oid of new Set([...tableOids, ...named])) {
      const cached = this.#tables.get(`${server}#${oid}`);
      if (!fresh && cached !== undefined && cached.untilMs > now) known.push(...cached.columns);
      else missing.push(oid);
    }
    if (missing.length === 0) return { columns: known, version };
    const read = await ask((client) => readColumns(client, missing));
    if (this.#tables.size > catalogTablesMax) this.#tables.clear();
    for (const oid of missing) {
      const columns = read.filter((column) => column.tableOid === oid);
      if (columns.length > 0) this.#tables.set(`${server}#${oid}`, { columns, untilMs: now + catalogEntryMs });
    }
    return { columns: [...known, ...read], version };
  }

  async close(): Promise<void> {
    const connections = [...this.#connections.values()];
    this.#connections.clear();
    await Promise.allSettled(connections.map(async (pending) => this.#end(await pending)));
  }

  async #end(connection: Connection): Promise<void> {
    clearTimeout(connection.idle);
    await connection.client.end();
  }

  async #ask<T>(
    key: string,
    flow: Flow,
    target: Target,
    login: UpstreamLogin,
    question: (client: Client) => Promise<T>,
  ): Promise<T> {
    const pending = this.#connections.get(key) ?? this.#connect(key, flow, target, login);
    this.#connections.set(key, pending);
    try {
      const connection = await pending;
      connection.idle.refresh();
      const answer = connection.last.then(() => inTransaction(connection.client, question));
      connection.last = answer.catch(() => {});
      return await answer;
    } catch (error) {
      this.#connections.delete(key);
      pending.then((connection) => this.#end(connection)).catch(() => {});
      throw error;
    }
  }

  async #connect(key: string, flow: Flow, target: Target, login: UpstreamLogin): Promise<Connection> {
    for (const [oldest, pending] of this.#connections) {
      if (this.#connections.size < catalogConnectionsMax) break;
      this.#connections.delete(oldest);
      pending.then((connection) => this.#end(connection)).catch(() => {});
    }
    const socket = await this.#open(flow, target);
    const client = new Client({
      stream: () => preconnected(socket),
      ssl: false,
      host: flow.destination.address,
      port: flow.destination.port,
      user: login.user,
      database: login.database,
      password: login.password ?? "",
      application_name: "weir-catalog",
      query_timeout: catalogQueryMs,
      connectionTimeoutMillis: catalogQueryMs,
    });
    const forget = (): void => {
      this.#connections.delete(key);
    };
    client.on("error", forget);
    client.on("end", forget);
    try {
      await client.connect();
    } catch (error) {
      socket.destroy();
      throw error;
    }
    const idle = setTimeout(() => {
      forget();
      client.end().catch(() => {});
    }, catalogIdleMs);
    idle.unref();
    return { client, idle, last: Promise.resolve() };
  }
}

/**
 * The settings are the transaction's own: a pooler takes none with the startup packet, and what a session sets there may
 * meet another client. With this path views are told with schemas.
 */
async function inTransaction<T>(client: Client, question: (client: Client) => Promise<T>): Promise<T> {
  await client.query(
    `BEGIN READ ONLY; SET LOCAL search_path TO pg_catalog; SET LOCAL statement_timeout TO ${catalogQueryMs}`,
  );
  const answer = await question(client);
  await client.query("COMMIT");
  return answer;
}

const columnsQuery = `
  SELECT c.oid::int8 AS oid, a.attnum AS attnum, n.nspname AS schema, c.relname AS table, a.attname AS column,
         a.attgenerated <> '' AS generated, c.relhassubclass OR c.relispartition OR a.attinhcount > 0 AS family,
         CASE WHEN c.relkind IN ('v', 'm') THEN pg_get_viewdef(c.oid) END AS view
    FROM pg_class c
    JOIN pg_namespace n ON n.oid = c.relnamespace
    JOIN pg_attribute a ON a.attrelid = c.oid AND a.attnum > 0 AND NOT a.attisdropped
   WHERE c.oid = ANY ($1::oid[])`;

/**
 * Tables above and below by inheritance, to the limit: their rows may be the same ones. A column that came by
 * inheritance has the same name in all of them.
 */
const familyQuery = `
  WITH RECURSIVE
    above(oid) AS (SELECT inhparent FROM pg_inherits WHERE inhrelid = $1::oid
                   UNION SELECT i.inhparent FROM pg_inherits i JOIN above ON i.inhrelid = above.oid),
    below(oid) AS (SELECT inhrelid FROM pg_inherits WHERE inhparent = $1::oid
                   UNION SELECT i.inhrelid FROM pg_inherits i JOIN below ON i.inhparent = below.oid)
  SELECT n.nspname AS schema, c.relname AS table
    FROM (SELECT oid FROM above UNION SELECT oid FROM below) AS family
    JOIN pg_class c ON c.oid = family.oid
    JOIN pg_namespace n ON n.oid = c.relnamespace
   LIMIT $2`;

/** The tables a view reads, by the dependencies of its rule. */
const basesQuery = `
  SELECT DISTINCT d.refobjid::int8 AS oid
    FROM pg_rewrite r
    JOIN pg_depend d ON d.classid = 'pg_rewrite'::regclass AND d.objid = r.oid
                    AND d.refclassid = 'pg_class'::regclass AND d.refobjid <> r.ev_class
   WHERE r.ev_class = $1::oid`;

interface ColumnRow {
  oid: string;
  attnum: number;
  schema: string;
  table: string;
  column: string;
  view: string | null;
  generated: boolean;
  family: boolean;
}

/** Every table and view of a name; where its schema is not written, of any: what the session's search_path is stays its own. */
const namesQuery = `
  SELECT c.oid::int8 AS oid
    FROM pg_class c
    JOIN pg_namespace n ON n.oid = c.relnamespace
    JOIN unnest($1::text[], $2::text[]) AS asked(schema, name) ON c.relname = asked.name
                                                             AND n.nspname = coalesce(asked.schema, n.nspname)
   WHERE c.relkind IN ('r', 'p', 'v', 'm', 'f')
   LIMIT $3`;

async function readOids(client: Client, tables: readonly TableName[]): Promise<number[]> {
  const names = [tables.map(([schema]) => schema), tables.map(([, name]) => name)];
  const { rows } = await client.query<{ oid: string }>(namesQuery, [...names, sameNamesMax + 1]);
  if (rows.length > sameNamesMax)
    throw new WeirError("WEIR_LIMIT_REACHED", `more than ${sameNamesMax} tables by these names`);
  return rows.map(({ oid }) => Number(oid));
}

/** Rows of the catalog have the number of the transaction that wrote them. Other sessions' temporary tables are no matter. */
const versionQuery = `
  SELECT string_agg(concat_ws(' ', c.oid, c.xmin, n.oid, n.xmin), ', ' ORDER BY c.oid) AS version
    FROM pg_class c
    JOIN pg_namespace n ON n.oid = c.relnamespace
    JOIN unnest($1::text[], $2::text[]) AS asked(schema, name) ON c.relname = asked.name
                                                             AND n.nspname = coalesce(asked.schema, n.nspname)
   WHERE n.nspname !~ '^pg_(toast_)?temp_'`;

async function readVersion(client: Client, tables: readonly TableName[]): Promise<string> {
  const names = [tables.map(([schema]) => schema), tables.map(([, name]) => name)];
  const { rows } = await client.query<{ version: string | null }>(versionQuery, names);
  return rows[0]?.version ?? "none";
}

interface Relative {
  readonly schema: string;
  readonly table: string;
}

async function readColumns(client: Client, oids: readonly number[], depth = 0): Promise<CatalogColumn[]> {
  const { rows } = await client.query<ColumnRow>(columnsQuery, [oids]);
  const dependsOn = new Map<string, readonly ColumnName[]>();
  for (const row of rows) {
    if (row.view === null || dependsOn.has(row.oid)) continue;
    dependsOn.set(row.oid, depth < viewDepthMax ? await baseColumns(client, row.oid, row.view, depth) : [anyColumn]);
  }
  const relatives = new Map<string, readonly Relative[]>();
  for (const { oid, family } of rows) {
    if (!family || relatives.has(oid)) continue;
    const found = await client.query<Relative>(familyQuery, [oid, relativesMax + 1]);
    // Too many to name: the column of that name in any table.
    relatives.set(oid, found.rows.length > relativesMax ? [{ schema: "*", table: "*" }] : found.rows);
  }
  return rows.map((row) => ({
    tableOid: Number(row.oid),
    attribute: row.attnum,
    schema: row.schema,
    table: row.table,
    column: row.column,
    dependsOn: dependsOn.get(row.oid) ?? null,
    relatives: (relatives.get(row.oid) ?? []).map((table) => ({ ...table, column: row.column })),
    generated: row.generated,
  }));
}

const anyColumn: ColumnName = { schema: "*", table: "*", column: "*" };

/** The base columns that a view's text can carry. */
async function baseColumns(client: Client, viewOid: string, text: string, depth: number): Promise<ColumnName[]> {
  const { rows } = await client.query<{ oid: string }>(basesQuery, [viewOid]);
  const bases = rows.map((row) => Number(row.oid));
  if (bases.length === 0) return [];
  const info = describeStatement(text);
  const found = new Map<string, ColumnName>();
  for (const column of await readColumns(client, bases, depth + 1)) {
    if (!mayCarry(info, column) && !info.columns.includes(column.column) && !info.columns.includes("*")) continue;
    for (const { schema, table, column: name } of [column, ...(column.dependsOn ?? []), ...(column.relatives ?? [])])
      found.set(JSON.stringify([schema, table, name]), { schema, table, column: name });
  }
  return [...found.values()];
}

/** `pg` wants to connect its stream itself; ours is connected and secured already. */
function preconnected(socket: Socket): Duplex {
  const stream = new Duplex({
    read: () => {
      socket.resume();
    },
    write: (chunk, encoding, done) => {
      socket.write(chunk, encoding, () => done());
    },
    final: (done) => {
      socket.end();
      done();
    },
    destroy: (error, done) => {
      socket.destroy();
      done(error);
    },
  });
  socket.on("data", (bytes: Buffer) => {
    if (!stream.push(bytes)) socket.pause();
  });
  socket.on("end", () => stream.push(null));
  socket.on("error", (error) => stream.destroy(error));
  socket.on("close", () => stream.destroy());
  return Object.assign(stream, {
    setNoDelay: () => stream,
    setKeepAlive: () => stream,
    ref: () => stream,
    unref: () => stream,
    connect: () => {
      queueMicrotask(() => stream.emit("connect"));
      return stream;
    },
  });
}
