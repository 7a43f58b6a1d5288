/** Connections that are over count no more, however they ended: else an agent that runs for long takes no new ones. */
import assert from "node:assert/strict";
import { after, before, describe, test } from "node:test";
import { startTestAgent, type TestAgent } from "../support/agent.ts";
import { makeNamespacePair, type NamespacePair } from "../support/namespace.ts";
import { clientEnvironment, type Postgres, startPostgres } from "../support/postgres.ts";

/** 280 open files leave room for twenty connections (agent/accept/listener.ts). */
const openFiles = 280;
const most = 20;

const policy = `apiVersion: weir/v1
targets:
  db: { protocol: postgres, hosts: [10.231.0.0/16], ports: [5432], tls: { verify: first-use } }
`;

describe("many connections, one after the other", { skip: process.getuid?.() === 0 ? false : "needs root" }, () => {
  let net: NamespacePair;
  let server: Postgres;
  let agent: TestAgent;

  before(async () => {
    net = await makeNamespacePair("many");
    server = await startPostgres({ namespace: net.b.name, host: net.b.address4, port: 5432 });
    agent = await startTestAgent({ namespace: net.a, policy, wrap: ["prlimit", `--nofile=${openFiles}:${openFiles}`] });
  });
  after(async () => {
    await agent?.remove();
    await server?.stop();
    await net?.remove();
  });

  for (const sslmode of ["disable", "require"]) {
    for (const [way, script, code] of [
      ["that end in order", "SELECT 1", 0],
      ["whose client is killed", "\\! kill -9 $PPID", 137],
    ] as const) {
      test(`sslmode=${sslmode}: connections ${way}`, async () => {
        const env = clientEnvironment(server, { PGSSLMODE: sslmode });
        const again = `for i in $(seq ${most + 5}); do psql -XqAtc "$SCRIPT"; ended=$?; [ $ended = ${code} ] || exit 9; done`;
        const ran = await agent.run(["sh", "-c", again], { env: { ...env, SCRIPT: script } });
        assert.equal(ran.code, 0, ran.stderr + agent.output());
      });
    }
  }

  test("and the limit is one, when they are open at once", async () => {
    const env = clientEnvironment(server, { PGSSLMODE: "require" });
    const atOnce = `for i in $(seq ${most + 5}); do psql -XqAtc "SELECT pg_sleep(2)" & done; wait`;
    const ran = await agent.run(["sh", "-c", atOnce], { env });
    assert.match(ran.stderr, /connection to server at .* failed/);
    assert.match(agent.output(), new RegExp(`${most} connections are open, the most there can be`));
  });
});
