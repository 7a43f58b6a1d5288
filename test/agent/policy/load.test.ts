/** Broken policies from broken.yaml, each with all its sentences; merging, digest, limits. */
import assert from "node:assert/strict";
import { readFileSync } from "node:fs";
import { join } from "node:path";
import { describe, test } from "node:test";
import { parse } from "yaml";
import { wrongWithJsonPath } from "../../../agent/policy/json-path.ts";
import { loadPolicy, type PolicyText } from "../../../agent/policy/load.ts";
import type { Policy } from "../../../agent/policy/policy.ts";
import { policySchema } from "../../../agent/policy/schema.ts";
import { sourceBytesMax } from "../../../agent/policy/source.ts";
import { detectorNames } from "../../../agent/policy/words.ts";

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

test("credentials of targets over HTTP, with Vault among their sources", () => {
  const policy = load(`
apiVersion: weir/v1
targets:
  a: { protocol: openai, hosts: a, credential: { bearer: { vault: { address: "https://v:8200/", mount: m, path: p/q, field: f, token: { file: /t } } } } }
  b: { protocol: http, hosts: b, credential: { header: { name: x-api-key, value: { env: K } } } }
  c: { protocol: mcp, hosts: c, ports: [80, 443], credential: { query: { name: key, value: { exec: [pass, k] } } } }
  d: { protocol: grpc, hosts: d, credential: { basic: { user: u, password: { env: P } } } }
  e:
    protocol: bedrock
    hosts: e
    credential: { sigv4: { accessKeyId: { env: A }, secretAccessKey: { env: S }, region: eu-west-1, service: bedrock } }
  f: { protocol: http, hosts: f }
`);
  assert.deepEqual(
    policy.targets.map((target) => target.httpCredential),
    [
      {
        kind: "bearer",
        token: {
          from: "vault",
          address: "https://v:8200",
          mount: "m",
          path: "p/q",
          field: "f",
          token: { from: "file", path: "/t" },
        },
      },
      { kind: "header", name: "x-api-key", value: { from: "env", name: "K" } },
      { kind: "query", name: "key", value: { from: "exec", command: ["pass", "k"] } },
      { kind: "basic", user: "u", password: { from: "env", name: "P" } },
      {
        kind: "sigv4",
        accessKeyId: { from: "env", name: "A" },
        secretAccessKey: { from: "env", name: "S" },
        sessionToken: null,
        region: "eu-west-1",
        service: "bedrock",
      },
      null,
    ],
  );
  assert.ok(policy.targets.every((target) => target.credential === null));
});

test("ports that a protocol has by default; a credential goes to no plain-text port that is not named", () => {
  const protocols = ["postgres", "http", "llm", "openai", "anthropic", "gemini", "bedrock", "ollama", "mcp", "grpc"];
  const policy = load(
    `apiVersion: weir/v1\ntargets:\n${protocols.map((protocol) => `  ${protocol}: { protocol: ${protocol}, hosts: ${protocol}.test }`).join("\n")}\n` +
      "  key: { protocol: http, hosts: key.test, credential: { bearer: { env: K } } }\n" +
      "  plain: { protocol: http, hosts: plain.test, ports: 80, credential: { bearer: { env: K } } }\n",
  );
  assert.deepEqual(Object.fromEntries(policy.targets.map(({ name, ports }) => [name, ports])), {
    postgres: [5432],
    http: [80, 443],
    llm: [443],
    openai: [443],
    anthropic: [443],
    gemini: [443],
    bedrock: [443],
    ollama: [11434, 443],
    mcp: [80, 443],
    grpc: [443],
    key: [443],
    plain: [80],
  });
});

test("detectors of the policy's own are named, not read; rules and masks know them across files", () => {
  const policy = load(
    `apiVersion: weir/v1
detectors:
  ids: { words: { file: /nowhere/ids.txt } }
  few: { words: [alpha, beta] }
  code: { source: { directories: [/nowhere] } }
  any-code: { source: {} }
  bounded: { regex: "PRJ-[0-9]{6}", max: 32 }
  unbounded: { regex: "PRJ-[0-9]+", max: 32 }
  secrets: { keys: [password, "*_token"] }
  prints: { source: { fingerprints: code.prints } }
`,
    `apiVersion: weir/v1
rules:
  - { name: a, mask: [{ detector: [ids, ssn, ids] }, { detector: code, with: hash }, { json: "$..a" }] }
  - { name: b, redact: [{ detector: [email, few] }, { detector: all, with: null }] }
`,
  );
  assert.deepEqual(policy.detectors[0]?.place, { file: "0.yaml", line: 3, column: 3 });
  const bare = policy.detectors.map(({ place: _, ...detector }) => detector);
  assert.deepEqual(bare, [
    { kind: "words", name: "ids", file: "/nowhere/ids.txt", words: [] },
    { kind: "words", name: "few", file: null, words: ["alpha", "beta"] },
    { kind: "source", name: "code", directories: ["/nowhere"], fingerprints: null },
    { kind: "source", name: "any-code", directories: [], fingerprints: null },
    { kind: "regex", name: "bounded", expression: "PRJ-[0-9]{6}", charactersMax: 10 },
    { kind: "regex", name: "unbounded", expression: "PRJ-[0-9]+", charactersMax: 32 },
    { kind: "keys", name: "secrets", keys: ["password", "*_token"] },
    { kind: "source", name: "prints", directories: [], fingerprints: "code.prints" },
  ]);
  const derived = "detect" as const;
  assert.deepEqual(policy.rules[0]?.masks, [
    { rule: "a", column: null, detectors: ["ssn"], custom: ["ids"], with: "redact", derived },
    { rule: "a", column: null, detectors: [], custom: ["code"], with: "hash", derived },
    { rule: "a", column: null, detectors: null, json: "$..a", with: "redact", derived },
  ]);
  assert.deepEqual(policy.rules[1]?.redactions, [
    { rule: "b", detectors: ["email"], custom: ["few"], with: "placeholder" },
    { rule: "b", detectors: detectorNames, custom: [], with: "null" },
  ]);
});

test("JSON paths that masks may use are those that the masker reads", async () => {
  const { compileJsonPath } = await import("../../../agent/wire/http/json-path.ts");
  const good = [
    "$.a",
    "$..ssn",
    "$.customers[*].ssn",
    "$['e-mail'][0]..*",
    '$["a b"].c',
    "$..[0]",
    "$.*",
    "$.a['b','c']",
  ];
  const bad = ["a", "$", "$.", "$.a..", "$[", "$[-1]", "$[1:2]", "$[?@.a]", "$.a b", "$.a-b", `$${".a".repeat(31)}`];
  for (const path of good) {
    assert.equal(wrongWithJsonPath(path), null, path);
    assert.ok("segments" in compileJsonPath(path), path);
  }
  for (const path of bad) assert.notEqual(wrongWithJsonPath(path), null, path);
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
  // Keywords and everything of requests hang on no parameter; detectors look at parameters too.
  assert.equal(cacheable('{ keyword: x, path: "/a", tokens: { over: 5 }, when: "op.tokens > 5" }'), true);
  assert.equal(cacheable("{ detector: ssn }"), false);
});

test("policies/schema.json is the schema that the agent uses", () => {
  const file = join(import.meta.dirname, "../../../policies/schema.json");
  assert.deepEqual(
    JSON.parse(readFileSync(file, "utf8")),
    JSON.parse(JSON.stringify(policySchema)),
    "write it with `weir policy schema > policies/schema.json`",
  );
});
