/** Retention in the controller's store: entries go, and what is left still proves that it follows from them. */
import assert from "node:assert/strict";
import { test } from "node:test";
import type { EntryBody } from "../../../agent/core/record.ts";
import type { Head } from "../../../agent/record/heads.ts";
import type { CheckedEntry } from "../../../controller/consume/sink.ts";
import { parseSearch } from "../../../controller/store/search.ts";
import type { Store } from "../../../controller/store/store.ts";
import { flow, operation, sessionEnd } from "../../agent/record/sample.ts";
import { batch, Writer } from "./checked.ts";
import { stores } from "./opened.ts";

const hourMs = 60 * 60 * 1_000;
const start = (session: string): EntryBody => ({
  type: "session-start",
  flow: flow(session),
  target: "orders-db",
  protocol: "postgres",
});
const name = (at: number): string => `019a0000-0000-7000-8000-${String(at).padStart(12, "0")}`;

function sessionOf(writer: Writer, session: string, text: string): CheckedEntry[] {
  return [start(session), operation(1, text), sessionEnd].map((body) => writer.append(session, body));
}

function headOf({ chain }: Writer): Head {
  const { agent, agentSeq: size, link } = chain;
  return { agent, size, link: link.toString("hex"), timeMs: 1, closed: false, signature: "" };
}

async function foundBy(store: Store, line: string): Promise<string[]> {
  return (await store.sessions(parseSearch(line))).sessions.map(({ id }) => id).sort();
}

/** Two ended sessions and the beginning of one that goes on, an hour before two more; all signed for. */
function twoTimes(agent = "host-1") {
  const writer = new Writer(agent, Date.now() - 3 * hourMs);
  const old = [
    ...sessionOf(writer, name(1), "SELECT apples FROM fruit"),
    ...sessionOf(writer, name(2), "SELECT pears FROM fruit"),
    ...[start(name(3)), operation(1, "SELECT plums FROM fruit")].map((body) => writer.append(name(3), body)),
  ];
  const oldHead = headOf(writer);
  writer.wait(2 * hourMs);
  const young = [
    ...[operation(2, "SELECT quinces FROM fruit"), sessionEnd].map((body) => writer.append(name(3), body)),
    ...sessionOf(writer, name(4), "SELECT cherries FROM fruit"),
  ];
  return { writer, old, oldHead, young, head: headOf(writer) };
}

const older = { ageMs: 2 * hourMs, bytes: null };

for (const [which, open] of Object.entries(stores)) {
  test(`${which}: what is too old goes, with its words; what is left follows from where it ended`, async (t) => {
    const { store, reopen } = await open(t);
    const { writer, old, oldHead, young, head } = twoTimes();
    await store.store({ entries: [...old, ...young], heads: [oldHead, head], faults: [] });
    assert.deepEqual(await store.remove(older), { entries: 8, sessions: 2 });
    assert.deepEqual(await store.remove(older), { entries: 0, sessions: 0 });
    assert.deepEqual((await store.sessions({})).sessions.map(({ id }) => id).sort(), [name(3), name(4)]);
    assert.equal(await store.session(name(1)), null);
    assert.deepEqual(await foundBy(store, "apples"), []);
    assert.deepEqual(await foundBy(store, "plums"), []);
    assert.deepEqual(await foundBy(store, "quinces"), [name(3)]);
    assert.deepEqual(await foundBy(store, "target:orders-db"), [name(3), name(4)]);

    // The one that went on: cut, with its facts, and its first entry holds the link of the last one that is gone.
    const cut = await store.session(name(3));
    assert.deepEqual([cut?.first, cut?.entries, cut?.operations, cut?.target], [2, 4, 2, "orders-db"]);
    const [first] = await store.entries(name(3));
    assert.equal(first?.seq, 2);
    assert.equal(young[0]?.entry.sessionPrevious.equals(old.at(-1)?.link as Buffer), true);
    const tails = await store.tailsOf([1, 2, 3].map((at) => ({ agent: "host-1", session: name(at) })));
    assert.deepEqual(
      tails.map((tail) => tail?.link.toString("hex")),
      [old[2], old[5], young[1]].map((entry) => entry?.link.toString("hex")),
    );

    // All of it again, as after an agent lost its cursor: nothing comes back, and nothing is wrong.
    await store.store({ entries: [...old, ...young], heads: [oldHead, head], faults: [] });
    await store.advance();
    assert.equal(await store.session(name(1)), null);
    const next = sessionOf(writer, name(5), "SELECT figs FROM fruit");
    await store.close();
    const again = await reopen();
    await again.store({ entries: next, heads: [headOf(writer)], faults: [] });
    await again.advance();
    const [agent] = await again.agents();
    assert.deepEqual(
      [agent?.size, agent?.signed, agent?.removed, agent?.missing, agent?.broken],
      [16, 16, 8, null, null],
    );
    assert.deepEqual(await again.faults(), []);
  });

  test(`${which}: a session that goes on after all of it is gone goes on from there`, async (t) => {
    const { store } = await open(t);
    const writer = new Writer("host-1", Date.now() - 3 * hourMs);
    const old = sessionOf(writer, name(1), "SELECT apples FROM fruit");
    await store.store({ entries: old, heads: [headOf(writer)], faults: [] });
    await store.remove(older);
    const late = writer.append(name(1), operation(2, "SELECT figs FROM fruit"));
    // The writer's session began anew at its end; the store is told what an agent would have said.
    const entry = { ...late.entry, seq: 3, sessionPrevious: old[2]?.link as Buffer };
    await store.store(batch([{ ...late, entry }]));
    const row = await store.session(name(1));
    assert.deepEqual([row?.first, row?.entries, row?.operations], [3, 4, 1]);
    assert.deepEqual((await store.entries(name(1))).length, 1);
  });

  test(`${which}: above the size the oldest of all agents go, and no more than that`, async (t) => {
    const { store } = await open(t);
    const writers = [new Writer("host-1", 2_000_000), new Writer("host-2", 1_000_000)];
    const lists = writers.map((writer, at) =>
      Array.from({ length: 20 }, (_, n) => sessionOf(writer, name(100 * at + n), `SELECT ${n} FROM fruit`)).flat(),
    );
    const sizes = lists.map((list) => list.reduce((sum, { payload }) => sum + payload.length, 0));
    const [first = 0, second = 0] = sizes;
    await store.store({ entries: lists.flat(), heads: writers.map(headOf), faults: [] });
    const removed = await store.remove({ ageMs: null, bytes: first + second / 2 });
    const [one, two] = await store.agents();
    assert.equal(one?.removed, 0);
    assert.ok(removed.entries >= 30 && removed.entries <= 32, String(removed.entries));
    assert.equal(two?.removed, removed.entries);
    assert.deepEqual(await store.remove({ ageMs: null, bytes: first + second / 2 }), { entries: 0, sessions: 0 });
    await store.remove({ ageMs: null, bytes: 0 });
    assert.deepEqual((await store.sessions({})).sessions, []);
  });

  test(`${which}: what no head covers, what comes behind a gap, and what is broken stays`, async (t) => {
    const { store } = await open(t);
    const [unsigned, gap, broken] = ["host-1", "host-2", "host-3"].map((agent) => twoTimes(agent));
    assert.ok(unsigned && gap && broken);
    await store.store({ entries: unsigned.old, heads: [], faults: [] });
    await store.store({ entries: gap.old.slice(3), heads: [gap.oldHead], faults: [] });
    await store.store({ entries: broken.old, heads: [{ ...broken.oldHead, link: "00".repeat(32) }], faults: [] });
    assert.deepEqual(await store.remove({ ageMs: hourMs, bytes: 0 }), { entries: 0, sessions: 0 });
    assert.equal((await store.sessions({})).sessions.length, 8);
  });
}

/** Back to the tables that there were before sign-ins stood in the store, and before there was retention. */
const withoutSignIns = "DROP TABLE page_sessions; DROP TABLE page_once;";
const withoutRetention = `ALTER TABLE agents DROP COLUMN removed; ALTER TABLE agents DROP COLUMN removed_link;
  ALTER TABLE agents DROP COLUMN bytes; ALTER TABLE sessions DROP COLUMN first; DROP TABLE removed;`;
const before: Readonly<Record<string, readonly [string, string]>> = {
  sqlite: [
    `${withoutSignIns} PRAGMA user_version = 2;`,
    `${withoutSignIns} ${withoutRetention} DROP INDEX found_session; CREATE INDEX found_at ON found (at);
     PRAGMA user_version = 1;`,
  ],
  postgres: [
    `${withoutSignIns} DELETE FROM weir_schema WHERE version > 2`,
    `${withoutSignIns} ${withoutRetention} DROP INDEX documents_session; DELETE FROM weir_schema WHERE version > 1`,
  ],
};
const schemaOf: Readonly<Record<string, string>> = {
  sqlite: `SELECT m.name || ' ' || c.name || ' ' || c.type || ' ' || coalesce(c.dflt_value, '') AS line
    FROM sqlite_master m, pragma_table_info(m.name) c WHERE m.name NOT LIKE 'documents%'
    UNION SELECT name FROM sqlite_master WHERE type = 'index' ORDER BY 1`,
  postgres: `SELECT table_name || ' ' || column_name || ' ' || data_type || ' ' || coalesce(column_default, '') AS line
    FROM information_schema.columns WHERE table_schema = 'public'
    UNION SELECT indexdef FROM pg_indexes WHERE schemaname = 'public' ORDER BY 1`,
};

for (const [which, open] of Object.entries(stores))
  for (const [at, sql] of (before[which] ?? []).entries())
    test(`${which}: a store of version ${2 - at} is taken over as it stands, by whoever starts`, async (t) => {
      const { store, reopen, sql: ask } = await open(t);
      const { old, oldHead, young, head } = twoTimes();
      await store.store({ entries: [...old, ...young], heads: [oldHead, head], faults: [] });
      await store.putRevocation({ identity: "ada", version: 7, message: "{}" });
      await store.close();
      const fresh = await ask(schemaOf[which] ?? "");
      await ask(sql);
      assert.notDeepEqual(await ask(schemaOf[which] ?? ""), fresh);
      // Controllers side by side start at the same time; of SQLite there is one.
      const all = await Promise.all(which === "sqlite" ? [reopen()] : [reopen(), reopen(), reopen()]);
      assert.deepEqual(await ask(schemaOf[which] ?? ""), fresh);
      for (const one of all.slice(1)) await one.close();
      const [taken] = all as [Store];
      assert.equal((await taken.revocations())[0]?.version, 7);
      const person = { subject: "ada", issuer: "i", groups: [], name: "Ada", sid: null };
      await taken.signIns.addSession({ key: "k", person, atMs: 1, seenMs: 1 });
      assert.deepEqual((await taken.signIns.session("k"))?.person, person);
      const bytes = [...old, ...young].reduce((sum, { payload }) => sum + payload.length, 0);
      assert.deepEqual(await taken.remove({ ageMs: null, bytes }), { entries: 0, sessions: 0 });
      assert.deepEqual(await taken.remove({ ageMs: null, bytes: bytes - 1 }), { entries: 1, sessions: 0 });
      assert.deepEqual(await taken.remove(older), { entries: 7, sessions: 2 });
      assert.deepEqual(await foundBy(taken, "fruit"), [name(3), name(4)]);
      await taken.close();
    });

for (const [which, open] of Object.entries(stores))
  test(`${which}: a store of a later version is left alone`, async (t) => {
    const { store, reopen, sql } = await open(t);
    await store.close();
    await sql(which === "sqlite" ? "PRAGMA user_version = 99" : "INSERT INTO weir_schema VALUES (99)");
    await assert.rejects(async () => reopen(), { code: "WEIR_CONFIG_INVALID", message: /later version of Weir/ });
  });
