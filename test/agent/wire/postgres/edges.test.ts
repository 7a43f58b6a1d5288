/** What comes seldom: cancels, replication, FunctionCall, notifications, huge values, masks without a masker. */
import assert from "node:assert/strict";
import { execFile, spawn } from "node:child_process";
import { once } from "node:events";
import { type AddressInfo, connect, createServer, type Socket } from "node:net";
import { after, before, test } from "node:test";
import { serialize } from "pg-protocol";
import { clientEnvironment, type Postgres, startPostgres } from "../../../support/postgres.ts";
import { until } from "../../../support/until.ts";
import { startProxy, type TestProxy } from "./proxy.ts";
import { type Heard, logIn } from "./raw-client.ts";

const policy = `rules:
  - { name: ask-first, match: { relation: guarded, verb: delete }, verdict: hold, reason: "Needs a second pair of eyes." }
  - { name: masked, match: { relation: secrets }, mask: [ { column: "*.ssn", with: last4 } ] }
  - { name: kept, match: { relation: visible }, record: result }
`;
let server: Postgres;
let proxy: TestProxy;

before(async () => {
  server = await startPostgres();
  await server.admin("CREATE TABLE guarded (id int); CREATE TABLE visible AS SELECT 1 AS id, 'ann' AS name");
  await server.admin("CREATE TABLE secrets AS SELECT '123-45-6789' AS ssn");
  proxy = await startProxy({ server, policy });
});
after(async () => {
  await proxy.close();
  await server.stop();
});

const environment = (extra: NodeJS.ProcessEnv = {}): NodeJS.ProcessEnv =>
  clientEnvironment({ ...server, host: proxy.host, port: proxy.port }, extra);

function psql(words: string[], extra: NodeJS.ProcessEnv = {}): Promise<{ stdout: string; stderr: string }> {
  return new Promise((resolve) => {
    const options = { env: environment(extra), timeout: 120_000, maxBuffer: 1 << 28 };
    execFile("psql", ["-XAt", ...words], options, (_error, stdout, stderr) => resolve({ stdout, stderr }));
  });
}

/** psql that gets Ctrl-C when `when` says so. */
async function interrupted(sql: string, when: () => Promise<boolean>): Promise<string> {
  const child = spawn("psql", ["-XAt", "-c", sql], { env: environment() });
  let output = "";
  child.stdout.on("data", (bytes) => {
    output += bytes;
  });
  child.stderr.on("data", (bytes) => {
    output += bytes;
  });
  const gone = new Promise<void>((resolve) => child.once("close", () => resolve()));
  await until(when);
  child.kill("SIGINT");
  await gone;
  return output;
}

test("Ctrl-C cancels what runs on the server", async () => {
  const running = async (): Promise<boolean> =>
    (await server.admin(
      "SELECT count(*) FROM pg_stat_activity WHERE query = 'SELECT pg_sleep(30)' AND wait_event = 'PgSleep'",
    )) === "1";
  assert.match(await interrupted("SELECT pg_sleep(30)", running), /canceling statement due to user request/);
});

test("a server that keeps a cancel's connection open keeps neither it nor the client", async () => {
  const heard: Buffer[] = [];
  const open = new Set<Socket>();
  const silent = createServer({ allowHalfOpen: true }, (socket) => {
    open.add(socket);
    socket.on("error", () => {}).on("close", () => open.delete(socket));
    socket.on("data", (bytes) => {
      heard.push(bytes);
      // The answer to the SSLRequest.
      if (heard.length === 1) socket.write("N");
    });
  });
  await once(silent.listen(0, "127.0.0.1"), "listening");
  const relay = await startProxy({ server: { host: "127.0.0.1", port: (silent.address() as AddressInfo).port } });
  try {
    const cancel = Buffer.from("0000001004d2162e000000070000002a", "hex");
    const client = connect(relay.port, relay.host);
    client.write(cancel);
    await once(client.resume(), "close");
    assert.deepEqual(heard[1], cancel);
    // Whether anybody is there still is told to who writes.
    await until(() => {
      for (const socket of open) socket.write("?");
      return open.size === 0;
    });
  } finally {
    await relay.close();
    silent.close();
  }
});

test("Ctrl-C withdraws what is held, and the server never hears of it", async () => {
  const held = proxy.holds.length;
  const output = await interrupted("DELETE FROM guarded", async () => proxy.holds.length > held);
  assert.match(output, /held for approval approval-\d+ by rule "ask-first"/);
  assert.match(output, /canceling statement due to user request/);
  assert.ok(!server.statementLog().includes("DELETE FROM guarded"));
  assert.match(String(proxy.holds.at(-1)?.withdrawn), /cancelled/);
});

test("replication is refused unless a rule allows it", async () => {
  const { stderr } = await psql(["-d", "dbname=postgres replication=database", "-c", "IDENTIFY_SYSTEM"]);
  assert.match(stderr, /denied by rule "defaults\.replication"/);
});

test("FunctionCall is an operation of its own", async () => {
  const client = await logIn(proxy, server);
  // int4pl (177): 2 + 3, in text.
  const argument = (text: string): Buffer => Buffer.concat([Buffer.from([0, 0, 0, text.length]), Buffer.from(text)]);
  const body = Buffer.concat([
    Buffer.from([0, 0, 0, 177, 0, 0, 0, 2]),
    argument("2"),
    argument("3"),
    Buffer.from([0, 0]),
  ]);
  const head = Buffer.from([0x46, 0, 0, 0, body.length + 4]);
  client.send(Buffer.concat([head, body]), serialize.query("SELECT 1"));
  // pg-protocol knows no FunctionCallResponse, so only the record is looked at.
  await until(() => proxy.records.some(isCall));
  client.end();
});
const isCall = (body: TestProxy["records"][number]): boolean =>
  body.type === "operation" && body.operation.kind === "call" && body.operation.functions[0] === "177";

test("notifications come at any time", async () => {
  const client = await logIn(proxy, server);
  client.send(serialize.query("LISTEN news"));
  await client.until("readyForQuery");
  await server.admin("NOTIFY news, 'hello'");
  const heard: Heard[] = await client.until("notification");
  assert.equal(heard.at(-1)?.payload, "hello");
  client.end();
});

test("a value of 70 MB goes by, in rows and in COPY", async () => {
  const rows = await psql(["-c", "SELECT repeat('x', 70000000)"]);
  assert.equal(rows.stdout.length, 70_000_001);
  const copied = await psql(["-c", "COPY (SELECT repeat('x', 70000000)) TO STDOUT"]);
  assert.equal(copied.stdout.length, 70_000_001);
  assert.deepEqual(
    proxy.logs.filter((line) => line.includes("WEIR_")),
    [],
  );
});

test("a statement above the limit is an error of the statement", async () => {
  const client = await logIn(proxy, server);
  client.send(serialize.query(`SELECT '${"x".repeat(17 * 1024 * 1024)}'`), serialize.query("SELECT 1"));
  const first = await client.until("readyForQuery");
  assert.equal(first.find(({ name }) => name === "error")?.code, "54000");
  assert.equal((await client.until("readyForQuery")).length, 4);
  client.end();
});

test("a parameter of 40 MB goes up in a stream, once it is decided", async () => {
  const client = await logIn(proxy, server);
  const values = ["x".repeat(40_000_000), "end"];
  const unnamed = (text: string): Buffer[] => [
    serialize.parse({ text }),
    serialize.bind({ values }),
    serialize.execute({}),
    serialize.sync(),
  ];
  client.send(...unnamed("SELECT length($1::text)::text, $2::text, 'visible' FROM visible"));
  const heard = await client.until("readyForQuery");
  const row = heard.find(({ name }) => name === "dataRow");
  assert.deepEqual(row?.fields, ["40000000", "end", "visible"]);
  client.send(...unnamed("DELETE FROM guarded WHERE $1::text = $2::text"));
  // Asked at Bind, where its parameters are: a Parse is never held.
  await client.until("notice");
  proxy.holds.at(-1)?.decide({ decision: "denied", by: "ann", reason: "no" });
  const refused = await client.until("readyForQuery");
  assert.equal(refused.find(({ name }) => name === "error")?.code, "42501");
  client.send(serialize.query("SELECT 1"));
  assert.equal((await client.until("readyForQuery")).length, 4);
  client.end();
});

test("the rows of a result are kept where the policy asks for it", async () => {
  await psql(["-c", "SELECT id, name FROM visible"]);
  const rows = proxy.records.findLast(({ type }) => type === "rows");
  assert.deepEqual(rows?.type === "rows" ? [rows.columns, rows.rows] : null, [["id", "name"], [["1", "ann"]]]);
});

test("a mask never lets the raw value through", async () => {
  for (const words of [
    ["-c", "SELECT ssn FROM secrets"],
    ["-c", "COPY secrets TO STDOUT"],
    ["-c", "SELECT row_to_json(s) FROM secrets s"],
  ]) {
    const { stdout, stderr } = await psql(words);
    assert.ok(!(stdout + stderr).includes("123-45"), words[1]);
  }
  assert.ok(!JSON.stringify(proxy.records).includes("123-45"));
});

test("COPY of a masked column by single messages and bytes, in pipelines and blocks", async () => {
  const client = await logIn(proxy, server);
  const copied = (heard: Heard[]): string =>
    heard
      .map((message) =>
        message.name === "copyData"
          ? String(message["chunk"]).trim()
          : message.name === "error"
            ? message["code"]
            : message.name,
      )
      .join(" ");
  const whole = "copyOutResponse *******6789 copyDone commandComplete readyForQuery";
  const copy = "COPY secrets TO STDOUT";
  const one = serialize.query("SELECT 1");
  const extended = (text: string, name = ""): Buffer[] => [
    serialize.parse({ name, text }),
    serialize.bind({ statement: name }),
    serialize.execute({}),
  ];
  client.drip(Buffer.concat([serialize.query(copy), one, serialize.query(`${copy};`), one]));
  for (const expected of [whole, /^rowDescription dataRow/, whole, /^rowDescription dataRow/]) {
    const heard = copied(await client.until("readyForQuery"));
    if (typeof expected === "string") assert.equal(heard, expected);
    else assert.match(heard, expected);
  }
  client.drip(Buffer.concat([...extended(copy), serialize.sync(), ...extended(copy, "kept"), serialize.sync()]));
  for (let at = 0; at < 2; at += 1)
    assert.equal(copied(await client.until("readyForQuery")), `parseComplete bindComplete ${whole}`);
  // Prepared once, run again, in a block too.
  for (const text of ["BEGIN", copy, copy]) client.send(serialize.query(text));
  client.send(
    serialize.bind({ statement: "kept" }),
    serialize.execute({}),
    serialize.sync(),
    serialize.query("COMMIT"),
  );
  await client.until("readyForQuery");
  for (const expected of [whole, whole, `bindComplete ${whole}`, "commandComplete readyForQuery"])
    assert.equal(copied(await client.until("readyForQuery")), expected);
  // Behind another statement, in a batch or in a text, what its names mean cannot be asked.
  client.send(...extended("SELECT 1"), ...extended(copy), serialize.sync());
  assert.match(copied(await client.until("readyForQuery")), /copyOutResponse 42501 readyForQuery$/);
  client.send(serialize.parse({ text: "SELECT 1" }), serialize.query(copy));
  assert.match(copied(await client.until("readyForQuery")), /copyOutResponse 42501 readyForQuery$/);
  // What the agent prepares is not the client's.
  client.send(serialize.bind({ statement: "weir copy" }), serialize.execute({}), serialize.sync());
  assert.match(copied(await client.until("readyForQuery")), /^42501 readyForQuery$/);
  // In a failed block, and of what is not there.
  for (const text of ["BEGIN", "SELECT 1/0", copy, "ROLLBACK", "COPY nowhere TO STDOUT", copy])
    client.send(serialize.query(text));
  const states: string[] = [];
  for (let at = 0; at < 6; at += 1) states.push(copied(await client.until("readyForQuery")).split(" ")[0] as string);
  assert.deepEqual(states, ["commandComplete", "22012", "25P02", "commandComplete", "42P01", "copyOutResponse"]);
  client.end();
  assert.ok(!JSON.stringify(proxy.records).includes("123-45"));
});
