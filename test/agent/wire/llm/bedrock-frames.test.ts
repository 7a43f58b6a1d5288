/** Bedrock replies in frames: values split over events at every place, frames cut at every byte, models of every shape. */
import assert from "node:assert/strict";
import { describe, test } from "node:test";
import { PeerError } from "../../../../agent/errors.ts";
import { BedrockFrames, writeEvent } from "../../../../agent/wire/llm/bedrock-frames.ts";
import { EventStreamReader, headerText, writeFrame, writeTextHeaders } from "../../../../agent/wire/llm/eventstream.ts";
import { escaped, hide, SecretRuns, secrets } from "./anthropic-runs.ts";

const converse = (events: readonly (readonly [string, object])[]): Buffer =>
  Buffer.concat(events.map(([type, body]) => writeEvent(type, { ...body, p: "abcdefghij" })));
const chunk = (event: object): Buffer =>
  writeEvent("chunk", { bytes: Buffer.from(JSON.stringify(event)).toString("base64"), p: "abc" });
const invoke = (events: readonly object[]): Buffer => Buffer.concat(events.map(chunk));

interface Out {
  readonly type: string;
  readonly body: Record<string, unknown>;
}

/** What comes out, cut as told on the way in; frames have to be whole and right again. */
function pass(
  bytes: Buffer,
  isInvoke: boolean,
  cuts: readonly number[] = [],
): { frames: BedrockFrames; bytes: Buffer } {
  const frames = new BedrockFrames(new SecretRuns(), isInvoke ? "invoke" : "converse");
  const out: Buffer[] = [];
  let from = 0;
  for (const cut of [...cuts, bytes.length]) {
    out.push(frames.push(bytes.subarray(from, cut)));
    from = cut;
  }
  out.push(frames.end());
  return { frames, bytes: Buffer.concat(out) };
}

function read(bytes: Buffer): Out[] {
  const reader = new EventStreamReader();
  const frames = reader.push(bytes);
  reader.end();
  return frames.map((frame) => {
    const body = JSON.parse(frame.payload.toString()) as Record<string, unknown>;
    const type = headerText(frame, ":event-type") ?? headerText(frame, ":exception-type") ?? "";
    if (typeof body["bytes"] !== "string") return { type, body };
    return { type, body: JSON.parse(Buffer.from(body["bytes"], "base64").toString()) as Record<string, unknown> };
  });
}

/** Everything below `names`, in order, as a client would join it. */
function joined(out: readonly Out[], names: readonly string[]): string {
  const found: string[] = [];
  const walk = (value: unknown, key: string): void => {
    if (typeof value === "string") {
      if (names.includes(key)) found.push(value);
    } else if (typeof value === "object" && value !== null) {
      for (const [name, inner] of Object.entries(value)) walk(inner, name);
    }
  };
  for (const { body } of out) walk(body, "");
  return found.join("");
}

const block = (delta: object): readonly [string, object] => ["contentBlockDelta", { contentBlockIndex: 0, delta }];
const tail = [
  ["contentBlockStop", { contentBlockIndex: 0 }],
  ["messageStop", { stopReason: "end_turn" }],
  ["metadata", { usage: { inputTokens: 7, outputTokens: 9, totalTokens: 16 }, metrics: { latencyMs: 1 } }],
] as const;

describe("bedrock frames", () => {
  test("converse: a value split at every place, in text, tool input and reasoning", () => {
    for (const secret of secrets) {
      const shapes: [string, (text: string) => object, string][] = [
        [`to ${secret} ad`, (text) => ({ text }), "text"],
        [`{"a":"${escaped(secret)}"}`, (input) => ({ toolUse: { input } }), "input"],
        [`hm ${secret}`, (text) => ({ reasoningContent: { text } }), "text"],
      ];
      for (const [value, delta, key] of shapes) {
        for (let cut = 0; cut <= value.length; cut += 1) {
          const events = [block(delta(value.slice(0, cut))), block(delta(value.slice(cut))), ...tail];
          const out = read(pass(converse(events), false).bytes);
          assert.equal(joined(out, [key]), hide(value), `cut at ${cut}`);
          const types = out.map(({ type }) => type);
          assert.ok(types.lastIndexOf("contentBlockDelta") < types.indexOf("contentBlockStop"));
        }
      }
    }
  });

  test("frames cut at every byte give the same bytes; what is untouched leaves byte for byte", () => {
    const quiet = converse([
      ["messageStart", { role: "assistant" }],
      ["contentBlockStart", { contentBlockIndex: 0, start: { toolUse: { toolUseId: "t", name: "lookup" } } }],
      block({ toolUse: { input: '{"q": 1}' } }),
      block({ reasoningContent: { signature: secrets[0] } }),
      ...tail,
    ]);
    const { frames, bytes } = pass(quiet, false);
    assert.deepEqual(bytes, quiet);
    assert.deepEqual([frames.inputTokens, frames.outputTokens, frames.toolCalls], [7, 9, ["lookup"]]);

    const loud = converse([
      block({ text: secrets[1].slice(0, 5) }),
      block({ text: `${secrets[1].slice(5)}!` }),
      ...tail,
    ]);
    const whole = pass(loud, false).bytes;
    assert.equal(joined(read(whole), ["text"]), `${hide(secrets[1])}!`);
    for (let cut = 0; cut <= loud.length; cut += 1) assert.deepEqual(pass(loud, false, [cut]).bytes, whole);
    const every = [...loud.keys()];
    assert.deepEqual(pass(loud, false, every).bytes, whole);
  });

  const metrics = { "amazon-bedrock-invocationMetrics": { inputTokenCount: 3, outputTokenCount: 4 } };
  const models: Record<string, { readonly key: string; readonly events: (a: string, b: string) => object[] }> = {
    anthropic: {
      key: "text",
      events: (a, b) => [
        { type: "message_start", message: { role: "assistant", content: [], usage: { input_tokens: 1 } } },
        { type: "content_block_start", index: 0, content_block: { type: "text", text: "" } },
        { type: "content_block_delta", index: 0, delta: { type: "text_delta", text: a } },
        { type: "content_block_delta", index: 0, delta: { type: "text_delta", text: b } },
        { type: "content_block_stop", index: 0 },
        { type: "message_delta", delta: { stop_reason: "end_turn" }, usage: { output_tokens: 2 } },
        { type: "message_stop", ...metrics },
      ],
    },
    nova: {
      key: "text",
      events: (a, b) => [
        { messageStart: { role: "assistant" } },
        { contentBlockDelta: { delta: { text: a }, contentBlockIndex: 0 } },
        { contentBlockDelta: { delta: { text: b }, contentBlockIndex: 0 } },
        { contentBlockStop: { contentBlockIndex: 0 } },
        { messageStop: { stopReason: "end_turn" } },
        { metadata: { usage: { inputTokens: 1, outputTokens: 2 } }, ...metrics },
      ],
    },
    titan: {
      key: "outputText",
      events: (a, b) => [
        { outputText: a, index: 0, completionReason: null },
        { outputText: b, index: 0, completionReason: "FINISH", ...metrics },
      ],
    },
    llama: {
      key: "generation",
      events: (a, b) => [
        { generation: a, stop_reason: null },
        { generation: b, stop_reason: null },
        { generation: "", stop_reason: "stop", ...metrics },
      ],
    },
    mistral: {
      key: "text",
      events: (a, b) => [
        { outputs: [{ text: a, stop_reason: null }] },
        { outputs: [{ text: b, stop_reason: "stop" }], ...metrics },
      ],
    },
    "openai-like": {
      key: "content",
      events: (a, b) => [
        { id: "x", choices: [{ index: 0, delta: { role: "assistant", content: a } }] },
        { id: "x", choices: [{ index: 0, delta: { content: b }, finish_reason: null }] },
        { id: "x", choices: [{ index: 0, delta: {}, finish_reason: "stop" }], ...metrics },
      ],
    },
    cohere: {
      key: "text",
      events: (a, b) => [
        { type: "content-delta", index: 0, delta: { message: { content: { text: a } } } },
        { type: "content-delta", index: 0, delta: { message: { content: { text: b } } } },
        { type: "message-end", delta: { finish_reason: "COMPLETE" }, ...metrics },
      ],
    },
  };

  for (const [model, { key, events }] of Object.entries(models)) {
    test(`invoke, ${model}: a value split at every place`, () => {
      for (const secret of secrets) {
        const value = `to ${secret} ad`;
        for (let cut = 0; cut <= value.length; cut += 1) {
          const { frames, bytes } = pass(invoke(events(value.slice(0, cut), value.slice(cut))), true);
          assert.equal(joined(read(bytes), [key]), hide(value), `cut at ${cut}`);
          assert.deepEqual([frames.inputTokens, frames.outputTokens], [3, 4]);
        }
      }
      const quiet = invoke(events("Hello", " there!"));
      assert.deepEqual(pass(quiet, true).bytes, quiet);
    });
  }

  test("a stream that ends early lets go of what was held", () => {
    assert.equal(joined(read(pass(invoke([{ generation: "ad" }]), true).bytes), ["generation"]), "ad");
    assert.equal(joined(read(pass(converse([block({ text: "ad" })]), false).bytes), ["text"]), "ad");
    const out = read(pass(invoke([{ outputs: [{ text: "ad" }], note: "x" }]), true).bytes);
    assert.deepEqual(out.at(-1)?.body, { outputs: [{ text: "ad" }], note: "" });
  });

  test("exceptions: what was held comes first, their message is masked and told", () => {
    const [, email] = secrets;
    const exception = writeFrame(
      writeTextHeaders([
        [":exception-type", "validationException"],
        [":content-type", "application/json"],
        [":message-type", "exception"],
      ]),
      Buffer.from(JSON.stringify({ message: `bad ${email}` })),
    );
    const { frames, bytes } = pass(Buffer.concat([converse([block({ text: "ad" })]), exception]), false);
    const out = read(bytes);
    assert.equal(joined(out.slice(0, -1), ["text"]), "ad");
    assert.deepEqual(out.at(-1), { type: "validationException", body: { message: `bad ${hide(email)}` } });
    assert.equal(frames.error, `validationException: bad ${hide(email)}`);

    const error = writeFrame(
      writeTextHeaders([
        [":message-type", "error"],
        [":error-code", "InternalFailure"],
        [":error-message", `bad ${email}`],
      ]),
      Buffer.alloc(0),
    );
    const [frame] = new EventStreamReader().push(pass(error, false).bytes);
    assert.equal(frame === undefined ? "" : headerText(frame, ":error-message"), `bad ${hide(email)}`);
  });

  test("chunks of plain text, cut at every byte", () => {
    const [card] = secrets;
    const value = Buffer.from(`é ${card} ✓ ad`);
    for (let cut = 0; cut <= value.length; cut += 1) {
      const parts = [value.subarray(0, cut), value.subarray(cut)];
      const stream = Buffer.concat(parts.map((part) => writeEvent("chunk", { bytes: part.toString("base64") })));
      const out = new EventStreamReader().push(pass(stream, true).bytes).map((frame) => {
        const { bytes } = JSON.parse(frame.payload.toString()) as { bytes: string };
        return Buffer.from(bytes, "base64");
      });
      assert.equal(Buffer.concat(out).toString(), hide(value.toString()), `cut at ${cut}`);
    }
  });

  test("payloads of no known kind are masked as text, and junk gives a coded error", () => {
    const [card] = secrets;
    const text = writeEvent("chunk", { bytes: Buffer.from(`no JSON ${card}`).toString("base64") });
    const [frame] = new EventStreamReader().push(pass(text, true).bytes);
    const { bytes } = JSON.parse(frame?.payload.toString() ?? "{}") as { bytes: string };
    assert.equal(Buffer.from(bytes, "base64").toString(), `no JSON ${hide(card)}`);
    const raw = writeFrame(writeTextHeaders([[":event-type", "later"]]), Buffer.from(`x ${card}`));
    assert.ok(pass(raw, false).bytes.includes(hide(card)));
    assert.throws(() => pass(Buffer.from("HTTP/1.1 200 OK\r\n"), false), PeerError);
    const many = Object.fromEntries(Array.from({ length: 5000 }, (_, i) => [`k${i}`, "a"]));
    assert.throws(
      () => pass(invoke([many]), true),
      (error) => error instanceof PeerError && error.code === "WEIR_LIMIT_REACHED",
    );
  });
});
