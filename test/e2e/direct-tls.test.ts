/** libpq 17 as psycopg brings it: TLS from the first byte, and a server that loses its TLS. */
import assert from "node:assert/strict";
import { execFile } from "node:child_process";
import { resolve } from "node:path";
import { test } from "node:test";
import { clientEnvironment, startPostgres } from "../support/postgres.ts";
import { startRelay } from "../support/relay.ts";

const python = resolve(import.meta.dirname, "../../build/venv/bin/python");

const policy = (port: number): string => `apiVersion: weir/v1
targets:
  db: { protocol: postgres, hosts: [127.0.0.1, db.internal], ports: [${port}], tls: { verify: first-use } }
`;

function connect(env: NodeJS.ProcessEnv, parameters: string): Promise<string> {
  const script = `import psycopg
try:
    with psycopg.connect("${parameters}") as c: print(c.execute("SELECT 6 * 7").fetchone(), c.info.encoding, c.pgconn.ssl_in_use)
except psycopg.Error as e: print(e)`;
  return new Promise((done) => {
    execFile(python, ["-c", script], { env }, (_error, stdout, stderr) => done(stdout + stderr));
  });
}

test("sslnegotiation=direct: TLS from the first byte, with ALPN postgresql", async () => {
  const server = await startPostgres();
  const relay = await startRelay({ server, policy: policy(server.port) });
  try {
    const env = clientEnvironment(server, { PGPORT: String(relay.port) });
    assert.equal(await connect(env, "sslmode=require sslnegotiation=direct"), "(42,) utf-8 True\n");
    assert.equal(await connect(env, "sslmode=require sslnegotiation=postgres"), "(42,) utf-8 True\n");
    assert.equal(await connect(env, "gssencmode=prefer sslmode=prefer"), "(42,) utf-8 True\n");
  } finally {
    await relay.close();
    await server.stop();
  }
});

test("a server that was seen with TLS and offers none any more is refused, whatever the client wants", async () => {
  const hba = ["host all all all scram-sha-256"];
  let server = await startPostgres({ hba });
  const relay = await startRelay({ server, policy: policy(server.port) });
  try {
    const env = clientEnvironment(server, { PGPORT: String(relay.port) });
    assert.match(await connect(env, "sslmode=disable"), /\(42,\)/);
    await server.stop();
    server = await startPostgres({ hba, tls: false, port: server.port });
    for (const mode of ["disable", "prefer"]) {
      assert.match(await connect(env, `sslmode=${mode}`), /was seen with TLS first, and now offers none/, mode);
    }
  } finally {
    await relay.close();
    await server.stop();
  }
});
