/** Connections that are over count no more, however they ended: else an agent that runs for long takes no new ones. */
import assert from "node:assert/strict";
import { type ChildProcess, execFile } from "node:child_process";
import { chmodSync, mkdtempSync, rmSync, writeFileSync } from "node:fs";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { after, before, describe, test } from "node:test";
import { promisify } from "node:util";
import { startNginx } from "../bench/nginx.ts";
import { stop } from "../bench/process.ts";
import { startTestAgent, type TestAgent } from "../support/agent.ts";
import { makeNamespacePair, type NamespacePair } from "../support/namespace.ts";
import { clientEnvironment, type Postgres, startPostgres } from "../support/postgres.ts";
import { until } from "../support/until.ts";

const exec = promisify(execFile);

/** 280 open files leave room for twenty connections (agent/accept/listener.ts). */
const openFiles = 280;
const most = 20;
/** More than anybody waits for. */
const fileBytes = 40_000_000;

const policy = `apiVersion: weir/v1
targets:
  db: { protocol: postgres, hosts: [10.231.0.0/16], ports: [5432], tls: { verify: first-use } }
  files: { protocol: http, hosts: [10.231.0.0/16], ports: [443], tls: { verify: first-use } }
`;
describe("many connections, one after the other", { skip: process.getuid?.() === 0 ? false : "needs root" }, () => {
  let net: NamespacePair;
  let server: Postgres;
  let files: ChildProcess | null = null;
  let dir: string;
  let agent: TestAgent;

  before(async () => {
    net = await makeNamespacePair("many");
    server = await startPostgres({ namespace: net.b.name, host: net.b.address4, port: 5432 });
    dir = mkdtempSync(join(tmpdir(), "weir-many-"));
    chmodSync(dir, 0o755);
    writeFileSync(join(dir, "file"), Buffer.alloc(fileBytes, "x"));
    files = await startNginx(net.b.name, join(dir, "nginx"), `server { listen 443 ssl http2; root ${dir}; }`);
    agent = await startTestAgent({ namespace: net.a, policy, wrap: ["prlimit", `--nofile=${openFiles}:${openFiles}`] });
  });
  after(async () => {
    await agent?.remove();
    await server?.stop();
    await stop(files);
    rmSync(dir, { recursive: true, force: true });
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

  const untilClosed = async (port: number): Promise<void> => {
    const open = async (): Promise<string> =>
      (await exec("nsenter", [`--net=/run/netns/${net.a.name}`, "ss", "-Htn", "dport", "=", `:${port}`])).stdout;
    await until(async () => (await open()) === "");
  };

  for (const sslmode of ["disable", "require"]) {
    test(`sslmode=${sslmode}: of clients that are killed in the middle of their rows nothing is left`, async () => {
      const env = clientEnvironment(server, { PGSSLMODE: sslmode });
      const rows = "SELECT repeat('x', 1000) FROM generate_series(1, 10000000)";
      const killed = `for i in $(seq 10 40); do timeout -s KILL 0.1$i psql -Xqc "COPY ($ROWS) TO STDOUT" >/dev/null; done 2>/dev/null; psql -XAtc "SELECT 1"`;
      const ran = await agent.run(["bash", "-c", killed], { env: { ...env, ROWS: rows } });
      assert.equal(ran.stdout, "1\n", ran.stderr);
      await untilClosed(5432);
    });
  }

  for (const version of ["http2", "http1.1"]) {
    test(`${version}: of clients that are killed in the middle of an answer nothing is left`, async () => {
      const url = `https://${net.b.address4}/file`;
      const killed = `for i in $(seq 10 50); do timeout -s KILL 0.0$i curl -sk --${version} -o /dev/null ${url}; done 2>/dev/null; exit 0`;
      await agent.run(["bash", "-c", killed]);
      const whole = await agent.run(["curl", "-sk", "-o", "/dev/null", "-w", "%{http_version} %{size_download}", url]);
      assert.match(whole.stdout, /^(2|1\.1) 40000000$/);
      await untilClosed(443);
    });
  }

  test("and the limit is one, when they are open at once", async () => {
    const env = clientEnvironment(server, { PGSSLMODE: "require" });
    const atOnce = `for i in $(seq ${most + 5}); do psql -XqAtc "SELECT pg_sleep(600)" & done; wait`;
    const { done } = agent.start(["sh", "-c", atOnce], { env });
    await until(() => agent.output().includes(`${most} connections are open, the most there can be`));
    let over = false;
    const ran = done.finally(() => {
      over = true;
    });
    await until(async () => {
      await server.admin("SELECT pg_terminate_backend(pid) FROM pg_stat_activity WHERE query = 'SELECT pg_sleep(600)'");
      return over;
    });
    assert.match((await ran).stderr, /connection to server at .* failed/);
  });
});
