/** Replies in each kind of frame, with a text in pieces, and what a client reads of them. */
import type { TargetProtocol } from "../../../../agent/core/operation.ts";
import type { Verdict } from "../../../../agent/core/verdict.ts";
import type { DialectExchange, ReplyReader } from "../../../../agent/wire/http/dialect.ts";
import { writeEvent } from "../../../../agent/wire/llm/bedrock-frames.ts";
import { EventStreamReader, headerText } from "../../../../agent/wire/llm/eventstream.ts";
import { MessageReader, opText, writeMessage } from "../../../../agent/wire/websocket/messages.ts";
import { replyHead } from "./exchange.ts";
import { chatStream, responsesStream, sse } from "./openai-vectors.ts";

export interface Frame {
  readonly protocol: TargetProtocol;
  readonly target: string;
  readonly type: string;
  /** Messages of a WebSocket. */
  readonly tunnel?: true;
  /** The text is a string in JSON, and the pieces are of that JSON. */
  readonly inJson: boolean;
  write(pieces: readonly string[]): Buffer;
  /** Each event of the reply; throws when a frame is not whole and right. */
  events(reply: Buffer): object[];
  /** The text, each time that the reply tells it. */
  told(events: readonly object[]): string[];
  /** True for the events that bring the pieces. */
  brings(event: object): boolean;
}

/** Of the server's way. */
export function readerOf(frame: Frame, exchange: DialectExchange, verdict: Verdict): ReplyReader {
  const reader = frame.tunnel
    ? exchange.tunnel?.(verdict).reply
    : (exchange.reply(replyHead(frame.type), verdict) ?? undefined);
  if (reader === undefined) throw new Error("nothing of the reply is read");
  return reader;
}

/** Strings below this name, in order. */
function textsBelow(root: unknown, name: string): string[] {
  const found: string[] = [];
  const walk = (node: unknown, key: string): void => {
    if (typeof node === "string" && key === name) found.push(node);
    if (typeof node === "object" && node !== null) for (const [k, v] of Object.entries(node)) walk(v, k);
  };
  walk(root, "");
  return found;
}

const kindOf = (event: object): unknown => (event as { type?: unknown }).type;
const eventStream = "text/event-stream";

function sseEvents(reply: Buffer): object[] {
  const blocks = reply.toString().split("\n\n");
  if (blocks.pop() !== "") throw new Error("the last event has no end");
  return blocks
    .map(
      (block) =>
        block
          .split("\n")
          .find((line) => line.startsWith("data: "))
          ?.slice(6) ?? "",
    )
    .filter((data) => data !== "[DONE]")
    .map((data) => JSON.parse(data) as object);
}

function frames(reply: Buffer): object[] {
  const reader = new EventStreamReader();
  const all = reader.push(reply);
  reader.end();
  return all.map((frame) => {
    const body = JSON.parse(frame.payload.toString()) as { bytes?: string };
    const inner = body.bytes === undefined ? body : JSON.parse(Buffer.from(body.bytes, "base64").toString());
    return { type: headerText(frame, ":event-type"), ...(inner as object) };
  });
}

const chat = (name: "content" | "reasoning" | "args", key: string): Frame => ({
  protocol: "openai",
  target: "/v1/chat/completions",
  type: eventStream,
  inJson: name === "args",
  write: (pieces) => sse(chatStream({ [name]: pieces })),
  events: sseEvents,
  told: (events) => [textsBelow(events, key).join("")],
  brings: (event) => textsBelow(event, key).length > 0,
});

const anthropic = (kind: string, name: string, block: object): Frame => ({
  protocol: "anthropic",
  target: "/v1/messages",
  type: eventStream,
  inJson: name === "partial_json",
  write: (pieces) =>
    sse(
      [
        { type: "message_start", message: { content: [], usage: { input_tokens: 3, output_tokens: 1 } } },
        { type: "content_block_start", index: 0, content_block: block },
        { type: "ping" },
        ...pieces.map((piece) => ({ type: "content_block_delta", index: 0, delta: { type: kind, [name]: piece } })),
        { type: "content_block_stop", index: 0 },
        { type: "message_delta", delta: { stop_reason: "end_turn" }, usage: { output_tokens: 5 } },
        { type: "message_stop" },
      ],
      true,
    ),
  events: sseEvents,
  told: (events) => [
    textsBelow(
      events.filter((event) => kindOf(event) === "content_block_delta"),
      name,
    ).join(""),
  ],
  brings: (event) => kindOf(event) === "content_block_delta",
});

const converse = (name: "text" | "input", delta: (piece: string) => object): Frame => ({
  protocol: "bedrock",
  target: "/model/m/converse-stream",
  type: "application/vnd.amazon.eventstream",
  inJson: name === "input",
  write: (pieces) =>
    Buffer.concat([
      writeEvent("messageStart", { role: "assistant", p: "abc" }),
      ...pieces.map((piece) => writeEvent("contentBlockDelta", { contentBlockIndex: 0, delta: delta(piece), p: "ab" })),
      writeEvent("contentBlockStop", { contentBlockIndex: 0 }),
      writeEvent("messageStop", { stopReason: "end_turn" }),
      writeEvent("metadata", { usage: { inputTokens: 7, outputTokens: 9, totalTokens: 16 } }),
    ]),
  events: frames,
  told: (events) => [textsBelow(events, name).join("")],
  brings: (event) => kindOf(event) === "contentBlockDelta",
});

const realtime = (base: string, key: "text" | "transcript" | "arguments"): Frame => {
  const at = { response_id: "resp_1", item_id: "item_1", output_index: 0, content_index: 0 };
  const kind = key === "arguments" ? "function_call" : "message";
  const holder = (text: string) => {
    const part = key === "arguments" ? { arguments: text } : { content: [{ type: key, [key]: text }] };
    return { id: "item_1", type: kind, ...part };
  };
  return {
    protocol: "openai",
    target: "/v1/realtime?model=gpt-realtime",
    type: "",
    tunnel: true,
    inJson: key === "arguments",
    write(pieces) {
      const text = pieces.join("");
      return messages([
        { type: "session.created", session: { id: "sess_1" } },
        { type: "response.created", response: { id: "resp_1", status: "in_progress" } },
        {
          type: "response.output_item.added",
          response_id: "resp_1",
          output_index: 0,
          item: { id: "item_1", type: kind },
        },
        // Another response's, and sound, between the pieces.
        ...pieces.flatMap((delta) => [
          { type: `${base}.delta`, ...at, delta },
          { type: "response.output_audio.delta", ...at, delta: "QUJD".repeat(9) },
          {
            type: "conversation.item.input_audio_transcription.delta",
            item_id: "item_2",
            content_index: 0,
            delta: "x ",
          },
        ]),
        { type: `${base}.done`, ...at, [key]: text },
        { type: "response.output_item.done", response_id: "resp_1", output_index: 0, item: holder(text) },
        { type: "response.done", response: { id: "resp_1", status: "completed", output: [holder(text)] } },
      ]);
    },
    events: messagesIn,
    told(events) {
      const deltas = events.filter((event) => kindOf(event) === `${base}.delta`);
      const others = events.filter((event) => !deltas.includes(event));
      return [textsBelow(deltas, "delta").join(""), ...textsBelow(others, key)];
    },
    brings: (event) => kindOf(event) === `${base}.delta`,
  };
};

/** What the user said, as the model heard it. */
const heard = "conversation.item.input_audio_transcription";

const live = (write: (text: string) => object, read: (content: object) => unknown): Frame => ({
  protocol: "gemini",
  target: "/ws/google.ai.generativelanguage.v1beta.GenerativeService.BidiGenerateContent",
  type: "",
  tunnel: true,
  inJson: false,
  write: (pieces) =>
    messages([
      { setupComplete: {} },
      ...pieces.map((text) => ({ serverContent: write(text) })),
      { serverContent: { turnComplete: true }, usageMetadata: { responseTokenCount: 3 } },
    ]),
  events: messagesIn,
  told: (events) => [
    textsBelow(
      events.map((event) => read(contentOf(event))),
      "text",
    ).join(""),
  ],
  brings: (event) => read(contentOf(event)) !== undefined,
});

const contentOf = (event: object): object => (event as { serverContent?: object }).serverContent ?? {};

function messages(events: readonly object[]): Buffer {
  return Buffer.concat(events.map((event) => writeMessage(opText, Buffer.from(JSON.stringify(event)), null)));
}

function messagesIn(reply: Buffer): object[] {
  const reader = new MessageReader(false);
  const parts = reader.push(reply);
  if (reader.heldBytes > 0) throw new Error("the last message has no end");
  return parts.flatMap((part) => (part.kind === "message" ? [JSON.parse(part.payload.toString()) as object] : []));
}

export const kinds: Readonly<Record<string, Frame>> = {
  "OpenAI, text": chat("content", "content"),
  "OpenAI, reasoning": chat("reasoning", "reasoning_content"),
  "OpenAI, arguments of a tool": chat("args", "arguments"),
  "Responses, text": {
    protocol: "openai",
    target: "/v1/responses",
    type: eventStream,
    inJson: false,
    write: (pieces) => sse(responsesStream(pieces), true),
    events: sseEvents,
    told(events) {
      const deltas = events.filter((event) => kindOf(event) === "response.output_text.delta");
      const whole = events.filter((event) => !deltas.includes(event));
      return [textsBelow(deltas, "delta").join(""), ...textsBelow(whole, "text").filter((text) => text !== "")];
    },
    brings: (event) => kindOf(event) === "response.output_text.delta",
  },
  "Responses, arguments of a tool": {
    protocol: "openai",
    target: "/v1/responses",
    type: eventStream,
    inJson: true,
    write: (pieces) => sse(responsesStream(["Yes."], pieces), true),
    events: sseEvents,
    told(events) {
      const deltas = events.filter((event) => kindOf(event) === "response.function_call_arguments.delta");
      const whole = textsBelow(events, "arguments").filter((text) => text !== "");
      return [textsBelow(deltas, "delta").join(""), ...whole];
    },
    // The message before it may be told in one event more.
    brings: (event) => String(kindOf(event)).endsWith(".delta"),
  },
  "Anthropic, text": anthropic("text_delta", "text", { type: "text", text: "" }),
  "Anthropic, thinking": anthropic("thinking_delta", "thinking", { type: "thinking", thinking: "" }),
  "Anthropic, arguments of a tool": anthropic("input_json_delta", "partial_json", {
    ...{ type: "tool_use", id: "toolu_1", name: "send_mail", input: {} },
  }),
  "Bedrock Converse, text": converse("text", (text) => ({ text })),
  "Bedrock Converse, arguments of a tool": converse("input", (input) => ({ toolUse: { input } })),
  "Bedrock Invoke, text": {
    ...converse("text", (text) => ({ text })),
    target: "/model/m/invoke-with-response-stream",
    write(pieces) {
      const chunk = (event: object): Buffer =>
        writeEvent("chunk", { bytes: Buffer.from(JSON.stringify(event)).toString("base64"), p: "abc" });
      return Buffer.concat(
        [
          { type: "message_start", message: { role: "assistant", content: [], usage: { input_tokens: 1 } } },
          { type: "content_block_start", index: 0, content_block: { type: "text", text: "" } },
          ...pieces.map((text) => ({ type: "content_block_delta", index: 0, delta: { type: "text_delta", text } })),
          { type: "content_block_stop", index: 0 },
          { type: "message_delta", delta: { stop_reason: "end_turn" }, usage: { output_tokens: 2 } },
          { type: "message_stop" },
        ].map(chunk),
      );
    },
    brings: (event) => kindOf(event) === "content_block_delta",
  },
  "Ollama, NDJSON": {
    protocol: "ollama",
    target: "/api/generate",
    type: "application/x-ndjson",
    inJson: false,
    write: (pieces) =>
      Buffer.from(
        [
          ...pieces.map((response) => ({ model: "m", response, done: false })),
          { model: "m", response: "", done: true, eval_count: 9 },
        ]
          .map((line) => `${JSON.stringify(line)}\n`)
          .join(""),
      ),
    events: (reply) =>
      reply
        .toString()
        .split("\n")
        .slice(0, -1)
        .map((line) => JSON.parse(line) as object),
    told: (events) => [textsBelow(events, "response").join("")],
    brings: (event) => (event as { done?: boolean }).done === false,
  },
  "Realtime, text": realtime("response.output_text", "text"),
  "Realtime, transcript of sound": realtime("response.output_audio_transcript", "transcript"),
  "Realtime, arguments of a tool": realtime("response.function_call_arguments", "arguments"),
  "Realtime, what the user said": {
    ...realtime(heard, "transcript"),
    write: (pieces) =>
      messages([
        ...pieces.map((delta) => ({ type: `${heard}.delta`, item_id: "item_1", content_index: 0, delta })),
        { type: `${heard}.completed`, item_id: "item_1", content_index: 0, transcript: pieces.join("") },
      ]),
  },
  "Gemini Live, text": live(
    (text) => ({ modelTurn: { role: "model", parts: [{ text }] } }),
    (content) => (content as { modelTurn?: unknown }).modelTurn,
  ),
  "Gemini Live, transcript of sound": live(
    (text) => ({ outputTranscription: { text } }),
    (content) => (content as { outputTranscription?: unknown }).outputTranscription,
  ),
};
