/**
 * Real detectors over the streams of Anthropic, Gemini and Bedrock, through the dialect: each kind of value, cut at each
 * place over two events of each kind, never leaves; the rest of the reply stays; what the client sent comes back.
 */
import assert from "node:assert/strict";
import { describe, test } from "node:test";
import type { LlmProvider } from "../../../../agent/core/operation.ts";
import type { DetectorName, MaskSpec, RedactSpec, Verdict } from "../../../../agent/core/verdict.ts";
import { createMasker } from "../../../../agent/mask/masker.ts";
import type { DialectContext, DialectExchange } from "../../../../agent/wire/http/dialect.ts";
import { Headers, type RequestHead, type ResponseHead } from "../../../../agent/wire/http/message.ts";
import { writeEvent } from "../../../../agent/wire/llm/bedrock-frames.ts";
import { llmDialect } from "../../../../agent/wire/llm/dialect.ts";
import { EventStreamReader } from "../../../../agent/wire/llm/eventstream.ts";

const values: Readonly<Record<DetectorName, string>> = {
  "credit-card": "4111-1111-1111-1111",
  ssn: "536-90-4399",
  email: "Ada.L+x@ex-ample.co.uk",
  phone: "+1 415 555 2671",
  iban: "DE89370400440532013000",
  "aws-key": "AKIAIOSFODNN7EXAMPLE",
  "openai-key": "sk-abcdefghijklmnopqrstuvwx",
  "anthropic-key": "sk-ant-api03-abcdefghijklmnopqrst",
  "github-token": "ghp_abcdefghijklmnopqrstuvwxyz0123456789",
  jwt: "eyJhbGciOiJIUzI1NiJ9.eyJzdWIiOiIxIn0.c2ln",
  "private-key": "-----BEGIN RSA PRIVATE KEY-----\nMIIabc\n-----END RSA PRIVATE KEY-----",
};
const detectors = Object.keys(values) as DetectorName[];
const key = Buffer.alloc(32, 7);
const reference = createMasker([{ detectors, with: "redact" }], key);

const mask: MaskSpec = { rule: "m", column: null, detectors, with: "redact", derived: "mask" };
const redact: RedactSpec = { rule: "r", detectors: ["email"], custom: [], with: "placeholder" };

function verdict(masks: readonly MaskSpec[], redactions: readonly RedactSpec[]): Verdict {
  return {
    action: "allow",
    rule: "m",
    reason: "",
    mode: "enforce",
    wouldBe: null,
    transforms: { masks, limits: [], redactions },
    record: "result",
    approvers: [],
    holdTimeoutMs: 0,
    onTimeout: "deny",
    policy: "",
  };
}
const masked = verdict([mask], []);
const redacted = verdict([], [redact]);

interface Api {
  readonly provider: LlmProvider;
  readonly target: string;
  readonly type: string;
  readonly request: (prompt: string) => object;
  /** The reply whose text comes in these pieces. */
  readonly write: (pieces: readonly string[]) => Buffer;
  readonly read: (bytes: Buffer) => string;
}

const sse = (events: readonly object[], named: boolean): Buffer =>
  Buffer.from(
    events
      .map(
        (event) => `${named ? `event: ${(event as { type: string }).type}\n` : ""}data: ${JSON.stringify(event)}\n\n`,
      )
      .join(""),
  );
const unsse = (bytes: Buffer): unknown[] =>
  [...bytes.toString().matchAll(/^data: (.*)$/gm)].map((match) => JSON.parse(match[1] as string) as unknown);

/** Texts below this name, joined in order. */
function textsBelow(root: unknown, name: string): string {
  let out = "";
  const walk = (node: unknown, key: string): void => {
    if (typeof node === "string" && key === name) out += node;
    if (typeof node === "object" && node !== null) for (const [k, v] of Object.entries(node)) walk(v, k);
  };
  walk(root, "");
  return out;
}

const user = (content: unknown): object => ({ role: "user", content });
const anthropicRequest = (prompt: string): object => ({
  model: "m",
  stream: true,
  max_tokens: 9,
  messages: [user(prompt)],
});
const anthropicEvents = (type: string, name: string, pieces: readonly string[]): object[] => [
  { type: "message_start", message: { content: [], usage: { input_tokens: 3, output_tokens: 1 } } },
  { type: "content_block_start", index: 0, content_block: { type: "text", text: "" } },
  ...pieces.map((piece) => ({ type: "content_block_delta", index: 0, delta: { type, [name]: piece } })),
  { type: "content_block_stop", index: 0 },
  { type: "message_delta", delta: { stop_reason: "end_turn" }, usage: { output_tokens: 5 } },
  { type: "message_stop" },
];
const geminiRequest = (text: string): object => ({ contents: [{ parts: [{ text }] }] });
const geminiChunks = (pieces: readonly string[]): object[] =>
  pieces.map((text, i) => ({
    candidates: [{ content: { parts: [{ text }] }, ...(i === pieces.length - 1 ? { finishReason: "STOP" } : {}) }],
    usageMetadata: { promptTokenCount: 3, candidatesTokenCount: 5 },
  }));
const frames = (bytes: Buffer): unknown[] =>
  new EventStreamReader().push(bytes).map((frame) => {
    const body = JSON.parse(frame.payload.toString()) as { bytes?: string };
    return body.bytes === undefined ? body : (JSON.parse(Buffer.from(body.bytes, "base64").toString()) as unknown);
  });
const converseRequest = (text: string): object => ({ messages: [user([{ text }])] });

const apis: Readonly<Record<string, Api>> = {
  "anthropic text": {
    provider: "anthropic",
    target: "/v1/messages",
    type: "text/event-stream; charset=utf-8",
    request: anthropicRequest,
    write: (pieces) => sse(anthropicEvents("text_delta", "text", pieces), true),
    read: (bytes) => textsBelow(unsse(bytes), "text"),
  },
  "anthropic thinking": {
    provider: "anthropic",
    target: "/v1/messages",
    type: "text/event-stream",
    request: anthropicRequest,
    write: (pieces) => sse(anthropicEvents("thinking_delta", "thinking", pieces), true),
    read: (bytes) => textsBelow(unsse(bytes), "thinking"),
  },
  "gemini events": {
    provider: "gemini",
    target: "/v1beta/models/m:streamGenerateContent?alt=sse",
    type: "text/event-stream",
    request: geminiRequest,
    write: (pieces) => sse(geminiChunks(pieces), false),
    read: (bytes) => textsBelow(unsse(bytes), "text"),
  },
  "gemini array": {
    provider: "gemini",
    target: "/v1beta/models/m:streamGenerateContent",
    type: "application/json; charset=UTF-8",
    request: geminiRequest,
    write: (pieces) => Buffer.from(JSON.stringify(geminiChunks(pieces))),
    read: (bytes) => textsBelow(JSON.parse(bytes.toString()), "text"),
  },
  "bedrock converse": {
    provider: "bedrock",
    target: "/model/m/converse-stream",
    type: "application/vnd.amazon.eventstream",
    request: converseRequest,
    write: (pieces) =>
      Buffer.concat([
        ...pieces.map((text) => writeEvent("contentBlockDelta", { contentBlockIndex: 0, delta: { text } })),
        writeEvent("contentBlockStop", { contentBlockIndex: 0 }),
        writeEvent("metadata", { usage: { inputTokens: 3, outputTokens: 5 } }),
      ]),
    read: (bytes) => textsBelow(frames(bytes), "text"),
  },
  "bedrock invoke": {
    provider: "bedrock",
    target: "/model/m/invoke-with-response-stream",
    type: "application/vnd.amazon.eventstream",
    request: (prompt) => ({ anthropic_version: "bedrock-2023-05-31", messages: [user(prompt)] }),
    write: (pieces) =>
      Buffer.concat(
        anthropicEvents("text_delta", "text", pieces).map((event) =>
          writeEvent("chunk", { bytes: Buffer.from(JSON.stringify(event)).toString("base64") }),
        ),
      ),
    read: (bytes) => textsBelow(frames(bytes), "text"),
  },
};

function open(api: Api): DialectExchange {
  const head: RequestHead = {
    method: "POST",
    target: api.target,
    scheme: "https",
    authority: "model.internal",
    headers: new Headers(["content-type", "application/json"]),
    version: "1.1",
    body: { kind: "chunked" },
    raw: null,
  };
  const context: DialectContext = {
    targetProtocol: api.provider,
    maskKey: key,
    custom: new Map(),
    would: () => masked,
    pin: () => null,
    pinned: () => null,
  };
  const exchange = llmDialect.open(head, context);
  assert.ok(exchange !== null);
  return exchange;
}

function ask(api: Api, prompt: string, what: Verdict): { exchange: DialectExchange; sent: Buffer } {
  const exchange = open(api);
  const body = Buffer.from(JSON.stringify(api.request(prompt)));
  const described = exchange.describe(body);
  assert.deepEqual(described.traits, []);
  assert.equal(described.llm?.stream, true);
  assert.ok(described.llm?.prompt.includes(prompt));
  return { exchange, sent: exchange.rewrite?.(body, what) ?? body };
}

function answer(api: Api, exchange: DialectExchange, what: Verdict, bytes: Buffer, cut = bytes.length >> 1) {
  const head: ResponseHead = {
    status: 200,
    reason: "OK",
    headers: new Headers(["content-type", api.type]),
    version: "1.1",
    body: { kind: "chunked" },
    raw: null,
  };
  const reader = exchange.reply(head, what);
  assert.ok(reader !== null);
  const out = Buffer.concat([reader.push(bytes.subarray(0, cut)), reader.push(bytes.subarray(cut)), reader.end()]);
  return { out, summary: reader.summary(), masked: reader.masked };
}

for (const [name, api] of Object.entries(apis)) {
  describe(name, () => {
    test("each kind of value, split at each place", () => {
      const { exchange } = ask(api, "hello", masked);
      for (const [detector, value] of Object.entries(values)) {
        const text = `Grüße: ${value} — end, bye.`;
        const expected = reference?.maskString(text);
        assert.ok(expected?.includes("*"));
        for (let cut = 0; cut <= text.length; cut += 1) {
          const { out, masked: count } = answer(
            api,
            exchange,
            masked,
            api.write([text.slice(0, cut), text.slice(cut)]),
          );
          assert.equal(api.read(out), expected, `${detector} cut at ${cut}`);
          assert.equal(count, 1);
        }
        const { out } = answer(api, exchange, masked, api.write([...text]));
        assert.equal(api.read(out), expected, `${detector} by characters`);
      }
    });

    test("the reply cut at each byte, tokens and text for the record", () => {
      const { exchange } = ask(api, "hello", masked);
      const bytes = api.write(["to Ada.L@exam", "ple.org, bye"]);
      const whole = answer(api, exchange, masked, bytes, 0).out;
      for (let cut = 0; cut <= bytes.length; cut += 1) {
        const { out, summary } = answer(api, exchange, masked, bytes, cut);
        assert.deepEqual(out, whole, `cut at ${cut}`);
        assert.deepEqual([summary.inputTokens, summary.outputTokens], [3, 5]);
        assert.ok(!summary.text.includes("Ada.L@") && summary.text.includes("bye"));
      }
      // A word that ends its event may still become an e-mail address, and waits; these cannot.
      const quiet = api.write(["Hello there! ", "Bye. "]);
      assert.deepEqual(answer(api, exchange, masked, quiet).out, quiet);
    });

    test("a placeholder goes out, and what it stands for comes back wherever it is cut", () => {
      const email = "ada@example.com";
      const { exchange, sent } = ask(api, `Write to ${email}!`, redacted);
      assert.ok(!sent.includes(email), sent.toString());
      const [placeholder] = /<[A-Z]+_\d+>/.exec(sent.toString()) ?? [];
      assert.ok(placeholder !== undefined, sent.toString());
      const text = `Dear ${placeholder}, hi`;
      for (let cut = 0; cut <= text.length; cut += 1) {
        const { out, summary } = answer(api, exchange, redacted, api.write([text.slice(0, cut), text.slice(cut)]));
        assert.equal(api.read(out), `Dear ${email}, hi`, `cut at ${cut}`);
        assert.ok(!summary.text.includes(email), "the record keeps the placeholder");
      }
    });
  });
}
