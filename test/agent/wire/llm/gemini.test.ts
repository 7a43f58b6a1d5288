/** What Gemini's requests and replies say, and how a refusal is told. */
import assert from "node:assert/strict";
import { describe, test } from "node:test";
import {
  geminiErrorEvent,
  geminiRefusal,
  geminiReply,
  geminiRoute,
  geminiWrap,
} from "../../../../agent/wire/llm/gemini.ts";
import { geminiRequest } from "../../../../agent/wire/llm/gemini-request.ts";
import { refusal } from "./exchange.ts";

const picture = "iVBOR".repeat(80);

describe("gemini", () => {
  test("routes", () => {
    const vertex = "/v1/projects/p/locations/us-central1/publishers";
    const table: [string, string, string, string | null][] = [
      ["POST", "/v1beta/models/gemini-2.5-flash:generateContent", "", "chat whole false gemini-2.5-flash gemini array"],
      ["POST", "/v1/models/g:streamGenerateContent", "key=k&alt=sse", "chat whole true g gemini sse"],
      ["POST", "/v1alpha/models/g:streamGenerateContent", "", "chat whole true g gemini array"],
      ["POST", "/v1beta/tunedModels/mine:generateContent", "", "chat whole false mine gemini array"],
      ["POST", "/v1beta/models/e:embedContent", "", "embeddings whole false e gemini array"],
      ["POST", "/v1beta/models/e:batchEmbedContents", "", "embeddings whole false e gemini array"],
      ["POST", "/v1beta/models/g:countTokens", "", "other whole false g gemini array"],
      ["POST", "/v1beta/models/g:somethingNew", "", "other whole false g gemini array"],
      ["POST", `${vertex}/google/models/g:generateContent`, "", "chat whole false g gemini array"],
      [
        "POST",
        `${vertex}/anthropic/models/claude-opus-4-6%4020260101:streamRawPredict`,
        "",
        "messages whole null claude-opus-4-6@20260101 anthropic sse",
      ],
      ["POST", "/v1/projects/p/locations/l/endpoints/123:predict", "", "other whole false 123 gemini array"],
      ["POST", "/v1beta/interactions", "", "responses whole null null gemini sse"],
      ["POST", "/upload/v1beta/files", "", "files head false null gemini array"],
      ["GET", "/v1beta/models", "", "other head false null gemini array"],
      ["GET", "/v1beta/models/g", "", "other head false null gemini array"],
      ["POST", "/v1beta/openai/chat/completions", "", "other whole null null gemini sse"],
      ["POST", "/v1beta/cachedContents", "", "other whole false null gemini array"],
      ["GET", "/", "", null],
    ];
    for (const [method, path, query, expected] of table) {
      const route = geminiRoute(method, path, query);
      const said =
        route === null
          ? null
          : [route.api, route.reads, route.stream, route.model, route.format, route.framing].map(String).join(" ");
      assert.equal(said, expected, `${method} ${path}`);
    }
  });

  test("every text that the model is given is in the prompt, whichever way names are written", () => {
    const contents = [
      { role: "user", parts: [{ text: "one" }, { inlineData: { mimeType: "image/png", data: picture } }] },
      { role: "model", parts: [{ functionCall: { name: "f", args: { a: "two" } } }] },
      { role: "user", parts: [{ functionResponse: { name: "f", response: { id: "three" } } }] },
    ];
    const tools = [{ functionDeclarations: [{ name: "f", description: "four" }] }, { googleSearch: {} }];
    const camel = geminiRequest({
      systemInstruction: { parts: [{ text: "five" }] },
      contents,
      tools,
      generationConfig: { maxOutputTokens: 10, candidateCount: 2 },
    });
    const snake = geminiRequest({
      system_instruction: { parts: [{ text: "five" }] },
      contents,
      tools: [{ function_declarations: [{ name: "f", description: "four" }] }, { google_search: {} }],
      generation_config: { max_output_tokens: 20 },
    });
    for (const facts of [camel, snake]) {
      for (const word of ["one", "two", "three", "four", "five"]) assert.ok(facts.prompt.includes(word), word);
      assert.ok(!facts.prompt.includes(picture));
      assert.equal(facts.outputTokensMax, 20);
    }
    assert.deepEqual(
      [camel.tools, snake.tools],
      [
        ["f", "googleSearch"],
        ["f", "google_search"],
      ],
    );
  });

  test("embeddings and counts", () => {
    const content = { parts: [{ text: "one" }] };
    assert.deepEqual(geminiRequest({ model: "models/e", content }).prompt, ["one"]);
    assert.equal(geminiRequest({ model: "models/e", content }).model, "e");
    assert.deepEqual(geminiRequest({ requests: [{ model: "models/e", content }] }).prompt, ["one"]);
    assert.deepEqual(geminiRequest({ generateContentRequest: { contents: [content] } }).prompt.includes("one"), true);
    assert.deepEqual(geminiRequest({ instances: [{ content: "one" }] }).prompt, ["one"]);
  });

  test("replies, whole and as an array", () => {
    const chunk = (text: string): object => ({
      candidates: [{ content: { parts: [{ text }, { functionCall: { name: "f", args: {} } }] } }],
      usageMetadata: { promptTokenCount: 3, candidatesTokenCount: text.length },
    });
    const one = geminiReply(chunk("hi"));
    assert.deepEqual([one.text, one.toolCalls, one.inputTokens, one.outputTokens], [["hi", "f"], ["f"], 3, 2]);
    const many = geminiReply([chunk("a"), chunk("bcd")]);
    assert.deepEqual([many.outputTokens, many.toolCalls.length], [3, 2]);
    assert.equal(geminiReply({ error: { code: 400, message: "bad" } }).error, "bad");
    for (const body of [null, 1, [null], { candidates: 1 }]) assert.equal(geminiReply(body).error, null);
  });

  test("refusals", () => {
    const { status, body } = geminiRefusal(refusal);
    assert.equal(status, 403);
    const error = { error: { code: 403, message: refusal.message, status: "PERMISSION_DENIED" } };
    assert.deepEqual(JSON.parse(body.toString()), error);
    assert.equal(geminiErrorEvent(refusal, "sse").toString(), `data: ${JSON.stringify(error)}\r\n\r\n`);
    assert.deepEqual(JSON.parse(geminiErrorEvent(refusal, "array").toString()), [error]);
    assert.equal(geminiRefusal({ ...refusal, kind: "busy", retryAfterSeconds: 9 }).status, 429);
    assert.match(geminiWrap(400, Buffer.from('[{"error":{"message":"bad"}}]'), "sse").toString(), /^data: .*bad/);
    assert.match(geminiWrap(502, Buffer.from("no"), "array").toString(), /HTTP 502/);
  });
});
