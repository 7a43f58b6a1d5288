/**
 * A real agent and a real controller that meet over Kafka alone: psql is held, somebody approves on the controller's
 * page, the rows flow; an identity is revoked at the controller, and the live psql ends. A policy is published, and
 * decides from then on. Kafka dies, and psql goes on.
 */
import assert from "node:assert/strict";
import { type ChildProcess, spawn } from "node:child_process";
import { generateKeyPairSync, type KeyObject } from "node:crypto";
import { mkdtempSync, rmSync, writeFileSync } from "node:fs";
import { tmpdir } from "node:os";
import { join, resolve } from "node:path";
import { after, before, describe, test } from "node:test";
import { SignJWT } from "jose";
import { collect, type Ran, startTestAgent, type TestAgent, weirCommand } from "../support/agent.ts";
import { startKafka, type TestKafka } from "../support/kafka.ts";
import { makeNamespacePair, type NamespacePair } from "../support/namespace.ts";
import { clientEnvironment, type Postgres, startPostgres } from "../support/postgres.ts";
import { until } from "../support/until.ts";

/** On loopback in the namespace, as browsers and the controller reach it. */
const issuer = "http://127.0.0.1:9400";

const policyOf = (jwks: string): string => `apiVersion: weir/v1
identity:
  issuers: [{ issuer: "${issuer}", audience: weir, jwks: ${jwks} }]
  mappings: [{ uid: 0, identity: contractor@example.com }]
targets:
  orders: { protocol: postgres, hosts: [10.231.0.0/16], ports: [5432], tls: { verify: first-use } }
rules:
  - { name: ask-first, match: { target: orders, relation: salaries }, verdict: hold, reason: Somebody looks at it. }
`;

/** More of them for a measure: WEIR_CLICKS=40. */
const clicks = Number(process.env["WEIR_CLICKS"] ?? 3);

/** In the namespace: the issuer's documents. Arguments: its address, its keys. */
const issuing = `
const [issuer, keys] = process.argv.slice(1);
const documents = {
  "/.well-known/openid-configuration": JSON.stringify({ issuer, jwks_uri: issuer + "/keys" }),
  "/keys": keys,
};
require("node:http").createServer((request, response) => {
  response.writeHead(200, { "content-type": "application/json" }).end(documents[request.url]);
}).listen(Number(new URL(issuer).port), "127.0.0.1", () => console.log("ready"));`;

/**
 * In the namespace: asks the page and tells when it pressed the button. Lines in: a word of the text to approve. Ten times a
 * second: on a machine that is busy a client takes its time, and more than 1,200 questions a minute are refused.
 */
const approver = `
const [origin, token] = process.argv.slice(1);
const headers = { authorization: "Bearer " + token, "content-type": "application/json" };
require("node:readline").createInterface({ input: process.stdin }).on("line", async (word) => {
  for (;;) {
    const list = await (await fetch(origin + "/api/approvals", { headers })).json();
    const one = list.find(({ status, text }) => status === "pending" && text.includes(word));
    if (one === undefined) { await new Promise((next) => setTimeout(next, 100)); continue; }
    const at = Date.now();
    const { status } = await fetch(origin + "/api/approvals/" + one.id + "/approve", { method: "POST", headers, body: "{}" });
    console.log(JSON.stringify({ at, status, one }));
    return;
  }
});`;

/** In the namespace: the oldest message of the topic of policies once more, by somebody who may write there. */
const replay = `
const [root, broker] = process.argv.slice(1);
const { openTransport } = await import(root + "/agent/kafka/transport.ts");
const { readWholeTopic } = await import(root + "/agent/kafka/whole-topic.ts");
const { topics } = await import(root + "/agent/kafka/topics.ts");
const settings = { brokers: [broker] };
const [{ key, value }] = await readWholeTopic(settings, topics.policies, "somebody");
const transport = await openTransport(settings);
await transport.send([{ topic: topics.policies, key, value }]);
await transport.close();`;

describe("agent and controller over Kafka", { skip: process.getuid?.() === 0 ? false : "needs root" }, () => {
  let dir: string;
  let net: NamespacePair;
  let server: Postgres;
  let kafka: TestKafka;
  let controller: ChildProcess;
  let person: ChildProcess;
  let provider: ChildProcess;
  let policy: string;
  let issuerKey: KeyObject;
  let agent: TestAgent;
  let said = "";
  const inside = (...words: string[]): [string, string[]] => [
    "nsenter",
    [`--net=/run/netns/${net.a.name}`, "--", ...words],
  ];

  before(async () => {
    dir = mkdtempSync(join(tmpdir(), "weir-e2e-kafka-"));
    net = await makeNamespacePair("kafka");
    [server, kafka] = await Promise.all([
      startPostgres({ namespace: net.b.name, host: net.b.address4, port: 5432 }),
      startKafka({ namespace: net.a.name }),
    ]);
    await server.admin("CREATE TABLE salaries (id int, amount int); INSERT INTO salaries VALUES (1, 100), (2, 200)");
    const brokers = ["--kafka", kafka.brokers.join(",")];
    const words = [weirCommand, "topics", "create", ...brokers, "--replicas", "1", "--partitions", "3"];
    const made = await collect(spawn(...inside(...words)));
    assert.equal(made.code, 0, made.stderr);
    const state = join(dir, "controller");
    const pair = generateKeyPairSync("ec", { namedCurve: "P-256" });
    issuerKey = pair.privateKey;
    const jwks = JSON.stringify({
      keys: [{ ...pair.publicKey.export({ format: "jwk" }), kid: "issuer-1", alg: "ES256" }],
    });
    writeFileSync(join(dir, "jwks.json"), jwks);
    policy = policyOf(join(dir, "jwks.json"));
    provider = spawn(...inside(process.execPath, "-e", issuing, issuer, jwks), {
      stdio: ["ignore", "pipe", "inherit"],
    });
    await new Promise((ready) => provider.stdout?.once("data", ready));
    const signIn = join(dir, "sign-in.yaml");
    writeFileSync(signIn, `origin: http://127.0.0.1:9349\noidc: { issuer: "${issuer}", clientId: weir }\n`);
    controller = spawn(...inside(weirCommand, "controller", ...brokers, "--state", state, "--sign-in", signIn), {
      stdio: ["ignore", "pipe", "pipe"],
    });
    for (const stream of [controller.stdout, controller.stderr])
      stream?.on("data", (bytes) => {
        said += String(bytes);
      });
    await until(() => said.includes("page: "));
    const page = new URL(/page: (\S+)/.exec(said)?.[1] as string);
    person = spawn(...inside(process.execPath, "-e", approver, page.origin, page.hash.slice(1)), {
      stdio: ["pipe", "pipe", "inherit"],
    });
    const config = join(dir, "agent.yaml");
    for (const name of ["policy", "stranger"]) {
      const { privateKey, publicKey } = generateKeyPairSync("ed25519");
      writeFileSync(join(dir, `${name}.pem`), privateKey.export({ type: "pkcs8", format: "pem" }));
      writeFileSync(join(dir, `${name}.pub.pem`), publicKey.export({ type: "spki", format: "pem" }));
    }
    const trusted = `controllerKey: ${state}/controller-key.pub.pem\npolicyKey: ${join(dir, "policy.pub.pem")}\n`;
    writeFileSync(config, `kafka: ${kafka.brokers.join(",")}\nspoolMax: 2MiB\n${trusted}`);
    agent = await startTestAgent({ namespace: net.a, policy, args: ["--policy", "kafka", "--config", config] });
  });

  after(async () => {
    await agent?.remove();
    for (const child of [controller, person, provider]) {
      if (child === undefined || child.exitCode !== null || child.signalCode !== null) continue;
      const gone = new Promise((resolve) => child.once("exit", resolve));
      child.kill("SIGTERM");
      await gone;
    }
    await kafka?.stop();
    await server?.stop();
    await net?.remove();
    if (dir !== undefined) rmSync(dir, { recursive: true, force: true });
  });

  function psql(sql: string): { readonly done: Promise<Ran>; readonly firstRowAt: Promise<number> } {
    const words = ["psql", "-X", "-A", "-t", "-v", "VERBOSITY=verbose", "-c", sql];
    const { child, done } = agent.start(words, { env: clientEnvironment(server) });
    const firstRowAt = new Promise<number>((resolve) => child.stdout?.once("data", () => resolve(Date.now())));
    return { done, firstRowAt };
  }

  async function approve(word: string): Promise<{ at: number; status: number; one: Record<string, unknown> }> {
    const line = new Promise<string>((resolve) => person.stdout?.once("data", (bytes) => resolve(String(bytes))));
    person.stdin?.write(`${word}\n`);
    return JSON.parse(await line) as { at: number; status: number; one: Record<string, unknown> };
  }

  test("what is held is approved on the controller's page, and the rows flow", async (t) => {
    const times: number[] = [];
    for (let round = 0; round < clicks; round += 1) {
      const { done, firstRowAt } = psql(`SELECT amount, ${round} FROM salaries ORDER BY id`);
      const { at, status, one } = await approve(`amount, ${round}`);
      assert.equal(status, 200);
      assert.equal(one["rule"], "ask-first");
      assert.deepEqual((one["identity"] as { subject: string }).subject, "contractor@example.com");
      times.push((await firstRowAt) - at);
      const { code, stdout, stderr } = await done;
      assert.deepEqual([code, stdout], [0, `100|${round}\n200|${round}\n`], stderr);
    }
    t.diagnostic(`from the click to the client's first row: ${times.join(", ")} ms`);
    times.sort((a, b) => a - b);
    const at = (share: number): number => times[Math.floor(times.length * share)] as number;
    t.diagnostic(`p50 ${at(0.5)} ms, p95 ${at(0.95)} ms of ${clicks}`);
  });

  test("a revoked identity's live psql ends, and the next one is refused", async (t) => {
    const live = psql("SELECT 1 UNION ALL SELECT 2 FROM pg_sleep(60)");
    await until(async () =>
      (await server.admin("SELECT count(*) FROM pg_stat_activity WHERE query LIKE '%pg_sleep(60)%'")).includes("2"),
    );
    const words = ["controller", "revoke", "contractor@example.com", "--kafka", kafka.brokers.join(",")];
    const said = ["--state", join(dir, "controller"), "--reason", "left the company"];
    const revoked = await collect(spawn(...inside(weirCommand, ...words, ...said)));
    const at = Date.now();
    assert.equal(revoked.code, 0, revoked.stderr);
    const { code, stderr } = await live.done;
    t.diagnostic(`from the end of \`weir controller revoke\` to psql's end: ${Date.now() - at} ms`);
    assert.notEqual(code, 0);
    assert.match(stderr, /left the company/);
    const next = await psql("SELECT 1").done;
    assert.notEqual(next.code, 0);
    assert.match(next.stderr, /left the company/);
    await collect(spawn(...inside(weirCommand, ...["controller", "restore", ...words.slice(2)], ...said)));
    await until(async () => (await psql("SELECT 'back'").done).stdout === "back\n");
  });

  function publish(text: string, key = "policy"): Promise<Ran> {
    const file = join(dir, "main.yaml");
    writeFileSync(file, text);
    const words = [file, "--kafka", kafka.brokers.join(","), "--key", join(dir, `${key}.pem`), "--json"];
    return collect(spawn(...inside(weirCommand, "policy", "publish", ...words)));
  }

  test("a published policy decides from then on; a stranger's does not; both are in the agent's record", async () => {
    assert.equal((await psql("SELECT 'before'").done).stdout, "before\n");
    const lenient = await publish(`${policy}# as it was\n`);
    assert.deepEqual(
      [lenient.code, (JSON.parse(lenient.stdout) as { version: number }).version],
      [0, 1],
      lenient.stderr,
    );
    const closed = policy.replace(
      "verdict: hold, reason: Somebody looks at it.",
      "verdict: deny, reason: Payroll is closed.",
    );
    const { code, stdout, stderr } = await publish(closed);
    const { version, digest } = JSON.parse(stdout) as { version: number; digest: string };
    assert.deepEqual([code, version], [0, 2], stderr);
    await until(() => agent.output().includes(`policy ${digest}`));
    assert.match((await psql("SELECT amount FROM salaries").done).stderr, /Payroll is closed/);
    assert.equal((await publish(policy, "stranger")).code, 0);
    await until(() => agent.output().includes("it is not signed by a key that is trusted"));
    assert.match((await psql("SELECT amount FROM salaries").done).stderr, /Payroll is closed/);
    const record = await agent.weir(["export", "--format", "jsonl"]);
    assert.match(record.stdout, /policy-loaded.*version 2 of default over Kafka, signed by ed25519:[0-9a-f]{16}/);
    assert.match(record.stdout, /policy-rejected.*it is not signed by a key that is trusted/);
    const status = JSON.parse((await agent.weir(["policy", "status", "--json"])).stdout) as Record<string, unknown>;
    assert.deepEqual([status["digest"], (status["origin"] as { version: number }).version], [digest, 2]);
  });

  type Shown = { health: string; scope: string; policy?: { version: number }; problems: string[] };
  /** How the controller's page shows the agent. */
  async function shown(): Promise<Shown | undefined> {
    const page = new URL(/page: (\S+)/.exec(said)?.[1] as string);
    const words = ["-s", "-H", `authorization: Bearer ${page.hash.slice(1)}`, `${page.origin}/api/agents`];
    const { stdout } = await collect(spawn(...inside("curl", ...words)));
    return (JSON.parse(stdout) as Shown[])[0];
  }

  test("the controller's page tells which version the agent runs, and what it refused", async () => {
    const refused = /A policy was not taken: .*not signed by a key that is trusted/;
    await until(async () => refused.test((await shown())?.problems.join() ?? ""));
    const { health, scope, policy: running } = (await shown()) as Shown;
    assert.deepEqual([health, scope, running?.version], ["alive", "run", 2]);
  });

  test("an agent that starts without Kafka has the policy that was in force; an older one is refused when Kafka is back", async () => {
    assert.equal(await agent.stop(), 0);
    await until(async () => (await shown())?.health === "stopped");
    await kafka.kill(0);
    await agent.restart();
    assert.match((await psql("SELECT amount FROM salaries").done).stderr, /Payroll is closed/);
    await kafka.restart(0);
    const words = [
      "--input-type=module",
      "-e",
      replay,
      resolve(import.meta.dirname, "../.."),
      kafka.brokers[0] as string,
    ];
    const replayed = await collect(spawn(...inside(process.execPath, ...words)));
    assert.equal(replayed.code, 0, replayed.stderr);
    await until(() => agent.output().includes("version 1 is older than version 2"));
    assert.match((await psql("SELECT amount FROM salaries").done).stderr, /Payroll is closed/);
    assert.equal((await psql("SELECT 'after'").done).stdout, "after\n");
  });

  const tokenOf = (claims: Record<string, unknown>): Promise<string> =>
    new SignJWT(claims)
      .setProtectedHeader({ alg: "ES256", kid: "issuer-1" })
      .setIssuer(issuer)
      .setAudience("weir")
      .setExpirationTime("1h")
      .sign(issuerKey);

  function psqlAs(token: string, sql: string): Promise<Ran> {
    const file = join(dir, "token");
    writeFileSync(file, token);
    const words = ["run", "--trust", "env", "--identity-token-file", file, "--", "psql", "-X", "-A", "-t", "-c", sql];
    return agent.weir(words, { env: clientEnvironment(server) });
  }

  test("a logout at the issuer ends what was begun before it, on the agent's host, and a later sign-in passes", async (t) => {
    const live = psqlAs(await tokenOf({ sub: "ada", iat: Math.floor(Date.now() / 1000) - 5 }), "SELECT pg_sleep(61)");
    await until(async () =>
      (await server.admin("SELECT count(*) FROM pg_stat_activity WHERE query LIKE '%pg_sleep(61)%'")).includes("2"),
    );
    const events = { "http://schemas.openid.net/event/backchannel-logout": {} };
    const word = await tokenOf({ sub: "ada", iat: Math.floor(Date.now() / 1000), jti: "1", events });
    const at = Date.now();
    const words = ["-s", "-d", `logout_token=${word}`, "http://127.0.0.1:9349/auth/backchannel-logout"];
    assert.equal((await collect(spawn(...inside("curl", ...words)))).stdout, '{"ok":true}');
    const { code, stderr } = await live;
    t.diagnostic(`from the issuer's word to psql's end: ${Date.now() - at} ms`);
    assert.notEqual(code, 0);
    assert.match(stderr, /The identity ada has logged out/);
    const old = await psqlAs(await tokenOf({ sub: "ada", iat: Math.floor(at / 1000) - 1 }), "SELECT 1");
    assert.match(old.stderr, /The identity ada has logged out/);
    // A token says when it was made in whole seconds.
    const later = Math.ceil(Date.now() / 1000);
    await until(() => Date.now() > later * 1000);
    const back = await psqlAs(await tokenOf({ sub: "ada", iat: later }), "SELECT 'back again'");
    assert.equal(back.stdout, "back again\n", back.stderr);
    const bob = await psqlAs(await tokenOf({ sub: "bob", iat: later - 60 }), "SELECT 'bob'");
    assert.equal(bob.stdout, "bob\n", bob.stderr);
  });

  test("Kafka is killed: psql goes on, and what was recorded arrives when it is back", async () => {
    await kafka.kill(0);
    for (let at = 0; at < 3; at += 1) assert.equal((await psql(`SELECT 'without ${at}'`).done).code, 0);
    await kafka.restart(0);
    await until(async () => (await arrived("without")) === 3);
  });

  test("Kafka is away for longer than the spool may grow: nothing is let through, nothing is lost, and it ends by itself", async (t) => {
    await kafka.kill(0);
    const large = Array.from({ length: 40 }, (_, at) => `SELECT 'load ${at}' /* ${"x".repeat(8_000)} */;`).join("\n");
    let whole = 0;
    await until(async () => {
      const ran = await agent.run(["psql", "-X", "-A", "-t"], { env: clientEnvironment(server), input: large });
      whole += ran.stdout.split("\n").filter((line) => line.startsWith("load")).length;
      return agent.output().includes("WEIR_SPOOL_FULL: nothing is let through");
    });
    t.diagnostic(`${whole} statements until then`);
    const refused = await psql("SELECT 'beyond it'").done;
    assert.notEqual(refused.code, 0);
    assert.match(refused.stderr, /FATAL: .*of the record wait for Kafka, and 2 MiB may \(--spool-max\)/);
    assert.doesNotMatch(server.statementLog(), /beyond it/);
    await kafka.restart(0);
    await until(() => agent.output().includes("The record has room again."));
    assert.equal((await psql("SELECT 'room again'").done).stdout, "room again\n");
    await until(async () => (await arrived("room again")) === 1);
    assert.equal((await agent.weir(["verify"])).code, 0);
    // Every one that ran stands in the record, and one that did not is said to be missing.
    const { stdout } = await agent.weir(["export", "--format", "jsonl"]);
    const ran = server.statementLog().match(/SELECT 'load \d+'/g)?.length ?? 0;
    assert.equal(stdout.match(/"text":"SELECT 'load \d+'/g)?.length, ran);
    assert.match(stdout, /Meanwhile \d+ operations and [1-9]\d* connections were refused/);
  });

  /** How many sessions with these words the controller has. */
  async function arrived(text: string): Promise<number> {
    const page = new URL(/page: (\S+)/.exec(said)?.[1] as string);
    const asked = `${page.origin}/api/sessions?q=${encodeURIComponent(text)}`;
    const words = ["-s", "-H", `authorization: Bearer ${page.hash.slice(1)}`, asked];
    const { stdout } = await collect(spawn(...inside("curl", ...words)));
    return stdout === "" ? 0 : (JSON.parse(stdout) as unknown[]).length;
  }
});
