/** A target that is a connection pooler: pgbouncer, each transaction on any of its connections. */
import assert from "node:assert/strict";
import { execFile, spawn } from "node:child_process";
import { chmodSync, existsSync, mkdtempSync, rmSync, writeFileSync } from "node:fs";
import { connect } from "node:net";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { test } from "node:test";
import { freePort } from "../support/free-ports.ts";
import { clientEnvironment, startPostgres } from "../support/postgres.ts";
import { startRelay } from "../support/relay.ts";
import { until } from "../support/until.ts";

const skip = existsSync("/usr/sbin/pgbouncer") ? false : "there is no pgbouncer: run scripts/setup --dev";

test("column masks through a pooler, which takes no options with the startup packet", { skip }, async () => {
  const server = await startPostgres();
  await server.admin(`CREATE TABLE customers (ssn text, name text); INSERT INTO customers VALUES ('536-90-4399', 'Ada');
    CREATE VIEW v AS SELECT name, ssn AS n FROM customers`);
  const dir = mkdtempSync(join(tmpdir(), "weir-pooler-"));
  chmodSync(dir, 0o755);
  const port = await freePort();
  writeFileSync(join(dir, "users"), `"${server.user}" "${server.password}"\n`);
  const settings = [
    "[databases]",
    `* = host=${server.host} port=${server.port} user=${server.user} password=${server.password}`,
    "[pgbouncer]",
    ...["listen_addr = 127.0.0.1", `listen_port = ${port}`, "unix_socket_dir ="],
    ...["auth_type = plain", `auth_file = ${join(dir, "users")}`, "pool_mode = transaction"],
    ...["server_tls_sslmode = require", "user = postgres"],
  ];
  writeFileSync(join(dir, "settings"), `${settings.join("\n")}\n`);
  const pooler = spawn("pgbouncer", ["-q", join(dir, "settings")], { stdio: "ignore" });
  const relay = await startRelay({
    server: { host: "127.0.0.1", port },
    policy: `apiVersion: weir/v1
targets: { db: { protocol: postgres, hosts: [127.0.0.1, db.internal], ports: [${port}], tls: { verify: none } } }
rules: [{ name: pii, match: { target: db }, mask: [{ column: customers.ssn, with: last4 }] }]
`,
  });
  const env = clientEnvironment(server, { PGPORT: String(relay.port), PGSSLMODE: "prefer" });
  const psql = (...statements: string[]): Promise<string> =>
    new Promise((done) => {
      const words = statements.flatMap((statement) => ["-c", statement]);
      execFile("psql", ["-XAt", ...words], { env }, (_error, stdout, stderr) => done(stdout + stderr));
    });
  try {
    await until(() => pooler.exitCode !== null || listens(port));
    assert.equal(pooler.exitCode, null, "pgbouncer did not start");
    assert.equal(await psql("SELECT ssn, name FROM customers"), "*******4399|Ada\n");
    assert.match(await psql("SELECT n FROM v"), /masks customers\.ssn, and column "n" comes from a view over it/);
    for (const tries of [1, 2]) {
      assert.equal(await psql("COPY customers TO STDOUT (FORMAT csv)"), "*******4399,Ada\n", `try ${tries}`);
      assert.equal(
        await psql("BEGIN", "COPY (SELECT * FROM customers) TO STDOUT", "COMMIT"),
        "BEGIN\n*******4399\tAda\nCOMMIT\n",
      );
      assert.match(
        await psql("COPY nowhere TO STDOUT", "COPY customers (name) TO STDOUT"),
        /does not exist\nAda\n|Ada\n.*does not exist/,
      );
    }
    assert.match(await psql("CREATE TABLE x AS SELECT n FROM v"), /the statement was not sent: rule "pii"/);
    assert.equal(await psql("SHOW search_path"), '"$user", public\n', "nothing of it stays on a shared connection");
    assert.deepEqual(relay.logs, []);
  } finally {
    await relay.close();
    pooler.kill();
    await server.stop();
    rmSync(dir, { recursive: true, force: true });
  }
});

function listens(port: number): Promise<boolean> {
  return new Promise((told) => {
    const socket = connect(port, "127.0.0.1");
    socket.once("connect", () => told(true)).once("error", () => told(false));
    socket.once("connect", () => socket.destroy());
  });
}
