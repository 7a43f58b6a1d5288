/** psql of the system through the agent: every sslmode, with and without a credential, against TLS and SCRAM. */
import assert from "node:assert/strict";
import { execFile } from "node:child_process";
import { after, before, test } from "node:test";
import { clientEnvironment, type Postgres, startPostgres } from "../../../support/postgres.ts";
import { startProxy, type TestProxy } from "./proxy.ts";

let server: Postgres;
const proxies: TestProxy[] = [];

before(async () => {
  server = await startPostgres({
    hba: [
      "hostssl all md5user all md5",
      "hostssl all clear all password",
      "hostssl all trusted all trust",
      "hostssl all all all scram-sha-256",
    ],
  });
  await server.admin(`SET password_encryption = md5; CREATE USER md5user PASSWORD 'md5 secret'; RESET password_encryption;
    CREATE USER clear PASSWORD 'clear secret'; CREATE USER trusted;`);
});
after(async () => {
  for (const proxy of proxies) await proxy.close();
  await server.stop();
});

async function proxied(options: Partial<Parameters<typeof startProxy>[0]> = {}): Promise<TestProxy> {
  const proxy = await startProxy({ server, ...options });
  proxies.push(proxy);
  return proxy;
}

function psql(proxy: TestProxy, environment: NodeJS.ProcessEnv): Promise<string> {
  const env = clientEnvironment(
    { ...server, host: proxy.host, port: proxy.port },
    { PGSSLROOTCERT: proxy.caPath, ...environment },
  );
  return new Promise((resolve) => {
    execFile(
      "psql",
      ["-XAtc", "SELECT current_user, ssl FROM pg_stat_ssl WHERE pid = pg_backend_pid()"],
      { env, timeout: 120_000 },
      (_error, stdout, stderr) => resolve((stdout + stderr).trim()),
    );
  });
}

test("no configuration: every sslmode with the client's own password", async () => {
  const proxy = await proxied();
  for (const PGSSLMODE of ["disable", "prefer", "require", "verify-full"])
    assert.equal(await psql(proxy, { PGSSLMODE }), "app|t", PGSSLMODE);
  assert.match(await psql(proxy, { PGPASSWORD: "wrong" }), /password authentication failed for user "app"/);
  assert.match(await psql(proxy, { PGCHANNELBINDING: "require" }), /channel binding required/);
});

test("the other methods of a server: MD5, cleartext, trust", async () => {
  const proxy = await proxied();
  assert.equal(await psql(proxy, { PGUSER: "md5user", PGPASSWORD: "md5 secret" }), "md5user|t");
  assert.equal(await psql(proxy, { PGUSER: "clear", PGPASSWORD: "clear secret" }), "clear|t");
  assert.equal(await psql(proxy, { PGUSER: "trusted", PGPASSWORD: "" }), "trusted|t");
});

test("a credential with a client's secret: SCRAM on both legs, channel binding too", async () => {
  const proxy = await proxied({ credential: { user: "app", password: server.password, clientPassword: "local" } });
  for (const PGSSLMODE of ["disable", "require", "verify-full"])
    assert.equal(await psql(proxy, { PGSSLMODE, PGUSER: "ann", PGPASSWORD: "local" }), "app|t", PGSSLMODE);
  assert.equal(await psql(proxy, { PGUSER: "ann", PGPASSWORD: "local", PGCHANNELBINDING: "require" }), "app|t");
  const refused = await psql(proxy, { PGUSER: "ann", PGPASSWORD: "guess" });
  assert.match(refused, /password authentication failed for user "ann"/);
});

test("a credential alone: the client needs none", async () => {
  const proxy = await proxied({ credential: { user: "app", password: server.password, clientPassword: null } });
  assert.equal(await psql(proxy, { PGUSER: "ann", PGPASSWORD: "anything" }), "app|t");
});

test("a certificate that is not accepted is told in the protocol, inside TLS and in plain", async () => {
  const proxy = await proxied({ tls: "{ verify: full }" });
  for (const PGSSLMODE of ["require", "disable"])
    assert.match(await psql(proxy, { PGSSLMODE }), /FATAL: .*certificate/i, PGSSLMODE);
  const trusting = await proxied({ tls: `{ verify: full, ca: ${server.caPath} }` });
  assert.equal(await psql(trusting, { PGSSLMODE: "verify-full" }), "app|t");
});

test("a server that is down is told in the protocol", async () => {
  const proxy = await startProxy({ server: { host: "127.0.0.1", port: 1 } });
  proxies.push(proxy);
  for (const PGSSLMODE of ["disable", "require"])
    assert.match(await psql(proxy, { PGSSLMODE }), /FATAL: .*ECONNREFUSED/);
});
