/**
 * Ollama's own API; below /v1 it is like OpenAI's. https://github.com/ollama/ollama/blob/main/docs/api.md
 *
 *     line  = { model, created_at, message: { role, content, thinking?, tool_calls? } | response, done: false }
 *     last  = { …, done: true, done_reason, prompt_eval_count, eval_count }
 *
 * A reply streams unless the request says `stream: false`.
 */
import type { HoldingStream, Refusal } from "../http/dialect.ts";
import { mediaType, type OwnResponse } from "../http/message.ts";
import type { LlmApi } from "./api.ts";
import { type ReplyFacts, type RequestFacts, type Route, tidyPath, unknownRoute } from "./message-facts.ts";
import { isObject, type JsonObject, textsOf } from "./message-leaves.ts";
import { OllamaStream } from "./ollama-stream.ts";
import { openaiApi } from "./openai.ts";
import { errorText } from "./openai-parts.ts";

interface OllamaCall extends Route {
  readonly like: "ollama" | "openai";
}

export const ollamaApi: LlmApi<OllamaCall> = {
  provider: "ollama",
  unknown: { ...unknownRoute, like: "ollama" },
  route(head, path, query) {
    const own = ollamaRoute(head.method, path);
    if (own !== null) return { ...own, like: "ollama" };
    const other = openaiApi.route(head, path, query);
    return other === null ? null : { ...other, like: "openai" };
  },
  request: (body, call) => (call.like === "openai" ? openaiApi.request(body, call) : ollamaRequest(body, call)),
  reply: (body, call) => (call.like === "openai" ? openaiApi.reply(body, call) : ollamaReply(body)),
  refuse: (refusal, call) => (call.like === "openai" ? openaiApi.refuse(refusal, call) : ollamaRefusal(refusal)),
  holding: (call) => (call.like === "openai" ? openaiApi.holding(call) : ollamaHolding),
  stream(head, call) {
    if (call.like === "openai") return openaiApi.stream(head, call);
    const type = mediaType(head.headers);
    return type === "application/x-ndjson" || type === "application/jsonl"
      ? { framing: "ndjson", rewriter: () => new OllamaStream() }
      : null;
  },
};

export function ollamaRoute(method: string, target: string): Route | null {
  const path = tidyPath(target);
  if (!path.startsWith("/api/")) return null;
  const reads = method === "GET" || method === "HEAD" ? "head" : "whole";
  switch (path) {
    case "/api/chat":
    case "/api/generate":
      return { api: path === "/api/chat" ? "chat" : "completions", reads, stream: null, model: null };
    case "/api/embed":
    case "/api/embeddings":
      return { api: "embeddings", reads, stream: false, model: null };
    case "/api/create":
    case "/api/pull":
    case "/api/push":
      return { api: "other", reads, stream: null, model: null };
    case "/api/show":
    case "/api/copy":
    case "/api/delete":
      return { api: "other", reads, stream: false, model: null };
    case "/api/tags":
    case "/api/ps":
    case "/api/version":
      return { api: "other", reads: "head", stream: false, model: null };
  }
  return path.startsWith("/api/blobs/") ? { api: "files", reads: "head", stream: false, model: null } : null;
}

const settings: ReadonlySet<string> = new Set([
  ...["model", "name", "stream", "tools", "options", "keep_alive", "images", "context", "think", "raw", "source"],
]);

function ollamaRequest(body: JsonObject, call: Route): RequestFacts {
  const told = Object.fromEntries(Object.entries(body).filter(([key]) => !settings.has(key)));
  // Pictures in base64.
  if (Array.isArray(told["messages"])) {
    told["messages"] = told["messages"].map((message: unknown) =>
      isObject(message) && "images" in message ? { ...message, images: [] } : message,
    );
  }
  const prompt = textsOf(told);
  const tools: string[] = [];
  for (const tool of Array.isArray(body["tools"]) ? body["tools"] : []) {
    const inner = isObject(tool) ? tool["function"] : null;
    if (!isObject(inner)) continue;
    if (typeof inner["name"] === "string") tools.push(inner["name"]);
    textsOf({ description: inner["description"], schema: inner["parameters"] }, prompt);
  }
  const { model, name, options } = body;
  const most = isObject(options) ? options["num_predict"] : null;
  const named = model ?? name;
  return {
    model: typeof named === "string" ? named : "",
    stream: call.stream ?? body["stream"] !== false,
    tools,
    outputTokensMax: typeof most === "number" && most >= 0 ? most : null,
    prompt,
  };
}

function ollamaReply(body: unknown): ReplyFacts {
  const text: string[] = [];
  const toolCalls: string[] = [];
  if (!isObject(body)) return { text, toolCalls, inputTokens: null, outputTokens: null, error: null };
  const { message, response, thinking, error, prompt_eval_count: input, eval_count: output } = body;
  textsOf([message, response, thinking], text);
  noteTools(message, toolCalls);
  return {
    text,
    toolCalls,
    inputTokens: typeof input === "number" ? input : null,
    outputTokens: typeof output === "number" ? output : null,
    error: errorText(error),
  };
}

function noteTools(message: unknown, names: string[]): void {
  for (const call of isObject(message) && Array.isArray(message["tool_calls"]) ? message["tool_calls"] : []) {
    const called = isObject(call) ? call["function"] : null;
    if (isObject(called) && typeof called["name"] === "string") names.push(called["name"]);
  }
}

const statuses = { denied: 403, failed: 502, busy: 429 } as const;

/** Its clients throw `ResponseError` with the text of `error`. */
function ollamaRefusal({ kind, message, retryAfterSeconds }: Refusal): OwnResponse {
  const headers: [string, string][] = [["content-type", "application/json; charset=utf-8"]];
  if (retryAfterSeconds !== null) headers.push(["retry-after", String(retryAfterSeconds)]);
  return { status: statuses[kind], headers, body: Buffer.from(JSON.stringify({ error: message })) };
}

const ollamaHolding: HoldingStream = {
  head: { status: 200, headers: [["content-type", "application/x-ndjson"]] },
  // An empty line would be read as JSON by some clients; blanks before a line are none of it.
  beat: () => Buffer.from(" "),
  refuse: ({ message }) => line({ error: message }),
  wrap(status, body) {
    let said: unknown = null;
    try {
      said = JSON.parse(body.toString("utf8"));
    } catch {}
    return line({ error: (isObject(said) ? errorText(said["error"]) : null) ?? `HTTP ${status}` });
  },
};

function line(value: unknown): Buffer {
  return Buffer.from(`${JSON.stringify(value)}\n`);
}
