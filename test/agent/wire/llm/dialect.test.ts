import assert from "node:assert/strict";
import { test } from "node:test";
import type { TargetProtocol } from "../../../../agent/core/operation.ts";
import type { Refusal } from "../../../../agent/wire/http/dialect.ts";
import { llmDialect } from "../../../../agent/wire/llm/dialect.ts";
import { contextOf, maskOf, open, redactOf, replyHead, requestHead, run, through, verdictOf } from "./exchange.ts";
import { cardNumber, chatStream, email, pieces, sse } from "./openai-vectors.ts";

const json = "application/json";
const denied: Refusal = {
  kind: "denied",
  code: "WEIR_DENIED",
  message: 'Weir denied this request by rule "r": no',
  rule: "r",
  approvalId: null,
  retryAfterSeconds: null,
};

function routed(target: string, protocol: TargetProtocol = "openai", method = "POST", fields: string[] = []) {
  const exchange = llmDialect.open(requestHead(target, fields, method), contextOf(protocol));
  if (exchange === null) return null;
  const { llm } = exchange.describe(Buffer.from("{}"));
  return `${llm?.provider} ${llm?.api} ${exchange.reads}${llm?.model === "" ? "" : ` ${llm?.model}`}`;
}

test("paths of OpenAI, Azure, vLLM, OpenRouter and Ollama are calls; what is none is plain HTTP", () => {
  assert.equal(routed("/v1/chat/completions"), "openai chat whole");
  assert.equal(routed("//v1/chat/completions/?x=1"), "openai chat whole");
  assert.equal(
    routed("/openai/deployments/gpt-4o%20mini/chat/completions?api-version=1"),
    "openai chat whole gpt-4o mini",
  );
  assert.equal(routed("/openai/v1/responses"), "openai responses whole");
  assert.equal(routed("/api/v1/chat/completions"), "openai chat whole");
  assert.equal(routed("/v1/completions"), "openai completions whole");
  assert.equal(routed("/v1/embeddings"), "openai embeddings whole");
  assert.equal(routed("/v1/files"), "openai files head");
  assert.equal(routed("/v1/batches"), "openai batch whole");
  assert.equal(routed("/v1/models", "openai", "GET"), "openai other head");
  assert.equal(routed("/v1/responses/resp_1", "openai", "GET"), "openai other head");
  assert.equal(routed("/dashboard"), "openai other whole");
  assert.equal(routed("/dashboard", "llm"), null);
  assert.equal(routed("/v1/audio/transcriptions", "openai", "POST"), "openai other whole");
  assert.equal(routed("/api/chat", "ollama"), "ollama chat whole");
  assert.equal(routed("/v1/chat/completions", "ollama"), "ollama chat whole");
  assert.equal(routed("/v1/chat/completions", "http"), null);
  assert.equal(routed("/v1/messages", "llm"), "anthropic messages whole");
  assert.equal(routed("/v1/chat/completions", "llm"), "openai chat whole");
  assert.equal(routed("/v1beta/models/gemini-2.0-flash:generateContent", "llm"), "gemini chat whole gemini-2.0-flash");
  assert.equal(routed("/model/anthropic.claude/converse", "llm"), "bedrock chat whole anthropic.claude");
  assert.equal(routed("/api/generate", "llm"), "ollama completions whole");
});

test("a chat says its model, prompt, tools and limits", () => {
  const exchange = open("/v1/chat/completions");
  const body = {
    model: "gpt-4o",
    stream: true,
    n: 2,
    max_completion_tokens: 100,
    messages: [
      { role: "system", content: "Be kind." },
      {
        role: "user",
        content: [
          { type: "text", text: "Look" },
          { type: "image_url", image_url: { url: "data:image/png;base64,iVBORw0KGgo=" } },
        ],
      },
      {
        role: "assistant",
        tool_calls: [{ id: "call_1", type: "function", function: { name: "find", arguments: '{"q":"x"}' } }],
      },
      { role: "tool", tool_call_id: "call_1", content: "found confidential" },
    ],
    tools: [{ type: "function", function: { name: "find", description: "Finds.", parameters: { type: "object" } } }],
  };
  const described = exchange.describe(Buffer.from(JSON.stringify(body)));
  assert.deepEqual(
    [described.protocol, described.verbs, described.writes, described.traits],
    ["llm", ["chat"], true, []],
  );
  const { llm } = described;
  assert.ok(llm !== undefined);
  const { provider, api, model, stream, tools, outputTokensMax, tokens } = llm;
  assert.deepEqual(
    [provider, api, model, stream, tools, outputTokensMax],
    ["openai", "chat", "gpt-4o", true, ["find"], 200],
  );
  for (const text of ["Be kind.", "Look", '{"q":"x"}', "found confidential", "Finds."])
    assert.ok(llm.prompt.includes(text), text);
  assert.ok(!llm.prompt.includes("iVBOR"));
  assert.ok(tokens > 20 && tokens < 80, String(tokens));
});

test("a body that cannot be read safely says so, and hurts nobody", () => {
  const traits = (body: string | Buffer) => open("/v1/chat/completions").describe(Buffer.from(body)).traits;
  assert.deepEqual(traits("no json"), ["unreadable-body"]);
  assert.deepEqual(traits("[1]"), ["unreadable-body"]);
  assert.deepEqual(traits(""), ["unreadable-body"]);
  assert.deepEqual(traits(Buffer.from([0x7b, 0xff, 0x7d])), ["unreadable-body"]);
  assert.deepEqual(traits(`{"messages":${"[".repeat(100_000)}${"]".repeat(100_000)}}`), ["unreadable-body"]);
  assert.deepEqual(traits('{"model":"a","model":"b"}'), ["duplicate-keys"]);
  assert.deepEqual(traits('{"messages":[{"content":"a","c\\u006fntent":"b"}]}'), ["duplicate-keys"]);
  assert.deepEqual(traits('{"model":"a","Model":"b"}'), ["duplicate-keys"]);
  assert.deepEqual(traits('{"a":{"x":1},"b":[{"x":1},{"x":2}]}'), []);
});

test("values in the prompt leave under names, and come back in a reply that is whole", () => {
  const request = {
    model: "gpt-4o",
    seed: 12345678901234567890n.toString(),
    messages: [
      { role: "user", content: `I am ${email}, she is bob@example.org; again ${email}. Keep <EMAIL_2>.` },
      {
        role: "assistant",
        tool_calls: [{ function: { name: "f", arguments: JSON.stringify({ to: "bob@example.org" }) } }],
      },
    ],
  };
  const said = {
    choices: [
      {
        message: {
          content: "To <EMAIL_1> & <EMAIL_3>, <EMAIL_2>, <EMAIL_9>",
          tool_calls: [{ function: { name: "f", arguments: '{"to":"<EMAIL_1>"}' } }],
        },
      },
    ],
  };
  const parts = [Buffer.from(JSON.stringify(said))];
  const { out, sent, reader } = run(
    "/v1/chat/completions",
    request,
    { type: json, parts },
    { redactions: [redactOf(["email"])] },
  );
  const [first, second] = JSON.parse(sent.toString()).messages;
  assert.equal(first.content, "I am <EMAIL_1>, she is <EMAIL_3>; again <EMAIL_1>. Keep <EMAIL_2>.");
  assert.equal(second.tool_calls[0].function.arguments, '{"to":"<EMAIL_3>"}');
  const { message } = JSON.parse(out.toString()).choices[0];
  assert.equal(message.content, `To ${email} & bob@example.org, <EMAIL_2>, <EMAIL_9>`);
  assert.deepEqual(JSON.parse(message.tool_calls[0].function.arguments), { to: email });
  assert.ok(!JSON.stringify(reader?.summary()).includes(email), "the record keeps the name");
});

test("numbers beyond 2^53, spaces and order of a redacted body stay", () => {
  const body = Buffer.from(`{ "seed": 12345678901234567890, "messages":[{"content":"${email}"}], "model" : "m"}`);
  const exchange = open("/v1/chat/completions");
  exchange.describe(body);
  const sent = exchange.rewrite?.(body, verdictOf({ redactions: [redactOf(["email"])] })) ?? body;
  assert.equal(sent.toString(), body.toString().replace(email, "<EMAIL_1>"));
  assert.equal(exchange.rewrite?.(body, verdictOf({ redactions: [redactOf(["iban"])] })), body);
});

test("names come back in a stream, however the deltas cut them, also in arguments", () => {
  const key = "-----BEGIN PRIVATE KEY-----\nMIIBVgIBADANBgkqhkiG9w0BAQEFAASCAUAwggE8\n-----END PRIVATE KEY-----";
  const request = { model: "m", stream: true, messages: [{ role: "user", content: `${email} and ${key}` }] };
  const rules = { redactions: [redactOf(["email", "private-key"])], masks: [maskOf(["email"])] };
  const content = "a <b> <EMAIL_1>, <EMAIL_2> <EMAIL_ x@y.org < <<EMAIL_1>";
  for (const size of [1, 2, 3, 5, 100]) {
    const bytes = sse(
      chatStream({
        content: pieces(content, size),
        args: pieces('{"k":"<PRIVATE_KEY_1>","e":"\\u003cEMAIL_1\\u003e"}', size),
      }),
    );
    const { out, sent } = run("/v1/chat/completions", request, { type: "text/event-stream", parts: [bytes] }, rules);
    assert.equal(JSON.parse(sent.toString()).messages[0].content, "<EMAIL_1> and <PRIVATE_KEY_1>");
    let told = "";
    let args = "";
    for (const event of out.toString().split("\n\n").slice(0, -2)) {
      const { delta } = JSON.parse(event.slice(6)).choices[0] ?? { delta: {} };
      told += delta.content ?? "";
      for (const call of delta.tool_calls ?? []) args += call.function.arguments ?? "";
    }
    assert.equal(told, `a <b> ${email}, <EMAIL_2> <EMAIL_ ******* < <${email}`, `deltas of ${size}`);
    assert.deepEqual(JSON.parse(args), { k: key, e: email });
  }
});

test("a whole reply is masked in place: its own names, ids and numbers stay", () => {
  const reply = `{ "id":"chatcmpl-1", "created": 1741570283, "big": 12345678901234567890,
    "choices":[{"index":0,"message":{"role":"assistant","content":"card ${cardNumber}","tool_calls":[{"id":"call_1","function":{"name":"f","arguments":"{\\"n\\":${cardNumber},\\"m\\":\\"${email}\\"}"}}]},
    "logprobs":null}],"usage":{"prompt_tokens":5,"completion_tokens":7}}`;
  const masks = [maskOf(["credit-card", "email", "phone"])];
  const { out, reader } = run("/v1/chat/completions", {}, { type: json, parts: [Buffer.from(reply)] }, { masks });
  const text = out.toString();
  assert.ok(text.startsWith('{ "id":"chatcmpl-1", "created": 1741570283, "big": 12345678901234567890,'));
  const { message } = JSON.parse(text).choices[0];
  assert.equal(message.content, "card ****************");
  assert.deepEqual(JSON.parse(message.tool_calls[0].function.arguments), { n: 0, m: "***************" });
  const { text: kept, inputTokens, outputTokens, toolCalls } = reader?.summary() ?? {};
  assert.deepEqual([inputTokens, outputTokens, toolCalls, reader?.masked], [5, 7, ["f"], 3]);
  assert.ok(!kept?.includes(cardNumber));
});

test("Ollama's lines are masked and counted, its tools come as objects", () => {
  const line = (message: object, more: object = {}): string =>
    `${JSON.stringify({ model: "m", created_at: "2026-01-01T00:00:00Z", message: { role: "assistant", ...message }, done: false, ...more })}\n`;
  const bytes = Buffer.from(
    pieces(`hi ${email} ok ${cardNumber}`, 4)
      .map((content) => line({ content }))
      .join("") +
      line({ content: "", tool_calls: [{ function: { name: "f", arguments: { n: 4111111111111111, m: email } } }] }) +
      line({ content: "" }, { done: true, done_reason: "stop", prompt_eval_count: 3, eval_count: 9 }),
  );
  const masks = [maskOf(["email", "credit-card"])];
  const reply = { type: "application/x-ndjson", parts: [bytes] };
  const { out, reader } = run("/api/chat", { model: "m", messages: [] }, reply, { masks }, "ollama");
  const lines = out
    .toString()
    .trim()
    .split("\n")
    .map((text) => JSON.parse(text));
  assert.equal(lines.map(({ message }) => message.content).join(""), "hi *************** ok ****************");
  assert.deepEqual(lines.flatMap(({ message }) => message.tool_calls ?? [])[0].function.arguments, {
    n: 0,
    m: "***************",
  });
  assert.equal(lines.at(-1).done, true);
  const { inputTokens, outputTokens, toolCalls } = reader?.summary() ?? {};
  assert.deepEqual([inputTokens, outputTokens, toolCalls], [3, 9, ["f"]]);
  const cut = Array.from(bytes, (byte) => Buffer.from([byte]));
  const again = run("/api/chat", { model: "m", messages: [] }, { ...reply, parts: cut }, { masks }, "ollama");
  assert.equal(again.out.toString(), out.toString());
});

test("a refusal has the shape and status of the API's own errors, and is not tried again", () => {
  const refused = open("/v1/chat/completions").refuse(denied);
  assert.equal(refused.status, 403);
  assert.deepEqual(JSON.parse(refused.body.toString()), {
    error: { message: denied.message, type: "permission_error", param: null, code: "weir_denied" },
  });
  assert.ok(refused.headers.some(([name, value]) => name === "x-should-retry" && value === "false"));
  const busy = open("/v1/chat/completions").refuse({ ...denied, kind: "busy", retryAfterSeconds: 60 });
  assert.equal(busy.status, 429);
  assert.ok(busy.headers.some(([name, value]) => name === "retry-after" && value === "60"));
});

test("a held stream gets comments, then the refusal or the upstream's error, masked, as an event", () => {
  const exchange = open("/v1/chat/completions");
  exchange.describe(Buffer.from('{"stream":true}'));
  const holding = exchange.holding();
  assert.ok(holding !== null);
  assert.equal(holding.beat(0).toString(), ": waiting for approval\n\n");
  assert.equal(JSON.parse(holding.refuse(denied).toString().slice(6)).error.code, "weir_denied");
  exchange.rewrite?.(Buffer.from("{}"), verdictOf({ masks: [maskOf(["email"])] }));
  const wrapped = holding.wrap(400, Buffer.from(JSON.stringify({ error: { message: `bad ${email}` } }))).toString();
  assert.equal(wrapped, 'data: {"error":{"message":"bad ***************"}}\n\n');
  const silent = open("/v1/chat/completions");
  silent.describe(Buffer.from('{"stream":false}'));
  assert.equal(silent.holding(), null);
});

test("JSON that cannot be read is not passed where it has to be masked", () => {
  const deep = Buffer.from(`{"a":${"[".repeat(300)}"${email}"${"]".repeat(300)}}`);
  const masks = [maskOf(["email"])];
  const { out, reader } = run("/v1/chat/completions", {}, { type: json, parts: [deep] }, { masks });
  assert.match(JSON.parse(out.toString()).error.message, /cannot|no JSON/);
  assert.match(reader?.summary().error ?? "", /no JSON/);
  assert.equal(run("/v1/chat/completions", {}, { type: json, parts: [deep] }, {}).out.toString(), deep.toString());
});

test("what is decided by its head says that its body was not read", () => {
  assert.deepEqual(open("/v1/files").describe(null).traits, ["body-unread"]);
  assert.deepEqual(open("/v1/chat/completions").describe(Buffer.from('{"model":"m","messages":[]}')).traits, []);
});

test("errors and pictures pass; text of another kind is masked as text", () => {
  const exchange = open("/v1/files/file-1/content");
  const verdict = verdictOf({ masks: [maskOf(["email"])] });
  assert.equal(exchange.reply(replyHead("image/png"), verdict), null);
  const reader = exchange.reply(replyHead("application/jsonl"), verdict);
  assert.equal(
    through(reader, [Buffer.from(`{"a":"${email}"}\n{"b":1}\n`)]).toString(),
    '{"a":"***************"}\n{"b":1}\n',
  );
});
