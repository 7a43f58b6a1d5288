/** What Anthropic's requests and replies say, and how a refusal is told. */
import assert from "node:assert/strict";
import { describe, test } from "node:test";
import {
  anthropicErrorEvent,
  anthropicRefusal,
  anthropicReply,
  anthropicRequest,
  anthropicRoute,
  anthropicWrap,
} from "../../../../agent/wire/llm/anthropic.ts";
import { refusal } from "./exchange.ts";

const picture = "iVBOR".repeat(80);

describe("anthropic", () => {
  test("routes", () => {
    const table: [string, string, string | null][] = [
      ["POST", "/v1/messages", "messages whole"],
      ["POST", "//v1/messages/", "messages whole"],
      ["POST", "/v1/complete", "completions whole"],
      ["POST", "/v1/messages/count_tokens", "other whole"],
      ["POST", "/v1/messages/batches", "batch whole"],
      ["GET", "/v1/messages/batches", "batch head"],
      ["GET", "/v1/messages/batches/b1/results", "batch head"],
      ["POST", "/v1/files", "files head"],
      ["GET", "/v1/models", "other head"],
      ["POST", "/v1/chat/completions", "other whole"],
      ["GET", "/favicon.ico", null],
    ];
    for (const [method, path, expected] of table) {
      const route = anthropicRoute(method, path);
      assert.equal(route === null ? null : `${route.api} ${route.reads}`, expected, `${method} ${path}`);
    }
  });

  test("every text that the model is given is in the prompt, and no picture", () => {
    const facts = anthropicRequest({
      model: "claude-opus-4-6",
      stream: true,
      max_tokens: 100,
      metadata: { user_id: "u" },
      system: [{ type: "text", text: "one", cache_control: { type: "ephemeral" } }],
      messages: [
        { role: "user", content: "two" },
        { role: "assistant", content: [{ type: "thinking", thinking: "three", signature: "c2ln" }] },
        {
          role: "assistant",
          content: [{ type: "tool_use", id: "t1", name: "find", input: { id: "four", deep: [5] } }],
        },
        {
          role: "user",
          content: [
            { type: "tool_result", tool_use_id: "t1", content: [{ type: "text", text: "six" }] },
            { type: "image", source: { type: "base64", media_type: "image/png", data: picture } },
            { type: "document", source: { type: "text", media_type: "text/plain", data: "seven" }, title: "eight" },
          ],
        },
      ],
      tools: [
        {
          name: "find",
          description: "nine",
          input_schema: { type: "object", properties: { q: { description: "ten" } } },
        },
        { type: "web_search_20250305", name: "web_search" },
      ],
    });
    const words = facts.prompt.join(" ");
    for (const word of ["one", "two", "three", "four", "5", "six", "seven", "eight", "nine", "ten"]) {
      assert.ok(facts.prompt.includes(word), `${word} in ${words}`);
    }
    for (const word of [picture, "c2ln", "t1", "ephemeral", "u"]) assert.ok(!facts.prompt.includes(word), word);
    assert.deepEqual([facts.model, facts.stream, facts.outputTokensMax], ["claude-opus-4-6", true, 100]);
    assert.deepEqual(facts.tools, ["find", "web_search"]);
  });

  test("a batch is all of its requests", () => {
    const facts = anthropicRequest({
      requests: ["a", "b"].map((content) => ({
        custom_id: content,
        params: { model: "m", max_tokens: 10, messages: [{ role: "user", content: `text ${content}` }] },
      })),
    });
    assert.deepEqual(facts.prompt, ["text a", "text b"]);
    assert.deepEqual([facts.model, facts.outputTokensMax], ["m", 20]);
  });

  test("bodies of any shape are read without an error", () => {
    for (const body of [
      {},
      { messages: 1, tools: "x", system: null },
      { requests: [null, 1] },
      { messages: [[[["a"]]]] },
    ]) {
      assert.ok(Array.isArray(anthropicRequest(body).prompt));
      assert.ok(Array.isArray(anthropicReply({ content: body }).text));
    }
    const long = anthropicRequest({ messages: Array.from({ length: 300_000 }, () => "x") });
    assert.equal(long.prompt.length, 300_000);
  });

  test("replies", () => {
    const facts = anthropicReply({
      type: "message",
      content: [
        { type: "text", text: "hi" },
        { type: "tool_use", name: "find", id: "t", input: { q: "x" } },
      ],
      usage: { input_tokens: 3, cache_creation_input_tokens: 4, output_tokens: 5 },
    });
    assert.deepEqual(facts, {
      text: ["hi", "find", "x", "q"],
      toolCalls: ["find"],
      inputTokens: 7,
      outputTokens: 5,
      error: null,
    });
    assert.equal(anthropicReply({ input_tokens: 9 }).inputTokens, 9);
    assert.equal(anthropicReply({ type: "error", error: { type: "api_error", message: "gone" } }).error, "gone");
  });

  test("refusals", () => {
    const { status, headers, body } = anthropicRefusal(refusal);
    assert.equal(status, 403);
    assert.deepEqual(JSON.parse(body.toString()), {
      type: "error",
      error: { type: "permission_error", message: refusal.message },
    });
    assert.ok(headers.some(([name, value]) => name === "x-should-retry" && value === "false"));
    const busy = anthropicRefusal({ ...refusal, kind: "busy", retryAfterSeconds: 60 });
    assert.equal(busy.status, 429);
    assert.ok(busy.headers.some(([name, value]) => name === "retry-after" && value === "60"));
    assert.match(anthropicErrorEvent(refusal).toString(), /^event: error\ndata: \{"type":"error".*\}\n\n$/);
    assert.match(
      anthropicWrap(400, Buffer.from('{"type":"error","error":{"type":"x","message":"y"}}')).toString(),
      /"y"/,
    );
    assert.match(anthropicWrap(502, Buffer.from("<html>")).toString(), /HTTP 502/);
  });
});
