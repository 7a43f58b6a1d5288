/**
 * OpenAI's realtime API. https://platform.openai.com/docs/api-reference/realtime-client-events
 */
import type { Refusal } from "../http/dialect.ts";
import { closeFrame, opText, writeMessage } from "../websocket/messages.ts";
import type { RealtimeApi } from "./api.ts";
import type { RequestFacts } from "./message-facts.ts";
import { isObject, type JsonObject, textsOf } from "./message-leaves.ts";
import { openaiUsage } from "./openai-parts.ts";
import { ResponsesStream } from "./openai-responses-stream.ts";

const base64 = /^[A-Za-z0-9+/]+={0,2}$/;
const soundCharactersMin = 256;
/** Sound comes in many small pieces: one decision stands for all of a session's. */
const audioType = /^input_audio_buffer\./;
/** They give the model nothing. */
const idleTypes: ReadonlySet<string> = new Set([
  ...["response.cancel", "output_audio_buffer.clear", "conversation.item.delete", "conversation.item.truncate"],
  "conversation.item.retrieve",
]);

export const openaiRealtime: RealtimeApi = {
  refusalEnds: false,
  rewriter: () => new ResponsesStream(true),
  asked(event) {
    const type = typeof event["type"] === "string" ? event["type"] : "";
    return {
      type,
      kind: idleTypes.has(type) ? "idle" : audioType.test(type) ? "sound" : "prompt",
      facts: requestFacts(event, type),
      answered: type === "response.create",
    };
  },
  spent({ type, response }) {
    if (type !== "response.done") return null;
    const { input, output } = openaiUsage(isObject(response) ? response["usage"] : null);
    return { inputTokens: input, outputTokens: output };
  },
  refuse: (refusal, event) => refused(refusal, event["event_id"]),
  farewell: (message) =>
    Buffer.concat([errorFrame({ message, code: "weir", event_id: null }), closeFrame(1008, message)]),
};

/** Members that are no text for the model. */
const settings: ReadonlySet<string> = new Set([
  ...["type", "event_id", "model", "voice", "output_modalities", "modalities", "tool_choice", "tools"],
  ...["input_audio_format", "output_audio_format", "turn_detection", "metadata", "include"],
]);

function requestFacts(event: JsonObject, type: string): RequestFacts {
  const holder = isObject(event["session"]) ? event["session"] : isObject(event["response"]) ? event["response"] : {};
  const tools: string[] = [];
  const prompt: string[] = [];
  for (const part of [event, holder]) {
    const told = Object.entries(part).filter(([key]) => !settings.has(key) && key !== "session" && key !== "response");
    if (!audioType.test(type)) textsOf(Object.fromEntries(told), prompt);
  }
  for (const tool of Array.isArray(holder["tools"]) ? holder["tools"] : []) {
    if (!isObject(tool)) continue;
    const name = tool["name"] ?? tool["server_label"] ?? tool["type"];
    if (typeof name === "string") tools.push(name);
    textsOf({ description: tool["description"], schema: tool["parameters"] }, prompt);
  }
  const texts = prompt.filter((text) => text.length < soundCharactersMin || !base64.test(text));
  const most = holder["max_output_tokens"] ?? holder["max_response_output_tokens"];
  return {
    model: typeof holder["model"] === "string" ? holder["model"] : "",
    stream: true,
    tools: [...new Set(tools)],
    outputTokensMax: typeof most === "number" ? most : null,
    prompt: texts,
  };
}

function refused({ message, code }: Refusal, eventId: unknown): Buffer {
  return errorFrame({ message, code: code.toLowerCase(), event_id: typeof eventId === "string" ? eventId : null });
}

/** https://platform.openai.com/docs/api-reference/realtime-server-events/error */
function errorFrame(error: JsonObject): Buffer {
  const event = {
    type: "error",
    event_id: "event_weir",
    error: { type: "invalid_request_error", param: null, ...error },
  };
  return writeMessage(opText, Buffer.from(JSON.stringify(event), "utf8"), null);
}
