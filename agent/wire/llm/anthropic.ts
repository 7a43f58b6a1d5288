/**
 * Anthropic's API: what a request asks for, what a reply says, and errors as its SDKs expect them.
 * https://docs.anthropic.com/en/api/messages
 */
import type { HoldingStream, Refusal } from "../http/dialect.ts";
import { mediaType, type OwnResponse } from "../http/message.ts";
import { anthropicUsage } from "./anthropic-stream.ts";
import type { LlmApi } from "./api.ts";
import { type ReplyFacts, type RequestFacts, type Route, tidyPath, unknownRoute } from "./message-facts.ts";
import { isObject, type JsonObject, textsOf } from "./message-leaves.ts";
import { MessageStream } from "./message-stream.ts";

export const anthropicApi: LlmApi = {
  provider: "anthropic",
  unknown: unknownRoute,
  route: ({ method }, path) => anthropicRoute(method, path),
  request: anthropicRequest,
  reply: anthropicReply,
  refuse: anthropicRefusal,
  holding: () => anthropicHolding,
  stream: ({ headers }) =>
    mediaType(headers) === "text/event-stream" ? { framing: "sse", rewriter: () => new MessageStream() } : null,
};

/** Null: not of this API. `target` is the path without query. */
export function anthropicRoute(method: string, target: string): Route | null {
  const path = tidyPath(target);
  if (!path.startsWith("/v1/")) return null;
  const body = method === "POST" ? "whole" : "head";
  switch (path) {
    case "/v1/messages":
      return { api: "messages", reads: body, stream: null, model: null };
    case "/v1/complete":
      return { api: "completions", reads: body, stream: null, model: null };
    case "/v1/messages/batches":
      return { api: "batch", reads: body, stream: false, model: null };
  }
  if (path.startsWith("/v1/messages/batches/")) return { api: "batch", reads: "head", stream: false, model: null };
  if (path === "/v1/files" || path.startsWith("/v1/files/")) {
    return { api: "files", reads: "head", stream: false, model: null };
  }
  // count_tokens, the API that is like OpenAI's, and what is still to come: the prompt leaves all the same.
  return { api: "other", reads: body, stream: null, model: null };
}

export function anthropicRequest(body: JsonObject): RequestFacts {
  // A batch is many requests; its model is the first one's.
  const requests = Array.isArray(body["requests"]) ? body["requests"].map(paramsOf).filter(isObject) : [body];
  const prompt: string[] = [];
  const tools: string[] = [];
  for (const request of requests) {
    const told = [request["system"], request["messages"], request["prompt"], request["mcp_servers"]];
    for (const part of told) textsOf(part, prompt);
    if (!Array.isArray(request["tools"])) continue;
    for (const tool of request["tools"]) {
      if (!isObject(tool)) continue;
      // The tools that Anthropic runs itself are known by their type.
      const name = tool["name"] ?? tool["type"];
      if (typeof name === "string") tools.push(name);
      textsOf({ text: tool["description"], schema: tool["input_schema"] }, prompt);
    }
  }
  const [first] = requests;
  const limits = requests.map((request) => request["max_tokens"] ?? request["max_tokens_to_sample"]);
  return {
    model: typeof first?.["model"] === "string" ? first["model"] : "",
    stream: body["stream"] === true,
    tools: [...new Set(tools)],
    outputTokensMax: sum(limits),
    prompt,
  };
}

/** Of a reply that came whole, or of an error. */
export function anthropicReply(reply: unknown): ReplyFacts {
  const body = isObject(reply) ? reply : {};
  const { content, error, completion } = body;
  const text: string[] = [];
  const toolCalls: string[] = [];
  if (typeof completion === "string") text.push(completion);
  for (const block of Array.isArray(content) ? content : []) {
    if (!isObject(block)) continue;
    if (/tool_use$/.test(String(block["type"])) && typeof block["name"] === "string") toolCalls.push(block["name"]);
    textsOf(block, text);
  }
  const { input, output } = anthropicUsage(body["usage"]);
  return {
    text,
    toolCalls,
    // The answer of count_tokens has its number at the top.
    inputTokens: input ?? anthropicUsage(body).input,
    outputTokens: output,
    error: isObject(error) ? String(error["message"] ?? error["type"] ?? "") : null,
  };
}

/** Each SDK makes its typed error of the status. */
export function anthropicRefusal(refusal: Refusal): OwnResponse {
  const headers: [string, string][] = [["content-type", "application/json"]];
  if (refusal.retryAfterSeconds !== null) headers.push(["retry-after", String(refusal.retryAfterSeconds)]);
  // The SDKs try again at 429 and from 500 on, unless they are told.
  else headers.push(["x-should-retry", "false"]);
  return { status: statuses[refusal.kind].status, headers, body: Buffer.from(JSON.stringify(errorOf(refusal))) };
}

/** A refusal in a stream that has begun. */
export function anthropicErrorEvent(refusal: Refusal): Buffer {
  return sse("error", errorOf(refusal));
}

/** The upstream answered a held request with something else than a stream: the same as an event. */
export function anthropicWrap(status: number, body: Buffer): Buffer {
  let said: unknown = null;
  try {
    said = JSON.parse(body.toString("utf8"));
  } catch {}
  if (isObject(said) && said["type"] === "error" && isObject(said["error"])) return sse("error", said);
  return sse("error", { type: "error", error: { type: "api_error", message: `HTTP ${status}` } });
}

/** The API itself sends these at any place, and its SDKs skip them. */
export const anthropicBeat = Buffer.from('event: ping\ndata: {"type": "ping"}\n\n');

export const anthropicHolding: HoldingStream = {
  head: {
    status: 200,
    headers: [
      ["content-type", "text/event-stream; charset=utf-8"],
      ["cache-control", "no-cache"],
    ],
  },
  beat: () => anthropicBeat,
  refuse: anthropicErrorEvent,
  wrap: anthropicWrap,
};

const statuses = {
  denied: { status: 403, type: "permission_error" },
  failed: { status: 502, type: "api_error" },
  busy: { status: 429, type: "rate_limit_error" },
} as const;

function errorOf({ kind, message }: Refusal): JsonObject {
  return { type: "error", error: { type: statuses[kind].type, message } };
}

function sse(event: string, data: unknown): Buffer {
  return Buffer.from(`event: ${event}\ndata: ${JSON.stringify(data)}\n\n`);
}

function paramsOf(request: unknown): unknown {
  return isObject(request) ? request["params"] : null;
}

function sum(limits: readonly unknown[]): number | null {
  let total = 0;
  for (const limit of limits) {
    if (typeof limit !== "number") return null;
    total += limit;
  }
  return limits.length === 0 ? null : total;
}
