/** What becomes of open connections when another policy comes into force. */
import assert from "node:assert/strict";
import { Agent, createServer, get } from "node:http";
import type { AddressInfo } from "node:net";
import { test } from "node:test";
import pg from "pg";
import { startPostgres } from "../support/postgres.ts";
import { startRelay } from "../support/relay.ts";

const reason = /The policy has changed what this connection's target is; connect again\./;

test("a PostgreSQL session whose target has another name, or none, ends before its masks are lost", async () => {
  const server = await startPostgres();
  await server.admin("CREATE TABLE customers (ssn text); INSERT INTO customers VALUES ('536-90-4399')");
  const policy = (name: string, rest = ""): string => `apiVersion: weir/v1
targets:
  ${name}: { protocol: postgres, hosts: [127.0.0.1, db.internal${rest}], ports: [${server.port}], tls: { verify: first-use } }
rules: [{ name: pii, match: { target: ${name} }, mask: [{ column: "*.ssn", with: last4 }] }]
`;
  const relay = await startRelay({ server, policy: policy("db") });
  const login = async (): Promise<pg.Client> => {
    const { user, password, database } = server;
    const client = new pg.Client({ host: "127.0.0.1", port: relay.port, user, password, database });
    client.on("error", () => {});
    await client.connect();
    return client;
  };
  const ssn = async (client: pg.Client): Promise<unknown> =>
    (await client.query("SELECT ssn FROM customers")).rows[0].ssn;
  try {
    const first = await login();
    assert.equal(await ssn(first), "*******4399");
    relay.usePolicy(policy("db", ", 10.0.0.9"));
    assert.equal(await ssn(first), "*******4399", "other destinations do not matter");
    relay.usePolicy(policy("orders"));
    await assert.rejects(ssn(first));
    const second = await login();
    const ended = new Promise<Error>((resolve) => second.once("error", resolve));
    relay.usePolicy("apiVersion: weir/v1\n");
    assert.match((await ended).message, reason);
    const refused = relay.entries().filter(({ type }) => type === "Refused");
    assert.deepEqual(
      refused.map(({ fields }) => reason.test(String(fields["reason"]))),
      [true, true],
    );
  } finally {
    await relay.close();
    await server.stop();
  }
});

test("an HTTP client is told that the target's credential cannot be had, and the server hears nothing", async () => {
  let heard = 0;
  const origin = createServer((_, answer) => {
    heard += 1;
    answer.end("stock");
  });
  await new Promise<void>((ready) => origin.listen(0, "127.0.0.1", ready));
  const { port } = origin.address() as AddressInfo;
  const relay = await startRelay({
    server: { host: "127.0.0.1", port },
    hostname: null,
    policy: `apiVersion: weir/v1
targets: { shop: { protocol: http, hosts: [127.0.0.1], ports: [${port}], credential: { bearer: { file: /no/such } } } }
`,
  });
  try {
    const answer = await fetch(`http://127.0.0.1:${relay.port}/`, { headers: { connection: "close" } });
    assert.equal(answer.status, 403);
    assert.match(await answer.text(), /The credential file \/no\/such cannot be read: there is no such file\./);
    assert.equal(heard, 0);
  } finally {
    await relay.close();
    await new Promise((closed) => origin.close(closed));
  }
});

test("an HTTP connection that is kept alive, too", async () => {
  const origin = createServer((_, answer) => answer.end("stock"));
  await new Promise<void>((ready) => origin.listen(0, "127.0.0.1", ready));
  const { port } = origin.address() as AddressInfo;
  const policy = (name: string, verdict: string): string => `apiVersion: weir/v1
targets: { ${name}: { protocol: http, hosts: [127.0.0.1], ports: [${port}] } }
rules: [{ name: all, match: { target: ${name} }, verdict: ${verdict} }]
`;
  const relay = await startRelay({
    server: { host: "127.0.0.1", port },
    hostname: null,
    policy: policy("shop", "allow"),
  });
  const agent = new Agent({ keepAlive: true, maxSockets: 1 });
  const ask = (): Promise<[number, string]> =>
    new Promise((resolve, reject) => {
      get({ host: "127.0.0.1", port: relay.port, agent, headers: { host: `127.0.0.1:${port}` } }, (answer) => {
        let text = "";
        answer.on("data", (part) => {
          text += part;
        });
        answer.on("end", () => resolve([answer.statusCode ?? 0, text]));
      }).on("error", reject);
    });
  try {
    assert.deepEqual(await ask(), [200, "stock"]);
    const open = [...relay.sessions];
    relay.usePolicy(policy("store", "deny"));
    await Promise.all(open.map(({ done }) => done));
    const [status, text] = await ask();
    assert.equal(status, 403, text);
    assert.match(text, /all/);
  } finally {
    agent.destroy();
    await relay.close();
    await new Promise((closed) => origin.close(closed));
  }
});
