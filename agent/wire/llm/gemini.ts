/**
 * Google's API for Gemini, on generativelanguage.googleapis.com and on Vertex AI.
 * https://ai.google.dev/api/generate-content, https://cloud.google.com/vertex-ai/generative-ai/docs/reference/rest
 *
 *     /{version}/models/{model}:{verb}
 *     /{version}/projects/{p}/locations/{l}/publishers/{publisher}/models/{model}:{verb}
 *     /ws/google.ai.generativelanguage.{version}.GenerativeService.BidiGenerateContent
 *     /ws/google.cloud.aiplatform.{version}.LlmBidiService/BidiGenerateContent
 */
import type { HoldingStream, Refusal } from "../http/dialect.ts";
import { mediaType, type OwnResponse } from "../http/message.ts";
import { anthropicHolding, anthropicReply, anthropicRequest } from "./anthropic.ts";
import type { LlmApi } from "./api.ts";
import { GeminiArray } from "./gemini-array.ts";
import { geminiLive } from "./gemini-live.ts";
import { geminiRequest } from "./gemini-request.ts";
import { geminiUsage } from "./gemini-stream.ts";
import { type ReplyFacts, type Route, tidyPath, unknownRoute } from "./message-facts.ts";
import { isObject, type JsonObject, textsOf } from "./message-leaves.ts";
import { MessageStream } from "./message-stream.ts";

export interface GeminiRoute extends Route {
  /** A model of Anthropic on Vertex AI: bodies are Anthropic's own. */
  readonly format: "gemini" | "anthropic";
  /** How a reply streams: events, or one JSON array that grows. */
  readonly framing: "sse" | "array";
}

export const geminiApi: LlmApi<GeminiRoute> = {
  provider: "gemini",
  unknown: { ...unknownRoute, format: "gemini", framing: "sse" },
  route: ({ method }, path, query) => geminiRoute(method, path, query),
  request: (body, { format }) => (format === "anthropic" ? anthropicRequest(body) : geminiRequest(body)),
  reply: (body, { format }) => (format === "anthropic" ? anthropicReply(body) : geminiReply(body)),
  refuse: geminiRefusal,
  realtime: geminiLive,
  holding: ({ format, framing }) => (format === "anthropic" ? anthropicHolding : geminiHolding(framing)),
  stream({ status, headers }, { stream, framing }) {
    const type = mediaType(headers);
    if (type === "text/event-stream") return { framing: "sse", rewriter: () => new MessageStream() };
    // An error is an array as well, and comes whole.
    const isArray = stream === true && framing === "array" && type === "application/json" && status < 400;
    return isArray ? { framing: "own", body: (runs) => new GeminiArray(runs) } : null;
  },
};

const methodPath = /^\/v\d\w*\/(?:.+\/)?(models|tunedModels|endpoints)\/([^/:]+):(\w+)$/;
const otherPath =
  /^\/(?:upload\/|download\/)?v\d\w*\/(?:[^:]*\/)?(models|tunedModels|files|batches|cachedContents|operations|corpora|interactions|fileSearchStores|batchPredictionJobs)(?:[/:].*)?$/;

/** A WebSocket: gemini-live.ts. Some clients write the path without `/ws`. */
const livePath = /^\/(?:ws\/)?google\.[\w.]+[./]Bidi\w+$/;

const verbs: Readonly<Record<string, Pick<Route, "api" | "stream">>> = {
  generateContent: { api: "chat", stream: false },
  streamGenerateContent: { api: "chat", stream: true },
  rawPredict: { api: "messages", stream: null },
  streamRawPredict: { api: "messages", stream: null },
  embedContent: { api: "embeddings", stream: false },
  batchEmbedContents: { api: "embeddings", stream: false },
  batchGenerateContent: { api: "batch", stream: false },
  asyncBatchEmbedContent: { api: "batch", stream: false },
};

/** Null: not of this API. `target` is the path without query. */
export function geminiRoute(method: string, target: string, query: string): GeminiRoute | null {
  const path = tidyPath(target);
  const framing = /(?:^|&)alt=sse(?:&|$)/.test(query) ? "sse" : "array";
  const called = methodPath.exec(path);
  if (called !== null) {
    const [, , model = "", verb = ""] = called;
    const known = verbs[verb] ?? { api: "other", stream: false };
    const isAnthropic = path.includes("/publishers/anthropic/");
    return {
      ...known,
      // A verb of a later revision has a prompt in it most likely.
      reads: method === "GET" ? "head" : "whole",
      model: decode(model),
      format: isAnthropic ? "anthropic" : "gemini",
      framing: isAnthropic ? "sse" : framing,
    };
  }
  if (livePath.test(path))
    return { api: "realtime", reads: "head", stream: false, model: null, format: "gemini", framing };
  if (!/^\/(?:\w+\/)?v\d/.test(path)) return null;
  const other = otherPath.exec(path) ?? [];
  const plain = { stream: false, model: null, format: "gemini", framing } as const;
  switch (other[1]) {
    case "interactions":
      return { ...plain, api: "responses", reads: method === "POST" ? "whole" : "head", stream: null, framing: "sse" };
    case "cachedContents":
      return { ...plain, api: "other", reads: method === "GET" || method === "DELETE" ? "head" : "whole" };
    case "files":
      return { ...plain, api: "files", reads: "head" };
    case "batches":
    case "batchPredictionJobs":
      return { ...plain, api: "batch", reads: "head" };
    case "models":
    case "tunedModels":
    case "operations":
      return { ...plain, api: "other", reads: "head" };
    default:
      // The API that is like OpenAI's, and what is still to come: the prompt leaves all the same.
      return { ...plain, api: "other", reads: method === "POST" ? "whole" : "head", stream: null, framing: "sse" };
  }
}

/** Of a whole reply, which may be the array of chunks too. */
export function geminiReply(body: unknown): ReplyFacts {
  const text: string[] = [];
  const toolCalls: string[] = [];
  let inputTokens: number | null = null;
  let outputTokens: number | null = null;
  let error: string | null = null;
  for (const chunk of Array.isArray(body) ? body : [body]) {
    if (!isObject(chunk)) continue;
    const { candidates, usageMetadata, error: said } = chunk;
    const usage = geminiUsage(usageMetadata);
    inputTokens = usage.input ?? inputTokens;
    outputTokens = usage.output ?? outputTokens;
    if (isObject(said)) error = String(said["message"] ?? said["status"] ?? "");
    for (const candidate of Array.isArray(candidates) ? candidates : []) {
      const content = isObject(candidate) ? candidate["content"] : null;
      for (const part of isObject(content) && Array.isArray(content["parts"]) ? content["parts"] : []) {
        const call = isObject(part) ? part["functionCall"] : null;
        if (isObject(call) && typeof call["name"] === "string") toolCalls.push(call["name"]);
        textsOf(part, text);
      }
    }
  }
  return { text, toolCalls, inputTokens, outputTokens, error };
}

export function geminiRefusal(refusal: Refusal): OwnResponse {
  const headers: [string, string][] = [["content-type", "application/json; charset=UTF-8"]];
  if (refusal.retryAfterSeconds !== null) headers.push(["retry-after", String(refusal.retryAfterSeconds)]);
  const error = errorOf(refusal);
  return { status: error.error.code, headers, body: Buffer.from(JSON.stringify(error)) };
}

/** A refusal in a stream that has begun: with nothing before it but beats. */
export function geminiErrorEvent(refusal: Refusal, framing: GeminiRoute["framing"]): Buffer {
  return event(errorOf(refusal), framing);
}

/** The upstream answered a held request with something else than a stream: the same as an event. */
export function geminiWrap(status: number, body: Buffer, framing: GeminiRoute["framing"]): Buffer {
  let said: unknown = null;
  try {
    said = JSON.parse(body.toString("utf8"));
  } catch {}
  // An array of chunks has its error inside.
  if (Array.isArray(said)) said = said[0];
  if (isObject(said) && isObject(said["error"])) return event(said, framing);
  return event({ error: { code: status, message: `HTTP ${status}`, status: "UNKNOWN" } }, framing);
}

/**
 * White space, which stands for nothing between events and before an array. No comment: older SDKs of Google look for
 * `data:` at the beginning of what they have, and never come past anything else.
 */
export const geminiBeat = Buffer.from("\r\n");

function geminiHolding(framing: GeminiRoute["framing"]): HoldingStream {
  return {
    head: {
      status: 200,
      headers: [["content-type", framing === "sse" ? "text/event-stream" : "application/json; charset=UTF-8"]],
    },
    beat: () => geminiBeat,
    refuse: (refusal) => geminiErrorEvent(refusal, framing),
    wrap: (status, body) => geminiWrap(status, body, framing),
  };
}

const statuses = {
  denied: { code: 403, status: "PERMISSION_DENIED" },
  failed: { code: 502, status: "UNAVAILABLE" },
  busy: { code: 429, status: "RESOURCE_EXHAUSTED" },
} as const;

function errorOf({ kind, message }: Refusal): { readonly error: { readonly code: number } & JsonObject } {
  const { code, status } = statuses[kind];
  return { error: { code, message, status } };
}

function event(data: unknown, framing: GeminiRoute["framing"]): Buffer {
  const text = JSON.stringify(data);
  return Buffer.from(framing === "sse" ? `data: ${text}\r\n\r\n` : `[${text}]\n`);
}

function decode(text: string): string {
  try {
    return decodeURIComponent(text);
  } catch {
    return text;
  }
}
