/** What policies say: the table of decisions.yaml, and the properties that hold for every policy. */
import assert from "node:assert/strict";
import { readFileSync } from "node:fs";
import { join } from "node:path";
import { describe, test } from "node:test";
import { parse } from "yaml";
import { askingOf, type PolicyTestCase, runCase } from "../../../agent/policy/cases.ts";
import {
  approve,
  brokenPolicy,
  decide,
  explain,
  loadPolicy,
  type Policy,
  refuse,
} from "../../../agent/policy/index.ts";

interface Table {
  name: string;
  policy: string;
  cases: PolicyTestCase[];
}

function load(text: string): Policy {
  const result = loadPolicy([{ file: "p.yaml", text }]);
  if ("errors" in result) throw new Error(result.errors.join("\n"));
  return result.policy;
}

const noText = () => ({});
const tables = parse(readFileSync(join(import.meta.dirname, "decisions.yaml"), "utf8")) as Table[];

for (const table of tables) {
  describe(table.name, () => {
    const policy = load(table.policy);
    for (const one of table.cases) {
      // Twice: the second time the kept decision answers.
      for (const time of ["first", "again"])
        test(`${one.name}, ${time}`, () => assert.deepEqual(runCase(policy, one, noText), []));
    }
  });
}

function ask(policy: Policy, asking: Partial<PolicyTestCase> = {}) {
  const asked = askingOf(policy, asking, noText);
  if ("error" in asked) throw new Error(asked.error);
  return asked;
}

const simple = load(
  "apiVersion: weir/v1\ntargets: { db: { protocol: postgres, hosts: any } }\nrules: [{ name: r, match: { verb: drop }, verdict: hold }]",
);

test("a broken policy refuses everything, and says why", () => {
  const asked = ask(simple);
  for (const kind of ["connect", "statement", "prepare", "call", "cancel", "replication", "request"] as const) {
    const decision = decide(brokenPolicy("it was eaten"), { ...asked, operation: { ...asked.operation, kind } });
    assert.equal(decision.action, "deny");
    assert.equal(decision.verdict.rule, "policy.broken");
    assert.equal(decision.verdict.reason, "The policy cannot be used, so nothing is let through: it was eaten");
  }
});

test("a permit comes with an allow and with nothing else", () => {
  const allowed = decide(simple, ask(simple));
  const held = decide(simple, ask(simple, { operation: { verbs: ["drop"] } }));
  assert.equal(allowed.permit?.verdict, allowed.verdict);
  assert.equal(held.action, "hold");
  assert.equal(held.permit, null);
  const approved = approve(held.verdict, "Fine.");
  assert.equal(approved.permit?.verdict.action, "allow");
  assert.equal(approved.verdict.rule, "r");
  assert.equal(approved.verdict.reason, "Fine.");
  const refused = refuse(held.verdict, "Nobody decided in time.");
  assert.equal(refused.permit, null);
  assert.equal(refused.verdict.action, "deny");
  assert.equal(refused.verdict.reason, "Nobody decided in time.");
});

test("equal outcomes are one frozen value", () => {
  const first = decide(simple, ask(simple, { sql: "a" }));
  assert.equal(decide(simple, ask(simple, { sql: "b" })), first);
  assert.ok(Object.isFrozen(first) && Object.isFrozen(first.verdict));
});

test("more adding rules than there are bits are all counted", () => {
  let text = "apiVersion: weir/v1\ntargets: { db: { protocol: postgres, hosts: any } }\nrules:\n";
  for (let i = 0; i < 70; i += 1)
    text += `  - { name: r${i}, match: { relation: t${i} }, mask: [{ column: c${i} }] }\n`;
  const policy = load(text);
  const masks = (...relations: string[]) =>
    decide(policy, ask(policy, { operation: { relations } })).verdict.transforms.masks.map((mask) => mask.column);
  assert.deepEqual(masks("t3", "t69"), ["c3", "c69"]);
  assert.deepEqual(masks("t3"), ["c3"]);
  assert.deepEqual(masks("t35"), ["c35"]);
});

test("kept decisions do not mix what differs in one bit", () => {
  const policy = load(
    "apiVersion: weir/v1\ntargets: { db: { protocol: postgres, hosts: any } }\nrules:\n" +
      Array.from(
        { length: 30 },
        (_, i) => `  - { name: r${i}, match: { relation: t${i} }, mask: [{ column: c${i} }] }\n`,
      ).join(""),
  );
  for (let round = 0; round < 2; round += 1) {
    for (let i = 0; i < 30; i += 1) {
      const { verdict } = decide(policy, ask(policy, { operation: { relations: [`t${i}`] } }));
      assert.deepEqual(
        verdict.transforms.masks.map((mask) => mask.column),
        [`c${i}`],
      );
    }
  }
});

test("explain says for each rule why", () => {
  const policy = load(`
apiVersion: weir/v1
targets: { db: { protocol: postgres, hosts: any } }
rules:
  - { name: a, match: { user: root, verb: drop }, verdict: deny }
  - { name: b, match: { verb: [truncate, drop] }, verdict: deny, reason: No. }
  - { name: c, match: { groups: { not: [dba] } }, verdict: hold, mask: [{ column: "*.ssn" }] }
  - { name: d, match: { when: 'op.bytes > 5' }, verdict: deny }
  - { name: e, mode: open, verdict: deny }
`);
  const text = explain(
    policy,
    ask(policy, { operation: { verbs: ["drop"], relations: ["orders"], writes: true, bytes: 3 } }),
  );
  assert.equal(
    text,
    `target    db (postgres)
operation statement: verbs drop; relations orders; functions none; writes
traits    none
  no      a: user is app, it wants root
  match   b: deny: it decides
  match   c: hold, but an earlier rule has decided, adds 1 mask
  no      d: when is false: op.bytes > 5
  no      e: it is switched off (mode open)
verdict   deny by b: No.
mask      column *.ssn with redact, derived deny (rule c)
record    statement
`,
  );
});

test("a request and a statement with the same outcome are told of in their own words", () => {
  const policy = load(
    "apiVersion: weir/v1\ntargets: { api: { protocol: http, hosts: any }, db: { protocol: postgres, hosts: any } }",
  );
  const reason = (target: string) =>
    decide(policy, ask(policy, { target, operation: { traits: ["too-large"] } })).verdict.reason;
  for (let round = 0; round < 2; round += 1) {
    assert.match(reason("api"), /^The request /);
    assert.match(reason("db"), /^The statement /);
  }
});

test("a detector is asked with every text of the operation, and only when all else matches", () => {
  const policy = load(
    "apiVersion: weir/v1\ntargets: { crm: { protocol: mcp, hosts: any } }\n" +
      "rules: [{ name: r, match: { tool: find, detector: [ssn, email] }, verdict: deny }, { name: n, match: { tool: ask, detector: { not: ssn } }, verdict: hold }]",
  );
  const asked: string[] = [];
  const finds = (detector: string, text: string): boolean => {
    asked.push(`${detector} ${text}`);
    return text === "here";
  };
  const mcp = (name: string, given: unknown) =>
    decide(policy, { ...ask(policy, { mcp: { name, arguments: given } }), finds }).action;
  assert.equal(mcp("other", { a: "here" }), "allow");
  assert.equal(asked.length, 0);
  assert.equal(mcp("find", { a: ["no", { key: 7 }] }), "allow");
  assert.deepEqual(
    asked.filter((line) => line.startsWith("ssn")),
    ['ssn tools/call find {"a":["no",{"key":7}]}', "ssn a", "ssn no", "ssn key", "ssn 7"],
  );
  assert.equal(mcp("find", { a: { b: "here" } }), "deny");
  assert.equal(mcp("find", { here: 1 }), "deny");
  assert.equal(mcp("ask", { a: "here" }), "allow");
  assert.equal(mcp("ask", { a: "x" }), "hold");
});

test("arguments nested deeper or wider than is looked at count against the client", () => {
  const policy = load(
    "apiVersion: weir/v1\ntargets: { crm: { protocol: mcp, hosts: any } }\nrules:\n" +
      "  - { name: allowed, match: { argument: { ids: good } }, verdict: allow }\n" +
      "  - { name: ids, match: { argument: { ids: bad } }, verdict: deny }\n" +
      "  - { name: words, match: { keyword: bad }, verdict: deny }\n",
  );
  const rule = (given: unknown) => {
    const asked = ask(policy, { mcp: { name: "x", arguments: {} } });
    const { operation } = asked;
    return decide(policy, {
      ...asked,
      operation: { ...operation, mcp: { method: "tools/call", name: "x", arguments: given } },
    }).verdict.rule;
  };
  let deep: unknown = "good";
  for (let i = 0; i < 100_000; i += 1) deep = [deep];
  assert.equal(rule({ ids: deep }), "ids");
  assert.equal(rule({ ids: { inner: deep } }), "ids");
  assert.equal(rule({ other: deep }), "words");
  assert.equal(rule({ ids: new Array(20_000).fill("good") }), "ids");
  assert.equal(rule({ ids: ["x", "good"] }), "allowed");
  assert.equal(rule({ ids: "fine" }), "defaults.operation");
});

test("explain tells what a request is", () => {
  const policy = load(`
apiVersion: weir/v1
detectors: { ids: { words: [C-1] } }
targets: { ai: { protocol: anthropic, hosts: api.example } }
rules:
  - { name: a, match: { keyword: secret }, verdict: deny }
  - { name: b, match: { detector: [ids, ssn] }, verdict: deny }
  - { name: c, match: { protocol: llm }, redact: [{ detector: [email, ids] }], limit: { tokens: 10, by: model } }
`);
  const asked = ask(policy, {
    llm: { model: "claude", prompt: "Hello, you", tools: ["weather"], stream: true },
    http: { path: "/v1/messages", query: "beta=true" },
    finds: [],
  });
  assert.equal(
    explain(policy, asked),
    `target    ai (anthropic)
http      POST https://api.example/v1/messages?beta=true (application/json)
llm       anthropic chat, model claude, 3 tokens, tools weather, as a stream
operation request: verbs chat; 10 bytes; reads
traits    none
  no      a: keyword is none, it wants secret
  no      b: detector is none, it wants ids | ssn
  match   c: adds 1 redaction, adds a budget of 10 tokens
verdict   allow by defaults.operation: No rule decides this, and by default it is allowed.
redact    email, ids with placeholder (rule c)
budget    10 tokens a day by model, then deny (rule c): More than 10 tokens in a day are not let through.
record    statement
`,
  );
});
