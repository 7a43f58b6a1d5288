/** Broken policies from broken.yaml, each with all its sentences; merging, digest, limits. */
import assert from "node:assert/strict";
import { readFileSync } from "node:fs";
import { join } from "node:path";
import { describe, test } from "node:test";
import { parse } from "yaml";
import { loadPolicy, type PolicyText } from "../../../agent/policy/load.ts";
import type { Policy } from "../../../agent/policy/policy.ts";
import { policySchema } from "../../../agent/policy/schema.ts";
import { sourceBytesMax } from "../../../agent/policy/source.ts";

interface Broken {
  name: string;
  text: string;
  errors: string[];
}

function errorsOf(...texts: PolicyText[]): string[] {
  const result = loadPolicy(texts);
  return "errors" in result ? result.errors.map(String) : [];
}

function load(...texts: string[]): Policy {
  const result = loadPolicy(texts.map((text, i) => ({ file: `${i}.yaml`, text })));
  if ("errors" in result) throw new Error(result.errors.join("\n"));
  return result.policy;
}

describe("a broken policy", () => {
  const table = parse(readFileSync(join(import.meta.dirname, "broken.yaml"), "utf8")) as Broken[];
  for (const { name, text, errors } of table) {
    test(name, () => assert.deepEqual(errorsOf({ file: "p.yaml", text }), errors));
  }
});

test("a policy of several files has their targets and rules in order", () => {
  const policy = load(
    "apiVersion: weir/v1\ntargets: { a: { protocol: postgres, hosts: a } }\nrules: [{ name: one, verdict: deny }]",
    "apiVersion: weir/v1\ntargets: { b: { protocol: postgres, hosts: b } }\nrules: [{ name: two, match: { target: a }, verdict: allow }]",
  );
  assert.deepEqual(
    policy.targets.map((target) => target.name),
    ["a", "b"],
  );
  assert.deepEqual(
    policy.rules.map((rule) => rule.name),
    ["one", "two"],
  );
});

test("files that contradict each other are refused", () => {
  const a = {
    file: "a.yaml",
    text: "apiVersion: weir/v1\nmode: report\ntargets: { t: { protocol: postgres, hosts: a } }\nrules:\n  - { name: r, verdict: deny }\n",
  };
  const b = {
    file: "b.yaml",
    text: "apiVersion: weir/v1\ntargets: { t: { protocol: postgres, hosts: b } }\nmode: enforce\nrules:\n  - { name: r, verdict: allow }\n",
  };
  assert.deepEqual(errorsOf(a, b), [
    "b.yaml:3:7: mode is enforce here and report in a.yaml.",
    "b.yaml:2:12: There is a target named t already, in a.yaml:3.",
    "b.yaml:5:7: There is a rule named r already, in a.yaml:5.",
  ]);
});

test("no file is no policy", () => {
  assert.deepEqual(errorsOf(), ["policy:1:1: No policy file was given."]);
});

test("a file above its limit is refused before it is parsed", () => {
  const text = `apiVersion: weir/v1\n#${"x".repeat(sourceBytesMax)}`;
  assert.deepEqual(errorsOf({ file: "p.yaml", text }), [
    `p.yaml:1:1: The file is larger than ${sourceBytesMax} bytes.`,
  ]);
});

test("deep nesting is refused before the parser's recursion", () => {
  const wanted = ["p.yaml:1:1: The file nests deeper than 64 levels."];
  assert.deepEqual(errorsOf({ file: "p.yaml", text: "[".repeat(100_000) }), wanted);
  assert.deepEqual(errorsOf({ file: "p.yaml", text: "- ".repeat(100_000) }), wanted);
});

test("what is not said has its default", () => {
  const policy = load("apiVersion: weir/v1\ntargets: { a: { protocol: postgres, hosts: DB.Internal. } }");
  assert.equal(policy.mode, "enforce");
  assert.deepEqual(policy.defaults, {
    egress: "deny",
    operation: "allow",
    undecodable: "deny",
    approval: { timeoutMs: 600_000, onTimeout: "deny" },
  });
  assert.deepEqual(policy.record, { durability: "process" });
  assert.deepEqual(policy.targets[0], {
    name: "a",
    protocol: "postgres",
    hosts: [{ kind: "name", name: "db.internal" }],
    ports: [5432],
    tls: { verify: "full", ca: null, clientCertificate: null, serverName: null },
    credential: null,
  });
});

test("a credential says where its secrets come from", () => {
  const policy = load(
    "apiVersion: weir/v1\ntargets: { a: { protocol: postgres, hosts: a, credential: { user: u, password: { exec: [pass, show, a] }, clientPassword: { env: P } } } }",
  );
  assert.deepEqual(policy.targets[0]?.credential, {
    user: "u",
    password: { from: "exec", command: ["pass", "show", "a"] },
    clientPassword: { from: "env", name: "P" },
  });
});

test("the digest is that of the meaning, not of the writing", () => {
  const a = load("apiVersion: weir/v1\nmode: enforce\nrules:\n  - name: a\n    verdict: deny\n    reason: No.\n");
  const b = load("# a comment\nrules: [{ reason: No., verdict: deny, name: a }]\napiVersion: weir/v1\n");
  const c = load("apiVersion: weir/v1\nrules: [{ reason: Yes., verdict: deny, name: a }]\n");
  assert.match(a.digest, /^[0-9a-f]{64}$/);
  assert.equal(a.digest, b.digest);
  assert.notEqual(a.digest, c.digest);
});

test("a decision may be used again unless a rule looks at parameters or sizes", () => {
  const cacheable = (match: string): boolean =>
    load(`apiVersion: weir/v1\nrules: [{ name: a, match: ${match}, verdict: deny }]`).cacheable;
  assert.equal(cacheable("{ verb: drop }"), true);
  assert.equal(cacheable("{ when: 'op.text.contains(\"x\")' }"), true);
  assert.equal(cacheable("{ when: 'op.bytes > 5' }"), false);
  assert.equal(cacheable("{ when: 'op.parameters.exists(p, p == \"x\")' }"), false);
  assert.equal(cacheable("{ bytes: { over: 5 } }"), false);
});

test("policies/schema.json is the schema that the agent uses", () => {
  const file = join(import.meta.dirname, "../../../policies/schema.json");
  assert.deepEqual(
    JSON.parse(readFileSync(file, "utf8")),
    JSON.parse(JSON.stringify(policySchema)),
    "write it with `weir policy schema > policies/schema.json`",
  );
});
