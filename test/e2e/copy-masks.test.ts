/**
 * COPY … TO STDOUT under column masks, in each form and format: the masked column is masked, the rest is as the server
 * sends it, and what cannot be known is denied. No raw value reaches the client.
 */
import assert from "node:assert/strict";
import { after, before, describe, test } from "node:test";
import { type GovernedPostgres, startGovernedPostgres } from "../support/governed-postgres.ts";
import { clientEnvironment, type Postgres } from "../support/postgres.ts";
import { startRelay } from "../support/relay.ts";

const ssn = "536-90-4399";
const other = "219-09-9998";
const masked = "*******4399";

const policy = (port: number): string => `apiVersion: weir/v1
targets:
  db: { protocol: postgres, hosts: [127.0.0.1, db.internal], ports: [${port}], tls: { verify: first-use } }
rules:
  - name: pii
    match: { target: db }
    mask:
      - { column: "people.ssn", with: last4 }
      - { column: "*.secret_number", with: redact }
`;

describe("COPY under column masks", () => {
  let governed: GovernedPostgres;
  let server: Postgres;
  let env: NodeJS.ProcessEnv;

  before(async () => {
    governed = await startGovernedPostgres(
      `
      CREATE TABLE people (gone text, id int, ssn text, twice int GENERATED ALWAYS AS (id * 2) STORED, note text, secret_number int);
      ALTER TABLE people DROP COLUMN gone;
      INSERT INTO people VALUES (1, '${ssn}', DEFAULT, 'a,"b"|\\x'||E'\\tc\\nd\\\\', 777123), (2, NULL, DEFAULT, '', 888456);
      CREATE VIEW over_people AS SELECT id, ssn AS harmless FROM people;
      CREATE SCHEMA "Odd.one";
      CREATE TABLE "Odd.one".people ("a ""b" int, ssn text);
      INSERT INTO "Odd.one".people VALUES (1, '${ssn}');
      CREATE TABLE plain (ssn_of text, id int); INSERT INTO plain VALUES ('open', 1);
      CREATE SCHEMA family;
      CREATE TABLE family.people (id int, ssn text) PARTITION BY RANGE (id);
      CREATE TABLE family.one PARTITION OF family.people FOR VALUES FROM (0) TO (10);
      CREATE TABLE family.heirs (more int) INHERITS (people);
      INSERT INTO family.people VALUES (1, '${ssn}');
      INSERT INTO family.heirs (id, ssn, more) VALUES (3, '${other}', 4);
      CREATE VIEW family.one_view AS SELECT * FROM family.one`,
      policy,
    );
    ({ server, env } = governed);
  });

  after(() => governed?.stop());

  function clean(output: string): void {
    for (const raw of [ssn, "536-90", other, "777123", "888456", "\0\x0b\xdb\x93", "\0\x0d\x8e\x88"])
      assert.ok(!output.includes(raw), `${raw} came through\n${output}`);
  }

  async function run(...commands: string[]): Promise<string> {
    const output = await governed.psql(commands);
    clean(output);
    return output;
  }

  /** The output is the server's own, but for the masked values; of a number it is what stands for NULL. */
  async function same(sql: string, nothing = "\\N", hidden = masked): Promise<void> {
    const direct = await governed.psql([sql], clientEnvironment(server));
    assert.doesNotMatch(direct, /ERROR/, sql);
    const expected = direct.replaceAll(ssn, hidden).replaceAll(other, hidden.replace("4399", "9998"));
    assert.equal(
      await run(sql),
      expected.replaceAll(/"?(777123|888456)"?/g, () => nothing),
      sql,
    );
  }

  async function denied(...commands: string[]): Promise<void> {
    assert.match(await run(...commands), /42501: the result cannot be masked: rule "pii" masks/, commands.join("\n"));
  }

  async function py(script: string): Promise<string> {
    const output = await governed.python(script);
    clean(output);
    return output;
  }

  test("text: with and without a column list, a query, HEADER, DELIMITER, NULL", async () => {
    for (const sql of [
      "COPY people TO STDOUT",
      'COPY public."people" (id, ssn, note, secret_number) TO STDOUT',
      "COPY (SELECT id, ssn AS free, note, secret_number, 5 FROM people ORDER BY id) TO STDOUT",
      "COPY people TO STDOUT (HEADER, DELIMITER '|')",
      "COPY people TO STDOUT (DELIMITER '~')",
      "/* COPY x */ copy people (ssn) to stdout with delimiter ' '",
      'COPY "Odd.one".people TO STDOUT (HEADER true)',
      "COPY plain TO STDOUT",
      "COPY (VALUES (1)) TO STDOUT",
      "COPY people (id, note) TO STDOUT",
    ])
      await same(sql);
    await same("COPY (SELECT ssn, id FROM ONLY people) TO STDOUT (DELIMITER '*')", "\\N", "#######4399");
    assert.equal(await run("COPY people (id, ssn) TO STDOUT (NULL 'none')"), `1\t${masked}\n2\t****\n`);
  });

  test("CSV: HEADER, DELIMITER, QUOTE, ESCAPE, NULL, FORCE_QUOTE", async () => {
    for (const [options, nothing = ""] of [
      [""],
      [", HEADER"],
      [", DELIMITER ';', QUOTE '''', ESCAPE '\\'"],
      [", FORCE_QUOTE *, NULL 'none'", "none"],
      [", QUOTE '|', ESCAPE 'a', HEADER on"],
      [", DELIMITER E'\\t'"],
    ] as const) {
      await same(`COPY people TO STDOUT (FORMAT csv${options})`, nothing);
      await same(`COPY (SELECT note, ssn, id FROM people) TO STDOUT (FORMAT csv${options})`, nothing);
    }
    await same("COPY people TO STDOUT CSV HEADER DELIMITER ';'", "");
    await same('COPY "Odd.one".people TO STDOUT (FORMAT csv, HEADER)');
    // The sign stands in the part that the mask leaves clear.
    assert.equal(await run("COPY people (id, ssn) TO STDOUT (FORMAT csv, DELIMITER '4')"), `14"********399"\n24\n`);
  });

  test("binary: in place where the type holds it, NULL where not", async () => {
    const rows = `def rows(sql, *types):
    with c.cursor().copy(sql) as k:
        k.set_types(types); return list(k.rows())
`;
    const list = ["int4", "text", "text", "int4"].map((type) => `"${type}"`).join(", ");
    assert.equal(
      await py(`${rows}print(rows("COPY people TO STDOUT (FORMAT binary)", ${list}) == [
  (1, "${masked}", ${JSON.stringify('a,"b"|\\x\tc\nd\\')}, None), (2, None, "", None)])
print(rows("COPY (SELECT secret_number, ssn FROM ONLY people) TO STDOUT BINARY", "int4", "text"))
print(rows("COPY (SELECT ssn FROM people WHERE false) TO STDOUT BINARY", "text"))`),
      `True\n[(None, '${masked}'), (None, None)]\n[]\n`,
    );
  });

  test("what has no plain origin is denied, in one text with others too", async () => {
    for (const sql of [
      "COPY (SELECT upper(ssn) FROM people) TO STDOUT",
      "COPY (SELECT people FROM people) TO STDOUT (FORMAT csv)",
      "COPY (SELECT ssn FROM people UNION ALL SELECT 'x') TO STDOUT (FORMAT binary)",
      "COPY (SELECT harmless FROM over_people) TO STDOUT",
      "COPY people (ssn) TO STDOUT; COPY people (id) TO STDOUT",
      "COPY plain TO STDOUT; COPY people TO STDOUT",
      "SET client_encoding = 'SJIS'; COPY people (ssn) TO STDOUT",
    ])
      await denied(sql);
    await server.admin("UPDATE people SET note = NULL WHERE id = 2");
    await denied("SET client_encoding = 'SJIS'", "COPY people TO STDOUT");
    await denied("COPY people TO STDOUT (ENCODING 'BIG5')");
    await denied("COPY people TO STDOUT (FORMAT csv, QUOTE E'\\x01')");
  });

  test("other tables by the same name, partitions and heirs, views of them", async () => {
    const shadowed = `1\t${masked}\n`;
    assert.equal(await run('SET search_path = "Odd.one"', "COPY people TO STDOUT"), shadowed);
    assert.equal(
      await run(
        "CREATE TEMP TABLE people (ssn text, id int)",
        `INSERT INTO people VALUES ('${ssn}', 1)`,
        "COPY people TO STDOUT",
      ),
      `${masked}\t1\n`,
    );
    assert.equal(await run("COPY family.one TO STDOUT"), shadowed);
    assert.equal(await run("COPY (SELECT * FROM family.people) TO STDOUT"), shadowed);
    assert.match(await run("SELECT * FROM family.one"), /\*{7}4399/);
    assert.equal(await run("COPY family.heirs (id, ssn, more) TO STDOUT"), "3\t*******9998\t4\n");
    await denied("COPY (SELECT * FROM family.one_view) TO STDOUT");
  });

  test("definitions in the same transaction", async () => {
    const then = (sql: string, copy = "COPY people TO STDOUT"): string[] => ["BEGIN", sql, copy, "ROLLBACK"];
    await denied(...then("ALTER TABLE people ALTER twice DROP EXPRESSION"));
    await denied(...then("ALTER TABLE people ADD free text", "COPY people TO STDOUT"));
    await denied(...then("CREATE TABLE fresh AS SELECT 1 AS a", "COPY (SELECT * FROM fresh, people) TO STDOUT"));
    // Where it may be renamed, it is masked by the name that others see until then.
    const open = await startRelay({
      server,
      policy: policy(server.port).replaceAll(/(last4|redact) }/g, "$1, copied: allow }"),
    });
    const own = async (...commands: string[]): Promise<string> => {
      const output = await governed.psql(commands, { ...env, PGPORT: String(open.port) });
      clean(output);
      return output;
    };
    try {
      assert.match(await own(...then("ALTER TABLE people RENAME ssn TO free")), /^1\t\*{7}4399\t/);
      assert.match(await own(...then("ALTER TABLE people RENAME TO free", "COPY free TO STDOUT")), /^1\t\*{7}4399\t/);
      assert.equal(
        await governed.psql(["BEGIN", "CREATE TABLE x AS SELECT ssn FROM people"], {
          ...env,
          PGPORT: String(open.port),
        }),
        "",
      );
    } finally {
      await open.close();
    }
  });

  test("another session makes the table anew with its columns in another order", async () => {
    await server.admin(`CREATE SCHEMA race; CREATE TABLE race.people (id text, ssn text)`);
    const output = await py(`import itertools
stop = False
def remake():
    with psycopg.connect("port=${server.port}", autocommit=True) as d:
        for order in itertools.cycle([("id", "ssn"), ("ssn", "id"), ("ssn", "id", "twice")]):
            if stop: return
            columns = ", ".join(f"{one} text" if one != "twice" else "twice text GENERATED ALWAYS AS (id) STORED" for one in order)
            d.execute(f"BEGIN; DROP TABLE race.people; CREATE TABLE race.people ({columns}); INSERT INTO race.people (id, ssn) VALUES ('1', '${ssn}'); COMMIT")
thread = threading.Thread(target=remake); thread.start()
seen, through = set(), set()
try:
    # Most turns are denied, as the table was another a moment before: on until each form has come through.
    for turn in range(3000):
        if turn >= 60 and len(through) == 3: break
        sql = ["COPY race.people TO STDOUT", "COPY (SELECT * FROM race.people) TO STDOUT (FORMAT csv)", "COPY race.people TO STDOUT (FORMAT binary)"][turn % 3]
        try:
            with c.cursor().copy(sql) as k:
                for row in k:
                    seen.add(bytes(row).replace(b"\\0", b""))
                    if b"4399" in bytes(row): through.add(turn % 3)
        except psycopg.Error as e: seen.add(e.diag.sqlstate)
finally:
    stop = True; thread.join()
print(len(through) == 3, seen)`);
    assert.match(output, /^True/, output);
  });

  test("another session puts a table of the same name before it in search_path, and takes it away again", async () => {
    await server.admin(`CREATE SCHEMA early; CREATE SCHEMA late; CREATE TABLE late.people (id text, ssn text);
      INSERT INTO late.people VALUES ('1', '${ssn}');
      CREATE TABLE early.hidden (ssn text, id text); INSERT INTO early.hidden VALUES ('${ssn}', '1')`);
    const output = await py(`stop = False
def flip():
    with psycopg.connect("port=${server.port}", autocommit=True) as d:
        while not stop:
            d.execute("ALTER TABLE early.hidden RENAME TO people")
            d.execute("ALTER TABLE early.people RENAME TO hidden")
thread = threading.Thread(target=flip); thread.start()
seen = set()
def copy(query, turn):
    try:
        with c.cursor().copy(query) as k:
            for row in k: seen.add(bytes(row))
    except psycopg.Error as e: seen.add(e.diag.sqlstate)
try:
    c.execute("SET search_path = early, late")
    for turn in range(3000):
        if turn >= 120 and len(seen) > 1: break
        if turn % 4 == 3: c.execute("BEGIN")
        copy("COPY people TO STDOUT" if turn % 2 else "COPY (SELECT * FROM people) TO STDOUT", turn)
        if turn % 4 == 3: c.execute("ROLLBACK")
        p = c.pgconn.exec_params(b"COPY people TO STDOUT", [])
        while p.status == psycopg.pq.ExecStatus.COPY_OUT:
            n, data = c.pgconn.get_copy_data(0)
            if n < 0: p = c.pgconn.get_result()
            else: seen.add(bytes(data))
        while c.pgconn.get_result(): pass
finally:
    stop = True; thread.join()
print(seen <= {b"1\\t${masked}\\n", b"${masked}\\t1\\n", "42501"}, len(seen) > 1, seen)`);
    assert.match(output, /^True True/, output);
  });

  test("the extended protocol, errors, and a session that goes on", async () => {
    const output = await py(`p = c.pgconn
def copy(sql):
    result = p.exec_params(sql, [])
    if result.error_message: return result.error_message.decode().splitlines()[0]
    rows = []
    while True:
        n, data = p.get_copy_data(0)
        if n < 0: break
        rows.append(bytes(data))
    return rows, p.get_result().status == psycopg.pq.ExecStatus.COMMAND_OK, p.get_result()
print(copy(b"COPY people (ssn) TO STDOUT"))
print(copy(b"COPY nowhere TO STDOUT"))
print(copy(b"COPY (SELECT nothing FROM people) TO STDOUT (FORMAT csv)"))
print(copy(b"COPY people (id) TO STDOUT"))
for sql in ["COPY nowhere TO STDOUT"]:
    try: c.execute(sql)
    except psycopg.Error as e: print(e.diag.sqlstate, e.diag.message_primary, e.diag.statement_position)
with psycopg.connect() as d:
    try: d.execute("COPY nowhere TO STDOUT")
    except psycopg.Error: print(d.info.transaction_status.name)
print(c.execute("SELECT 5").fetchone())`);
    assert.equal(
      output,
      `([b'${masked}\\n', b'\\\\N\\n'], True, None)
ERROR:  relation "***" does not exist
ERROR:  column "***" does not exist
([b'1\\n', b'2\\n'], True, None)
42P01 relation "***" does not exist None
INERROR
(5,)
`,
    );
  });

  test("rows above 4 MiB: masked as they stream", async () => {
    const big = "(SELECT id, repeat('x,\"', 2000000) AS a, ssn, repeat(ssn, 700000) AS free FROM people WHERE id = 1)";
    await denied(`COPY ${big} TO STDOUT`);
    await server.admin(`CREATE TABLE big_people AS SELECT 1 AS id, repeat('x,"', 2000000) AS a, '${ssn}' AS ssn, repeat('${ssn}', 700000) AS secret_number;
      ALTER TABLE big_people RENAME TO people_big; CREATE SCHEMA large; ALTER TABLE people_big SET SCHEMA large; ALTER TABLE large.people_big RENAME TO people`);
    for (const options of ["", " (FORMAT csv, HEADER)", " (FORMAT csv, QUOTE '''', ESCAPE '|', FORCE_QUOTE *)"]) {
      const output = await run(`COPY large.people TO STDOUT${options}`);
      assert.ok(output.includes(masked));
      assert.equal(output.match(/\*/g)?.length, 7 + 700000 * ssn.length);
    }
    assert.match(
      await py(`n = 0; d = b""
with c.cursor().copy("COPY large.people TO STDOUT (FORMAT binary)") as k:
    for b in k: d += bytes(b)
print(d.count(b"*"), d.count(b"5"), len(d))`),
      /^7700011 0 13700\d+\n/,
    );
  });

  test("a statement that would store a masked column elsewhere never reaches the server", async () => {
    await server.admin("CREATE TABLE notes (id int, t text); CREATE TABLE untold (id int, ssn text)");
    for (const sql of [
      "CREATE TABLE laundered AS SELECT ssn FROM people",
      "CREATE TABLE laundered AS TABLE people",
      "CREATE TEMP TABLE people AS SELECT * FROM people",
      "SELECT ssn AS x INTO laundered FROM people",
      "SELECT 1; CREATE TABLE laundered AS SELECT left(ssn, 5) FROM people; SELECT 2",
      "INSERT INTO notes (t) SELECT ssn FROM people",
      "INSERT INTO notes SELECT 1, p::text FROM people p",
      "INSERT INTO notes VALUES (1, (SELECT max(ssn) FROM people))",
      "INSERT INTO notes SELECT id, harmless FROM over_people",
      "INSERT INTO notes SELECT id, ssn FROM family.one",
      "WITH q AS (SELECT ssn AS a FROM people) INSERT INTO notes (t) SELECT a FROM q",
      "WITH q AS (SELECT * FROM people), i AS (INSERT INTO notes (t) SELECT q.ssn FROM q) SELECT 1",
      "WITH gone AS (DELETE FROM people WHERE false RETURNING *) INSERT INTO notes SELECT id, ssn FROM gone",
      "EXPLAIN ANALYZE INSERT INTO notes (t) SELECT ssn FROM people",
      "PREPARE l AS INSERT INTO notes (t) SELECT ssn FROM people",
      "UPDATE people SET note = ssn",
      "UPDATE people SET (note, ssn) = (SELECT ssn, ssn FROM people LIMIT 1)",
      "UPDATE notes SET t = p.ssn FROM people p WHERE p.id = notes.id",
      "UPDATE untold SET ssn = (SELECT ssn FROM people LIMIT 1)",
      "INSERT INTO people (id) VALUES (1) ON CONFLICT DO UPDATE SET note = people.ssn",
      "MERGE INTO notes n USING people p ON n.id = p.id WHEN NOT MATCHED THEN INSERT VALUES (p.id, p.ssn)",
      "DO $$ BEGIN INSERT INTO notes (t) SELECT ssn FROM people; END $$",
      "SELECT set_config('my.own', ssn, false) IS NULL FROM people",
      "SELECT 1 FROM people WHERE set_config('my.own', ssn, false) <> ''",
      "ALTER TABLE people RENAME ssn TO free",
      "ALTER TABLE public.people RENAME TO free",
      "ALTER TABLE people ALTER note TYPE text USING ssn",
      "ALTER TABLE people ADD free text GENERATED ALWAYS AS (ssn) STORED",
      "COPY (SELECT ssn FROM people) TO '/tmp/never'",
      "COPY people TO PROGRAM 'cat >/tmp/never'",
      "SELECT lo_from_bytea(0, ssn::bytea) FROM people",
      "INSERT INTO notes SELECT 1, query_to_xml('select ssn from people', true, true, '')::text",
      "INSERT INTO notes SELECT 1, most_common_vals::text FROM pg_stats",
      "DO $$ DECLARE s text; BEGIN SELECT ssn INTO s FROM people; PERFORM set_config('my.own', s, false); END $$",
      "COPY (INSERT INTO notes (t) SELECT ssn FROM people RETURNING 1) TO STDOUT",
    ])
      assert.match(await run(sql), /42501: the statement was not sent: rule "pii" masks people.ssn/, sql);
    assert.match(
      await run("PREPARE q AS SELECT ssn FROM people", "CREATE TABLE laundered AS EXECUTE q"),
      /42501: the statement was not sent/,
    );
    assert.match(
      await py(`for p in [True, False]:
    try: c.execute("INSERT INTO notes SELECT %s, ssn FROM people", (1,), prepare=p)
    except psycopg.Error as e: print(e.diag.sqlstate, c.info.transaction_status.name)
with psycopg.connect() as d:
    d.execute("INSERT INTO notes SELECT 5, 'x'")
    try: d.execute("INSERT INTO notes SELECT %s, ssn FROM people", (1,))
    except psycopg.Error as e: print(d.info.transaction_status.name)
with psycopg.connect(autocommit=True) as d:
    try:
        with d.pipeline():
            d.execute("SELECT 1/0"); d.execute("INSERT INTO notes SELECT 6, ssn FROM people"); d.execute("INSERT INTO notes VALUES (7)")
    except psycopg.Error as e: print(e.diag.sqlstate)
    print(d.execute("SELECT 5").fetchone())`),
      /^42501 IDLE\n42501 IDLE\nINERROR\n22012\n\(5,\)\n/,
    );
    await server.admin("DO $$ BEGIN IF EXISTS (SELECT FROM notes) THEN RAISE 'something was stored'; END IF; END $$");
  });

  test("what copies no masked column is not held up", async () => {
    for (const sql of [
      "BEGIN; CREATE TABLE made AS SELECT id, note FROM people WHERE ssn IS NOT NULL; INSERT INTO made SELECT * FROM made; ROLLBACK",
      "INSERT INTO untold (ssn) VALUES ('x')",
      "INSERT INTO notes SELECT id, ssn FROM untold",
      "BEGIN; UPDATE people SET ssn = trim(ssn), note = 'x' WHERE ssn LIKE '5%'; ROLLBACK",
      "CREATE TABLE keyed (id int PRIMARY KEY, ssn text)",
      "INSERT INTO keyed VALUES (1, 'x') ON CONFLICT (id) DO UPDATE SET ssn = excluded.ssn",
      "EXPLAIN INSERT INTO notes (t) SELECT ssn FROM people",
      "CREATE MATERIALIZED VIEW stored AS SELECT ssn AS harmless FROM people",
    ])
      assert.doesNotMatch(await run(sql), /ERROR/, sql);
    await denied("SELECT harmless FROM stored");
  });
});
