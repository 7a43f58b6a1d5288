/** The query phase against a real server, message by message. */
import assert from "node:assert/strict";
import { after, before, test } from "node:test";
import { serialize } from "pg-protocol";
import { type Postgres, startPostgres } from "../../../support/postgres.ts";
import { until } from "../../../support/until.ts";
import { startProxy, type TestProxy } from "./proxy.ts";
import { type Heard, logIn, type RawClient } from "./raw-client.ts";

const policy = `rules:
  - { name: no-destruction, match: { verb: [drop, truncate] }, verdict: deny, reason: "Destructive." }
  - { name: ask-first, match: { relation: guarded, verb: delete }, verdict: hold, reason: "Needs a second pair of eyes." }
  - { name: few-rows, match: { relation: many }, limit: { rows: 10, then: deny } }
  - { name: some-rows, match: { relation: several }, limit: { rows: 10, then: hold } }
`;

let server: Postgres;
let proxy: TestProxy;

before(async () => {
  server = await startPostgres();
  await server.admin(`CREATE TABLE guarded (id int); INSERT INTO guarded VALUES (1), (2);
    CREATE TABLE kept (id int); CREATE TABLE many AS SELECT g AS n FROM generate_series(1, 100000) g;
    CREATE TABLE several AS SELECT g AS n FROM generate_series(1, 15) g;`);
  proxy = await startProxy({ server, policy });
});
after(async () => {
  await proxy.close();
  await server.stop();
});

async function withClient(run: (client: RawClient) => Promise<void>): Promise<void> {
  const client = await logIn(proxy, server);
  try {
    await run(client);
  } finally {
    client.end();
  }
}

const names = (messages: readonly Heard[]): string[] => messages.map(({ name }) => name as string);
const errorOf = (messages: readonly Heard[]): string => {
  const error = messages.find(({ name }) => name === "error");
  return error === undefined ? "" : `${error.code} ${error.message}`;
};
const statusOf = (messages: readonly Heard[]): unknown => messages.at(-1)?.status;
const denied = '42501 denied by rule "no-destruction": Destructive.';

test("a denied Query is answered and the session goes on", () =>
  withClient(async (client) => {
    client.send(serialize.query("DROP TABLE kept"));
    const refused = await client.until("readyForQuery");
    assert.equal(errorOf(refused), denied);
    assert.equal(statusOf(refused), "I");
    client.send(serialize.query("SELECT 1"));
    assert.deepEqual(names(await client.until("readyForQuery")), [
      "rowDescription",
      "dataRow",
      "commandComplete",
      "readyForQuery",
    ]);
  }));

test("a denial in a block fails the block, and COMMIT becomes ROLLBACK", () =>
  withClient(async (client) => {
    client.send(
      serialize.query("BEGIN"),
      serialize.query("INSERT INTO kept VALUES (1)"),
      serialize.query("DROP TABLE kept"),
    );
    await client.until("readyForQuery");
    await client.until("readyForQuery");
    const refused = await client.until("readyForQuery");
    assert.equal(errorOf(refused), denied);
    assert.equal(statusOf(refused), "E");
    client.send(serialize.query("DROP TABLE kept"));
    assert.equal(statusOf(await client.until("readyForQuery")), "E");
    client.send(serialize.query("COMMIT"));
    const [done] = await client.until("readyForQuery");
    assert.equal(done?.text, "ROLLBACK");
    assert.equal(await server.admin("SELECT count(*) FROM kept"), "0");
  }));

test("what stands before a denial in a pipeline keeps its result", () =>
  withClient(async (client) => {
    const parse = (text: string) => serialize.parse({ text });
    client.send(
      parse("SELECT 1"),
      serialize.bind({}),
      serialize.describe({ type: "P" }),
      serialize.execute({}),
      parse("DROP TABLE kept"),
      serialize.bind({}),
      serialize.execute({}),
      serialize.sync(),
      parse("SELECT 2"),
      serialize.bind({}),
      serialize.execute({}),
      serialize.sync(),
    );
    const first = await client.until("readyForQuery");
    assert.deepEqual(names(first), [
      "parseComplete",
      "bindComplete",
      "rowDescription",
      "dataRow",
      "commandComplete",
      "error",
      "readyForQuery",
    ]);
    assert.equal(errorOf(first), denied);
    assert.deepEqual(names(await client.until("readyForQuery")), [
      "parseComplete",
      "bindComplete",
      "dataRow",
      "commandComplete",
      "readyForQuery",
    ]);
    assert.ok(!server.statementLog().includes("DROP TABLE kept"));
  }));

test("a denial in an implicit transaction rolls back what the batch did before", () =>
  withClient(async (client) => {
    client.send(
      serialize.parse({ text: "INSERT INTO kept VALUES (7)" }),
      serialize.bind({}),
      serialize.execute({}),
      serialize.parse({ text: "TRUNCATE kept" }),
      serialize.bind({}),
      serialize.execute({}),
      serialize.sync(),
    );
    const heard = await client.until("readyForQuery");
    assert.equal(errorOf(heard), denied);
    assert.equal(await server.admin("SELECT count(*) FROM kept"), "0");
  }));

test("a denied Parse alone is answered here, byte by byte as well", () =>
  withClient(async (client) => {
    client.drip(
      Buffer.concat([
        serialize.parse({ name: "s", text: "DROP TABLE kept" }),
        serialize.bind({ statement: "s" }),
        serialize.execute({}),
        serialize.sync(),
      ]),
    );
    const heard = await client.until("readyForQuery");
    assert.deepEqual(names(heard), ["error", "readyForQuery"]);
    client.send(serialize.query("SELECT 1"));
    assert.equal((await client.until("readyForQuery")).length, 4);
  }));

test("EXECUTE and FETCH are decided by what stands behind the name", () =>
  withClient(async (client) => {
    client.send(serialize.query("PREPARE p AS DELETE FROM guarded"), serialize.query("DEALLOCATE p"));
    // Held already at PREPARE: the text deletes.
    const notice = await client.until("notice");
    assert.match(String(notice.at(-1)?.message), /^held for approval approval-1 by rule "ask-first"/);
    proxy.holds.at(-1)?.decide({ decision: "approved", by: "ann", reason: "" });
    await client.until("readyForQuery");
    await client.until("readyForQuery");
    client.send(serialize.query("EXECUTE nobody_knows"));
    assert.match(errorOf(await client.until("readyForQuery")), /defaults.undecodable.*unknown-prepared/);
  }));

test("a held statement waits, and what follows waits behind it", () =>
  withClient(async (client) => {
    const before = proxy.holds.length;
    client.send(serialize.query("BEGIN; DELETE FROM guarded WHERE id = 1"), serialize.query("ROLLBACK"));
    const notice = await client.until("notice");
    assert.match(String(notice.at(-1)?.message), /by rule "ask-first": Needs a second pair of eyes\.$/);
    assert.equal(proxy.holds.length, before + 1);
    assert.ok(!server.statementLog().includes("BEGIN; DELETE FROM guarded WHERE id = 1"));
    proxy.holds.at(-1)?.decide({ decision: "approved", by: "ann", reason: "fine" });
    assert.deepEqual(names(await client.until("readyForQuery")), [
      "commandComplete",
      "commandComplete",
      "readyForQuery",
    ]);
    assert.deepEqual(names(await client.until("readyForQuery")), ["commandComplete", "readyForQuery"]);
    client.send(serialize.query("DELETE FROM guarded WHERE id = 2"));
    await client.until("notice");
    proxy.holds.at(-1)?.decide({ decision: "denied", by: "bob", reason: "not today" });
    assert.equal(errorOf(await client.until("readyForQuery")), '42501 denied by rule "ask-first": not today');
    client.send(serialize.query("SELECT 1"));
    assert.equal((await client.until("readyForQuery")).length, 4);
  }));

test("a client that leaves withdraws what is held", async () => {
  const client = await logIn(proxy, server);
  client.send(serialize.query("DELETE FROM guarded"));
  await client.until("notice");
  client.end();
  await until(() => proxy.holds.at(-1)?.withdrawn !== null);
  assert.match(String(proxy.holds.at(-1)?.withdrawn), /client/);
});

test("a row limit cuts at its row, and the session goes on", () =>
  withClient(async (client) => {
    for (const start of ["", "BEGIN; "]) {
      client.send(serialize.query(`${start}SELECT n FROM many`));
      const heard = await client.until("readyForQuery");
      assert.equal(names(heard).filter((name) => name === "dataRow").length, 10);
      assert.match(errorOf(heard), /^42501 denied by rule "few-rows": .*limit: 10 rows/);
      client.send(serialize.query("SELECT 1"));
      await client.until("readyForQuery");
    }
  }));

test("a long rest behind a limit is cancelled on the server, and no later statement is", () =>
  withClient(async (client) => {
    client.send(
      serialize.query("SELECT n, repeat('x', 1000) FROM many, generate_series(1, 1000)"),
      serialize.query("SELECT 1"),
    );
    const heard = await client.until("readyForQuery");
    assert.match(errorOf(heard), /few-rows/);
    assert.equal(names(heard).filter((name) => name === "error").length, 1);
    assert.equal((await client.until("readyForQuery")).length, 4);
  }));

test("a row limit that holds goes on after the approval", () =>
  withClient(async (client) => {
    client.send(serialize.query("SELECT n FROM several"));
    const heard = await client.until("notice");
    assert.equal(names(heard).filter((name) => name === "dataRow").length, 10);
    proxy.holds.at(-1)?.decide({ decision: "approved", by: "ann", reason: "" });
    const rest = await client.until("readyForQuery");
    assert.equal(names(rest).filter((name) => name === "dataRow").length, 5);
    client.send(serialize.query("SELECT n FROM several"));
    await client.until("notice");
    proxy.holds.at(-1)?.decide({ decision: "denied", by: "ann", reason: "enough" });
    assert.match(errorOf(await client.until("readyForQuery")), /enough/);
    client.send(serialize.query("SELECT 1"));
    assert.equal((await client.until("readyForQuery")).length, 4);
  }));

test("a name keeps its old meaning when the server skipped its new one", () =>
  withClient(async (client) => {
    client.send(serialize.parse({ name: "s", text: "SELECT n FROM many" }), serialize.sync());
    await client.until("readyForQuery");
    client.send(
      serialize.parse({ text: "SELECT 1/0" }),
      serialize.bind({}),
      serialize.execute({}),
      serialize.close({ type: "S", name: "s" }),
      serialize.parse({ name: "s", text: "SELECT n FROM kept" }),
      serialize.sync(),
      serialize.bind({ statement: "s" }),
      serialize.execute({}),
      serialize.sync(),
    );
    await client.until("readyForQuery");
    const heard = await client.until("readyForQuery");
    // Still the statement with the limit, and not what the skipped Parse said.
    assert.match(errorOf(heard), /few-rows/);
  }));

test("COPY in both protocols, failing ones and data that comes too late", () =>
  withClient(async (client) => {
    client.send(
      serialize.query("COPY kept FROM STDIN"),
      serialize.copyData(Buffer.from("1\n2\n")),
      serialize.copyDone(),
    );
    assert.deepEqual(names(await client.until("readyForQuery")), [
      "copyInResponse",
      "commandComplete",
      "readyForQuery",
    ]);
    client.send(
      serialize.parse({ text: "COPY kept FROM STDIN" }),
      serialize.bind({}),
      serialize.execute({}),
      serialize.sync(),
      serialize.copyData(Buffer.from("3\n")),
      serialize.copyDone(),
      serialize.sync(),
    );
    assert.deepEqual(names(await client.until("readyForQuery")), [
      "parseComplete",
      "bindComplete",
      "copyInResponse",
      "commandComplete",
      "readyForQuery",
    ]);
    client.send(
      serialize.query("COPY nowhere FROM STDIN"),
      serialize.copyData(Buffer.from("1\n")),
      serialize.copyDone(),
    );
    assert.match(errorOf(await client.until("readyForQuery")), /42P01/);
    client.send(serialize.query("COPY kept FROM STDIN"), serialize.copyData(Buffer.from("x\n")), serialize.copyDone());
    assert.match(errorOf(await client.until("readyForQuery")), /22P02/);
    client.send(serialize.query("COPY (SELECT 1) TO STDOUT"));
    assert.deepEqual(names(await client.until("readyForQuery")), [
      "copyOutResponse",
      "copyData",
      "copyDone",
      "commandComplete",
      "readyForQuery",
    ]);
    client.send(serialize.query("DELETE FROM kept"));
    await client.until("readyForQuery");
  }));

test("portals with a row count, suspended and gone on", () =>
  withClient(async (client) => {
    client.send(
      serialize.parse({ text: "SELECT * FROM generate_series(1, 5)" }),
      serialize.bind({}),
      serialize.execute({ rows: 2 }),
      serialize.execute({ rows: 2 }),
      serialize.execute({ rows: 2 }),
      serialize.sync(),
    );
    assert.equal(names(await client.until("readyForQuery")).filter((name) => name === "dataRow").length, 5);
  }));

test("a text that may change names is answered before the next one is decided, in one batch and over many", () =>
  withClient(async (client) => {
    const unnamed = (text: string): Buffer[] => [serialize.parse({ text }), serialize.bind({}), serialize.execute({})];
    client.send(
      ...unnamed("DECLARE c CURSOR WITH HOLD FOR SELECT n FROM many"),
      ...unnamed("FETCH 20 FROM c"),
      serialize.sync(),
      serialize.query("PREPARE q AS SELECT n FROM many"),
      serialize.query("EXECUTE q"),
      serialize.bind({ statement: "q" }),
      serialize.execute({}),
      serialize.sync(),
    );
    assert.match(errorOf(await client.until("readyForQuery")), /few-rows/);
    await client.until("readyForQuery");
    assert.match(errorOf(await client.until("readyForQuery")), /few-rows/);
    assert.match(errorOf(await client.until("readyForQuery")), /few-rows/);
  }));

test("more messages than the pipeline holds", () =>
  withClient(async (client) => {
    client.send(serialize.parse({ name: "one", text: "SELECT 1" }));
    const one = Buffer.concat([serialize.bind({ statement: "one" }), serialize.execute({})]);
    client.send(Buffer.concat(Array.from({ length: 12_000 }, () => one)), serialize.sync());
    assert.equal(names(await client.until("readyForQuery")).filter((name) => name === "dataRow").length, 12_000);
  }));

test("a non-standard reading of strings cannot be judged", () =>
  withClient(async (client) => {
    client.send(serialize.query("SET standard_conforming_strings = off"), serialize.query("SELECT '\\'"));
    await client.until("readyForQuery");
    assert.match(errorOf(await client.until("readyForQuery")), /nonstandard-strings/);
  }));

test("junk after the login is a fatal error in the protocol", async () => {
  const client = await logIn(proxy, server);
  client.send(Buffer.from([0x51, 0xff, 0xff, 0xff, 0xff]));
  const heard = await client.until("readyForQuery");
  assert.match(errorOf(heard), /^08P01/);
  assert.equal(client.closed, true);
});

test("every operation is recorded before its result, and a denied one has none", () => {
  const operations = new Map<number, string>();
  for (const body of proxy.records) {
    if (body.type === "session-start") operations.clear();
    if (body.type === "operation") operations.set(body.operationId, body.verdict.action);
    if (body.type === "result") assert.notEqual(operations.get(body.operationId), undefined);
  }
  assert.deepEqual(
    proxy.logs.filter((line) => line.includes("WEIR_INTERNAL")),
    [],
  );
});
