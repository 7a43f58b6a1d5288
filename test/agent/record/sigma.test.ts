/** The Sigma rules of docs/sigma over exported events: each finds what it is for, and nothing of a quiet day. */
import assert from "node:assert/strict";
import { spawnSync } from "node:child_process";
import { existsSync, readdirSync, readFileSync } from "node:fs";
import { join, resolve } from "node:path";
import { test } from "node:test";
import type { EntryBody } from "../../../agent/core/record.ts";
import { Chain, decodeEntry } from "../../../agent/record/chain.ts";
import { lineMaker } from "../../../agent/record/formats.ts";
import { simplify } from "../../../agent/record/read.ts";
import { flow, operation, result, sessionEnd } from "./sample.ts";

const root = resolve(import.meta.dirname, "../../..");
const python = join(root, "build/venv/bin/python");
const hasPython = existsSync(python) && spawnSync(python, ["-c", "import sigma.backends.sqlite"]).status === 0;
const rules = readdirSync(join(root, "docs/sigma")).filter((name) => name.endsWith(".yml"));

const http = { method: "POST", scheme: "https", host: "api", path: "/", query: "", contentType: "" } as const;
const llm = {
  ...{ provider: "openai", api: "chat", model: "gpt-5", stream: false, tools: [], tokens: 1 },
  ...{ outputTokensMax: null, prompt: "" },
} as const;
const call = (id: number, fields: object, action: "allow" | "deny"): EntryBody =>
  operation(id, "…", { action }, { kind: "request", http, parameters: [], verbs: [], ...fields });
const tool = (name: string) => ({ protocol: "mcp", mcp: { method: "tools/call", name, arguments: {} } });
const login = (upstreamTls: boolean): EntryBody => ({
  ...{ type: "login", user: "ada", database: "app", application: "psql", clientTls: true, upstreamTls },
});
const approval = (decision: "approved" | "denied"): EntryBody => ({
  ...{ type: "approval", operationId: 1, approvalId: "a", decision, by: "grace", reason: "" },
});

/** What has to be found, by the rule that finds it. */
const loud: Readonly<Record<string, readonly EntryBody[]>> = {
  "destructive-statement-denied.yml": [operation(1, "DROP TABLE users", { action: "deny" }, { verbs: ["drop"] })],
  "bulk-read.yml": [result(1, 10_000)],
  "privilege-change.yml": [operation(2, "ALTER ROLE ada SUPERUSER", {}, { verbs: ["alter"] })],
  "login-without-tls.yml": [login(false)],
  "egress-refused.yml": [{ type: "refused", code: "WEIR_DENIED", reason: "no target", flow: flow("r") }],
  "agent-bypassed-or-interrupted.yml": [
    { type: "agent", event: "bypass-open", detail: "--on-failure open" },
    { type: "agent", event: "recovered", detail: "" },
    { type: "agent", event: "policy-rejected", detail: "" },
  ],
  "approval-denied.yml": [approval("denied")],
  "llm-call-denied.yml": [call(3, { protocol: "llm", llm }, "deny")],
  "mcp-destructive-tool.yml": [call(4, tool("delete_customer"), "allow"), call(5, tool("shell"), "deny")],
  "database-enumeration.yml": [operation(6, "SELECT datname FROM pg_database")],
};

const quiet: readonly EntryBody[] = [
  { type: "agent", event: "start", detail: "" },
  { type: "session-start", flow: flow("s"), target: "orders", protocol: "postgres" },
  login(true),
  operation(1, "SELECT name FROM users"),
  operation(2, "DELETE FROM carts WHERE old", {}, { verbs: ["delete"] }),
  operation(3, "SELECT 1", { action: "deny" }),
  result(1, 9_999),
  approval("approved"),
  call(7, { protocol: "llm", llm }, "allow"),
  call(8, tool("find_customer"), "allow"),
  call(9, { protocol: "http" }, "deny"),
  sessionEnd,
  { type: "agent", event: "stop", detail: "" },
];

test("ten rules, each of them tested here", () => {
  assert.equal(rules.length, 10);
  assert.deepEqual(Object.keys(loud).sort(), [...rules].sort());
  const ids = rules.map((name) => /^id: (\S+)$/m.exec(readFileSync(join(root, "docs/sigma", name), "utf8"))?.[1]);
  assert.equal(new Set(ids).size, 10);
  assert.ok(ids.every((id) => /^[0-9a-f]{8}(-[0-9a-f]{4}){3}-[0-9a-f]{12}$/.test(id ?? "")));
});

test("each rule finds its events, and no other", {
  skip: hasPython ? false : "pysigma is not installed: run scripts/setup --dev",
}, () => {
  const chain = new Chain("host-1");
  const maker = lineMaker("ocsf");
  const wanted = new Map<string, number[]>(rules.map((name) => [name, []]));
  const bodies = [...quiet.map((body) => ({ rule: "", body }))];
  for (const [rule, loudBodies] of Object.entries(loud)) bodies.push(...loudBodies.map((body) => ({ rule, body })));
  const lines = bodies.map(({ rule, body }, at) => {
    wanted.get(rule)?.push(at);
    return maker.lineOf(simplify(decodeEntry(Buffer.from(chain.append("s", body, 1_790_000_000_000 + at)))), true);
  });
  const paths = rules.map((name) => join(root, "docs/sigma", name));
  const script = join(import.meta.dirname, "sigma_rules.py");
  const ran = spawnSync(python, [script, ...paths], { input: lines.join("\n"), encoding: "utf8" });
  assert.equal(ran.status, 0, ran.stderr);
  assert.deepEqual(JSON.parse(ran.stdout), Object.fromEntries(wanted));
});
