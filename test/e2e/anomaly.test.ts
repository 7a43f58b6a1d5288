/** Unusual is held: an insider who dumps a table, and a token that looks into one database after the other. */
import assert from "node:assert/strict";
import { after, before, describe, test } from "node:test";
import { startTestAgent, type TestAgent } from "../support/agent.ts";
import { makeNamespacePair, type NamespacePair } from "../support/namespace.ts";
import { clientEnvironment, type Postgres, startPostgres } from "../support/postgres.ts";

const policy = `apiVersion: weir/v1
targets:
  orders: { protocol: postgres, hosts: [10.231.0.0/16], ports: [5432], tls: { verify: first-use } }
rules:
  - name: unusual
    match: { target: orders, when: "op.anomaly > 3.0" }
    verdict: hold
    timeout: 1s
    reason: This is not what you usually do.
`;

describe("anomalies", { skip: process.getuid?.() === 0 ? false : "needs root" }, () => {
  let net: NamespacePair;
  let server: Postgres;
  let agent: TestAgent;

  before(async () => {
    net = await makeNamespacePair("odd");
    server = await startPostgres({ namespace: net.b.name, host: net.b.address4, port: 5432 });
    await server.admin("CREATE TABLE customers AS SELECT i FROM generate_series(1, 30000) i");
    for (let at = 1; at <= 6; at += 1) await server.admin(`CREATE DATABASE db${at}`);
  });

  after(async () => {
    await agent?.remove();
    await server?.stop();
    await net?.remove();
  });

  const fresh = async (): Promise<void> => {
    await agent?.remove();
    agent = await startTestAgent({ namespace: net.a, policy });
    const daily = "SELECT i FROM customers WHERE i <= 10;\n".repeat(30);
    const { code, stderr } = await psql([], daily);
    assert.equal(code, 0, stderr);
  };
  const psql = (words: readonly string[], input?: string) =>
    agent.run(["psql", "-X", "-q", "-v", "ON_ERROR_STOP=1", ...words], {
      env: clientEnvironment(server),
      ...(input === undefined ? {} : { input }),
    });

  test("an insider dumps a table: the next read is held, the page and the record say why", async () => {
    await fresh();
    assert.equal((await psql(["-c", "SELECT i FROM customers"])).code, 0);
    const { code, stderr } = await psql(["-c", "SELECT count(*) FROM customers"]);
    assert.notEqual(code, 0);
    assert.match(stderr, /held for approval \w+ by rule "unusual"/);
    const { stdout } = await agent.weir(["export"]);
    assert.match(stdout, /anomaly \d+\.\d: .*It read 30000 rows; usual are about 10\./);
    const { stdout: approvals } = await agent.weir(["approvals", "ls", "--json"]);
    assert.match(approvals, /Unusual: It read 30000 rows/);
  });

  test("a token looks into one database after the other: held from the fourth on, also after a restart", async () => {
    await fresh();
    await agent.stop();
    await agent.restart();
    const seen: boolean[] = [];
    for (let at = 1; at <= 6; at += 1) {
      const { code } = await psql(["-d", `db${at}`, "-c", "SELECT 1"]);
      seen.push(code === 0);
    }
    assert.deepEqual(seen.slice(0, 3), [true, true, true]);
    assert.equal(seen.at(-1), false);
  });
});
