/**
 * The default policy against those who mean to get round it: every form that a destructive statement can take, as raw
 * messages on a plain connection, whole and cut in single bytes, before a real PostgreSQL that logs what reaches it.
 */
import assert from "node:assert/strict";
import { spawn } from "node:child_process";
import { mkdtempSync, readFileSync, rmSync, writeFileSync } from "node:fs";
import { connect } from "node:net";
import { tmpdir } from "node:os";
import { join, resolve } from "node:path";
import { after, before, describe, test } from "node:test";
import pg from "pg";
import { serialize } from "pg-protocol";
import { type Heard, RawClient } from "../agent/wire/postgres/raw-client.ts";
import { collect } from "../support/agent.ts";
import { clientEnvironment, type Postgres, startPostgres } from "../support/postgres.ts";
import { type Relay, startRelay } from "../support/relay.ts";

const defaults = readFileSync(resolve(import.meta.dirname, "../../policies/defaults/postgres.yaml"), "utf8");

/** `@` stands for a comment that marks the statement in the server's log. */
const denied: Readonly<Record<string, string>> = {
  drop: "DROP @ TABLE victim",
  "drop, odd case and space": "\t\r\n\fdRoP\n\n/**/@TaBlE\tvictim  ;;  ",
  "drop, nested comments": "/* a /* b */ c */ DROP /* ' */ @ TABLE -- x\n victim",
  "drop, a name in Unicode escapes": 'DROP @ TABLE U&"\\0076ictim"',
  "drop, another escape character": `DROP @ TABLE U&"!0076ictim" UESCAPE '!'`,
  "drop schema": "DROP @ SCHEMA public CASCADE",
  "drop owned": "DROP @ OWNED BY app CASCADE",
  truncate: "TRUNCATE @ victim",
  "truncate, several": "TRUNCATE @ ONLY victim, victim CASCADE",
  "delete without where": "DELETE @ FROM victim",
  "delete where true": "DELETE @ FROM victim WHERE 1 = 1",
  "delete, quoted name": 'DELETE @ FROM ONLY "public"."victim" AS "where"',
  "update without where": "UPDATE @ victim SET n = 0",
  "merge without condition": "MERGE @ INTO victim USING (VALUES (1)) v (x) ON true WHEN MATCHED THEN DELETE",
  "delete in a CTE": "WITH @ x AS (DELETE FROM victim RETURNING *) SELECT * FROM x",
  "update in a nested CTE":
    "WITH @ a AS (WITH b AS (UPDATE victim SET n = 0 RETURNING n) SELECT * FROM b) SELECT * FROM a",
  "delete behind an insert": "WITH @ x AS (DELETE FROM victim RETURNING *) INSERT INTO other SELECT n FROM x",
  "a DO block": "DO @ $x$ BEGIN DELETE FROM victim; END $x$",
  "a DO block with EXECUTE": "DO @ LANGUAGE plpgsql $a$ BEGIN EXECUTE 'DR' || 'OP TABLE victim'; END $a$",
  "a DO block as E string": "DO @ E'BEGIN EX\\105CUTE ''drop table victim''; END'",
  prepare: "PREPARE @ p AS DELETE FROM victim",
  "explain analyze": "EXPLAIN @ (ANALYZE, VERBOSE) DELETE FROM victim",
  "explain analyze, old form": "EXPLAIN ANALYZE @ UPDATE victim SET n = 0",
  "copy to a program": "COPY @ victim TO PROGRAM 'touch /tmp/weir-was-here'",
  "copy from a program": "COPY @ victim FROM PROGRAM 'echo 1'",
  "copy a query that deletes": "COPY @ (DELETE FROM victim RETURNING *) TO STDOUT",
  "copy to a file": "COPY @ victim TO '/tmp/weir-was-here'",
  "a function that hides a drop":
    "CREATE FUNCTION @ hidden() RETURNS void LANGUAGE plpgsql AS $$ BEGIN EXECUTE 'drop table victim'; END $$",
  "a function that drops": "CREATE FUNCTION @ bare() RETURNS void LANGUAGE sql AS 'DROP TABLE victim'",
  "a function that deletes":
    "CREATE FUNCTION @ bare2() RETURNS void LANGUAGE plpgsql AS $f$ BEGIN DELETE FROM victim; END $f$",
  "a function of the new form":
    "CREATE FUNCTION @ bare3() RETURNS void LANGUAGE sql BEGIN ATOMIC DELETE FROM victim; END",
  "a procedure": "CREATE PROCEDURE @ bare4() LANGUAGE sql AS E'TRUNC\\101TE victim'",
  "a rule that deletes": "CREATE RULE @ r AS ON INSERT TO other DO ALSO DELETE FROM victim",
  "dynamic SQL of XML": "SELECT @ query_to_xml('delete from victim returning 1', true, true, '')",
  "a byte order mark": "\ufeffDROP @ TABLE victim",
  "a space that is none": "DROP\u00a0@ TABLE victim",
  "alter drops a column": "ALTER @ TABLE victim DROP COLUMN n",
  "a system setting": "ALTER @ SYSTEM SET log_statement = 'none'",
};

/** Only the simple query takes several statements; the whole text is refused, its harmless part too. */
const deniedTogether: Readonly<Record<string, string>> = {
  "behind a select": "SELECT 1 @; DROP TABLE victim",
  "behind a dollar quote": "SELECT @ $a$;'$a$; DELETE FROM victim; SELECT $b$'$b$",
  "behind an E string": "SELECT @ E'\\'; SELECT 1 --'; TRUNCATE victim",
  "in a transaction": "BEGIN; DELETE @ FROM victim; COMMIT",
  "prepare and execute": "PREPARE q @ AS DELETE FROM victim; EXECUTE q",
};

/** Several steps, each of which may be refused or run: what counts is that the table is whole at the end. */
const tricks: Readonly<Record<string, readonly string[]>> = {
  "backslashes, by SET": ["SET standard_conforming_strings = off", "SELECT 'a\\'; DROP TABLE victim; --'"],
  "backslashes, by set_config": [
    "SELECT set_config('standard_conforming_strings', 'off', false)",
    "SELECT 'a\\'; DELETE FROM victim; --'",
  ],
  "backslashes, by pg_settings": [
    "UPDATE pg_settings SET setting = 'off' WHERE name = 'standard_conforming_strings'",
    "SELECT 'a\\'; DELETE FROM victim; --'",
  ],
  "backslashes, in one query": ["SET standard_conforming_strings = off; SELECT 'a\\'; DROP TABLE victim; --'"],
  "backslashes, of the role": [
    "ALTER ROLE app SET standard_conforming_strings = off",
    "ALTER DATABASE postgres SET standard_conforming_strings = off",
  ],
  "a cursor": ["BEGIN", "DECLARE c CURSOR FOR DELETE FROM victim RETURNING *", "FETCH ALL FROM c", "COMMIT"],
  "prepare, then execute": ["PREPARE late AS DELETE FROM victim", "EXECUTE late"],
  "create as execute": ["PREPARE late2 AS DELETE FROM victim RETURNING n", "CREATE TABLE got AS EXECUTE late2"],
  "a function created and called": [
    "CREATE FUNCTION kill_it() RETURNS void LANGUAGE plpgsql AS 'BEGIN DROP TABLE victim; END'",
    "SELECT kill_it()",
  ],
  "a body that is quoted twice": [
    "CREATE FUNCTION kill_2() RETURNS void LANGUAGE plpgsql AS $a$ BEGIN EXECUTE $b$DROP TABLE victim$b$; END $a$",
    "SELECT kill_2()",
  ],
  "a trigger": [
    "CREATE FUNCTION kill_3() RETURNS trigger LANGUAGE plpgsql AS 'BEGIN TRUNCATE victim; RETURN new; END'",
    "CREATE TRIGGER k BEFORE INSERT ON other FOR EACH ROW EXECUTE FUNCTION kill_3()",
    "INSERT INTO other VALUES (1)",
  ],
};

describe("the default policy cannot be got round", () => {
  let server: Postgres;
  let relay: Relay;

  before(async () => {
    server = await startPostgres({ hba: ["hostssl all all all password", "hostssl replication all all password"] });
    await server.admin(`
      CREATE TABLE victim AS SELECT n FROM generate_series(1, 3) n; CREATE TABLE other (n int)`);
    relay = await startRelay({ policy: defaults.replace("ports: [5432]", `ports: [${server.port}]`), server });
  });

  after(async () => {
    await relay?.close();
    await server?.stop();
  });

  const whole = async (): Promise<void> =>
    assert.equal(await server.admin("SELECT count(*) || ' ' || sum(n) FROM victim"), "3 6");
  const statements = () => relay.entries().flatMap(({ type, fields }) => (type === "Operation" ? [fields] : []));

  async function logIn(extra: Record<string, string> = {}): Promise<RawClient> {
    const socket = connect(relay.port, "127.0.0.1");
    socket.setNoDelay(true);
    const client = new RawClient(socket);
    client.send(serialize.startup({ user: server.user, database: server.database, ...extra }));
    const asked = await client.until((message) => message.name !== "notice" && message.name !== "parameterStatus");
    if (asked.at(-1)?.name === "error") {
      client.heard.unshift(...asked);
      return client;
    }
    client.send(serialize.password(server.password));
    client.heard.unshift(...(await client.until(({ name }) => name === "readyForQuery" || name === "error")));
    return client;
  }

  async function ask(client: RawClient, bytes: Buffer, cut: boolean): Promise<Heard[]> {
    client.heard.length = 0;
    if (cut) await drip(client, bytes);
    else client.send(bytes);
    return client.until("readyForQuery");
  }

  let count = 0;
  for (const form of ["simple", "extended"] as const) {
    for (const cut of [false, true]) {
      const texts = Object.entries(form === "simple" ? { ...denied, ...deniedTogether } : denied);
      test(`${texts.length} statements, ${form}, ${cut ? "cut in single bytes" : "whole"}`, async () => {
        const client = await logIn();
        const wrong: string[] = [];
        for (const [name, text] of texts) {
          count += 1;
          const mark = `mark-${count}-`;
          const sql = text.replace("@", `/* ${mark} */`);
          const heard = await ask(client, form === "simple" ? serialize.query(sql) : extended(sql), cut);
          const error = heard.find((message) => message.name === "error");
          if (error?.["code"] !== "42501") wrong.push(`${name}: ${error?.["code"]} ${error?.["message"]}`);
          if (server.statementLog().includes(mark)) wrong.push(`${name}: reached the server`);
          const kept = statements().find((body) => JSON.stringify(body).includes(mark));
          if (kept?.["action"] !== "deny") wrong.push(`${name}: not in the record as denied`);
        }
        assert.deepEqual(wrong, []);
        await whole();
        const heard = await ask(client, extended("SELECT n FROM victim"), cut);
        assert.equal(heard.filter((message) => message.name === "dataRow").length, 3, "the session still works");
        client.end();
      });
    }
  }

  for (const [name, steps] of Object.entries(tricks)) {
    for (const form of ["simple", "extended"] as const) {
      test(`trick: ${name}, ${form}`, async () => {
        const client = await logIn();
        for (const sql of steps) await ask(client, form === "simple" ? serialize.query(sql) : extended(sql), false);
        await whole();
        client.end();
        const next = await logIn();
        await ask(next, serialize.query("SELECT 'a\\'; DELETE FROM victim; --'"), false);
        next.end();
        await whole();
        await server.admin("ALTER ROLE app RESET ALL; ALTER DATABASE postgres RESET ALL");
      });
    }
  }

  for (const encoding of ["SJIS", "BIG5", "GBK", "GB18030", "UHC", "JOHAB"]) {
    for (const how of ["set", "startup"] as const) {
      test(`trick: client_encoding ${encoding} by ${how}, a quote behind half a character`, async () => {
        const client = await logIn(how === "startup" ? { client_encoding: encoding } : {});
        if (how === "set") await ask(client, serialize.query(`SET client_encoding TO '${encoding}'`), false);
        // In these encodings 0x5c may be the second byte of a character: one side sees an escape, the other a letter.
        for (const text of ["SELECT E'\x95\\'; DROP TABLE victim; --'", "SELECT E'\x95\\\\'; DROP TABLE victim; --'"]) {
          if (!client.closed) await ask(client, frame("Q", Buffer.from(`${text}\0`, "latin1")), false);
        }
        client.end();
        await whole();
      });
    }
  }

  for (const options of ["-c standard_conforming_strings=off", "--standard-conforming-strings=off"]) {
    test(`trick: startup options ${options}`, async () => {
      const client = await logIn({ options });
      if (!client.closed) await ask(client, serialize.query("SELECT 'a\\'; DROP TABLE victim; --'"), false);
      client.end();
      const other = await logIn({ standard_conforming_strings: "off" });
      if (!other.closed) await ask(other, serialize.query("SELECT 'a\\'; DROP TABLE victim; --'"), false);
      other.end();
      await whole();
    });
  }

  test("a FunctionCall message, which names its function by number only, is refused", async () => {
    const client = await logIn();
    const argument = (bytes: Buffer): Buffer => Buffer.concat([int32(bytes.length), bytes]);
    for (const [name, values] of [
      ["query_to_xml(text,bool,bool,text)", ["select 1", "t", "t", ""]],
      ["pg_read_file(text)", ["PG_VERSION"]],
    ] as const) {
      const oid = Number(await server.admin(`SELECT '${name}'::regprocedure::oid`));
      const body = Buffer.concat([
        int32(oid),
        int16(0),
        int16(values.length),
        ...values.map((value) => argument(Buffer.from(value))),
        int16(0),
      ]);
      const heard = await ask(client, frame("F", body), false);
      const error = heard.find((message) => message.name === "error");
      assert.equal(error?.["code"], "42501");
      assert.match(String(error?.["message"]), /denied by rule "defaults\.undecodable"/);
    }
    client.end();
    await whole();
  });

  test("a replication connection is refused with its reason", async () => {
    for (const replication of ["true", "database", "on", "1"]) {
      const client = await logIn({ replication });
      const error = client.heard.find(({ name }) => name === "error") ?? (await client.until("error")).at(-1);
      assert.match(String(error?.["message"]), /replication/i);
      client.end();
    }
  });

  test("pipelined: what stands before the denied statement keeps its result, what stands behind is skipped", async () => {
    const client = await logIn();
    const step = (sql: string): Buffer[] => [serialize.parse({ text: sql }), serialize.bind(), serialize.execute()];
    const bytes = Buffer.concat([
      ...step("SELECT 'first'"),
      ...step("DROP TABLE victim"),
      ...step("SELECT 'behind'"),
      serialize.sync(),
      ...step("SELECT 'next'"),
      serialize.sync(),
    ]);
    for (const cut of [false, true]) {
      const heard = await ask(client, bytes, cut);
      const rows = heard.filter(({ name }) => name === "dataRow").map((row) => String(row["fields"]));
      assert.deepEqual(rows, ["first"]);
      assert.equal(heard.filter(({ name }) => name === "error").length, 1);
      const next = await client.until("readyForQuery");
      assert.equal(next.filter(({ name }) => name === "dataRow").length, 1);
    }
    client.end();
    await whole();
  });

  test("a denied named statement leaves no statement and no portal to run", async () => {
    const client = await logIn();
    await ask(client, Buffer.concat([serialize.parse({ name: "s", text: "SELECT 1" }), serialize.sync()]), false);
    await ask(client, Buffer.concat([serialize.close({ type: "S", name: "s" }), serialize.sync()]), false);
    await ask(
      client,
      Buffer.concat([serialize.parse({ name: "s", text: "DELETE FROM victim" }), serialize.sync()]),
      false,
    );
    const run = Buffer.concat([
      serialize.bind({ statement: "s", portal: "p" }),
      serialize.execute({ portal: "p" }),
      serialize.sync(),
    ]);
    const heard = await ask(client, run, false);
    assert.ok(heard.some(({ name }) => name === "error"));
    assert.ok(!heard.some(({ name }) => name === "commandComplete"));
    client.end();
    await whole();
  });

  test("node-postgres with parameters and named statements is refused, and goes on", async () => {
    const client = new pg.Client({ ...login(), ssl: { rejectUnauthorized: false } });
    await client.connect();
    await assert.rejects(client.query("UPDATE victim SET n = $1", [0]), { code: "42501" });
    await assert.rejects(client.query({ name: "d", text: "DELETE FROM victim WHERE $1 OR true", values: [true] }), {
      code: "42501",
    });
    const { rows } = await client.query({ name: "good", text: "SELECT n FROM victim WHERE n = $1", values: [2] });
    assert.deepEqual(rows, [{ n: 2 }]);
    await client.end();
    await whole();
  });

  test("ordinary use passes: psql's look-ups, pg_dump, information_schema", async () => {
    const env = clientEnvironment(server, { PGHOST: "127.0.0.1", PGPORT: String(relay.port) });
    const looks = ["\\d", "\\d victim", "\\dt+", "\\df", "\\dn+", "\\du", "\\l", "\\dx", "\\di+", "\\sf now"];
    const words = [...looks, "SELECT count(*) FROM information_schema.columns", "EXPLAIN SELECT * FROM victim"];
    const ran = await collect(
      spawn("psql", ["-X", "-v", "ON_ERROR_STOP=1", ...words.flatMap((word) => ["-c", word])], { env }),
    );
    assert.equal(ran.code, 0, ran.stderr);
    const dump = await collect(spawn("pg_dump", [], { env }));
    assert.equal(dump.code, 0, dump.stderr);
    assert.match(dump.stdout, /COPY public\.victim/);
  });

  test("large objects, by functions called by number: psql writes and reads them, masked, and pg_dump takes them", async () => {
    const env = clientEnvironment(server, { PGHOST: "127.0.0.1", PGPORT: String(relay.port) });
    const dir = mkdtempSync(join(tmpdir(), "weir-lo-"));
    const run = async (...words: string[]): Promise<string> => {
      const ran = await collect(spawn(words[0] as string, words.slice(1), { env }));
      assert.equal(ran.code, 0, `${words.join(" ")}: ${ran.stdout}${ran.stderr}`);
      return ran.stdout;
    };
    try {
      const [plain, secret, out] = [join(dir, "plain"), join(dir, "secret"), join(dir, "out")];
      writeFileSync(plain, Buffer.from(Array.from({ length: 50_000 }, (_, index) => index * 7)));
      writeFileSync(secret, "paid with 4111 1111 1111 1111 in cash");
      const oids = /lo_import (\d+)\s+lo_import (\d+)/.exec(
        await run("psql", "-X", "-c", `\\lo_import ${plain}`, "-c", `\\lo_import ${secret}`),
      );
      assert.ok(oids);
      assert.equal(await server.admin(`SELECT convert_from(lo_get(${oids[2]}), 'UTF8')`), readFileSync(secret, "utf8"));
      await run("psql", "-X", "-c", `\\lo_export ${oids[1]} ${out}`);
      assert.deepEqual(readFileSync(out), readFileSync(plain));
      await run("psql", "-X", "-c", `\\lo_export ${oids[2]} ${out}`);
      assert.equal(readFileSync(out, "utf8"), "paid with ***************1111 in cash");
      const dump = await run("pg_dump", "--blobs");
      assert.ok(dump.includes(readFileSync(plain).subarray(0, 1000).toString("hex")));
      assert.ok(!dump.includes(Buffer.from("4111 1111").toString("hex")));
    } finally {
      rmSync(dir, { recursive: true, force: true });
    }
  });

  const login = () => ({
    host: "127.0.0.1",
    port: relay.port,
    user: server.user,
    password: server.password,
    database: server.database,
  });
});

function extended(sql: string): Buffer {
  return Buffer.concat([
    serialize.parse({ text: sql }),
    serialize.bind(),
    serialize.describe({ type: "P" }),
    serialize.execute(),
    serialize.sync(),
  ]);
}

/** Byte by byte, each in a turn of its own so that segments are not joined before they leave. */
async function drip(client: RawClient, bytes: Buffer): Promise<void> {
  for (let at = 0; at < bytes.length; at += 1) {
    client.send(bytes.subarray(at, at + 1));
    await new Promise((resolve) => setImmediate(resolve));
  }
}

function frame(type: string, body: Buffer): Buffer {
  return Buffer.concat([Buffer.from(type), int32(body.length + 4), body]);
}

function int32(value: number): Buffer {
  const bytes = Buffer.alloc(4);
  bytes.writeUInt32BE(value);
  return bytes;
}

function int16(value: number): Buffer {
  const bytes = Buffer.alloc(2);
  bytes.writeUInt16BE(value);
  return bytes;
}
