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
