/**
 * A value that the policy masks is found nowhere: not in what the client prints, not below the state directory; on
 * each way out of PostgreSQL that masks of others are known to miss.
 */
import assert from "node:assert/strict";
import { execFile } from "node:child_process";
import { after, before, describe, test } from "node:test";
import { promisify } from "node:util";
import { filesWith } from "../support/agent.ts";
import { type GovernedPostgres, startGovernedPostgres } from "../support/governed-postgres.ts";
import { clientEnvironment, type Postgres } from "../support/postgres.ts";
import type { Relay } from "../support/relay.ts";

const card = "4111111111111111";
const spaced = "4111 1111 1111 1111";
const ssn = "536-90-4399";

const policy = (port: number): string => `apiVersion: weir/v1
targets:
  db: { protocol: postgres, hosts: [127.0.0.1, db.internal], ports: [${port}], tls: { verify: first-use } }
rules:
  - name: pii
    match: { target: db }
    mask:
      - { column: "customers.ssn", with: last4 }
      - { column: "*.secret_number", with: redact }
      - { detector: all, with: redact }
    record: result
`;

describe("masks", () => {
  let governed: GovernedPostgres;
  let server: Postgres;
  let relay: Relay;

  before(async () => {
    governed = await startGovernedPostgres(
      `
      CREATE TABLE customers (id int PRIMARY KEY, name text, ssn text UNIQUE CHECK (ssn <> 'x'), note text, secret_number int);
      INSERT INTO customers VALUES (1, 'Ada', '${ssn}', 'card ${spaced}', 1777123999), (2, 'Grace', '219-09-9998', 'none', 888456);
      CREATE TABLE cards (id int, t text, v varchar(30), c char(30), n numeric, i8 bigint, f float8, j json, jb jsonb, a text[], ai bigint[], b bytea, x xml);
      INSERT INTO cards VALUES (1, '${card}', '${card}', '${card}', ${card}, ${card}, ${card}, '{"c": "${card}", "n": ${card}}', '{"c": "${card}", "n": ${card}}', ARRAY['a','${card}'], ARRAY[1,${card}], '${card}', '<c>${card}</c>');
      CREATE VIEW v AS SELECT id, ssn AS other_name FROM customers;
      CREATE VIEW harmless AS SELECT id, name FROM customers`,
      policy,
    );
    ({ server, relay } = governed);
  });

  after(() => governed?.stop());

  /** What the client printed, errors too; no raw value may be in it. */
  async function psql(sql: string): Promise<string> {
    const output = await governed.psql([sql]);
    clean(output, sql);
    return output;
  }

  async function py(script: string): Promise<string> {
    const output = await governed.python(script);
    clean(output, script);
    return output;
  }

  function clean(output: string, what: string): void {
    const printed = output.replaceAll(what, "");
    for (const raw of [card, spaced, "536-90-4", "536904399", "1777123999"]) {
      assert.ok(!printed.includes(raw), `${raw} came through: ${what}\n${output}`);
    }
  }

  test("canary: without Weir the same client prints the raw values", async () => {
    const { stdout } = await promisify(execFile)("psql", ["-Xc", "SELECT ssn, note, c FROM customers, cards"], {
      env: clientEnvironment(server),
    });
    for (const raw of [ssn, spaced, card]) assert.ok(stdout.includes(raw));
    assert.throws(() => clean(stdout, ""));
  });

  test("by column: the name and an alias", async () => {
    assert.match(await psql("SELECT ssn FROM customers ORDER BY id"), /\*{7}4399/);
    assert.match(await psql("SELECT ssn AS harmless, name FROM customers ORDER BY id"), /\*{7}4399 \| Ada/);
  });

  test("a type that cannot hold the mask becomes NULL", async () => {
    assert.match(
      await psql("SELECT coalesce(name, '') AS name, secret_number FROM customers WHERE id = 1"),
      /Ada {2}\| +\n/,
    );
  });

  test("what has no origin is denied with the rule and the column", async () => {
    for (const sql of [
      "SELECT upper(ssn) FROM customers",
      "SELECT ssn || '' FROM customers",
      "SELECT ssn::varchar(20) FROM customers",
      "SELECT row_to_json(c) FROM customers c",
      "SELECT c FROM customers c",
      "SELECT c::text FROM customers c",
      "SELECT max(ssn) FROM customers",
      "SELECT string_agg(ssn, ',') FROM customers",
      "SELECT encode(ssn::bytea, 'base64') FROM customers",
      "SELECT a FROM (SELECT ssn || '' AS a FROM customers) q",
      "WITH q(a) AS (SELECT * FROM customers) SELECT concat(a) FROM q",
      "SELECT ssn FROM customers UNION ALL SELECT 'x'",
      "SELECT other_name FROM v",
      "SELECT to_jsonb(customers) FROM customers",
      "SELECT array_agg(ssn) FROM customers",
      "SELECT reverse(ssn) FROM customers",
    ]) {
      const output = await psql(sql);
      assert.match(output, /42501: .*masks|42501: .*masked/, `${sql}\n${output}`);
    }
  });

  test("what cannot hold it passes", async () => {
    assert.match(await psql("SELECT count(*) FROM customers"), /2/);
    assert.match(await psql("SELECT name FROM harmless ORDER BY id"), /Ada/);
    assert.match(await psql("SELECT tableoid, ctid, xmin, name FROM customers ORDER BY id"), /\(0,\d+\).*Ada/);
    assert.match(await psql("SELECT upper(name) FROM customers ORDER BY id"), /ADA/);
  });

  test("by detector: every type, in text", async () => {
    const output = await psql("SELECT * FROM cards");
    assert.match(output, /\*{16}/);
    assert.match(output, /1 row/);
    for (const column of ["t", "v", "c", "n", "i8", "f", "j", "jb", "a", "ai", "b", "x"])
      await psql(`SELECT ${column} FROM cards`);
    assert.match(await psql("SELECT jb->>'c' FROM cards"), /\*{16}/);
  });

  test("by detector: every type, in binary", async () => {
    for (const column of ["t", "v", "c", "n", "i8", "f", "j", "jb", "a", "ai"]) {
      await py(`print(c.cursor(binary=True).execute("SELECT ${column} FROM cards").fetchall())`);
    }
    const raw = await py(
      `print(c.cursor(binary=True, row_factory=psycopg.rows.tuple_row).execute("SELECT b FROM cards").fetchall())`.replace(
        "psycopg.rows.tuple_row",
        "__import__('psycopg.rows').rows.tuple_row",
      ),
    );
    assert.doesNotMatch(raw, /34313131/);
  });

  test("a cached prepared statement is masked each time", async () => {
    const output = await py(
      `for i in range(7): print(c.execute("SELECT ssn, note FROM customers WHERE id = %s", (1,), prepare=True).fetchall())`,
    );
    assert.equal(output.match(/\*{7}4399/g)?.length, 7);
  });

  test("cursors, and statements prepared in SQL", async () => {
    assert.match(
      await py(
        'with c.transaction():\n    k = c.cursor("k"); k.execute("SELECT ssn FROM customers ORDER BY id"); print(k.fetchall())',
      ),
      /\*{7}4399/,
    );
    await py('c.execute("PREPARE q AS SELECT ssn, note FROM customers"); print(c.execute("EXECUTE q").fetchall())');
    await psql("BEGIN; DECLARE k CURSOR FOR SELECT ssn FROM customers; FETCH ALL FROM k; COMMIT");
  });

  test("RETURNING", async () => {
    await psql("UPDATE customers SET name = name WHERE id = 1 RETURNING ssn, note");
    await psql("UPDATE customers SET name = name WHERE id = 1 RETURNING *");
    await psql("INSERT INTO cards (t) SELECT note FROM customers RETURNING t");
  });

  test("COPY in each format", async () => {
    for (const format of ["text", "csv", "binary"]) {
      await psql(`COPY customers TO STDOUT (FORMAT ${format})`);
      await psql(`COPY customers (id, ssn, note) TO STDOUT (FORMAT ${format})`);
      await psql(`COPY (SELECT id, ssn FROM customers) TO STDOUT (FORMAT ${format})`);
      await psql(`COPY cards (id, t, v, c, n, i8, f, j, jb, a, ai, x) TO STDOUT (FORMAT ${format})`);
      await psql(`COPY (SELECT * FROM cards) TO STDOUT (FORMAT ${format})`);
    }
    assert.match(await psql("COPY customers (id, ssn, name) TO STDOUT"), /1\t\*{7}4399\tAda/);
    assert.match(await psql("COPY customers (id, name) TO STDOUT"), /1\tAda/);
  });

  test("a value of 70 MB streams by under masks, and what is in it is masked", async () => {
    const sql = `SELECT repeat('x', 35000000) || ' ${card} ' || repeat('y', 35000000) AS big, note FROM customers WHERE id = 1`;
    const script = `r = c.execute("""${sql}""").fetchone(); print(len(r[0]), r[0].count('*'), r[0].count('1'), r[1]); print(c.execute("SELECT 5").fetchone())`;
    assert.equal(await py(script), "70000018 16 0 card *******************\n(5,)\n");
    const copied = `n = 0; d = b""
with c.cursor().copy("""COPY (${sql}) TO STDOUT""") as k:
    for b in k: n += len(b); d = bytes(b)
print(n, d.count(b"*"), d.count(b"1"))`;
    assert.equal(await py(copied), "70000044 35 0\n");
    const binary = `try: c.execute("SELECT repeat('x', 20000000)::bytea || note::bytea FROM customers").fetchone()
except psycopg.Error as e: print(e.diag.sqlstate)
print(c.execute("SELECT 6").fetchone())`;
    assert.equal(await py(binary), "42501\n(6,)\n");
  });

  test("error and notice texts", async () => {
    await psql("SELECT ssn::int FROM customers");
    await psql(`INSERT INTO customers VALUES (9, 'x', '${ssn}')`.replace(ssn, "219-09-9998"));
    await psql("UPDATE customers SET ssn = (SELECT ssn FROM customers WHERE id = 1) WHERE id = 2");
    await psql("UPDATE customers SET name = NULL, id = NULL WHERE id = 1");
    await psql("SELECT note::int FROM customers");
    await psql(
      "DO $$ DECLARE s text; BEGIN SELECT ssn INTO s FROM customers WHERE id = 1; RAISE NOTICE 'it is %', s; RAISE EXCEPTION 'really %', s; END $$",
    );
  });

  test("values that come back by other ways: parameters, names looked up by a value, raised warnings", async () => {
    await psql("SELECT 1 FROM customers WHERE id = 1 AND set_config('application_name', ssn, false) IS NULL");
    for (const sql of [
      "SELECT 1 FROM customers WHERE ssn::regclass IS NULL",
      "SELECT 1 FROM customers WHERE has_table_privilege(ssn, 'select')",
      "SELECT nextval(ssn::text) IS NULL FROM customers",
      "DO $$ DECLARE s text; BEGIN SELECT ssn INTO s FROM customers WHERE id = 1; RAISE WARNING 'it is %', s; END $$",
      "DO $$ DECLARE s text; BEGIN SELECT ssn INTO s FROM customers WHERE id = 1; RAISE EXCEPTION 'it is %', s USING ERRCODE = '22012'; END $$",
    ]) {
      await psql(sql);
    }
  });

  test("values in escapes, in bytea, in numbers and beside each other", async () => {
    const key = `ghp_${"a1B2".repeat(10)}`;
    await server.admin(`CREATE TABLE odd (id int, j json, jb jsonb, t text, b bytea, ba bytea[], r int8range, many text);
      INSERT INTO odd VALUES (1, '{"k": "a\\n${key}", "m": "x\\njohn@example.com"}', '{"k": "a\\n${key}", "m": "x\\njohn@example.com"}', E'a\t${key}',
        '${card}', ARRAY['${card}'::bytea], int8range(${card}, ${card} + 5), '${Array(40).fill(spaced).join(" ")}')`);
    const hidden = async (output: Promise<string>): Promise<void> => {
      const text = await output;
      for (const raw of [key.slice(0, 20), "john@example", Buffer.from(card).toString("hex"), "1111 4111"])
        assert.ok(!text.includes(raw), text);
    };
    for (const column of ["j", "jb", "t", "b", "ba", "r", "many", "row(b, t)"]) {
      await hidden(psql(`SELECT ${column} FROM odd`));
      await hidden(psql(`COPY (SELECT ${column} FROM odd) TO STDOUT`));
      await hidden(psql(`COPY (SELECT ${column} FROM odd) TO STDOUT (FORMAT csv)`));
    }
    await hidden(psql("SET bytea_output = escape; SELECT b FROM odd"));
    assert.match(
      await py('print(c.cursor(binary=True).execute("SELECT jb FROM odd").fetchone()[0]["m"])'),
      /^x\n9{16}\n/,
    );
    assert.doesNotMatch(await psql("SELECT f FROM cards WHERE id = 1"), /4\.1111/);
    await hidden(py('print(c.cursor(binary=True).execute("SELECT r FROM odd").fetchone())'));
  });

  test("a multi-byte character at the border of a mask does not break the row", async () => {
    await server.admin("UPDATE customers SET ssn = '©bcdefgh1234' WHERE id = 2");
    assert.match(
      await py(
        'c.execute("SET client_encoding = LATIN1"); print(c.execute("SELECT ssn FROM customers WHERE id = 2").fetchone())',
      ),
      /1234/,
    );
    await server.admin("UPDATE customers SET ssn = '219-09-9998' WHERE id = 2");
  });

  test("NOTIFY", async () => {
    const output = await py(
      `c.execute("LISTEN k"); c.execute("SELECT pg_notify('k', note) FROM customers"); print([n.payload for n in c.notifies(timeout=0.5)])`,
    );
    assert.match(output, /card|not/);
  });

  test("literals and parameters of statements are not recorded", async () => {
    await psql(`SELECT '${card}' AS literal`);
    await psql(`UPDATE customers SET ssn = '123-45-6789' WHERE id = 2`);
    await py(
      `c.execute("SELECT %s::text", ("${spaced}",))\nc.execute("UPDATE customers SET ssn = %s WHERE id = 2", ("123-45-6788",))`,
    );
    relay.recorder.flush();
    for (const raw of ["123-45-6789", "123-45-6788"]) assert.deepEqual(filesWith(relay.stateDir, raw), []);
  });

  test("a plan under `record: result` holds no literal of a masked column", async () => {
    const before = relay.entries().length;
    for (const sql of [
      "EXPLAIN SELECT id FROM customers WHERE ssn = '536-90-4399'",
      "EXPLAIN (FORMAT json) SELECT id FROM customers WHERE ssn = '536-90-4399'",
      "EXPLAIN ANALYZE SELECT id FROM customers WHERE name = E'x\\n536-90-4399\\n536-90-4399' AND ssn <> ''",
      "EXPLAIN SELECT id FROM customers WHERE note = '4111 1111 1111 1111'",
    ])
      await psql(sql);
    await psql(
      "PREPARE plain_words AS SELECT id FROM customers WHERE ssn = $1; EXPLAIN EXECUTE plain_words('536-90-4399')",
    );
    await py(
      `print(c.cursor(binary=True).execute("EXPLAIN SELECT id FROM customers WHERE ssn = %s", ("536-90-4399",)).fetchall())`,
    );
    const kept = relay
      .entries()
      .slice(before)
      .filter(({ type }) => type === "Rows");
    assert.ok(kept.length >= 6, String(kept.length));
    // The plans alone: a time stamp beside them may have four digits of anything.
    const text = JSON.stringify(kept.map(({ fields }) => fields["rows"]));
    assert.match(text, /Scan on customers/);
    for (const raw of ["536-90", "4399", "4111"]) assert.ok(!text.includes(raw), `${raw}: ${text}`);
  });

  test("no raw value is below the state directory, nor in the agent's log", () => {
    assert.ok(relay.entries().some(({ type }) => type === "Rows"));
    for (const raw of [card, spaced, ssn, "536-90", "1777123999"]) {
      assert.deepEqual(filesWith(relay.stateDir, raw), [], raw);
      assert.ok(!relay.logs.join("\n").includes(raw));
    }
    assert.ok(relay.entries().some(({ type, fields }) => type === "Result" && Number(fields["masked"]) > 0));
  });
});
