/**
 * Amazon Bedrock's runtime API. https://docs.aws.amazon.com/bedrock/latest/APIReference/
 *
 *     POST /model/{modelId}/converse | converse-stream | invoke | invoke-with-response-stream | count-tokens
 *
 * A body that is changed no longer fits the client's signature (SigV4 signs its digest): such a request needs a target
 * whose credential signs anew.
 */
import type { HoldingStream, Refusal } from "../http/dialect.ts";
import { mediaType, type OwnResponse } from "../http/message.ts";
import { anthropicReply, anthropicRequest } from "./anthropic.ts";
import type { LlmApi } from "./api.ts";
import { converseUsage } from "./bedrock-events.ts";
import { BedrockEventsIn } from "./bedrock-events-in.ts";
import { BedrockFrames, writeEvent } from "./bedrock-frames.ts";
import { writeFrame, writeTextHeaders } from "./eventstream.ts";
import { type ReplyFacts, type RequestFacts, type Route, tidyPath, unknownRoute } from "./message-facts.ts";
import { isObject, type JsonObject, textsOf } from "./message-leaves.ts";
import { MessageStream } from "./message-stream.ts";

export const eventStreamType = "application/vnd.amazon.eventstream";

export interface BedrockRoute extends Route {
  /** Whose shape the bodies have: Converse's, or the model's own. */
  readonly format: "converse" | "invoke" | "other";
}

export const bedrockApi: LlmApi<BedrockRoute> = {
  provider: "bedrock",
  unknown: { ...unknownRoute, stream: false, format: "other" },
  route: ({ method }, path) => bedrockRoute(method, path),
  request: (body, { format }) => bedrockRequest(body, format),
  reply: (body, { format }) => bedrockReply(body, format),
  refuse: bedrockRefusal,
  events: ({ api }) => (api === "realtime" ? new BedrockEventsIn() : null),
  holding: () => bedrockHolding,
  stream({ headers }, { format }) {
    switch (mediaType(headers)) {
      case eventStreamType:
        return { framing: "own", body: (runs) => new BedrockFrames(runs, format) };
      case "text/event-stream":
        return { framing: "sse", rewriter: () => new MessageStream() };
      default:
        return null;
    }
  },
};

const modelPath = /^\/model\/(.+)\/([a-z-]+)$/;

/** Null: not of this API. `target` is the path as it is sent, without query. */
export function bedrockRoute(method: string, target: string): BedrockRoute | null {
  const path = tidyPath(target);
  const [, id, verb] = modelPath.exec(path) ?? [];
  if (id === undefined || verb === undefined) return otherRoute(method, path);
  const model = decode(id);
  const route = { api: "chat", reads: "whole", stream: false, model, format: "converse" } as const;
  switch (verb) {
    case "converse":
      return route;
    case "converse-stream":
      return { ...route, stream: true };
    case "invoke":
      return { ...route, format: "invoke", api: /embed/.test(model) ? "embeddings" : "chat" };
    case "invoke-with-response-stream":
      return { ...route, format: "invoke", stream: true };
    case "invoke-with-bidirectional-stream":
      return { ...route, format: "invoke", api: "realtime", reads: "head", stream: true };
    default:
      // count-tokens, and what is still to come: the prompt is somewhere in the body.
      return { ...route, format: "other", api: "other" };
  }
}

/** Guardrails, agents, knowledge bases and the API that is like OpenAI's are given prompts as well. */
function otherRoute(method: string, path: string): BedrockRoute | null {
  const family =
    /^\/(guardrail|async-invoke|agents|flows|knowledgebases|retrieveAndGenerate\w*|model-invocation-jobs?|openai|v1)(?:\/|$)/.exec(
      path,
    )?.[1];
  if (family === undefined) return null;
  return {
    api: family.startsWith("model-invocation") ? "batch" : "other",
    reads: method === "GET" || method === "DELETE" ? "head" : "whole",
    stream: false,
    model: null,
    format: "other",
  };
}

export function bedrockRequest(body: JsonObject, format: BedrockRoute["format"]): RequestFacts {
  if (format === "invoke" && typeof body["anthropic_version"] === "string") return anthropicRequest(body);
  const { toolConfig, inferenceConfig, textGenerationConfig, modelId, ...told } = body;
  const prompt = textsOf(told);
  const tools: string[] = [];
  for (const tool of isObject(toolConfig) && Array.isArray(toolConfig["tools"]) ? toolConfig["tools"] : []) {
    const spec = isObject(tool) ? (tool["toolSpec"] ?? tool["systemTool"]) : null;
    if (!isObject(spec)) continue;
    if (typeof spec["name"] === "string") tools.push(spec["name"]);
    textsOf({ description: spec["description"], inputSchema: spec["inputSchema"] }, prompt);
  }
  return {
    model: typeof modelId === "string" ? modelId : "",
    stream: false,
    tools,
    outputTokensMax: outputMax([inferenceConfig, textGenerationConfig, body]),
    prompt,
  };
}

export function bedrockReply(reply: unknown, format: BedrockRoute["format"]): ReplyFacts {
  const body = isObject(reply) ? reply : {};
  if (format === "invoke" && body["type"] === "message") return anthropicReply(body);
  const { output, usage, message: said } = body;
  const message = isObject(output) ? output["message"] : null;
  const content = isObject(message) && Array.isArray(message["content"]) ? message["content"] : null;
  const toolCalls: string[] = [];
  for (const block of content ?? []) {
    const tool = isObject(block) ? block["toolUse"] : null;
    if (isObject(tool) && typeof tool["name"] === "string") toolCalls.push(tool["name"]);
  }
  const { input, output: spent } = converseUsage(usage);
  // `{"message": "…"}` and nothing else is how AWS tells an error.
  const error = typeof said === "string" && Object.keys(body).length === 1 ? said : null;
  return { text: textsOf(content ?? body), toolCalls, inputTokens: input, outputTokens: spent, error };
}

/** The SDKs make their typed error of the header. */
export function bedrockRefusal(refusal: Refusal): OwnResponse {
  const { status, type } = statuses[refusal.kind];
  const headers: [string, string][] = [
    ["content-type", "application/json"],
    ["x-amzn-errortype", type],
  ];
  if (refusal.retryAfterSeconds !== null) headers.push(["retry-after", String(refusal.retryAfterSeconds)]);
  return { status, headers, body: Buffer.from(JSON.stringify({ message: refusal.message })) };
}

/** An event of a name that no client knows: the specification and the SDKs skip it. */
export function bedrockBeat(): Buffer {
  return writeEvent("weirHold", {});
}

/** A refusal in a stream that has begun. */
export function bedrockErrorFrame(refusal: Refusal): Buffer {
  return errorFrame(statuses[refusal.kind].type, refusal.message);
}

/** The upstream answered a held request with something else than a stream: the same as an error of the stream. */
export function bedrockWrap(status: number, body: Buffer): Buffer {
  let said: unknown = null;
  try {
    said = JSON.parse(body.toString("utf8"));
  } catch {}
  const message = isObject(said) ? (said["message"] ?? said["Message"]) : null;
  return errorFrame(typeOf(status), typeof message === "string" ? message : `HTTP ${status}`);
}

const bedrockHolding: HoldingStream = {
  head: { status: 200, headers: [["content-type", eventStreamType]] },
  beat: bedrockBeat,
  refuse: bedrockErrorFrame,
  wrap: bedrockWrap,
};

const statuses = {
  denied: { status: 403, type: "AccessDeniedException" },
  failed: { status: 503, type: "ServiceUnavailableException" },
  busy: { status: 429, type: "ThrottlingException" },
} as const;

/** `error`, not `exception`: of that kind only some types are known in a stream, and a denial is none of them. */
function errorFrame(code: string, message: string): Buffer {
  return writeFrame(
    writeTextHeaders([
      [":message-type", "error"],
      [":error-code", code],
      // A header holds 64 KiB, and clients expect a sentence.
      [":error-message", message.slice(0, 4096)],
    ]),
    Buffer.alloc(0),
  );
}

function typeOf(status: number): string {
  switch (status) {
    case 400:
      return "ValidationException";
    case 403:
      return "AccessDeniedException";
    case 404:
      return "ResourceNotFoundException";
    case 429:
      return "ThrottlingException";
    case 503:
      return "ServiceUnavailableException";
    default:
      return "InternalServerException";
  }
}

/** Each model has its own name for it. */
const limitNames = [
  "maxTokens",
  "max_tokens",
  "max_tokens_to_sample",
  "maxTokenCount",
  "max_gen_len",
  "max_new_tokens",
];

function outputMax(places: readonly unknown[]): number | null {
  for (const place of places) {
    if (!isObject(place)) continue;
    for (const name of limitNames) {
      const most = place[name];
      if (typeof most === "number") return most;
    }
  }
  return null;
}

function decode(text: string): string {
  try {
    return decodeURIComponent(text);
  } catch {
    return text;
  }
}
