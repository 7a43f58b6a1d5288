/** `weir policy`: what it prints and how it exits. */
import assert from "node:assert/strict";
import { mkdtempSync, rmSync, writeFileSync } from "node:fs";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { Writable } from "node:stream";
import { after, test } from "node:test";
import { run } from "../../../agent/commands/policy.ts";

const dir = mkdtempSync(join(tmpdir(), "weir-policy-"));
after(() => rmSync(dir, { recursive: true }));

const good = join(dir, "good.yaml");
const bad = join(dir, "bad.yaml");
writeFileSync(
  good,
  "apiVersion: weir/v1\ntargets: { db: { protocol: postgres, hosts: any } }\nrules:\n  - { name: no-drop, match: { verb: drop }, verdict: deny, reason: No. }\n",
);
writeFileSync(bad, "apiVersion: weir/v1\nruels: []\n");
const cases = join(dir, "good.cases.yaml");
writeFileSync(
  cases,
  "cases:\n  - { name: drop, sql: drop table x, expect: { action: deny, rule: no-drop } }\n  - { name: read, sql: select 1, expect: { action: allow } }\n",
);

async function weir(...args: string[]): Promise<{ code: number; out: string; err: string }> {
  const texts = { out: "", err: "" };
  const sink = (name: "out" | "err") =>
    new Writable({
      write(chunk, _, done) {
        texts[name] += String(chunk);
        done();
      },
    });
  const code = await run(args, { stdout: sink("out"), stderr: sink("err"), env: {}, stateDir: dir });
  return { code, ...texts };
}

test("a file that cannot be read: why", async () => {
  await assert.rejects(weir("check", "/nowhere/policy.yaml"), /policy\.yaml: cannot be read: there is no such file\.$/);
  await assert.rejects(
    weir("check", "/etc/passwd/policy.yaml"),
    /cannot be read: a part of its path is no directory\.$/,
  );
});

test("check", async () => {
  const checked = await weir("check", good);
  assert.equal(checked.code, 0);
  assert.match(checked.out, /^ok: mode enforce, 1 target, 1 rule, digest [0-9a-f]{16}\n$/);
  assert.deepEqual(await weir("check", bad), {
    code: 2,
    out: "",
    err: `${bad}:2:1: Unknown key \`ruels\` in the policy; did you mean \`rules\`?\n`,
  });
  const json = await weir("check", bad, "--json");
  assert.deepEqual(JSON.parse(json.out), {
    ok: false,
    problems: [{ file: bad, line: 2, column: 1, message: "Unknown key `ruels` in the policy; did you mean `rules`?" }],
  });
  assert.equal(JSON.parse((await weir("check", "--json", good)).out).ok, true);
});

test("test", async () => {
  assert.deepEqual(await weir("test", good), { code: 0, out: "2 of 2 cases hold\n", err: "" });
  assert.deepEqual(await weir("test", cases), { code: 0, out: "2 of 2 cases hold\n", err: "" });
  const failing = join(dir, "failing");
  writeFileSync(`${failing}.yaml`, "apiVersion: weir/v1\ntargets: { db: { protocol: postgres, hosts: any } }\n");
  writeFileSync(`${failing}.cases.yaml`, "cases: [{ name: drop, sql: drop table x, expect: { action: deny } }]\n");
  const { code, out } = await weir("test", `${failing}.yaml`);
  assert.equal(code, 1);
  assert.equal(out, `not ok  ${failing}.cases.yaml: drop: action is "allow", expected "deny"\n0 of 1 cases hold\n`);
});

test("explain", async () => {
  const denied = await weir("explain", good, "--sql", "DROP TABLE x");
  assert.equal(denied.code, 1);
  assert.match(denied.out, /match {3}no-drop: deny: it decides\nverdict {3}deny by no-drop: No\.\n/);
  const allowed = await weir("explain", good, "--sql", "SELECT 1", "--user", "root", "--json");
  assert.equal(allowed.code, 0);
  const { verdict, trace, operation } = JSON.parse(allowed.out);
  assert.equal(verdict.rule, "defaults.operation");
  assert.deepEqual(trace, [{ rule: "no-drop", matched: false, why: "verb is select, it wants drop" }]);
  assert.equal(operation.user, "root");
});

test("wrong use", async () => {
  assert.equal((await weir("--help")).code, 0);
  assert.equal((await weir()).code, 2);
  const usage = { code: "WEIR_USAGE" };
  await assert.rejects(weir("chek", good), usage);
  await assert.rejects(weir("check"), usage);
  await assert.rejects(weir("check", good, "--jsn"), usage);
  await assert.rejects(weir("explain", good), usage);
  await assert.rejects(weir("explain", good, "--sql", "x", "--target", "y"), usage);
  await assert.rejects(weir("explain", good, "--sql", "x", "--kind", "y"), usage);
  await assert.rejects(weir("check", join(dir, "none.yaml")), { code: "WEIR_POLICY_INVALID" });
});

test("schema", async () => {
  assert.equal(JSON.parse((await weir("schema")).out).title, "Weir policy");
});

test("requests: explain asks about HTTP, a model's call and a tool", async () => {
  const file = join(dir, "requests.yaml");
  writeFileSync(
    file,
    `apiVersion: weir/v1
targets: { api: { protocol: http, hosts: api.example } }
rules:
  - { name: puts, match: { method: PUT, path: /a, bytes: { over: 10 } }, verdict: deny }
  - { name: keys, match: { detector: github-token }, verdict: deny }
  - { name: long, match: { tokens: { over: 10 }, model: gpt-5, tool: shell }, verdict: hold }
  - { name: find, match: { tool: find, argument: { id: 7 } }, verdict: deny }
`,
  );
  const rule = async (...args: string[]): Promise<string> => {
    const { out } = await weir("explain", file, "--json", ...args);
    return (JSON.parse(out) as { verdict: { rule: string } }).verdict.rule;
  };
  assert.equal(await rule("--http", "PUT https://api.example/a?b=c", "--bytes", "11"), "puts");
  assert.equal(await rule("--http", "PUT /a", "--bytes", "unknown"), "puts");
  assert.equal(await rule("--http", "PUT /a"), "defaults.operation");
  assert.equal(await rule("--prompt", "ghp_0123456789abcdefghijklmnopqrstuvwxyz"), "keys");
  assert.equal(await rule("--prompt", "x", "--tokens", "11", "--model", "gpt-5", "--offers", "a,shell"), "long");
  assert.equal(await rule("--tool", "find", "--arguments", '{"id":7}'), "find");
  const wrong = [["--http", "put"], ["--bytes", "x", "--http", "PUT /"], ["--tool", "a", "--arguments", "{"], []];
  for (const args of wrong) await assert.rejects(weir("explain", file, ...args), { code: "WEIR_USAGE" });
});

test("requests: explain asks the target that the host leads to, and says when there is none", async () => {
  const file = join(dir, "hosts.yaml");
  const text = `apiVersion: weir/v1
targets:
  one: { protocol: http, hosts: one.example }
  net: { protocol: http, hosts: [10.0.0.0/8, "fd00::/8"], ports: [8080] }
  two: { protocol: openai, hosts: "*.two.example" }
rules:
  - { name: two, match: { target: two }, verdict: deny }
`;
  writeFileSync(file, text);
  const told = async (url: string, from = file) => {
    const { code, out } = await weir("explain", from, "--http", `GET ${url}`);
    return `${code} ${/^target {4}(\S+)/.exec(out)?.[1]} ${/^verdict {3}(\S+ by \S+):/m.exec(out)?.[1]}`;
  };
  const allowed = "allow by defaults.operation";
  assert.equal(await told("https://one.example/x"), `0 one ${allowed}`);
  assert.equal(await told("http://10.1.2.3:8080/"), `0 net ${allowed}`);
  assert.equal(await told("http://[fd00::1]:8080/"), `0 net ${allowed}`);
  assert.equal(await told("https://a.two.example/v1"), "1 two deny by two");
  assert.equal(await told("/path"), `0 one ${allowed}`);
  for (const url of ["https://three.example/", "https://one.example:8443/", "http://10.1.2.3/"])
    assert.equal(await told(url), "1 none deny by defaults.egress");
  const open = join(dir, "open.yaml");
  writeFileSync(open, `${text}defaults: { egress: allow }\n`);
  assert.equal(await told("https://three.example/", open), "0 none allow by defaults.egress");
  await assert.rejects(weir("explain", file, "--sql", "SELECT 1"), /No target of the policy speaks postgres\./);
});

test("requests: cases give facts, and a wrong key of them is told with its place", async () => {
  const file = join(dir, "facts.yaml");
  writeFileSync(
    file,
    "apiVersion: weir/v1\ntargets: { ai: { protocol: openai, hosts: a.example } }\nrules:\n  - { name: r, match: { model: x }, verdict: deny }\n",
  );
  const told = join(dir, "facts.cases.yaml");
  writeFileSync(told, "cases:\n  - { name: a, llm: { model: x }, expect: { action: deny, rule: r } }\n");
  assert.deepEqual(await weir("test", file), { code: 0, out: "1 of 1 cases hold\n", err: "" });
  writeFileSync(told, "cases:\n  - { name: a, llm: { modle: x }, http: 5, expect: { action: deny } }\n");
  const { code, err } = await weir("test", file);
  assert.equal(code, 2);
  assert.match(err, /facts\.cases\.yaml:2:23: Unknown key `modle`; there are provider, api, model/);
  assert.match(err, /facts\.cases\.yaml:2:41: Expected a map\./);
});
