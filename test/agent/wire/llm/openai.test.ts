import assert from "node:assert/strict";
import { test } from "node:test";
import { unknownRoute } from "../../../../agent/wire/llm/message-facts.ts";
import { openaiApi, openaiReply, openaiRequest } from "../../../../agent/wire/llm/openai.ts";

test("Responses: input, instructions and tools are the prompt; settings are none", () => {
  const facts = openaiRequest({
    model: "gpt-5",
    stream: true,
    instructions: "Be brief.",
    input: [{ role: "user", content: [{ type: "input_text", text: "What is it?" }] }],
    tools: [
      { type: "function", name: "look", description: "Looks.", parameters: { type: "object", title: "Where" } },
      { type: "web_search" },
      { type: "mcp", server_label: "tickets" },
      { type: "function", name: "look" },
    ],
    max_output_tokens: 50,
    user: "user-confidential",
    metadata: { ticket: "T-1" },
  });
  assert.deepEqual(facts.tools, ["look", "web_search", "tickets"]);
  assert.deepEqual([facts.model, facts.stream, facts.outputTokensMax], ["gpt-5", true, 50]);
  for (const text of ["Be brief.", "What is it?", "Looks.", "Where"]) assert.ok(facts.prompt.includes(text), text);
  assert.ok(!facts.prompt.join().includes("confidential"));
});

test("tokens that the client made itself are no text", () => {
  assert.deepEqual(openaiRequest({ model: "m", input: [[1, 2], [3]] }).prompt, []);
  assert.deepEqual(openaiRequest({ model: "m", prompt: [1, 2, 3] }).prompt, []);
  assert.deepEqual(openaiRequest({ model: "m", input: ["a", "b"] }).prompt, ["a", "b"]);
});

test("a name that only a later revision has is text", () => {
  assert.ok(openaiRequest({ model: "m", dreams: { of: "electric sheep" } }).prompt.includes("electric sheep"));
});

test("a tool's arguments, written in ASCII, are read as words", () => {
  const call = { function: { name: "f", arguments: '{"where":"M\\u00fcnchen","path":"C:\\\\u0063onf"}' } };
  const { prompt } = openaiRequest({ model: "m", messages: [{ role: "assistant", tool_calls: [call] }] });
  assert.ok(prompt.includes('{"where":"München","path":"C:\\\\u0063onf"}'), prompt.join());
  const plain = openaiRequest({ model: "m", messages: [{ role: "user", content: "\\u0063" }] });
  assert.ok(plain.prompt.includes("\\u0063"), "what is no JSON stays as it is");
});

test("whole replies: texts, calls and tokens of both APIs, and errors", () => {
  const chat = openaiReply({
    choices: [{ message: { content: "hi", tool_calls: [{ function: { name: "f", arguments: "{}" } }] } }],
    usage: { prompt_tokens: 3, completion_tokens: 4 },
  });
  assert.deepEqual([chat.toolCalls, chat.inputTokens, chat.outputTokens, chat.error], [["f"], 3, 4, null]);
  const responses = openaiReply({
    output: [
      { type: "message", content: [{ type: "output_text", text: "hello" }] },
      { type: "function_call", name: "g", arguments: "{}" },
      { type: "web_search_call" },
    ],
    usage: { input_tokens: 5, output_tokens: 6 },
  });
  assert.deepEqual([responses.toolCalls, responses.inputTokens, responses.outputTokens], [["g", "web_search"], 5, 6]);
  assert.ok(responses.text.includes("hello"));
  assert.equal(openaiReply({ error: { message: "no" } }).error, "no");
  assert.deepEqual(openaiReply("nothing"), {
    ...{ text: [], toolCalls: [] },
    ...{ inputTokens: null, outputTokens: null, error: null },
  });
});

test("a held stream's refusal is an event of its own API", () => {
  const refusal = { kind: "denied", code: "WEIR_HOLD_DENIED", message: "no", rule: "r", approvalId: "a" } as const;
  const tell = (api: "chat" | "responses"): string =>
    openaiApi
      .holding({ ...unknownRoute, api })
      ?.refuse({ ...refusal, retryAfterSeconds: null })
      .toString() ?? "";
  assert.match(tell("chat"), /^data: \{"error":/);
  const [name, data = ""] = tell("responses").split("\n");
  assert.equal(name, "event: error");
  assert.equal(JSON.parse(data.slice("data: ".length)).type, "error");
});
