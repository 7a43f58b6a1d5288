/** An open connection whose record takes nothing new: nothing of what it asks for then reaches the server, in any protocol (HTTP/2: http2.test.ts). */
import assert from "node:assert/strict";
import { Agent, createServer, request } from "node:http";
import type { AddressInfo } from "node:net";
import { type TestContext, test } from "node:test";
import pg from "pg";
import { verifyLog } from "../../agent/record/verify.ts";
import { startPostgres } from "../support/postgres.ts";
import { type Relay, startRelay } from "../support/relay.ts";

const full = "512 MiB of the record wait for Kafka.";

async function relayTo(t: TestContext, protocol: string, port: number): Promise<Relay> {
  const relay = await startRelay({
    server: { host: "127.0.0.1", port },
    policy: `apiVersion: weir/v1
targets:
  it: { protocol: ${protocol}, hosts: [db.internal], ports: [${port}], tls: { verify: none } }
`,
  });
  t.after(() => relay.close());
  return relay;
}

/** What was written is signed for, and in order, without what was turned away. */
function mustVerify(relay: Relay): void {
  relay.recorder.flush();
  assert.equal(verifyLog(relay.stateDir).ok, true);
}

test("PostgreSQL: a statement on an idle connection, and a new connection", async (t) => {
  const server = await startPostgres({ tls: false, hba: ["host all all 127.0.0.1/32 trust"] });
  t.after(() => server.stop());
  const relay = await relayTo(t, "postgres", server.port);
  const open = async () => {
    const { user, database } = server;
    const client = new pg.Client({ host: "127.0.0.1", port: relay.port, user, database });
    client.on("error", () => {});
    t.after(() => client.end().catch(() => {}));
    await client.connect();
    return client;
  };
  const idle = await open();
  await idle.query("SELECT 'recorded'");
  relay.recorder.limit(full);
  await assert.rejects(idle.query("SELECT 'unrecorded'"), { code: "53100", message: full });
  await assert.rejects(open(), { message: full });
  await assert.rejects(idle.query("SELECT 'unrecorded'"));
  assert.deepEqual(relay.recorder.limit(null), { operations: 1, connections: 1 });
  assert.equal((await (await open()).query("SELECT 'again' AS it")).rows[0]?.it, "again");
  assert.match(server.statementLog(), /'recorded'[\s\S]*'again'/);
  assert.doesNotMatch(server.statementLog(), /unrecorded/);
  mustVerify(relay);
});

test("HTTP/1.1: a request on a connection that is kept, and a new connection", async (t) => {
  const reached: string[] = [];
  const server = createServer((question, answer) => {
    reached.push(String(question.url));
    answer.end("here");
  });
  await new Promise<void>((ready) => server.listen(0, "127.0.0.1", ready));
  t.after(() => server.close());
  const { port } = server.address() as AddressInfo;
  const relay = await relayTo(t, "http", port);
  const agent = new Agent({ keepAlive: true, maxSockets: 1 });
  t.after(() => agent.destroy());
  const ask = (path: string, by: Agent | undefined = agent): Promise<string> =>
    new Promise((done) => {
      const headers = { host: `db.internal:${port}` };
      const asked = request({ host: "127.0.0.1", port: relay.port, path, agent: by, headers }, (answer) => {
        let text = "";
        answer.on("data", (piece) => {
          text += piece;
        });
        answer.on("end", () => done(`${answer.statusCode} ${text}`));
      });
      asked.on("error", (error) => done(error.message));
      asked.end();
    });
  assert.equal(await ask("/one"), "200 here");
  relay.recorder.limit(full);
  assert.doesNotMatch(await ask("/two"), /^200/);
  assert.doesNotMatch(await ask("/three", new Agent()), /^200/);
  assert.ok(relay.logs.some((line) => line.includes(`WEIR_SPOOL_FULL: ${full}`)));
  relay.recorder.limit(null);
  assert.equal(await ask("/four"), "200 here");
  assert.deepEqual(reached, ["/one", "/four"]);
  mustVerify(relay);
});
