/** A batch of entries into PostgreSQL: sessions locked, entries and documents in one statement each. */
import type { PoolClient } from "pg";
import { firstLink } from "../../agent/record/chain.ts";
import { type CheckedEntry, nameOf } from "../consume/sink.ts";
import { sessionColumns } from "./postgres-queries.ts";
import { documentOf, tokensOf } from "./search.ts";
import { emptyRow, withEntry } from "./session-row.ts";
import type { SessionRow } from "./store.ts";
import { sessionOf } from "./stored-row.ts";

interface Open {
  readonly num: number;
  row: SessionRow;
  tail: Buffer;
  readonly documents: Set<string>;
}

/** Words of a document; a longer text is found by its first ones. */
const tokensMax = 1_024;

export async function storeSessions(
  client: PoolClient,
  agents: ReadonlyMap<string, number>,
  arrived: readonly CheckedEntry[],
): Promise<Map<string, number>> {
  const bytes = new Map<string, number>();
  const { entries, tails } = await withoutRemoved(client, agents, arrived);
  if (entries.length === 0) return bytes;
  const open = await lockSessions(client, agents, entries, tails);
  const taken: { readonly checked: CheckedEntry; readonly session: number }[] = [];
  const documents: { readonly session: number; readonly at: number; readonly words: readonly string[] }[] = [];
  for (const checked of entries) {
    const session = open.get(nameOf(checked.entry)) as Open;
    const { entry, link } = checked;
    if (entry.seq < session.row.entries) continue;
    session.row = withEntry(session.row, entry);
    session.tail = link;
    taken.push({ checked, session: session.num });
    bytes.set(entry.agent, (bytes.get(entry.agent) ?? 0) + checked.payload.length);
    const words = entry.session === "agent" ? null : documentWords(session, checked);
    if (words !== null) documents.push({ session: session.num, at: entry.timeMs, words });
  }
  await insertEntries(client, agents, taken);
  // unnest takes a list of lists apart, so each document's words go as one text: none has a space.
  if (documents.length > 0)
    await client.query(
      `INSERT INTO documents (session, at, words)
       SELECT session, at, array_to_tsvector(string_to_array(words, ' '))
       FROM unnest($1::bigint[], $2::bigint[], $3::text[]) AS d (session, at, words)`,
      [
        documents.map(({ session }) => session),
        documents.map(({ at }) => at),
        documents.map(({ words }) => words.join(" ")),
      ],
    );
  await updateSessions(client, [...open.values()]);
  return bytes;
}

interface RemovedTail {
  readonly entries: number;
  readonly tail: Buffer;
}

/** Entries that were here until retention took them out are not stored again; later ones of such a session are. */
async function withoutRemoved(
  client: PoolClient,
  agents: ReadonlyMap<string, number>,
  entries: readonly CheckedEntry[],
): Promise<{ entries: readonly CheckedEntry[]; tails: ReadonlyMap<string, RemovedTail> }> {
  const names = new Map(entries.map(({ entry }) => [`${agents.get(entry.agent)}\n${entry.session}`, entry]));
  const { rows } = await client.query<{ agent: string; id: string; entries: string; tail: Buffer }>(
    `SELECT r.* FROM unnest($1::bigint[], $2::text[]) AS w (agent, id) JOIN removed r USING (agent, id)`,
    [[...names.values()].map(({ agent }) => agents.get(agent)), [...names.values()].map(({ session }) => session)],
  );
  const tails = new Map<string, RemovedTail>();
  for (const row of rows) {
    const { agent, session } = names.get(`${row.agent}\n${row.id}`) as CheckedEntry["entry"];
    tails.set(nameOf({ agent, session }), { entries: Number(row.entries), tail: row.tail });
  }
  if (tails.size === 0) return { entries, tails };
  return { entries: entries.filter(({ entry }) => entry.seq >= (tails.get(nameOf(entry))?.entries ?? 0)), tails };
}

function documentWords(session: Open, { entry }: CheckedEntry): string[] | null {
  const document = documentOf(session.row, entry);
  if (document === null) return null;
  const words = [
    ...document.facets.map((facet) => `#${facet}`),
    ...tokensOf(document.words.replaceAll("\0", " ")).slice(0, tokensMax),
  ];
  // The same statement again and again is found once a batch.
  const key = words.join(" ");
  if (session.documents.has(key)) return null;
  session.documents.add(key);
  return words;
}

async function lockSessions(
  client: PoolClient,
  agents: ReadonlyMap<string, number>,
  entries: readonly CheckedEntry[],
  tails: ReadonlyMap<string, RemovedTail>,
): Promise<Map<string, Open>> {
  const firsts = new Map<string, CheckedEntry["entry"]>();
  for (const { entry } of entries) if (!firsts.has(nameOf(entry))) firsts.set(nameOf(entry), entry);
  const list = [...firsts].sort(([a], [b]) => (a < b ? -1 : 1)).map(([, entry]) => entry);
  const places = [list.map(({ agent }) => agents.get(agent)), list.map(({ session }) => session)];
  await client.query(
    `INSERT INTO sessions (agent, id, tail, entries, first, started_at, last_at, target, protocol, destination, process,
       "user", database, operations, denied, held, rows, masked)
     SELECT agent, id, tail, entries, entries, at, at, '', '', '', 'unknown', '', '', 0, 0, 0, 0, 0
     FROM unnest($1::bigint[], $2::text[], $3::bytea[], $4::bigint[], $5::bigint[]) AS w (agent, id, tail, entries, at)
     ON CONFLICT DO NOTHING`,
    [
      ...places,
      list.map((entry) => tails.get(nameOf(entry))?.tail ?? firstLink),
      list.map((entry) => tails.get(nameOf(entry))?.entries ?? 0),
      list.map(({ timeMs }) => timeMs),
    ],
  );
  const { rows } = await client.query(
    `SELECT ${sessionColumns}, s.tail FROM unnest($1::bigint[], $2::text[]) AS w (agent, id)
     JOIN sessions s ON s.id = w.id AND s.agent = w.agent JOIN agents a ON a.num = s.agent ORDER BY s.num FOR UPDATE OF s`,
    places,
  );
  return new Map(
    rows.map((found: Record<string, unknown>) => {
      const row = sessionOf(found);
      const first = firsts.get(nameOf({ agent: row.agent, session: row.id })) as CheckedEntry["entry"];
      return [
        nameOf(first),
        {
          num: Number(found["num"]),
          row: row.entries === 0 ? emptyRow(first) : row,
          tail: found["tail"] as Buffer,
          documents: new Set<string>(),
        },
      ];
    }),
  );
}

async function insertEntries(
  client: PoolClient,
  agents: ReadonlyMap<string, number>,
  taken: readonly { readonly checked: CheckedEntry; readonly session: number }[],
): Promise<void> {
  if (taken.length === 0) return;
  await client.query(
    `INSERT INTO entries (session, seq, agent, agent_seq, previous, link, payload)
     SELECT * FROM unnest($1::bigint[], $2::bigint[], $3::bigint[], $4::bigint[], $5::bytea[], $6::bytea[], $7::bytea[])
     ON CONFLICT DO NOTHING`,
    [
      taken.map(({ session }) => session),
      taken.map(({ checked }) => checked.entry.seq),
      taken.map(({ checked }) => agents.get(checked.entry.agent)),
      taken.map(({ checked }) => checked.entry.agentSeq),
      taken.map(({ checked }) => checked.entry.previous),
      taken.map(({ checked }) => checked.link),
      taken.map(({ checked }) => checked.payload),
    ],
  );
}

async function updateSessions(client: PoolClient, open: readonly Open[]): Promise<void> {
  const rows = open.map(({ num, tail, row }) => ({
    num,
    tail: `\\x${tail.toString("hex")}`,
    entries: row.entries,
    started_at: row.startedAtMs,
    ended_at: row.endedAtMs,
    last_at: row.lastAtMs,
    target: row.target,
    protocol: row.protocol,
    destination: row.destination,
    hostname: row.hostname,
    process: row.process,
    uid: row.uid,
    job: row.job,
    identity: row.identity,
    issuer: row.issuer,
    user: row.user,
    database: row.database,
    operations: row.operations,
    denied: row.denied,
    held: row.held,
    ending: row.end,
    rows: row.rows,
    masked: row.masked,
  }));
  const names = Object.keys(rows[0] ?? {}).filter((name) => name !== "num");
  await client.query(
    `UPDATE sessions s SET ${names.map((name) => `"${name}" = n."${name}"`).join(", ")}
     FROM jsonb_populate_recordset(NULL::sessions, $1::jsonb) n WHERE s.num = n.num`,
    // PostgreSQL's texts hold no NUL; neither does its JSON.
    [JSON.stringify(rows).replaceAll("\\u0000", "\\ufffd")],
  );
}
