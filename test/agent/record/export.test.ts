/** Requests over HTTP as OCSF and CEF have them; databases as before. */
import assert from "node:assert/strict";
import { test } from "node:test";
import type { HttpFacts, Operation } from "../../../agent/core/operation.ts";
import type { EntryBody } from "../../../agent/core/record.ts";
import { cefLines } from "../../../agent/record/cef.ts";
import { Chain, decodeEntry } from "../../../agent/record/chain.ts";
import { ocsfChain } from "../../../agent/record/ocsf.ts";
import { type ReadEntry, simplify } from "../../../agent/record/read.ts";
import { answer, flow, operation, result, sessionEnd } from "./sample.ts";

const http: HttpFacts = {
  method: "POST",
  scheme: "https",
  host: "api.openai.com",
  path: "/v1/chat/completions",
  query: "",
  contentType: "application/json",
};

const request = (id: number, fields: Partial<Operation>, denied = false): EntryBody =>
  operation(id, "what was said", denied ? { action: "deny" } : {}, {
    kind: "request",
    user: "",
    database: "",
    parameters: [],
    verbs: [],
    protocol: "http",
    http,
    ...fields,
  });

const llm = {
  provider: "anthropic",
  api: "messages",
  model: "claude-x",
  stream: true,
  tools: ["weather"],
  tokens: 12,
  outputTokensMax: null,
  prompt: "what was said",
} as const;

const bodies: EntryBody[] = [
  { type: "session-start", flow: flow("s"), target: "api", protocol: "llm" },
  request(1, { http: { ...http, method: "PUT", path: "/a=b|c", query: "q=1" }, bytes: 77 }),
  answer(1, { status: 201 }),
  request(2, { protocol: "llm", llm }),
  answer(2, { status: 200, inputTokens: 11, outputTokens: 7, toolCalls: ["weather"], text: "sunny" }),
  request(3, { protocol: "mcp", mcp: { method: "tools/call", name: "find", arguments: {} } }, true),
  request(4, { protocol: "mcp", mcp: { method: "tools/list", name: "", arguments: null } }),
  request(5, { protocol: "grpc", grpc: { service: "a.B", method: "Get", message: null } }),
  request(6, { http: { ...http, method: "BREW" }, bytes: Number.MAX_SAFE_INTEGER }),
  operation(7, "SELECT 1"),
  result(7, 3),
  sessionEnd,
];

function entries(): ReadEntry[] {
  const chain = new Chain("agent");
  return bodies.map((body) => simplify(decodeEntry(Buffer.from(chain.append("s", body, 1_790_000_000_123)))));
}

type Event = Record<string, unknown> & { metadata: { profiles: string[] }; unmapped: Record<string, unknown> };

test("OCSF: classes, activities and profiles", () => {
  const { eventOf: event } = ocsfChain();
  const events = entries().map((entry) => event(entry) as Event);
  assert.deepEqual(
    events.map(({ class_uid, activity_id, activity_name, metadata }) => [
      class_uid,
      activity_id,
      activity_name,
      metadata.profiles.includes("ai_operation"),
    ]),
    [
      [4001, 1, undefined, false],
      [4002, 7, undefined, false],
      [4002, 99, "Result", false],
      [6003, 99, "messages", true],
      [6003, 99, "Result", true],
      [6003, 99, "tools/call find", true],
      [6003, 2, undefined, true],
      [6003, 99, "Get", false],
      [4002, 99, "BREW", false],
      [6005, 4, undefined, false],
      [6005, 99, "Result", false],
      [4001, 2, undefined, false],
    ],
  );
  for (const { type_uid, class_uid, activity_id } of events)
    assert.equal(type_uid, Number(class_uid) * 100 + Number(activity_id));
  // API Activity has to have these.
  for (const event of events.filter(({ class_uid }) => class_uid === 6003)) {
    assert.ok(event["actor"] !== undefined && event["src_endpoint"] !== undefined);
    assert.equal(typeof (event["api"] as { operation: unknown }).operation, "string");
  }
});

test("OCSF: what a request and its answer say", () => {
  const { eventOf: event } = ocsfChain();
  const events = entries().map((entry) => event(entry) as Event);
  assert.deepEqual(events[1]?.["http_request"], {
    uid: "1",
    http_method: "PUT",
    body_length: 77,
    url: {
      scheme: "https",
      hostname: "api.openai.com",
      path: "/a=b|c",
      query_string: "q=1",
      url_string: "https://api.openai.com/a=b|c?q=1",
    },
  });
  assert.deepEqual(events[2]?.["http_response"], { code: 201, length: 512, latency: 42 });
  assert.deepEqual(events[3]?.["ai_model"], { name: "claude-x", ai_provider: "Anthropic" });
  assert.deepEqual(events[3]?.unmapped["tools"], ["weather"]);
  assert.equal(events[3]?.unmapped["text"], "what was said");
  assert.deepEqual(events[4]?.["message_context"], {
    service: { name: "api.openai.com" },
    ai_role_id: 2,
    prompt_tokens: 11,
    completion_tokens: 7,
    total_tokens: 18,
  });
  assert.deepEqual(events[4]?.unmapped["tool_calls"], ["weather"]);
  assert.equal(events[4]?.unmapped["text"], "sunny");
  assert.deepEqual([events[5]?.["action"], events[5]?.["disposition"]], ["Denied", "Blocked"]);
  assert.equal(Object.hasOwn(events[8]?.["http_request"] ?? {}, "body_length"), false);
});

test("CEF: a URL where there is one, escaped", () => {
  const line = cefLines();
  const lines = entries().map(line);
  assert.match(lines[1] ?? "", / app=http requestMethod=PUT request=https:\/\/api\.openai\.com\/a\\=b\|c\?q\\=1$/);
  assert.match(lines[3] ?? "", / app=llm .* cs5Label=model cs5=claude-x cs6Label=text cs6=what was said$/);
  assert.match(lines[4] ?? "", / cfp1Label=inputTokens cfp1=11 cfp2Label=outputTokens cfp2=7 /);
  assert.match(lines[5] ?? "", /^CEF:0\|Weir\|Weir\|[\d.]+\|Operation\|request deny\|6\|.* cs5=tools\/call find /);
  assert.match(lines[7] ?? "", / cs5Label=rpc cs5=a\.B\/Get /);
  assert.match(lines[9] ?? "", / request=SELECT 1$/);
});
