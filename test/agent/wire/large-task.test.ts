/** A body that is worked on elsewhere leaves in the bytes, and the words, of one that is worked on at once. */
import assert from "node:assert/strict";
import { test } from "node:test";
import type { Verdict } from "../../../agent/core/verdict.ts";
import { bodyReader } from "../../../agent/wire/http/body-mask.ts";
import type { DialectExchange } from "../../../agent/wire/http/dialect.ts";
import {
  asBuffer,
  headData,
  type LargeDone,
  type LargeTask,
  replyHeadData,
} from "../../../agent/wire/http/large-body.ts";
import type { RequestHead, ResponseHead } from "../../../agent/wire/http/message.ts";
import { answerTo, keyOf, type Question, runLargeTask } from "../../../agent/wire/large-task.ts";
import { mcpDialect } from "../../../agent/wire/mcp/dialect.ts";
import { contextOf, maskOf, open, redactOf, replyHead, requestHead, verdictOf } from "./llm/exchange.ts";
import {
  detect,
  makeWorld,
  requestHead as mcpHead,
  path,
  post,
  refusal,
  responseHead,
  rpc,
  type World,
} from "./mcp/harness.ts";

const email = "ada.lovelace@example.com";
const chatPath = "/v1/chat/completions";
const said = (content: unknown): Buffer =>
  Buffer.from(JSON.stringify({ model: "gpt-4o", stream: true, messages: [{ role: "user", content }] }));

/** What JSON can be, and what only says that it is. */
const bodies: Readonly<Record<string, Buffer>> = {
  prose: said(`${"words of prose. ".repeat(2000)}${email} and <EMAIL_1>`),
  escapes: said(`"\\\n\u0000 ${email}\t\u2028 ä 😀`),
  "lone surrogates": Buffer.from(`{"model":"m","messages":[{"role":"user","content":"\\ud800 ${email} \\udc00"}]}`),
  "doubled keys": Buffer.from(`{"model":"a","model":"b","messages":[{"role":"user","content":"${email}"}]}`),
  "no UTF-8": Buffer.concat([
    Buffer.from(`{"model":"m","prompt":"${email} `),
    Buffer.from([0xff, 0xc3, 0x28, 0x22, 0x7d]),
  ]),
  "100,000 deep": Buffer.from(`{"a":${"[".repeat(100_000)}${"]".repeat(100_000)}}`),
  "no JSON": Buffer.from(`not JSON at all, ${email}`),
  "cut off": said(email).subarray(0, -4),
  "an array": Buffer.from(`["${email}"]`),
  "numbers beyond 2^53, spaces": Buffer.from(` { "id" : 12345678901234567890 , "x": -0, "e": 1e400, "t":"${email}" } `),
  "JSON in a string": said(JSON.stringify({ mail: email, list: [1, 2, email] })),
  "a name like __proto__": Buffer.from(`{"model":"m","__proto__":{"a":"${email}"},"messages":[]}`),
};

function clone<T>(value: T): T {
  return structuredClone(value);
}

/** By a twin, over the border that a thread is: plain data alone. */
function elsewhere(
  exchange: DialectExchange,
  head: RequestHead,
  step: LargeTask["step"],
  body: Buffer,
  world: World | null = null,
): { done: LargeDone; rounds: number } {
  const { twin } = exchange;
  assert.ok(twin !== undefined);
  const targetProtocol = twin.family === "mcp" ? "mcp" : "openai";
  const task = clone<LargeTask>({
    family: twin.family,
    targetProtocol,
    head: headData(head),
    state: twin.save(),
    body: Buffer.from(body),
    step,
  });
  const context = world?.context ?? contextOf("openai");
  const answers = new Map<string, unknown>();
  for (let rounds = 0; rounds < 10; rounds += 1) {
    const result = runLargeTask(task, { maskKey: context.maskKey, custom: new Map(), answers });
    if (!Array.isArray(result)) return { done: clone(result as LargeDone), rounds };
    for (const question of clone(result as Question[]))
      answers.set(keyOf(question), clone(answerTo(question, context)));
  }
  throw new Error("it goes on asking");
}

for (const [name, body] of Object.entries(bodies)) {
  test(`a request, ${name}: described and redacted elsewhere as here`, () => {
    const verdict = verdictOf({ redactions: [redactOf(["email", "credit-card"])] });
    const head = requestHead(chatPath);
    const [here, there] = [open(chatPath), open(chatPath)];
    const described = here.describe(body);
    const { done } = elsewhere(there, head, { do: "describe" }, body);
    assert.ok(done.is === "described");
    assert.deepEqual(done.described, described);
    there.twin?.restore(done.state);
    const rewritten = here.rewrite?.(body, verdict) ?? body;
    const redone = elsewhere(there, head, { do: "rewrite", verdict }, body).done;
    assert.ok(redone.is === "rewritten");
    assert.ok(asBuffer(redone.body).equals(rewritten));
    assert.equal(redone.changed, rewritten !== body);
    there.twin?.restore(redone.state);
    assert.deepEqual(there.holding()?.head, here.holding()?.head);
    // What the model says comes back with the client's own values.
    const event = Buffer.from(
      `data: ${JSON.stringify({ choices: [{ index: 0, delta: { content: "for <EMAIL_1>, <EMAIL_2>" } }] })}\n\n`,
    );
    const [a, b] = [here, there].map((exchange) => exchange.reply(replyHead("text/event-stream"), verdict));
    assert.deepEqual(b?.push(event).toString(), a?.push(event).toString());
  });

  for (const type of ["application/json", "text/plain"]) {
    test(`a reply of ${type}, ${name}: masked elsewhere as here`, () => {
      const masks = [maskOf(["email", "credit-card"]), maskOf(null, { json: "$..list" })];
      const verdict = verdictOf({ masks, redactions: [redactOf(["email"])] });
      const head = replyHead(type);
      const [here, there] = [open(chatPath), open(chatPath)];
      for (const exchange of [here, there]) {
        exchange.describe(bodies["prose"] as Buffer);
        exchange.rewrite?.(bodies["prose"] as Buffer, verdict);
      }
      const reader = here.reply(head, verdict);
      assert.ok(reader !== null);
      const out = Buffer.concat([reader.push(body), reader.end()]);
      const step = { do: "reply", verdict, reply: replyHeadData(head) } as const;
      const { done } = elsewhere(there, requestHead(chatPath), step, body);
      assert.ok(done.is === "reply");
      assert.ok(asBuffer(done.body).equals(out));
      assert.equal(done.masked, reader.masked);
      assert.deepEqual(done.summary, reader.summary());
    });
  }

  test(`a body of plain JSON, ${name}: masked by path elsewhere as here, or refused`, () => {
    const verdict = verdictOf({ masks: [maskOf(["email"]), maskOf(null, { json: "$..id" })] });
    const head = replyHead("application/json");
    const exchange = { twin: { family: "plain", save: () => null, restore: () => {} } } as unknown as DialectExchange;
    const step = { do: "reply", verdict, reply: replyHeadData(head) } as const;
    const { done } = elsewhere(exchange, requestHead("/v1/files"), step, body);
    const reader = bodyReader("application/json", verdict, contextOf("http"));
    assert.ok(reader !== null);
    reader.push(body);
    let out: Buffer | null = null;
    try {
      out = reader.end();
    } catch {}
    if (out === null) assert.ok(done.is === "failed" && done.code === "WEIR_MASK_IMPOSSIBLE");
    else assert.ok(done.is === "reply" && asBuffer(done.body).equals(out) && done.masked === reader.masked);
  });
}

function pairs(fields: readonly string[]): [string, string][] {
  return fields.flatMap((name, at) => (at % 2 === 0 ? [[name, fields[at + 1] as string] as [string, string]] : []));
}

const calls: readonly unknown[] = [
  rpc(7, "tools/call", { name: "t", arguments: { a: email, b: [1, -0, { c: email }] }, _meta: { progressToken: "p" } }),
  rpc("x", "tools/call", { name: "t" }),
  rpc(1, "initialize", {}),
  { jsonrpc: "2.0", method: "notifications/cancelled", params: { requestId: 7, reason: email } },
  { jsonrpc: "2.0", id: 3, result: { action: "accept", content: { mail: email } } },
  '{"jsonrpc":"2.0","id":1,"method":"tools/call","params":{"name":"t","arguments":{"big":1e400,"n":12345678901234567890}}}',
  '{"jsonrpc":"2.0","id":1,"method":"tools/call","params":{"name":"t","Name":"u"}}',
  "no JSON",
];

test("MCP: a message is described, redacted and refused as here", () => {
  for (const message of calls) {
    const world = makeWorld({ redactions: [redactOf(["email"])] });
    const { exchange: here, described, head: ownHead } = post(world, message);
    const body = Buffer.from(typeof message === "string" ? message : JSON.stringify(message));
    const head = mcpHead("POST", Object.fromEntries(pairs(ownHead.headers.fields)));
    const there = mcpDialect.open(head, world.context);
    assert.ok(there !== null);
    const { done } = elsewhere(there, head, { do: "describe" }, body, world);
    assert.ok(done.is === "described");
    there.twin?.restore(done.state);
    assert.deepEqual(there.twin?.unpack?.(done.described, body), described);
    for (const key of ["cancelName", "cancels", "retryKey"] as const) assert.equal(there[key], here[key]);
    assert.equal(there.holding() === null, here.holding() === null);
    assert.deepEqual(there.refuse(refusal), here.refuse(refusal));
    const rewritten = here.rewrite?.(body, world.verdict) ?? body;
    const redone = elsewhere(there, head, { do: "rewrite", verdict: world.verdict }, body, world).done;
    assert.ok(redone.is === "rewritten" && asBuffer(redone.body).equals(rewritten));
    assert.deepEqual(redone.fields ?? head.headers.fields, ownHead.headers.fields);
  }
});

test("MCP: a list is filtered and its tools pinned by what the agent answers", () => {
  const tools = ["read", "drop", "send"].map((name) => ({ name, description: `does ${name}`, inputSchema: {} }));
  const list = (changed: boolean): Buffer => {
    const shown = changed ? tools.map((tool) => ({ ...tool, description: "does more" })) : tools;
    return Buffer.from(JSON.stringify({ jsonrpc: "2.0", id: 1, result: { tools: shown } }));
  };
  const denies = ({ mcp, traits }: Parameters<NonNullable<Parameters<typeof makeWorld>[0]>["denies"] & object>[0]) =>
    mcp?.name === "drop" || (mcp?.name === "send" && traits.includes("tool-changed"));
  const rules = { masks: [detect("email"), path("$..ssn")], denies };
  const [here, there] = [makeWorld(rules), makeWorld(rules)];
  for (const body of [list(false), list(true)]) {
    const head = responseHead("application/json");
    const own = post(here, rpc(1, "tools/list")).exchange.reply(head, here.verdict);
    assert.ok(own !== null);
    const out = Buffer.concat([own.push(body), own.end()]);
    const asked = post(there, rpc(1, "tools/list"));
    const step = { do: "reply", verdict: there.verdict, reply: replyHeadData(head) } as const;
    const { done, rounds } = elsewhere(asked.exchange, asked.head, step, body, there);
    assert.ok(done.is === "reply");
    assert.equal(asBuffer(done.body).toString(), out.toString());
    assert.ok(rounds > 0);
    assert.deepEqual(there.pins, here.pins);
  }
  assert.equal(there.pins.size, tools.length);
});

test("MCP: one event of a stream", () => {
  const world = makeWorld({ masks: [detect("email")] });
  const asked = post(world, rpc(1, "tools/call", { name: "t", arguments: {} }));
  const head: ResponseHead = responseHead("text/event-stream");
  const message = JSON.stringify({ jsonrpc: "2.0", id: 1, result: { content: [{ type: "text", text: email }] } });
  for (const event of [`event: message\ndata: ${message}\n\n`, `data: ${message}\r\n\r\n`, `: ${email}\n\n`]) {
    const verdict: Verdict = world.verdict;
    const reader = asked.exchange.reply(head, verdict);
    assert.ok(reader !== null);
    const out = Buffer.concat([reader.push(Buffer.from(event)), reader.end()]);
    const step = { do: "reply", verdict, reply: replyHeadData(head) } as const;
    const { done } = elsewhere(asked.exchange, asked.head, step, Buffer.from(event), world);
    assert.ok(done.is === "reply");
    assert.equal(asBuffer(done.body).toString(), out.toString());
    assert.doesNotMatch(out.toString(), /lovelace/);
    assert.equal(done.summary.text, reader.summary().text);
  }
});

test("a defect in the work is an error with a code, and no result", () => {
  const head = mcpHead("POST", {});
  const task = { family: "mcp", targetProtocol: "openai", head: headData(head), state: null, body: Buffer.from("{}") };
  const done = runLargeTask({ ...task, step: { do: "describe" } } as LargeTask, {
    ...{ maskKey: Buffer.alloc(1), custom: new Map(), answers: new Map() },
  });
  assert.ok(!Array.isArray(done));
  assert.equal((done as { code?: string }).code, "WEIR_INTERNAL");
});
