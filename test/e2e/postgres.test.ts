/**
 * The vertical cut, from the kernel to the audit log: a real agent in a network namespace, a real PostgreSQL with TLS
 * and SCRAM in another, and unmodified clients under `weir run`.
 */
import assert from "node:assert/strict";
import { execFile, spawn } from "node:child_process";
import { after, before, describe, test } from "node:test";
import { setTimeout as sleep } from "node:timers/promises";
import { promisify } from "node:util";
import { collect, filesWith, type Ran, startTestAgent, type TestAgent, weirCommand } from "../support/agent.ts";
import { makeNamespacePair, type NamespacePair } from "../support/namespace.ts";
import { clientEnvironment, type Postgres, startPostgres } from "../support/postgres.ts";
import { until } from "../support/until.ts";

const exec = promisify(execFile);

const policy = `apiVersion: weir/v1
targets:
  orders: { protocol: postgres, hosts: [10.231.0.0/16, "fd00:231::/32"], ports: [5432], tls: { verify: first-use } }
rules:
  - name: no-destructive-sql
    match: { target: orders, verb: [drop, truncate] }
    verdict: deny
    reason: Destructive statements go through the DBA team.
  - name: no-unbounded-change
    match: { target: orders, trait: no-where }
    verdict: deny
    reason: It changes every row.
  - name: salaries
    match: { target: orders, verb: update, relation: salaries }
    verdict: hold
    reason: Salaries change only when somebody has looked.
  - name: slow-approval
    match: { target: orders, verb: update, relation: slow }
    verdict: hold
    reason: Nobody will come.
    timeout: 1s
  - name: big-read
    match: { target: orders, relation: big }
    limit: { rows: 100, then: deny }
`;

describe("psql through Weir", { skip: process.getuid?.() === 0 ? false : "needs root" }, () => {
  let net: NamespacePair;
  let server: Postgres;
  let agent: TestAgent;

  before(async () => {
    net = await makeNamespacePair("e2e");
    server = await startPostgres({ namespace: net.b.name, host: net.b.address4, port: 5432 });
    await server.admin(`
      CREATE TABLE t AS SELECT i, 'row ' || i AS s FROM generate_series(1, 5) i;
      CREATE TABLE salaries (id int, amount int); INSERT INTO salaries VALUES (1, 100);
      CREATE TABLE slow (id int); CREATE TABLE victim (id int);
      CREATE TABLE big AS SELECT i FROM generate_series(1, 5000) i`);
    agent = await startTestAgent({ namespace: net.a, policy });
  });

  after(async () => {
    await agent?.remove();
    await server?.stop();
    await net?.remove();
  });

  const psql = (sql: string, env: NodeJS.ProcessEnv = {}): Promise<Ran> =>
    agent.run(["psql", "-X", "-v", "VERBOSITY=verbose", "-c", sql], { env: clientEnvironment(server, env) });
  const direct = (words: readonly string[]): Promise<{ stdout: string }> =>
    exec("nsenter", [`--net=/run/netns/${net.a.name}`, "--", ...words], {
      env: clientEnvironment(server),
      maxBuffer: 1 << 28,
    });
  const operations = async (): Promise<{ text: string; action: string }[]> => {
    const { stdout } = await agent.weir(["export"]);
    const lines = stdout
      .trim()
      .split("\n")
      .map((line) => JSON.parse(line) as { type: string; fields: Record<string, string> });
    return lines
      .filter(({ type, fields }) => type === "Operation" && fields["kind"] === "statement")
      .map(({ fields }) => ({ text: fields["text"] as string, action: fields["action"] as string }));
  };

  for (const mode of ["disable", "prefer", "require", "verify-ca"]) {
    test(`sslmode=${mode} works with no configuration`, async () => {
      const ran = await psql("SELECT 40 + 2 AS answer", { PGSSLMODE: mode });
      assert.equal(ran.code, 0, ran.stderr);
      assert.match(ran.stdout, /42/);
    });
  }

  test("sslmode=verify-full trusts Weir's authority, and the names are the server's", async () => {
    const ran = await psql("SELECT ssl FROM pg_stat_ssl WHERE pid = pg_backend_pid()", { PGSSLMODE: "verify-full" });
    assert.equal(ran.code, 0, ran.stderr);
    assert.match(ran.stdout, /^ t$/m);
  });

  test("it is intercepted: the server's log names no direct client, and the record names the process", async () => {
    const { stdout } = await agent.weir(["sessions", "ls", "--json"]);
    const sessions = JSON.parse(stdout) as { process: string; user: string; destination: string }[];
    assert.ok(sessions.length > 0);
    for (const session of sessions) {
      assert.match(session.process, /^psql\[\d+\]$/);
      assert.equal(session.destination, `${net.b.address4}:5432`);
    }
  });

  test("a wrong password is the server's own error", async () => {
    const ran = await psql("SELECT 1", { PGPASSWORD: "wrong" });
    assert.notEqual(ran.code, 0);
    assert.match(ran.stderr, /password authentication failed for user "app"/);
  });

  test("a denied statement says rule and reason, keeps the session, and never reaches the server", async () => {
    const ran = await agent.run(["psql", "-X", "-v", "VERBOSITY=verbose"], {
      env: clientEnvironment(server),
      input: "SELECT 1 AS before;\nDROP TABLE victim;\nSELECT 2 AS afterwards;\n",
    });
    assert.match(
      ran.stderr,
      /ERROR: {2}42501: denied by rule "no-destructive-sql": Destructive statements go through the DBA team\./,
    );
    assert.match(ran.stdout, /afterwards[\s\S]*2/);
    assert.doesNotMatch(server.statementLog(), /DROP TABLE victim/);
    assert.ok(
      (await operations()).some(({ text, action }) => action === "deny" && text.startsWith("DROP TABLE victim")),
    );
  });

  test("inside a transaction a denial fails the transaction, as any error does", async () => {
    const ran = await agent.run(["psql", "-X"], {
      env: clientEnvironment(server),
      input:
        "BEGIN;\nINSERT INTO slow VALUES (77);\nTRUNCATE victim;\nSELECT 1;\nCOMMIT;\nSELECT count(*) AS kept FROM slow WHERE id = 77;\n",
    });
    assert.match(ran.stderr, /denied by rule "no-destructive-sql"/);
    assert.match(ran.stderr, /current transaction is aborted/);
    assert.match(ran.stdout, /ROLLBACK/);
    assert.match(ran.stdout, /kept[\s\S]*0/);
  });

  test("a row limit lets not one row more leave", async () => {
    const ran = await psql("SELECT i FROM big ORDER BY i");
    assert.notEqual(ran.code, 0);
    assert.match(ran.stderr, /big-read/);
    assert.doesNotMatch(ran.stdout, /\b101\b/);
  });

  test("a held statement runs when it is approved, and its client is told the id", async () => {
    const { done } = agent.start(["psql", "-X", "-c", "UPDATE salaries SET amount = 200 WHERE id = 1"], {
      env: clientEnvironment(server),
    });
    const id = await pendingApproval();
    const approved = await agent.weir(["approvals", "approve", id, "--reason", "agreed"]);
    assert.equal(approved.stdout, `${id} approved\n`);
    const ran = await done;
    assert.equal(ran.code, 0, ran.stderr);
    assert.match(ran.stderr, new RegExp(`NOTICE: {2}held for approval ${id}`));
    assert.equal(await server.admin("SELECT amount FROM salaries"), "200");
    const again = await agent.weir(["approvals", "deny", id]);
    assert.equal(again.code, 1);
    assert.match(again.stderr, /already approved/);
  });

  test("a denied approval reaches the client with its reason, and nothing ran", async () => {
    const { done } = agent.start(["psql", "-X", "-c", "UPDATE salaries SET amount = 300 WHERE id = 1"], {
      env: clientEnvironment(server),
    });
    await agent.weir(["approvals", "deny", await pendingApproval(), "--reason", "not this month"]);
    const ran = await done;
    assert.equal(ran.code, 1);
    assert.match(ran.stderr, /not this month/);
    assert.equal(await server.admin("SELECT amount FROM salaries"), "200");
    assert.doesNotMatch(server.statementLog(), /amount = 300/);
  });

  test("Ctrl-C in psql withdraws a held statement", async () => {
    const { child, done } = agent.start(["psql", "-X", "-c", "UPDATE salaries SET amount = 400 WHERE id = 1"], {
      env: clientEnvironment(server),
    });
    const id = await pendingApproval();
    child.kill("SIGINT");
    await done;
    const list = JSON.parse((await agent.weir(["approvals", "ls", "--json"])).stdout) as {
      id: string;
      status: string;
    }[];
    assert.equal(list.find((approval) => approval.id === id)?.status, "withdrawn");
    assert.doesNotMatch(server.statementLog(), /amount = 400/);
  });

  test("a hold that nobody answers is denied in time", async () => {
    const ran = await psql("UPDATE slow SET id = 2 WHERE id = 1");
    assert.equal(ran.code, 1);
    assert.match(ran.stderr, /Nobody approved it in time/);
  });

  test("a running statement is cancelled by Ctrl-C as without Weir", async () => {
    const { child, done } = agent.start(["psql", "-X", "-c", "SELECT pg_sleep(60)"], {
      env: clientEnvironment(server),
    });
    await until(async () => server.statementLog().includes("pg_sleep(60)"));
    child.kill("SIGINT");
    const ran = await done;
    assert.match(ran.stderr, /canceling statement due to user request/);
  });

  test("pgbench: the same script gives the same table as direct", async () => {
    await direct(["pgbench", "-i", "-q", "-s", "1"]);
    const script = ["pgbench", "-n", "-t", "200", "-c", "1", "--random-seed=42"];
    for (const mode of ["simple", "extended", "prepared"]) {
      const sum = async (): Promise<string> =>
        server.admin("SELECT sum(abalance), sum(hashtext(a::text)) FROM pgbench_accounts a");
      await reset();
      await direct([...script, "-M", mode]);
      const wanted = await sum();
      await reset();
      const ran = await agent.run([...script, "-M", mode], { env: clientEnvironment(server) });
      assert.equal(ran.code, 0, ran.stderr);
      assert.match(ran.stdout, /number of transactions actually processed: 200\/200/);
      assert.equal(await sum(), wanted, mode);
    }
    async function reset(): Promise<void> {
      await server.admin(
        "UPDATE pgbench_accounts SET abalance = 0; UPDATE pgbench_tellers SET tbalance = 0; UPDATE pgbench_branches SET bbalance = 0",
      );
    }
  });

  test("pg_dump | psql round trip is the same as direct", async () => {
    const env = clientEnvironment(server);
    const dump = ["pg_dump", "--no-owner", "-t", "pgbench_*", "-t", "t"];
    const wanted = (await direct(dump)).stdout;
    const got = await agent.run(dump, { env });
    assert.equal(got.code, 0, got.stderr);
    assert.equal(withoutRandom(got.stdout), withoutRandom(wanted));
    await server.admin("CREATE DATABASE copied");
    const restored = await agent.run(["psql", "-X", "-q", "-v", "ON_ERROR_STOP=1", "-d", "copied"], {
      env,
      input: got.stdout,
    });
    assert.equal(restored.code, 0, restored.stderr);
    const again = await exec("nsenter", [`--net=/run/netns/${net.a.name}`, "--", ...dump, "-d", "copied"], {
      env,
      maxBuffer: 1 << 28,
    });
    assert.equal(withoutRandom(again.stdout), withoutRandom(wanted));
  });

  test("COPY of 200,000 rows, in and out, is byte for byte the same", async () => {
    const env = clientEnvironment(server);
    await server.admin(
      "CREATE TABLE wide AS SELECT i, md5(i::text) AS h, repeat('é\\', i % 7) AS odd FROM generate_series(1, 200000) i; CREATE TABLE wide2 (LIKE wide)",
    );
    const wanted = (await direct(["psql", "-Xqc", "COPY wide TO STDOUT"])).stdout;
    const got = await agent.run(["psql", "-Xqc", "COPY wide TO STDOUT"], { env });
    assert.equal(got.stdout === wanted, true, "COPY OUT differs");
    const loaded = await agent.run(["psql", "-Xqc", "COPY wide2 FROM STDIN"], { env, input: wanted });
    assert.equal(loaded.code, 0, loaded.stderr);
    assert.equal(await server.admin("SELECT count(*) FROM (SELECT * FROM wide EXCEPT SELECT * FROM wide2) d"), "0");
    assert.equal(await server.admin("SELECT count(*) FROM wide2"), "200000");
  });

  test("node-postgres and psycopg work as they are", async () => {
    const env = clientEnvironment(server, { NODE_TLS_REJECT_UNAUTHORIZED: "0", NODE_NO_WARNINGS: "1" });
    const script = `const { Client } = require("pg"); (async () => { const c = new Client({ ssl: { rejectUnauthorized: false } }); await c.connect();
      for (let i = 0; i < 3; i += 1) { const r = await c.query({ name: "q", text: "SELECT $1::int + 1 AS n", values: [i] }); console.log(r.rows[0].n); }
      await c.query("DROP TABLE victim").catch((e) => console.log(e.code, e.message)); console.log((await c.query("SELECT 7 AS n")).rows[0].n); await c.end(); })();`;
    const node = await agent.run([process.execPath, "-e", script], { env });
    assert.equal(
      node.stdout,
      '1\n2\n3\n42501 denied by rule "no-destructive-sql": Destructive statements go through the DBA team.\n7\n',
      node.stderr,
    );
    const python = `import psycopg
with psycopg.connect(autocommit=True) as c:
    for i in range(7): print(c.execute("SELECT %s::int + 1", (i,), prepare=True, binary=True).fetchone()[0])
    try: c.execute("TRUNCATE victim")
    except psycopg.errors.InsufficientPrivilege as e: print(e.diag.sqlstate)
    with c.pipeline(): print(c.execute("SELECT 8").fetchone()[0])
`;
    const py = await agent.run(["build/venv/bin/python", "-c", python], {
      env,
      cwd: new URL("../..", import.meta.url).pathname,
    });
    assert.equal(py.stdout, "1\n2\n3\n4\n5\n6\n7\n42501\n8\n", py.stderr);
  });

  test("what no target names does not leave: refused at once, over IPv4 and IPv6", async () => {
    const listener = spawn(
      "nsenter",
      [
        `--net=/run/netns/${net.b.name}`,
        "--",
        process.execPath,
        "-e",
        'require("net").createServer((s) => s.end("leaked")).listen(8080, "::")',
      ],
      { stdio: "ignore" },
    );
    try {
      await until(async () =>
        (
          await direct([
            "sh",
            "-c",
            `${process.execPath} -e 'require("net").connect(8080, "${net.b.address4}").on("data", (d) => console.log(String(d))).on("error", () => {})'`,
          ])
        ).stdout.includes("leaked"),
      );
      for (const address of [net.b.address4, net.b.address6]) {
        const ran = await agent.run([
          process.execPath,
          "-e",
          `require("net").connect(8080, "${address}").on("data", (d) => console.log(String(d))).on("error", (e) => console.log(e.code))`,
        ]);
        assert.match(ran.stdout, /^(ECONNREFUSED|EACCES|EHOSTUNREACH|EPERM)\n$/, address);
      }
    } finally {
      listener.kill();
    }
  });

  test("IPv6 to a target is governed too", async () => {
    await server.admin("SELECT 1");
    const ran = await agent.run(["psql", "-X", "-c", "SELECT 1"], {
      env: clientEnvironment(server, { PGHOST: net.b.address6 }),
    });
    // The server listens on IPv4 only: the refusal comes from Weir, which names the address it could not reach.
    assert.notEqual(ran.code, 0);
    assert.match(ran.stderr, /WEIR_UPSTREAM_UNREACHABLE/);
  });

  test("the exit code and signals of the command are its own", async () => {
    assert.equal((await agent.run(["sh", "-c", "exit 37"])).code, 37);
    const { child, done } = agent.start(["sleep", "60"]);
    await sleep(500);
    child.kill("SIGTERM");
    assert.equal((await done).signal, "SIGTERM");
  });

  test("weir run works for a caller who is not root", async () => {
    const started = spawn(
      "nsenter",
      [
        `--net=/run/netns/${net.a.name}`,
        "--",
        "setpriv",
        "--reuid=65534",
        "--regid=65534",
        "--clear-groups",
        weirCommand,
        "run",
        "--state",
        agent.stateDir,
        "--",
        "psql",
        "-X",
        "-c",
        "DROP TABLE victim",
      ],
      { env: clientEnvironment(server, { HOME: "/nonexistent" }), cwd: "/" },
    );
    const ran = await collect(started);
    assert.match(ran.stderr, /denied by rule "no-destructive-sql"/);
    const { stdout } = await agent.weir(["sessions", "ls", "--json"]);
    assert.ok((JSON.parse(stdout) as { uid: number }[]).some(({ uid }) => uid === 65534));
  });

  test("the server's log and the record hold the same statements in the same order", async () => {
    const recorded = (await operations()).filter(({ action }) => action !== "deny").map(({ text }) => text.trim());
    assert.ok(recorded.length > 1000);
    const { stdout } = await agent.weir(["verify"]);
    assert.match(stdout, /^OK: /);
    const mark = "SELECT 'mark of the log test'";
    const before = server.statementLog().length;
    await psql(mark);
    await agent.run(["psql", "-X", "-f", "-"], {
      env: clientEnvironment(server),
      input: "SELECT 1;\nSELECT 2; SELECT 3;\n\\bind x\nBEGIN;\nSELECT 4;\nDROP TABLE victim;\nROLLBACK;\n",
    });
    const logged = statementsOf(server.statementLog().slice(before));
    const all = await operations();
    const from = all.findIndex(({ text }) => text === mark);
    const same = all
      .slice(from)
      .filter(({ action }) => action !== "deny")
      .map(({ text }) => text);
    assert.deepEqual(logged, same);
    assert.ok(all.slice(from).some(({ action, text }) => action === "deny" && text.includes("DROP TABLE victim")));
  });

  test("kill -9 of the agent in mid-query: the client fails, egress stays closed, the record recovers", async () => {
    const env = clientEnvironment(server);
    const script =
      'psql -X -c "SELECT pg_sleep(45)"; echo "first $?"; sleep 3; psql -X -c "SELECT 1 AS escaped"; echo "second $?"';
    const { done } = agent.start(["sh", "-c", script], { env });
    await until(async () => server.statementLog().includes("pg_sleep(45)"));
    await agent.kill("SIGKILL");
    const ran = await done;
    assert.match(ran.stdout, /first [12]/);
    assert.match(ran.stdout, /second 2/);
    assert.doesNotMatch(ran.stdout, /escaped/);
    await agent.restart();
    const verified = await agent.weir(["verify"]);
    assert.equal(verified.code, 0, verified.stdout);
    assert.match(verified.stdout, /1 interruption of the agent visible/);
    assert.equal((await psql("SELECT 5")).code, 0);
  });

  test("the password is nowhere below the state directory", () => {
    assert.deepEqual(filesWith(agent.stateDir, server.password), []);
  });

  test("stopping leaves no rule behind", async () => {
    assert.equal(await agent.stop(), 0);
    for (const command of ["iptables-save", "ip6tables-save"]) {
      const { stdout } = await direct([command]);
      assert.doesNotMatch(stdout, /WEIR/i, command);
    }
    const { stdout: links } = await exec("sh", [
      "-c",
      "find /sys/fs -maxdepth 4 -path '*weir*' 2>/dev/null | grep -v '/weir-main' || true",
    ]);
    assert.doesNotMatch(links, new RegExp(agent.stateDir.slice(-6)));
  });

  async function pendingApproval(): Promise<string> {
    let id = "";
    await until(async () => {
      const list = JSON.parse((await agent.weir(["approvals", "ls", "--json"])).stdout) as {
        id: string;
        status: string;
      }[];
      id = list.find((approval) => approval.status === "pending")?.id ?? "";
      return id !== "";
    });
    return id;
  }
});

/** pg_dump of newer versions writes a random key in \restrict lines. */
function withoutRandom(dump: string): string {
  return dump.replace(/^\\(un)?restrict .*$/gm, "");
}

/** Statements of a log with `log_line_prefix=%a|`, without those of Weir's catalog connection. */
function statementsOf(log: string): string[] {
  const found: string[] = [];
  for (const line of log.split("\n")) {
    const match = /^([^|]*)\|LOG: {2}(?:statement|execute [^:]*): (.*)$/.exec(line);
    if (match !== null && match[1] !== "weir-catalog") found.push(match[2] as string);
  }
  return found;
}
