/** Streamed Anthropic messages: values split over deltas at every place, and the rest of the reply as it was. */
import assert from "node:assert/strict";
import { describe, test } from "node:test";
import { AnthropicStream } from "../../../../agent/wire/llm/anthropic-stream.ts";
import { escaped, hide, run, secrets } from "./anthropic-runs.ts";

interface Block {
  readonly type: string;
  readonly key: string;
  readonly pieces: readonly string[];
}

const usage = { input_tokens: 10, cache_read_input_tokens: 5, output_tokens: 1 };

function message(blocks: readonly Block[]): object[] {
  return [
    { type: "message_start", message: { id: "msg_1", role: "assistant", content: [], usage } },
    { type: "ping" },
    ...blocks.flatMap(({ type, key, pieces }, index) => [
      { type: "content_block_start", index, content_block: startOf(type) },
      ...pieces.map((piece) => ({ type: "content_block_delta", index, delta: { type, [key]: piece } })),
      { type: "content_block_stop", index },
    ]),
    { type: "message_delta", delta: { stop_reason: "end_turn", stop_sequence: null }, usage: { output_tokens: 42 } },
    { type: "message_stop" },
  ];
}

function startOf(type: string): object {
  if (type === "input_json_delta") return { type: "tool_use", id: "toolu_1", name: "lookup", input: {} };
  return type === "thinking_delta" ? { type: "thinking", thinking: "", signature: "" } : { type: "text", text: "" };
}

/** What a client puts together: the texts of each block, and that nothing comes after its stop. */
function assemble(events: readonly unknown[]): string[] {
  const texts: string[] = [];
  const stopped = new Set<number>();
  for (const { type, index, delta } of events as { type: string; index: number; delta?: Record<string, string> }[]) {
    if (type === "content_block_stop") stopped.add(index);
    if (type !== "content_block_delta" || delta === undefined) continue;
    assert.ok(!stopped.has(index), "a delta after its block's stop");
    const key = Object.keys(delta).find((name) => name !== "type") as string;
    if (key !== "signature") texts[index] = (texts[index] ?? "") + delta[key];
  }
  return texts;
}

describe("anthropic stream", () => {
  test("a value split at every place, in every kind of delta", () => {
    for (const secret of secrets) {
      for (const [type, key, value] of [
        ["text_delta", "text", `to ${secret}, and on`],
        ["thinking_delta", "thinking", `I see ${secret}`],
        ["input_json_delta", "partial_json", `{"who":"${escaped(secret)}"}`],
        ["later_delta", "prose", `${secret} at the start`],
      ] as const) {
        for (let cut = 0; cut <= value.length; cut += 1) {
          const pieces = [value.slice(0, cut), value.slice(cut)];
          const out = run(new AnthropicStream(), message([{ type, key, pieces }]));
          assert.deepEqual(assemble(out), [hide(value)], `${type} cut at ${cut}`);
        }
      }
      const value = `a ${secret} b`;
      assert.deepEqual(
        assemble(run(new AnthropicStream(), message([{ type: "text_delta", key: "text", pieces: [...value] }]))),
        [hide(value)],
      );
    }
  });

  test("without a match every event is as it came, and what looked like one is let go before the stop", () => {
    const blocks = [{ type: "text_delta", key: "text", pieces: ["Write to ", "bob", " or ad"] }];
    const events = message(blocks);
    const out = run(new AnthropicStream(), events);
    assert.deepEqual(assemble(out), ["Write to bob or ad"]);
    const rest = out.findIndex((event) => JSON.stringify(event).includes('"text":"ad"'));
    assert.deepEqual(out[rest], {
      type: "content_block_delta",
      index: 0,
      delta: { type: "text_delta", text: "ad" },
    });
    assert.deepEqual(out[rest + 1], { type: "content_block_stop", index: 0 });
    const plain = message([{ type: "text_delta", key: "text", pieces: ["Hello", " there!"] }]);
    assert.deepEqual(run(new AnthropicStream(), plain), plain);
  });

  test("blocks are runs of their own; signatures stay", () => {
    const [card] = secrets;
    const events = message([
      { type: "thinking_delta", key: "thinking", pieces: [card.slice(0, 8)] },
      { type: "text_delta", key: "text", pieces: [card.slice(8)] },
    ]);
    const signature = { type: "content_block_delta", index: 0, delta: { type: "signature_delta", signature: card } };
    events.splice(4, 0, signature);
    const out = run(new AnthropicStream(), events);
    assert.deepEqual(assemble(out), [card.slice(0, 8), card.slice(8)]);
    assert.ok(out.some((event) => JSON.stringify(event) === JSON.stringify(signature)));
  });

  test("what comes whole is masked: citations, results of the server's tools, errors, later events", () => {
    const [card, email] = secrets;
    const events = [
      {
        type: "content_block_delta",
        index: 0,
        delta: { type: "citations_delta", citation: { cited_text: `x ${card}` } },
      },
      {
        type: "content_block_start",
        index: 1,
        content_block: {
          type: "web_search_tool_result",
          tool_use_id: card,
          content: [{ type: "web_search_result", title: email, encrypted_content: card }],
        },
      },
      {
        type: "content_block_start",
        index: 2,
        content_block: { type: "tool_use", name: "a", input: { id: card, n: 4111111111111111 } },
      },
      { type: "something_new", note: { text: card } },
      { type: "error", error: { type: "overloaded_error", message: `no room for ${email}` } },
    ];
    const stream = new AnthropicStream();
    const out = run(stream, events) as typeof events;
    assert.equal(JSON.stringify(out[0]).includes(card), false);
    assert.deepEqual(out[1]?.content_block, {
      type: "web_search_tool_result",
      tool_use_id: card,
      content: [{ type: "web_search_result", title: hide(email), encrypted_content: card }],
    });
    assert.deepEqual(out[2]?.content_block, { type: "tool_use", name: "a", input: { id: hide(card), n: 0 } });
    assert.deepEqual(out[3], { type: "something_new", note: { text: hide(card) } });
    assert.deepEqual(out[4]?.error, { type: "overloaded_error", message: `no room for ${hide(email)}` });
    assert.equal(stream.error, `no room for ${hide(email)}`);
  });

  test("an error or an end in the middle lets go of what was held", () => {
    const start = message([{ type: "text_delta", key: "text", pieces: ["ad"] }]).slice(0, 4);
    const error = { type: "error", error: { type: "api_error", message: "gone" } };
    const rest = { type: "content_block_delta", index: 0, delta: { type: "text_delta", text: "ad" } };
    assert.deepEqual(run(new AnthropicStream(), [...start, error]).slice(-2), [rest, error]);
    assert.deepEqual(run(new AnthropicStream(), start).at(-1), rest);
  });

  test("tokens and tools", () => {
    const stream = new AnthropicStream();
    run(stream, message([{ type: "input_json_delta", key: "partial_json", pieces: ["{}"] }]));
    assert.deepEqual([stream.inputTokens, stream.outputTokens, stream.toolCalls], [15, 42, ["lookup"]]);
  });

  test("/v1/complete", () => {
    for (const secret of secrets) {
      const value = `x ${secret} ad`;
      for (let cut = 0; cut <= value.length; cut += 1) {
        const events = [value.slice(0, cut), value.slice(cut), ""].map((completion, i) => ({
          type: "completion",
          completion,
          stop_reason: i === 2 ? "stop_sequence" : null,
        }));
        for (const some of [events, events.slice(0, 2)]) {
          const out = run(new AnthropicStream(), some) as { completion: string }[];
          assert.equal(out.map(({ completion }) => completion).join(""), hide(value));
        }
      }
    }
  });
});
