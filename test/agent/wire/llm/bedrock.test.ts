/** What Bedrock's requests and replies say, and how a refusal is told. */
import assert from "node:assert/strict";
import { describe, test } from "node:test";
import {
  bedrockBeat,
  bedrockErrorFrame,
  bedrockRefusal,
  bedrockReply,
  bedrockRequest,
  bedrockRoute,
  bedrockWrap,
} from "../../../../agent/wire/llm/bedrock.ts";
import { type EventFrame, EventStreamReader, headerText } from "../../../../agent/wire/llm/eventstream.ts";
import { refusal } from "./exchange.ts";

const picture = "iVBOR".repeat(80);

function only(bytes: Buffer): EventFrame {
  const reader = new EventStreamReader();
  const [frame, more] = reader.push(bytes);
  reader.end();
  assert.ok(frame !== undefined && more === undefined);
  return frame;
}

describe("bedrock", () => {
  test("routes, with identifiers percent-decoded", () => {
    const arn = "arn:aws:bedrock:us-east-1:1:application-inference-profile/abc";
    const table: [string, string, string | null][] = [
      ["POST", "/model/anthropic.claude-v2%3A1/converse", "chat whole false anthropic.claude-v2:1 converse"],
      ["POST", "/model/m/converse-stream", "chat whole true m converse"],
      ["POST", `/model/${encodeURIComponent(arn)}/invoke`, `chat whole false ${arn} invoke`],
      ["POST", `/model/${arn}/invoke-with-response-stream`, `chat whole true ${arn} invoke`],
      [
        "POST",
        "/model/amazon.titan-embed-text-v2%3A0/invoke",
        "embeddings whole false amazon.titan-embed-text-v2:0 invoke",
      ],
      ["POST", "/model/m/invoke-with-bidirectional-stream", "realtime head true m invoke"],
      ["POST", "/model/m/count-tokens", "other whole false m other"],
      ["POST", "/model/%ZZ/invoke", "chat whole false %ZZ invoke"],
      ["POST", "/guardrail/g/version/1/apply", "other whole false null other"],
      ["POST", "/openai/v1/chat/completions", "other whole false null other"],
      ["GET", "/favicon.ico", null],
    ];
    for (const [method, path, expected] of table) {
      const route = bedrockRoute(method, path);
      const said =
        route === null ? null : [route.api, route.reads, route.stream, route.model, route.format].map(String).join(" ");
      assert.equal(said, expected, `${method} ${path}`);
    }
  });

  test("converse: every text that the model is given is in the prompt", () => {
    const facts = bedrockRequest(
      {
        system: [{ text: "one" }],
        messages: [
          { role: "user", content: [{ text: "two" }, { image: { format: "png", source: { bytes: picture } } }] },
          { role: "assistant", content: [{ toolUse: { toolUseId: "t1", name: "f", input: { id: "three" } } }] },
          { role: "user", content: [{ toolResult: { toolUseId: "t1", content: [{ json: { type: "four" } }] } }] },
        ],
        toolConfig: {
          tools: [{ toolSpec: { name: "f", description: "five", inputSchema: { json: { title: "six" } } } }],
        },
        inferenceConfig: { maxTokens: 10 },
      },
      "converse",
    );
    for (const word of ["one", "two", "three", "four", "five", "six"]) assert.ok(facts.prompt.includes(word), word);
    for (const word of [picture, "t1"]) assert.ok(!facts.prompt.includes(word), word);
    assert.deepEqual([facts.tools, facts.outputTokensMax], [["f"], 10]);
  });

  test("invoke: bodies of the models' own shapes", () => {
    const shapes: [object, string, number | null][] = [
      [{ anthropic_version: "x", max_tokens: 5, messages: [{ role: "user", content: "hi" }] }, "hi", 5],
      [{ inputText: "hi", textGenerationConfig: { maxTokenCount: 6 } }, "hi", 6],
      [{ prompt: "hi", max_gen_len: 7 }, "hi", 7],
      [{ messages: [{ role: "user", content: [{ text: "hi" }] }], inferenceConfig: { max_new_tokens: 8 } }, "hi", 8],
      [{ texts: ["hi"], input_type: "search_query" }, "hi", null],
    ];
    for (const [body, prompt, most] of shapes) {
      const facts = bedrockRequest(body as Record<string, unknown>, "invoke");
      assert.ok(facts.prompt.includes(prompt), JSON.stringify(body));
      assert.equal(facts.outputTokensMax, most);
    }
  });

  test("replies", () => {
    const converse = bedrockReply(
      {
        output: { message: { role: "assistant", content: [{ text: "hi" }, { toolUse: { name: "f", input: {} } }] } },
        stopReason: "tool_use",
        usage: { inputTokens: 3, cacheReadInputTokens: 4, outputTokens: 5 },
      },
      "converse",
    );
    assert.deepEqual(
      [converse.text, converse.toolCalls, converse.inputTokens, converse.outputTokens],
      [["hi", "f"], ["f"], 7, 5],
    );
    const own = bedrockReply(
      { type: "message", content: [{ type: "text", text: "hi" }], usage: { input_tokens: 1 } },
      "invoke",
    );
    assert.deepEqual([own.text, own.inputTokens], [["hi"], 1]);
    assert.deepEqual(bedrockReply({ results: [{ outputText: "hi" }] }, "invoke").text, ["hi"]);
    assert.equal(bedrockReply({ message: "bad" }, "converse").error, "bad");
  });

  test("refusals", () => {
    const { status, headers, body } = bedrockRefusal(refusal);
    assert.equal(status, 403);
    assert.ok(headers.some(([name, value]) => name === "x-amzn-errortype" && value === "AccessDeniedException"));
    assert.deepEqual(JSON.parse(body.toString()), { message: refusal.message });
    const frame = only(bedrockErrorFrame(refusal));
    assert.equal(headerText(frame, ":message-type"), "error");
    assert.equal(headerText(frame, ":error-code"), "AccessDeniedException");
    assert.equal(headerText(frame, ":error-message"), refusal.message);
    assert.equal(headerText(only(bedrockBeat()), ":event-type"), "weirHold");
    const wrapped = only(bedrockWrap(400, Buffer.from('{"message":"too long"}')));
    assert.deepEqual(
      [headerText(wrapped, ":error-code"), headerText(wrapped, ":error-message")],
      ["ValidationException", "too long"],
    );
    assert.equal(headerText(only(bedrockWrap(500, Buffer.from("x"))), ":error-message"), "HTTP 500");
  });
});
