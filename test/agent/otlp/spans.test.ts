/** What a span says of an operation, and what it never says. */
import assert from "node:assert/strict";
import { type TestContext, test } from "node:test";
import type { HttpFacts, Operation } from "../../../agent/core/operation.ts";
import type { EntryBody } from "../../../agent/core/record.ts";
import { SpanMaker } from "../../../agent/otlp/spans.ts";
import { readEntries } from "../../../agent/record/read.ts";
import { openRecorder } from "../../../agent/record/recorder.ts";
import { flow, operation, result, sessionA, sessionB, sessionEnd, tempDir } from "../record/sample.ts";

const canary = "s3cret-canary";
const traceId = "0af7651916cd43dd8448eb211c80319c";
const parent = `00-${traceId}-b7ad6b7169203331-01`;

/** Through the record, as the thread reads it. */
async function spansOf(t: TestContext, bodies: readonly EntryBody[]) {
  const dir = tempDir(t);
  let nowMs = 1_790_000_000_000;
  const recorder = await openRecorder({ stateDir: dir, now: () => nowMs });
  const identity = { subject: "ada@corp.test", issuer: "https://idp.test", groups: ["dba"] };
  const opened: EntryBody = {
    ...{ type: "session-start", target: "orders", protocol: "postgres" },
    flow: { ...flow(sessionA), identity },
  };
  for (const body of [opened, ...bodies]) {
    recorder.append(sessionA, body);
    nowMs += 10;
  }
  await recorder.close();
  const maker = new SpanMaker();
  const spans = [...readEntries(dir)].flatMap((entry) => maker.take(entry));
  return spans.map((span) => ({
    ...span,
    said: Object.fromEntries(span.attributes.map(({ key, value }) => [key, Object.values(value)[0]])),
  }));
}

const http: HttpFacts = {
  ...{ method: "POST", scheme: "https", host: "api.example", path: `/bot${canary}/send`, query: `key=${canary}` },
  contentType: "application/json",
};
const request = (id: number, fields: Partial<Operation>): EntryBody =>
  operation(
    id,
    `the text with ${canary}`,
    { reason: `because of ${canary}` },
    {
      ...{ kind: "request", protocol: "http", verbs: ["post"], relations: [], parameters: [canary], http, ...fields },
    },
  );
const answer = (id: number, details: object): EntryBody => ({
  ...{ type: "result", operationId: id, tag: canary, rows: 0, bytes: 10, masked: 0, durationMs: 1, error: null },
  details: JSON.stringify(details),
});

test("a statement: from its verdict to its result, in the words of the conventions for databases", async (t) => {
  const [span, ...more] = await spansOf(t, [operation(1, "SELECT name FROM users"), result(1, 3), sessionEnd]);
  assert.equal(more.length, 0);
  assert.ok(span);
  assert.equal(span.name, "SELECT users");
  assert.equal(span.status.code, 0);
  assert.equal(BigInt(span.endTimeUnixNano) - BigInt(span.startTimeUnixNano), 10_000_000n);
  assert.match(span.traceId + span.spanId, /^[0-9a-f]{48}$/);
  assert.deepEqual(Object.fromEntries(Object.entries(span.said).filter(([key]) => !key.startsWith("weir."))), {
    ...{ "db.system.name": "postgresql", "db.namespace": "app", "db.operation.name": "SELECT" },
    ...{ "db.collection.name": "users", "db.query.summary": "SELECT users", "db.response.returned_rows": "3" },
    ...{ "server.address": "db.example", "server.port": "5432" },
    ...{ "network.peer.address": "10.0.0.5", "network.peer.port": "5432" },
    ...{ "process.pid": "7", "process.executable.path": "/usr/bin/psql" },
    ...{ "enduser.id": "ada@corp.test", "cicd.pipeline.run.id": "12" },
  });
  assert.deepEqual(
    [span.said["weir.verdict"], span.said["weir.rule"], span.said["weir.target"], span.said["weir.session.id"]],
    ["allow", "readers", "orders", sessionA],
  );
});

test("denied, an error of the server, never answered: an error each, and no sentence of anybody", async (t) => {
  const failed: EntryBody = {
    ...(result(2, 0) as Extract<EntryBody, { type: "result" }>),
    error: { code: "23505", message: `Key (ssn)=(${canary}) exists.` },
  };
  const spans = await spansOf(t, [
    operation(1, `DROP TABLE ${canary}`, { action: "deny", rule: "no-drop", reason: `no ${canary}` }),
    operation(2, `INSERT INTO users VALUES ('${canary}')`, {}, { parameters: [canary] }),
    failed,
    operation(3, "SELECT pg_sleep(9)"),
    sessionEnd,
  ]);
  assert.deepEqual(
    spans.map(({ status, said }) => [status.code, said["weir.verdict"], said["error.type"]]),
    [
      [2, "deny", "denied"],
      [2, "allow", "23505"],
      [2, "allow", "session_ended"],
    ],
  );
  assert.ok(!JSON.stringify(spans).includes(canary));
});

test("held: the approval is an event, and a denial ends it", async (t) => {
  const held = (id: number): EntryBody => ({
    ...(operation(id, "DELETE FROM users", { action: "hold" }) as Extract<EntryBody, { type: "operation" }>),
    approvalId: `approval-${id}`,
  });
  const decided = (id: number, decision: "approved" | "denied"): EntryBody => ({
    ...{ type: "approval", operationId: id, approvalId: `approval-${id}`, decision, by: canary, reason: canary },
  });
  const spans = await spansOf(t, [held(1), decided(1, "approved"), result(1, 0), held(2), decided(2, "denied")]);
  assert.deepEqual(
    spans.map(({ said, events, status }) => [
      said["weir.verdict"],
      said["weir.approval.id"],
      said["error.type"],
      events.map(({ name, attributes: [first] }) => [name, first?.value.stringValue]),
      status.code,
    ]),
    [
      ["hold", "approval-1", undefined, [["weir.approval", "approved"]], 0],
      ["deny", "approval-2", "approval_denied", [["weir.approval", "denied"]], 2],
    ],
  );
  assert.ok(!JSON.stringify(spans).includes(canary));
});

test("requests, models, tools and gRPC, each in its own words; no path, prompt, argument or answer", async (t) => {
  const spans = await spansOf(t, [
    request(1, {}),
    answer(1, { status: 404 }),
    request(2, {
      protocol: "llm",
      llm: {
        ...{ provider: "bedrock", api: "messages", model: "claude", stream: true, tools: [canary], tokens: 9 },
        ...{ outputTokensMax: 100, prompt: canary },
      },
    }),
    answer(2, { status: 200, inputTokens: 11, outputTokens: 22, text: canary, toolCalls: [canary] }),
    request(3, { protocol: "mcp", mcp: { method: "tools/call", name: "describe_customer", arguments: canary } }),
    answer(3, { status: 200 }),
    request(4, { protocol: "mcp", mcp: { method: "resources/read", name: `file:///${canary}`, arguments: null } }),
    answer(4, { status: 200 }),
    request(5, { protocol: "grpc", grpc: { service: "pkg.Orders", method: "List", message: canary } }),
    answer(5, { status: 200 }),
    request(6, { http: { ...http, method: `X-${canary}` } }),
    answer(6, { status: 200 }),
  ]);
  const keys = [
    ...["http.request.method", "http.response.status_code", "error.type", "server.address"],
    ...["gen_ai.operation.name", "gen_ai.provider.name", "gen_ai.request.model", "gen_ai.usage.output_tokens"],
    ...["mcp.method.name", "gen_ai.tool.name", "rpc.system", "rpc.service", "rpc.method"],
  ];
  assert.deepEqual(
    spans.map(({ name, said }) => [name, ...keys.flatMap((key) => (said[key] === undefined ? [] : [said[key]]))]),
    [
      ["POST", "POST", "404", "404", "api.example"],
      ["chat claude", "POST", "200", "api.example", "chat", "aws.bedrock", "claude", "22"],
      ["tools/call describe_customer", "POST", "200", "api.example", "execute_tool", "tools/call", "describe_customer"],
      ["resources/read", "POST", "200", "api.example", "resources/read"],
      ["pkg.Orders/List", "POST", "200", "api.example", "grpc", "pkg.Orders", "List"],
      ["HTTP", "_OTHER", "200", "api.example"],
    ],
  );
  assert.ok(!JSON.stringify(spans).includes(canary));
});

test("traceparent of a request, or in a statement's comment, is the parent; what was not sampled is not told", async (t) => {
  const unsampled = parent.replace(/01$/, "00");
  const spans = await spansOf(t, [
    request(1, { http: { ...http, traceparent: parent } }),
    answer(1, { status: 200 }),
    operation(2, `SELECT 1 /*action='x',traceparent='${parent}'*/`),
    result(2, 1),
    request(3, { http: { ...http, traceparent: unsampled } }),
    answer(3, { status: 200 }),
    request(4, { http: { ...http, traceparent: parent.replace(traceId, "0".repeat(32)) } }),
    answer(4, { status: 200 }),
    operation(5, `SELECT '${parent}'`),
    result(5, 1),
  ]);
  assert.deepEqual(
    spans.map((span) => [span.said["weir.operation.id"], span.traceId === traceId, span.parentSpanId]),
    [
      ["1", true, "b7ad6b7169203331"],
      ["2", true, "b7ad6b7169203331"],
      ["4", false, undefined],
      ["5", false, undefined],
    ],
  );
  assert.equal(new Set(spans.map(({ spanId }) => spanId)).size, 4);
});

test("an entry that is read twice is one span; operations of two sessions are two", async (t) => {
  const bodies = [operation(1, "SELECT 1"), result(1, 1)];
  const dir = tempDir(t);
  const recorder = await openRecorder({ stateDir: dir });
  for (const session of [sessionA, sessionB]) for (const body of bodies) recorder.append(session, body);
  await recorder.close();
  const ids = (): string[] => {
    const maker = new SpanMaker();
    return [...readEntries(dir)].flatMap((entry) => maker.take(entry)).map((span) => span.traceId + span.spanId);
  };
  assert.equal(new Set([...ids(), ...ids()]).size, 2);
});

test("what waits is bounded, and what is forgotten is counted", () => {
  const maker = new SpanMaker();
  const entry = { agent: "a", session: "s", seq: 0, agentSeq: 0, timeMs: 1, type: "Operation" };
  for (let operationId = 0; operationId < 20_005; operationId += 1)
    maker.take({ ...entry, fields: { operationId, action: "allow", kind: "statement", protocol: "postgres" } });
  assert.equal(maker.forgotten, 5);
  assert.deepEqual(maker.take({ ...entry, type: "Result", fields: { operationId: 0 } }), []);
  assert.equal(maker.take({ ...entry, type: "Result", fields: { operationId: 20_000 } }).length, 1);
});
