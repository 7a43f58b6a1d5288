/**
 * Who stands behind a connection, from the token to the audit log: a real provider over TLS, a real agent, a real
 * PostgreSQL, and psql as it is.
 */
import assert from "node:assert/strict";
import { spawn } from "node:child_process";
import { generateKeyPairSync, type KeyObject } from "node:crypto";
import { chmodSync, mkdtempSync, rmSync, writeFileSync } from "node:fs";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { after, before, describe, test } from "node:test";
import { SignJWT } from "jose";
import { collect, type Ran, startTestAgent, type TestAgent, weirCommand } from "../support/agent.ts";
import { makeNamespacePair, type NamespacePair } from "../support/namespace.ts";
import { type RemoteOidc, startOidc } from "../support/oidc.ts";
import { clientEnvironment, type Postgres, startPostgres } from "../support/postgres.ts";
import { until } from "../support/until.ts";

const githubIssuer = "https://ci.test";

const policyOf = (issuer: string, ca: string, jwks: string): string => `apiVersion: weir/v1
identity:
  issuers:
    - { issuer: "${issuer}", audience: weir, ca: ${ca}, login: { clientId: weir } }
    - { kind: github, issuer: "${githubIssuer}", audience: weir, jwks: ${jwks}, lifetime: 3s }
  mappings:
    - { uid: 65533, identity: backup, groups: [dba] }
targets:
  orders: { protocol: postgres, hosts: [10.231.0.0/16], ports: [5432], tls: { verify: first-use } }
rules:
  - { name: dba, match: { target: orders, groups: [dba] }, verdict: allow }
  - { name: deploy, match: { target: orders, groups: ["environment:production"], job: acme/shop }, verdict: allow }
  - { name: contractors, match: { target: orders, groups: [contractors] }, verdict: allow }
  - { name: no-strangers, match: { target: orders }, verdict: deny, reason: "Only database administrators come here." }
`;

const groups = { alice: ["dba"], bob: ["developers"], carol: ["contractors"], dave: ["dba"], nina: ["dba"] };

describe("identity, from a token to the audit log", { skip: process.getuid?.() === 0 ? false : "needs root" }, () => {
  let net: NamespacePair;
  let server: Postgres;
  let provider: RemoteOidc;
  let agent: TestAgent;
  let dir: string;
  let ciKey: KeyObject;

  before(async () => {
    dir = mkdtempSync(join(tmpdir(), "weir-tokens-"));
    chmodSync(dir, 0o755);
    net = await makeNamespacePair("identity");
    server = await startPostgres({ namespace: net.b.name, host: net.b.address4, port: 5432 });
    await server.admin("CREATE TABLE t AS SELECT i FROM generate_series(1, 5) i");
    provider = await startOidc(net.b, groups);
    const pair = generateKeyPairSync("ec", { namedCurve: "P-256" });
    ciKey = pair.privateKey;
    const jwks = join(dir, "jwks.json");
    writeFileSync(jwks, JSON.stringify({ keys: [{ ...pair.publicKey.export({ format: "jwk" }), kid: "ci" }] }));
    agent = await startTestAgent({ namespace: net.a, policy: policyOf(provider.issuer, provider.caPath, jwks) });
  });

  after(async () => {
    await agent?.remove();
    await provider?.close();
    await server?.stop();
    await net?.remove();
    rmSync(dir, { recursive: true, force: true });
  });

  const fileOf = (name: string, token: string): string => {
    const file = join(dir, name);
    writeFileSync(file, token);
    return file;
  };
  const tokenFile = async (login: string): Promise<string> => fileOf(login, await provider.token(login));
  const psqlWords = (sql: string): string[] => ["psql", "-X", "-v", "VERBOSITY=verbose", "-c", sql];
  const env = (): NodeJS.ProcessEnv => clientEnvironment(server, { WEIR_STATE: agent.stateDir, HOME: "/nonexistent" });
  /** `weir run options -- words`, by another user where one is said. */
  const start = (options: readonly string[], words: readonly string[], extra: NodeJS.ProcessEnv = {}, uid = 0) => {
    const as = uid === 0 ? [] : ["setpriv", `--reuid=${uid}`, `--regid=${uid}`, "--clear-groups"];
    const weir = [...as, weirCommand, "run", "--trust", "env", ...options, "--", ...words];
    return spawn("nsenter", [`--net=/run/netns/${net.a.name}`, "--", ...weir], { env: { ...env(), ...extra } });
  };
  const psql = async (sql: string, options: readonly string[], extra: NodeJS.ProcessEnv = {}, uid = 0): Promise<Ran> =>
    collect(start(options, psqlWords(sql), extra, uid));
  const entries = async (): Promise<{ type: string; session: string; fields: Record<string, unknown> }[]> => {
    const { stdout } = await agent.weir(["export"]);
    return stdout
      .trim()
      .split("\n")
      .map((line) => JSON.parse(line));
  };

  test("the provider's token of one group is let through, of another is denied with rule and reason", async () => {
    const alice = await psql("SELECT count(*) FROM t", ["--identity-token-file", await tokenFile("alice")]);
    assert.equal(alice.code, 0, alice.stderr);
    assert.match(alice.stdout, /5/);
    const bob = await psql("SELECT count(*) FROM t", ["--identity-token-file", await tokenFile("bob")]);
    assert.notEqual(bob.code, 0);
    assert.match(bob.stderr, /denied by rule "no-strangers": Only database administrators come here/);
    const nobody = await psql("SELECT 1", []);
    assert.match(nobody.stderr, /no-strangers/);
  });

  test("who it was stands in the record of the session", async () => {
    const starts = (await entries()).filter(({ type }) => type === "SessionStart");
    const text = JSON.stringify(starts);
    assert.match(text, /"subject":"alice"/);
    assert.match(text, /"groups":\["dba"\]/);
    assert.ok(text.includes(provider.issuer));
  });

  test("a token that proves nothing starts nothing, and the sentence says why", async () => {
    const alice = await provider.token("alice");
    const [head = "", body = "", signature = ""] = alice.split(".");
    const claims = JSON.parse(Buffer.from(body, "base64url").toString()) as object;
    const forged = Buffer.from(JSON.stringify({ ...claims, sub: "root" })).toString("base64url");
    const none = Buffer.from('{"alg":"none"}').toString("base64url");
    for (const [token, why] of [
      [`${head}.${forged}.${signature}`, /its signature is wrong/],
      [`${none}.${body}.`, /its algorithm is not/],
      ["", /holds no token/],
      ["garbage", /no signed JWT/],
    ] as const) {
      const ran = await psql("SELECT 1", ["--identity-token-file", fileOf("bad", token)]);
      assert.equal(ran.code, 1, ran.stderr);
      assert.match(ran.stderr, why);
      assert.match(ran.stderr, /WEIR_/);
    }
    assert.equal((await psql("SELECT 1", ["--identity-token-file", join(dir, "absent")])).code, 2);
  });

  test("a run within a run keeps the identity", async () => {
    const inner = [weirCommand, "run", "--trust", "env", "--", ...psqlWords("SELECT 42")];
    const ran = await collect(start(["--identity-token-file", await tokenFile("alice")], inner));
    assert.equal(ran.code, 0, ran.stderr);
    assert.match(ran.stdout, /42/);
  });

  test("a user has the identity that the policy maps him to", async () => {
    const ran = await psql("SELECT 42", [], {}, 65533);
    assert.equal(ran.code, 0, ran.stderr);
    assert.match(JSON.stringify(await entries()), /"subject":"backup","issuer":"policy"/);
  });

  test("a CI job's token proves the job, and ends when its time is over", async () => {
    const token = await new SignJWT({
      repository: "acme/shop",
      environment: "production",
      run_id: "7",
      workflow: "deploy",
    })
      .setProtectedHeader({ alg: "ES256", kid: "ci" })
      .setIssuer(githubIssuer)
      .setSubject("repo:acme/shop:environment:production")
      .setAudience("weir")
      .setIssuedAt()
      .setExpirationTime("5m")
      .sign(ciKey);
    const child = start(["--identity-token-env", "JOB_TOKEN"], psqlWords("SELECT pg_sleep(602)"), { JOB_TOKEN: token });
    const ran = await collect(child);
    assert.match(ran.stderr, /FATAL: {2}57P01.*repo:acme\/shop:environment:production expired/, ran.stderr);
    assert.match(ran.stderr, /WEIR_IDENTITY_REVOKED/);
    assert.match(JSON.stringify(await entries()), /"job":\{[^}]*"system":"github"[^}]*"id":"7"/);
    const leaked = await collect(start(["--identity-token-env", "JOB_TOKEN"], ["env"], { JOB_TOKEN: token }));
    assert.ok(!leaked.stdout.includes(token), "the command does not get it");
  });

  test("weir login: whoever proves himself in a browser is it under his user id", async () => {
    const as = ["setpriv", "--reuid=65534", "--regid=65534", "--clear-groups", weirCommand];
    const weir = (...words: string[]) =>
      spawn("nsenter", [`--net=/run/netns/${net.a.name}`, "--", ...as, ...words], { env: env() });
    const login = weir("login");
    const done = collect(login);
    const address = await new Promise<string>((resolve, reject) => {
      let said = "";
      login.stdout.on("data", (piece) => {
        said += String(piece);
        const found = /open (\S+)\nthe code/.exec(said);
        if (found !== null) resolve(found[1] as string);
      });
      login.once("exit", () => reject(new Error("weir login ended")));
    }).catch(async (error: unknown) => {
      throw new Error((await done).stderr, { cause: error });
    });
    await provider.agree(address, "nina");
    const ran = await done;
    assert.equal(ran.code, 0, ran.stderr);
    assert.match(ran.stdout, /you are nina \[dba\] until/);
    const select = await psql("SELECT 42", [], {}, 65534);
    assert.equal(select.code, 0, select.stderr);
    assert.match((await psql("SELECT 1", [], {}, 65532)).stderr, /no-strangers/, "another user is not nina");
    assert.match((await collect(weir("login", "--forget"))).stdout, /nina \[dba\] is forgotten/);
    assert.match((await psql("SELECT 1", [], {}, 65534)).stderr, /no-strangers/);
    assert.equal((await collect(weir("revoke", "alice"))).code, 1, "revoking is root's");
    assert.match((await agent.weir(["login"])).stderr, /root is the host's own programs too/);
  });

  test("an offboarded contractor's nightly job with a token that nobody revoked", async () => {
    const file = await tokenFile("carol");
    // The job: it has a statement running, and will not be deterred by an error.
    const job = `psql -X -v VERBOSITY=verbose -c "SELECT pg_sleep(600)"; psql -X -v VERBOSITY=verbose -c "SELECT count(*) FROM t"`;
    const nightly = start(["--identity-token-file", file], ["sh", "-c", job]);
    const done = collect(nightly);
    await until(() => server.statementLog().includes("pg_sleep(600)"));
    const revoked = await agent.weir(["revoke", "carol", "--reason", "The contract ended in May."]);
    assert.equal(revoked.code, 0, revoked.stderr);
    assert.match(revoked.stdout, /carol is revoked; 1 flow ended/);
    const ran = await done;
    const [first = "", second = ""] = ran.stderr.split(/(?=psql: error)/).filter((part) => /carol/.test(part));
    assert.match(first, /FATAL: {2}57P01: The identity carol is revoked: The contract ended in May/, ran.stderr);
    assert.match(first, /WEIR_IDENTITY_REVOKED/);
    assert.match(second, /carol is revoked/, ran.stderr);
    // What ran at the server ended too, and not only who waited for it.
    const running = `SELECT count(*) FROM pg_stat_activity WHERE query LIKE '%pg_sleep(600)%' AND state = 'active' AND pid <> pg_backend_pid()`;
    await until(async () => (await server.admin(running)) === "0");

    // The same token again, and after a crash of the agent.
    const again = await psql("SELECT 1", ["--identity-token-file", file]);
    assert.equal(again.code, 1);
    assert.match(again.stderr, /carol is revoked: The contract ended in May.*WEIR_(CONTROL_REFUSED|IDENTITY_REVOKED)/);
    await agent.kill("SIGKILL");
    await agent.restart();
    const after = await psql("SELECT 1", ["--identity-token-file", file]);
    assert.match(after.stderr, /carol is revoked/);
    const list = await agent.weir(["revoke", "--list"]);
    assert.match(list.stdout, /revoked {2}carol of every issuer by uid 0 .* The contract ended in May/);

    const all = await entries();
    const text = JSON.stringify(all);
    assert.match(text, /WEIR_IDENTITY_REVOKED: identity carol of every issuer by uid 0/);
    const ended = all.filter(({ type, fields }) => type === "Refused" && fields["code"] === "WEIR_IDENTITY_REVOKED");
    assert.ok(ended.length >= 1, "the session's own record says why it ended");
    assert.ok(
      all.some(({ fields }) => fields["rule"] === "identity" && fields["action"] === "deny"),
      "and the next refused",
    );

    assert.equal((await agent.weir(["revoke", "--undo", "carol"])).code, 0);
    assert.equal((await psql("SELECT count(*) FROM t", ["--identity-token-file", file])).code, 0);
  });

  test("revoking one session ends it and its run, not the person", async () => {
    const file = await tokenFile("dave");
    const live = start(
      ["--identity-token-file", file],
      ["sh", "-c", "psql -X -c 'SELECT pg_sleep(601)'; psql -X -c 'SELECT 1'"],
    );
    const done = collect(live);
    await until(() => server.statementLog().includes("pg_sleep(601)"));
    const starts = (await entries()).filter(
      ({ type, fields }) => type === "SessionStart" && /dave/.test(JSON.stringify(fields)),
    );
    const id = starts.at(-1)?.session ?? "";
    const revoked = await agent.weir(["revoke", id, "--reason", "odd"]);
    assert.match(revoked.stdout, /1 flow ended/, revoked.stderr);
    const ran = await done;
    assert.match(ran.stderr, /session .* was revoked: odd/);
    assert.equal(ran.stdout.includes("1 row"), false, "nothing more came out of that run");
    assert.equal((await psql("SELECT 42", ["--identity-token-file", file])).code, 0, "dave himself may come again");
  });

  test("a client that reads nothing does not keep a revoked flow open", async (t) => {
    const file = await tokenFile("dave");
    const words = ["psql", "-X", "-c", "SELECT repeat('x', 1000) FROM generate_series(1, 2000000)"];
    const stuck = start(["--identity-token-file", file], words);
    stuck.stdout.pause();
    const backends = `SELECT count(*) FROM pg_stat_activity WHERE query LIKE '%2000000%' AND pid <> pg_backend_pid()`;
    // The server waits because nobody takes what it sends.
    const waiting = `${backends} AND wait_event = 'ClientWrite'`;
    await until(async () => (await server.admin(waiting)) !== "0");
    stuck.kill("SIGSTOP");
    const begun = performance.now();
    assert.match((await agent.weir(["revoke", "dave"])).stdout, /1 flow ended/);
    const saidMs = performance.now() - begun;
    await until(async () => (await server.admin(backends)) === "0");
    const goneMs = performance.now() - begun;
    t.diagnostic(`weir revoke took ${saidMs.toFixed(0)} ms, the server's end was gone after ${goneMs.toFixed(0)} ms`);
    stuck.kill("SIGCONT");
    stuck.kill("SIGKILL");
    assert.equal((await agent.weir(["revoke", "--undo", "dave"])).code, 0);
  });

  test("the record of all that verifies", async () => {
    const ran = await agent.weir(["verify"]);
    assert.equal(ran.code, 0, ran.stdout + ran.stderr);
  });
});
