/**
 * OpenAI's API: what a request asks for, what a reply says, and errors as its SDKs expect them.
 * https://platform.openai.com/docs/api-reference
 */
import type { HoldingStream, Refusal } from "../http/dialect.ts";
import { mediaType, type OwnResponse } from "../http/message.ts";
import type { LlmApi } from "./api.ts";
import { type ReplyFacts, type RequestFacts, type Route, unknownRoute } from "./message-facts.ts";
import { isObject, type JsonObject, textsOf } from "./message-leaves.ts";
import { errorText, openaiUsage } from "./openai-parts.ts";
import { openaiRealtime } from "./openai-realtime.ts";
import { toolOf } from "./openai-responses-stream.ts";
import { openaiRoute } from "./openai-routes.ts";
import { OpenAiStream } from "./openai-stream.ts";

export const openaiApi: LlmApi = {
  provider: "openai",
  route: openaiRoute,
  unknown: unknownRoute,
  request: openaiRequest,
  reply: openaiReply,
  refuse: openaiRefusal,
  holding: openaiHolding,
  realtime: openaiRealtime,
  stream: ({ headers }) =>
    mediaType(headers) === "text/event-stream" ? { framing: "sse", rewriter: () => new OpenAiStream() } : null,
};

/** Members of a request that are no text for the model. */
const settings: ReadonlySet<string> = new Set([
  ...["model", "stream", "stream_options", "tools", "functions", "tool_choice", "function_call", "user", "metadata"],
  ...["service_tier", "reasoning_effort", "safety_identifier", "prompt_cache_key", "previous_response_id", "include"],
  ...["truncation", "verbosity", "modalities", "encoding_format", "conversation", "store", "stop", "logit_bias"],
]);

export function openaiRequest(body: JsonObject): RequestFacts {
  const told = Object.fromEntries(Object.entries(body).filter(([key]) => !settings.has(key)));
  const tools: string[] = [];
  // Tokens that the client made itself are numbers; as text they would say nothing.
  if (Array.isArray(told["input"]) && told["input"].every(isTokens)) delete told["input"];
  if (Array.isArray(told["prompt"]) && told["prompt"].every(isTokens)) delete told["prompt"];
  const prompt = textsOf(told);
  for (const list of [body["tools"], body["functions"]]) {
    if (!Array.isArray(list)) continue;
    for (const tool of list) {
      if (!isObject(tool)) continue;
      const inner = isObject(tool["function"]) ? tool["function"] : isObject(tool["custom"]) ? tool["custom"] : tool;
      // Tools of OpenAI's own are known by their type.
      const name = inner["name"] ?? tool["server_label"] ?? tool["type"];
      if (typeof name === "string") tools.push(name);
      textsOf({ description: inner["description"], schema: inner["parameters"] }, prompt);
    }
  }
  const most = body["max_completion_tokens"] ?? body["max_output_tokens"] ?? body["max_tokens"];
  const count = typeof body["n"] === "number" && body["n"] > 1 ? body["n"] : 1;
  return {
    model: typeof body["model"] === "string" ? body["model"] : "",
    stream: body["stream"] === true,
    tools: [...new Set(tools)],
    outputTokensMax: typeof most === "number" ? most * count : null,
    prompt,
  };
}

function isTokens(value: unknown): boolean {
  return typeof value === "number" || (Array.isArray(value) && value.every((one) => typeof one === "number"));
}

/** Of a reply that came whole, or of an error. */
export function openaiReply(body: unknown): ReplyFacts {
  const text: string[] = [];
  const toolCalls: string[] = [];
  if (!isObject(body)) return { text, toolCalls, inputTokens: null, outputTokens: null, error: null };
  const { choices, output, error, usage } = body;
  for (const choice of Array.isArray(choices) ? choices : []) {
    if (!isObject(choice)) continue;
    const { message } = choice;
    if (typeof choice["text"] === "string") text.push(choice["text"]);
    if (!isObject(message)) continue;
    for (const call of Array.isArray(message["tool_calls"]) ? message["tool_calls"] : []) {
      const called = isObject(call) ? (call["function"] ?? call["custom"]) : null;
      if (isObject(called) && typeof called["name"] === "string") toolCalls.push(called["name"]);
    }
    const legacy = message["function_call"];
    if (isObject(legacy) && typeof legacy["name"] === "string") toolCalls.push(legacy["name"]);
    textsOf(message, text);
  }
  for (const item of Array.isArray(output) ? output : []) {
    if (!isObject(item)) continue;
    const name = toolOf(item);
    if (name !== null) toolCalls.push(name);
    if (item["type"] !== "image_generation_call") textsOf(item, text);
  }
  const { input, output: spent } = openaiUsage(usage);
  return { text, toolCalls, inputTokens: input, outputTokens: spent, error: errorText(error) };
}

/** Each SDK makes its typed error of the status. */
export function openaiRefusal(refusal: Refusal): OwnResponse {
  const headers: [string, string][] = [["content-type", "application/json"]];
  if (refusal.retryAfterSeconds !== null) headers.push(["retry-after", String(refusal.retryAfterSeconds)]);
  // The SDKs try again at 408, 409, 429 and from 500 on, unless they are told.
  else headers.push(["x-should-retry", "false"]);
  return { status: statuses[refusal.kind].status, headers, body: Buffer.from(JSON.stringify(errorOf(refusal))) };
}

const statuses = {
  denied: { status: 403, type: "permission_error" },
  failed: { status: 502, type: "server_error" },
  busy: { status: 429, type: "rate_limit_error" },
} as const;

function errorOf({ kind, message, code }: Refusal): { error: JsonObject } {
  return { error: { message, type: statuses[kind].type, param: null, code: code.toLowerCase() } };
}

/** The SDKs skip comments, and throw a typed error for `{"error": …}` in chat and for an `error` event in Responses. */
function openaiHolding(call: Route): HoldingStream {
  const tell = (error: JsonObject): Buffer =>
    call.api === "responses"
      ? Buffer.from(`event: error\ndata: ${JSON.stringify({ ...error, type: "error", sequence_number: 0, error })}\n\n`)
      : Buffer.from(`data: ${JSON.stringify({ error })}\n\n`);
  return {
    head: {
      status: 200,
      headers: [
        ["content-type", "text/event-stream; charset=utf-8"],
        ["cache-control", "no-cache"],
      ],
    },
    beat: () => Buffer.from(": waiting for approval\n\n"),
    refuse: (refusal) => tell(errorOf(refusal).error),
    wrap(status, body) {
      let said: unknown = null;
      try {
        said = JSON.parse(body.toString("utf8"));
      } catch {}
      if (isObject(said) && isObject(said["error"])) return tell(said["error"]);
      return tell({ message: `HTTP ${status}`, type: "server_error", param: null, code: null });
    },
  };
}
