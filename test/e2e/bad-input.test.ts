/** What people and peers do wrong: each has to end in a clear error, at once, with nothing left behind. */
import assert from "node:assert/strict";
import { execFile, spawn } from "node:child_process";
import { mkdtempSync, readFileSync, rmSync, writeFileSync } from "node:fs";
import { connect, createServer, type Server, type Socket } from "node:net";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { after, before, describe, test } from "node:test";
import { setTimeout as sleep } from "node:timers/promises";
import { promisify } from "node:util";
import pg from "pg";
import { serialize } from "pg-protocol";
import { logIn } from "../agent/wire/postgres/raw-client.ts";
import { collect, type Ran, startTestAgent, type TestAgent, weirCommand } from "../support/agent.ts";
import { makeNamespacePair, type NamespacePair } from "../support/namespace.ts";
import { clientEnvironment, type Postgres, startPostgres } from "../support/postgres.ts";
import { type Relay, startRelay } from "../support/relay.ts";
import { until } from "../support/until.ts";

const exec = promisify(execFile);
const needsRoot = process.getuid?.() === 0 ? false : "needs root";
const residentMbMax = 400;
const streamGrowthMbMax = 150;

const target = (port: number, verify = "first-use"): string => `apiVersion: weir/v1
targets:
  db: { protocol: postgres, hosts: [10.231.0.0/16, 127.0.0.1], ports: [${port}], tls: { verify: ${verify} } }
`;
const noDrop = `rules:
  - { name: no-drop, match: { target: db, verb: drop }, verdict: deny, reason: Not here. }
`;

describe("weir up with bad input", { skip: needsRoot }, () => {
  let net: NamespacePair;
  let dir: string;

  before(async () => {
    net = await makeNamespacePair("bad");
    dir = mkdtempSync(join(tmpdir(), "weir-bad-"));
  });

  after(async () => {
    await net?.remove();
    rmSync(dir, { recursive: true, force: true });
  });

  const inside = (words: readonly string[]): Promise<Ran> =>
    collect(spawn("nsenter", [`--net=/run/netns/${net.a.name}`, "--", ...words]));
  const up = (...words: string[]): Promise<Ran> =>
    inside([weirCommand, "up", "--state", join(dir, "state"), "--listen-ui", "127.0.0.1:0", ...words]);
  const file = (name: string, text: string): string => {
    const path = join(dir, name);
    writeFileSync(path, text);
    return path;
  };
  async function nothingLeft(): Promise<void> {
    for (const tool of ["iptables-save", "ip6tables-save"]) {
      const { stdout } = await inside([tool]);
      assert.doesNotMatch(stdout, /weir/i);
    }
  }

  test("an unknown key in the policy: exit 2, and where it stands", async () => {
    const path = file(
      "unknown.yaml",
      `${target(5432)}rules:\n  - name: x\n    mach: { target: db }\n    verdict: deny\n`,
    );
    const ran = await up("--policy", path);
    assert.equal(ran.code, 2, ran.stderr);
    assert.match(ran.stderr, /unknown\.yaml:6:5: Unknown key/);
    assert.match(ran.stderr, /mach/);
    await nothingLeft();
  });

  test("a policy that is no YAML, one that is empty, one that is missing", async () => {
    for (const [path, said] of [
      [file("broken.yaml", "apiVersion: weir/v1\ntargets: { a: [\n"), /broken\.yaml:\d+:\d+/],
      [file("empty.yaml", ""), /empty\.yaml/],
      [join(dir, "missing.yaml"), /missing\.yaml: cannot be read/],
    ] as const) {
      const ran = await up("--policy", path);
      assert.equal(ran.code, 2, ran.stderr);
      assert.match(ran.stderr, said);
      assert.doesNotMatch(ran.stderr, /\n\s+at /, "no stack");
    }
  });

  test("an unknown option and an unknown command: exit 2", async () => {
    const option = await up("--polcy", "x");
    assert.equal(option.code, 2);
    assert.match(option.stderr, /--polcy/);
    const command = await inside([weirCommand, "upp"]);
    assert.equal(command.code, 2);
    assert.match(command.stderr, /weir upp.*weir --help/);
  });

  test("the page's port in use: its code, and nothing stays behind", async () => {
    const holder = spawn("nsenter", [
      `--net=/run/netns/${net.a.name}`,
      "--",
      process.execPath,
      "-e",
      'require("node:net").createServer().listen(9347, "127.0.0.1", () => console.log("up"))',
    ]);
    await new Promise((resolve) => holder.stdout.once("data", resolve));
    try {
      const ran = await up("--policy", file("good.yaml", target(5432)), "--listen-ui", "127.0.0.1:9347");
      assert.equal(ran.code, 3, ran.stderr);
      assert.match(ran.stderr, /WEIR_PORT_IN_USE/);
      assert.match(ran.stderr, /--listen-ui/);
      await nothingLeft();
    } finally {
      holder.kill();
    }
  });

  test("not root: exit 3 and what to do", async () => {
    const state = join(dir, "other");
    const ran = await inside(["setpriv", "--reuid=65534", "--clear-groups", weirCommand, "up", "--state", state]);
    assert.equal(ran.code, 3, ran.stderr);
    assert.match(ran.stderr, /sudo weir up[\s\S]*WEIR_NOT_ROOT/);
  });

  test("a state directory in use: the second agent refuses, the first goes on", async () => {
    const agent = await startTestAgent({ namespace: net.a, policy: target(5432) });
    try {
      const ran = await agent.weir(["up", "--policy", agent.policyFile, "--listen-ui", "127.0.0.1:0"]);
      assert.equal(ran.code, 3, ran.stderr);
      assert.match(ran.stderr, /WEIR_STATE_LOCKED/);
      assert.equal((await agent.run(["true"])).code, 0, "the first still answers");
      const { stdout } = await inside(["iptables-save"]);
      assert.match(stdout, /weir/i);
    } finally {
      await agent.remove();
    }
    await nothingLeft();
  });

  test("a full disk: operations are refused, none reaches the server", async () => {
    const server = await startPostgres({ namespace: net.b.name, host: net.b.address4, port: 5433 });
    const agent = await startTestAgent({ namespace: net.a, policy: target(5433) }).catch(async (error) => {
      await server.stop();
      throw error;
    });
    try {
      // The agent is stopped, its state moved to a small file system, and started again there.
      await agent.stop();
      const kept = mkdtempSync(join(tmpdir(), "weir-kept-"));
      await exec("cp", ["-a", `${agent.stateDir}/.`, kept]);
      await exec("mount", ["-t", "tmpfs", "-o", "size=32m,mode=711", "weir-small", agent.stateDir]);
      await exec("cp", ["-a", `${kept}/.`, agent.stateDir]);
      rmSync(kept, { recursive: true, force: true });
      await agent.restart();
      // The certificate is pinned while there is room for it.
      assert.equal((await agent.run(["psql", "-X", "-c", "SELECT 1"], { env: clientEnvironment(server) })).code, 0);
      const fill = await exec("sh", ["-c", `cat /dev/zero > ${agent.stateDir}/ballast 2>/dev/null || true`]);
      assert.equal(fill.stderr, "");
      const big = "x".repeat(20_000);
      const ran = await agent.run(["psql", "-X", "-v", "VERBOSITY=verbose"], {
        env: clientEnvironment(server),
        input: `${Array.from({ length: 20 }, (_, i) => `SELECT 'full-${i}' /* ${big} */;`).join("\n")}\nSELECT 'last-one';\n`,
      });
      assert.match(ran.stderr, /WEIR_SPOOL_WRITE/);
      assert.doesNotMatch(server.statementLog(), /last-one/);
    } finally {
      await agent.stop();
      await exec("umount", [agent.stateDir]).catch(() => {});
      await agent.remove();
      await server.stop();
    }
  });
});

describe("bad peers through a real agent", { skip: needsRoot }, () => {
  let net: NamespacePair;
  let server: Postgres;
  let agent: TestAgent;

  before(async () => {
    net = await makeNamespacePair("peer");
    server = await startPostgres({ namespace: net.b.name, host: net.b.address4, port: 5432 });
    await server.admin("CREATE TABLE victim (id int); CREATE TABLE big (v text)");
    agent = await startTestAgent({ namespace: net.a, policy: `${target(5432)}${noDrop}` });
  });

  after(async () => {
    await agent?.remove();
    await server?.stop();
    await net?.remove();
  });

  const psql = (sql: string): Promise<Ran> =>
    agent.run(["psql", "-X", "-At", "-v", "VERBOSITY=verbose", "-c", sql], { env: clientEnvironment(server) });

  test("a value of 70 MB streams down and up in bounded memory", async () => {
    assert.equal((await psql("SELECT 1")).code, 0);
    const atRest = residentMb(agent.pid).now;
    const down = await agent.run(["sh", "-c", `psql -X -At -c "SELECT repeat('x', 70000000)" | wc -c`], {
      env: clientEnvironment(server),
    });
    assert.equal(down.stdout.trim(), "70000001", down.stderr);
    const copied = await agent.run(
      ["sh", "-c", `head -c 70000000 /dev/zero | tr '\\0' y | psql -X -c 'COPY big FROM STDIN'`],
      { env: clientEnvironment(server) },
    );
    assert.equal(copied.code, 0, copied.stderr);
    assert.equal(await server.admin("SELECT length(v) FROM big"), "70000000");
    const grown = residentMb(agent.pid).peak - atRest;
    assert.ok(grown < streamGrowthMbMax, `the agent grew by ${grown} MB`);
  });

  test("a policy that changes is in force; a broken one leaves the last good one, and is recorded", async () => {
    assert.match((await psql("DROP TABLE victim")).stderr, /42501/);
    writeFileSync(agent.policyFile, "apiVersion: weir/v1\ntargets: { db: { protocl: postgres } }\n");
    await until(async () => (await agent.weir(["export"])).stdout.includes("policy-rejected"));
    assert.match((await psql("DROP TABLE victim")).stderr, /42501/, "the last good one stays");
    writeFileSync(agent.policyFile, target(5432));
    await until(async () => (await agent.weir(["export"])).stdout.includes("policy-loaded"));
    const ran = await psql("DROP TABLE victim");
    assert.equal(ran.code, 0, ran.stderr);
  });

  test("a stopped agent is not passed around: a connect waits, and nothing reaches the server", async () => {
    // The shell is governed before the agent stops, since `weir run` itself asks the agent.
    const child = agent.start(
      ["sh", "-c", `echo inside >&2; read go; psql -X -Atc "SELECT 'aro' || 'und'"; echo ended >&2`],
      { env: clientEnvironment(server) },
    );
    await new Promise((resolve) => child.child.stderr?.once("data", resolve));
    process.kill(agent.pid, "SIGSTOP");
    child.child.stdin?.end("\n");
    try {
      await sleep(2_000);
      assert.doesNotMatch(server.statementLog(), /SELECT 'aro'/);
      assert.equal(child.child.exitCode, null, "it waits");
    } finally {
      process.kill(agent.pid, "SIGCONT");
    }
    const ran = await child.done;
    assert.equal(ran.stdout, "around\n", ran.stderr);
    assert.equal((await psql("SELECT 1")).code, 0);
  });
});

describe("bad peers through the relay", () => {
  let server: Postgres;
  let relay: Relay;

  before(async () => {
    server = await startPostgres({ hba: ["hostssl all all all password"] });
    await server.admin("CREATE TABLE sink (v text)");
    relay = await startRelay({ policy: target(server.port), server });
  });

  after(async () => {
    await relay?.close();
    await server?.stop();
  });

  const login = () => ({ user: server.user, password: server.password, database: server.database });
  const raw = () => logIn({ host: "127.0.0.1", port: relay.port }, login());
  const psql = (port: number, words: readonly string[], env: NodeJS.ProcessEnv = {}): Promise<Ran> =>
    collect(
      spawn("psql", ["-X", "-v", "VERBOSITY=verbose", ...words], {
        env: clientEnvironment(server, { PGHOST: "127.0.0.1", PGPORT: String(port), ...env }),
      }),
    );
  async function stillWorks(): Promise<void> {
    const ran = await psql(relay.port, ["-Atc", "SELECT 41 + 1"]);
    assert.equal(ran.stdout, "42\n", ran.stderr);
  }
  /** Runs against a relay of its own whose server is this function. */
  async function withUpstream(serve: (socket: Socket) => void, check: (relay: Relay) => Promise<void>): Promise<void> {
    const upstream = createServer((socket) => {
      socket.on("error", () => {});
      serve(socket);
    });
    const port = await listen(upstream);
    const own = await startRelay({ policy: target(port), server: { host: "127.0.0.1", port } });
    try {
      await check(own);
    } finally {
      await own.close();
      upstream.close();
    }
  }

  test("a server that is down: psql is told at once, with the code", async () => {
    const closed = createServer();
    const port = await listen(closed);
    await new Promise((resolve) => closed.close(resolve));
    const own = await startRelay({ policy: target(port), server: { host: "127.0.0.1", port } });
    try {
      for (const mode of ["disable", "prefer", "require"]) {
        const ran = await psql(own.port, ["-c", "SELECT 1"], { PGSSLMODE: mode });
        assert.equal(ran.code, 2);
        assert.match(ran.stderr, /WEIR_UPSTREAM_UNREACHABLE/, mode);
      }
      assert.ok(JSON.stringify(own.entries()).includes("WEIR_UPSTREAM_UNREACHABLE"));
    } finally {
      await own.close();
    }
  });

  test("a credential that cannot be had: psql sees why, in plain and inside TLS, and no login is tried", async () => {
    const policy = target(server.port).replace("tls:", "credential: { user: app, password: { file: /no/such } }, tls:");
    const own = await startRelay({ policy, server });
    try {
      for (const mode of ["disable", "require"]) {
        const ran = await psql(own.port, ["-c", "SELECT 1"], { PGSSLMODE: mode });
        assert.equal(ran.code, 2);
        assert.match(
          ran.stderr,
          /FATAL: {2}The credential file \/no\/such cannot be read: there is no such file\.\n.*WEIR_CONFIG_INVALID/,
          mode,
        );
      }
      const refused = own.entries().filter(({ type }) => type === "Refused");
      assert.deepEqual(
        refused.map(({ fields }) => fields["code"]),
        ["WEIR_CONFIG_INVALID", "WEIR_CONFIG_INVALID"],
      );
    } finally {
      await own.close();
    }
  });

  test("a certificate that no authority vouches for, under verify: full: psql sees why", async () => {
    const own = await startRelay({ policy: target(server.port, "full"), server });
    try {
      const ran = await psql(own.port, ["-c", "SELECT 1"]);
      assert.notEqual(ran.code, 0);
      assert.match(ran.stderr, /WEIR_UPSTREAM_TLS/);
      assert.match(ran.stderr, /certificate|issuer|self.signed/i);
    } finally {
      await own.close();
    }
  });

  test("a certificate that changed after first use is refused, with the reason", async () => {
    const first = await startPostgres({});
    const own = await startRelay({ policy: target(first.port), server: first });
    let second: Postgres | null = null;
    try {
      const before = await psql(own.port, ["-Atc", "SELECT 1"]);
      assert.equal(before.stdout, "1\n", before.stderr);
      await first.stop();
      second = await startPostgres({ port: first.port });
      const ran = await psql(own.port, ["-c", "SELECT 1"]);
      assert.notEqual(ran.code, 0);
      assert.match(ran.stderr, /WEIR_UPSTREAM_PIN_CHANGED/);
    } finally {
      await own.close();
      await second?.stop();
      await first.stop().catch(() => {});
    }
  });

  const junk: Readonly<Record<string, (socket: Socket) => void>> = {
    "answers X to SSLRequest": (socket) => socket.once("data", () => socket.write("X")),
    "answers SSLRequest with an ErrorResponse": (socket) =>
      socket.once("data", () => socket.end(Buffer.from("E\0\0\0\x0fSFATAL\0Mno\0\0", "latin1"))),
    "closes at once": (socket) => socket.destroy(),
    "closes after SSLRequest": (socket) => socket.once("data", () => socket.end()),
    "says S and then junk": (socket) =>
      socket.once("data", () => {
        socket.write("S");
        socket.once("data", () => socket.write(Buffer.alloc(4096, 0xa5)));
      }),
    "says more than one byte": (socket) => socket.once("data", () => socket.write("SSSSSSSS")),
    "says N and then junk": (socket) =>
      socket.once("data", () => {
        socket.write("N");
        socket.once("data", () => socket.write(Buffer.alloc(4096, 0xa5)));
      }),
    "says N and then a length of 0xffffffff": (socket) =>
      socket.once("data", () => {
        socket.write("N");
        socket.once("data", () => socket.write(Buffer.from([0x52, 0xff, 0xff, 0xff, 0xff, 1, 2])));
      }),
    "closes in the middle of a message": (socket) =>
      socket.once("data", () => {
        socket.write("N");
        socket.once("data", () => socket.end(Buffer.from([0x52, 0, 0, 0, 12, 0, 0])));
      }),
  };
  for (const [name, serve] of Object.entries(junk)) {
    test(`a server that ${name}: psql gets an error`, async () => {
      await withUpstream(serve, async (own) => {
        for (const mode of ["disable", "require"]) {
          const ran = await psql(own.port, ["-c", "SELECT 1"], { PGSSLMODE: mode });
          assert.equal(ran.code, 2, `${mode}: ${ran.stderr}`);
          assert.ok(ran.stderr.length > 0);
        }
        assert.ok(!own.logs.some((line) => line.includes("WEIR_INTERNAL")), own.logs.join("\n"));
      });
    });
  }

  const opening: Readonly<Record<string, Buffer>> = {
    junk: Buffer.alloc(4096, 0xa5),
    "an HTTP request": Buffer.from("GET / HTTP/1.1\r\nHost: x\r\n\r\n"),
    "a length of 0xffffffff": Buffer.from([0xff, 0xff, 0xff, 0xff, 0, 3, 0, 0]),
    "a length of 3": Buffer.from([0, 0, 0, 3, 0, 3, 0, 0]),
    "an SSLRequest with bytes behind it in the same segment": Buffer.concat([
      Buffer.from([0, 0, 0, 8, 4, 210, 22, 47]),
      serialize.startup({ user: "app", database: "postgres" }),
    ]),
    "a hundred SSLRequests": Buffer.concat(
      Array.from({ length: 100 }, () => Buffer.from([0, 0, 0, 8, 4, 210, 22, 47])),
    ),
  };
  for (const [name, bytes] of Object.entries(opening)) {
    test(`a client that opens with ${name} is closed, and others go on`, async () => {
      const socket = connect(relay.port, "127.0.0.1");
      socket.on("error", () => {});
      const closed = new Promise((resolve) => socket.once("close", resolve));
      socket.resume();
      socket.write(bytes);
      await closed;
      await stillWorks();
    });
  }

  test("a client that sends half a frame and goes leaves nothing", async () => {
    for (const half of [Buffer.from([0, 0]), serialize.startup({ user: "app" }).subarray(0, 9)]) {
      const socket = connect(relay.port, "127.0.0.1", () => socket.end(half));
      socket.on("error", () => {});
      socket.resume();
      await new Promise((resolve) => socket.once("close", resolve));
    }
    await stillWorks();
  });

  const later: Readonly<Record<string, Buffer>> = {
    "a length of 0xffffffff": Buffer.from([0x51, 0xff, 0xff, 0xff, 0xff, 0x41]),
    "a length of 3": Buffer.from([0x51, 0, 0, 0, 3, 0x41]),
    "an unknown type": Buffer.from([0x01, 0, 0, 0, 4]),
    "a query without its end": Buffer.from([0x51, 0, 0, 0, 8, 0x41, 0x41, 0x41, 0x41]),
    "a Bind that counts more than it brings": Buffer.from([0x42, 0, 0, 0, 12, 0, 0, 0xff, 0xff, 0, 1, 0, 2]),
    "CopyData outside of COPY": Buffer.from([0x64, 0, 0, 0, 5, 0x41, 0x53, 0, 0, 0, 4]),
    "a password in the middle": Buffer.from([0x70, 0, 0, 0, 5, 0, 0x53, 0, 0, 0, 4]),
  };
  for (const [name, bytes] of Object.entries(later)) {
    test(`${name} after the login is an error, not a hang`, async () => {
      const client = await raw();
      client.heard.length = 0;
      client.send(bytes, serialize.query("SELECT 1"));
      const heard = await client.until((message) => message.name === "error" || message.name === "readyForQuery");
      assert.ok(client.closed || heard.length > 0);
      client.end();
      await stillWorks();
    });
  }

  test("a hundred thousand tiny messages are answered in bounded memory", async () => {
    const client = await raw();
    client.heard.length = 0;
    const round = Buffer.concat(Array.from({ length: 1000 }, () => serialize.flush()));
    for (let i = 0; i < 100; i += 1) client.send(round);
    client.send(...Array.from({ length: 2000 }, () => serialize.sync()));
    let ready = 0;
    while (ready < 2000) {
      ready += (await client.until("readyForQuery")).filter(({ name }) => name === "readyForQuery").length;
      assert.ok(!client.closed);
    }
    client.end();
    assert.ok(process.memoryUsage().rss < residentMbMax * 1e6);
    await stillWorks();
  });

  test("a parameter of 70 MB arrives whole", async () => {
    const client = new pg.Client({
      host: "127.0.0.1",
      port: relay.port,
      ...login(),
      ssl: { rejectUnauthorized: false },
    });
    await client.connect();
    const { rows } = await client.query("SELECT length($1::text) AS n", ["z".repeat(70_000_000)]);
    assert.deepEqual(rows, [{ n: 70_000_000 }]);
    await client.end();
  });

  test("a backend killed in mid-query gives the client an error", async () => {
    const running = psql(relay.port, ["-c", "SELECT pg_sleep(600)"], { PGAPPNAME: "doomed" });
    const pid = await backend("doomed");
    // SIGTERM to the one backend: SIGKILL would restart the whole server below the other tests.
    process.kill(Number(pid), "SIGTERM");
    const ran = await running;
    assert.notEqual(ran.code, 0);
    assert.match(ran.stderr, /terminating connection|closed the connection/);
    await stillWorks();
  });

  test("a client killed in mid-query or mid-COPY takes its server side with it", async () => {
    for (const sql of ["SELECT generate_series(1, 1000000000)", "COPY sink FROM STDIN"]) {
      const child = spawn("psql", ["-X", "-v", "FETCH_COUNT=1000", "-c", sql], {
        stdio: ["pipe", "ignore", "ignore"],
        env: clientEnvironment(server, { PGHOST: "127.0.0.1", PGPORT: String(relay.port), PGAPPNAME: "leaver" }),
      });
      child.stdin.on("error", () => {});
      child.stdin.write("half a li");
      await backend("leaver");
      child.kill("SIGKILL");
      await until(async () => (await count("leaver")) === 0);
    }
    assert.equal(await server.admin("SELECT count(*) FROM sink"), "0");
    await stillWorks();
  });

  const count = async (name: string): Promise<number> =>
    Number(await server.admin(`SELECT count(*) FROM pg_stat_activity WHERE application_name = '${name}'`));
  async function backend(name: string): Promise<string> {
    let pid = "";
    await until(async () => {
      pid = await server.admin(
        `SELECT pid FROM pg_stat_activity WHERE application_name = '${name}' AND state = 'active'`,
      );
      return pid !== "";
    });
    return pid;
  }

  test("nothing above was a defect by Weir's own word", () => {
    assert.deepEqual(
      relay.logs.filter((line) => line.includes("WEIR_INTERNAL")),
      [],
    );
  });
});

function listen(server: Server): Promise<number> {
  return new Promise((resolve) =>
    server.listen(0, "127.0.0.1", () => {
      const address = server.address();
      resolve(typeof address === "object" && address !== null ? address.port : 0);
    }),
  );
}

function residentMb(pid: number): { now: number; peak: number } {
  const status = readFileSync(`/proc/${pid}/status`, "utf8");
  const kb = (name: string): number => Number(new RegExp(`${name}:\\s+(\\d+)`).exec(status)?.[1]);
  return { now: kb("VmRSS") / 1024, peak: kb("VmHWM") / 1024 };
}
