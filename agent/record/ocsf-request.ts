/**
 * Requests over HTTP as OCSF events: plain ones are HTTP Activity (4002), calls of a language model, an MCP server or a
 * gRPC service API Activity (6003), with the profile `ai_operation` where a model or MCP is asked.
 */
import { type RecordedDetails, readDetails } from "./details.ts";
import type { Fields } from "./read.ts";

type Json = { [key: string]: unknown };

export const httpActivity = 4002;
export const apiActivity = 6003;

export interface RequestEvent {
  readonly classUid: number;
  readonly activityId: number;
  readonly activityName?: string;
  readonly profiles: readonly string[];
  readonly fields: Json;
}

/** HTTP Activity has an activity for each method. */
const methods = ["CONNECT", "DELETE", "GET", "HEAD", "OPTIONS", "POST", "PUT", "TRACE", "PATCH"];
const providerNames: Readonly<Record<string, string>> = {
  ...{ openai: "OpenAI", anthropic: "Anthropic", gemini: "Google", bedrock: "AWS Bedrock", ollama: "Ollama" },
};

/** Null: it was no request over HTTP. */
export function requestEvent(fields: Fields): RequestEvent | null {
  const details = readDetails(fields);
  if (fields["kind"] !== "request" && details.http === undefined) return null;
  const bytes = Number(fields["bytes"]);
  const http = details.http === undefined ? {} : { http_request: httpRequest(details.http, fields, bytes) };
  if (!isCall(details)) {
    const method = String(details.http?.["method"] ?? "");
    const known = methods.indexOf(method) + 1;
    return {
      classUid: httpActivity,
      activityId: known === 0 ? 99 : known,
      ...(known === 0 ? { activityName: method } : {}),
      profiles: [],
      fields: http,
    };
  }
  const { service, operation, reads } = callOf(details);
  return {
    classUid: apiActivity,
    // 2 is Read; to call a tool or a model is none of create, read, update, delete.
    activityId: reads ? 2 : 99,
    ...(reads ? {} : { activityName: operation }),
    profiles: details.grpc === undefined ? ["ai_operation"] : [],
    fields: {
      ...http,
      api: { operation, service: { name: service }, request: { uid: String(fields["operationId"]) } },
      ...aiFields(details, service),
    },
  };
}

/** The answer to a request: the same class, and what came back. `asked` is the request's `details`. */
export function responseEvent(fields: Fields, asked: RecordedDetails): RequestEvent {
  const answer = readDetails(fields);
  const code = Number(answer["status"]);
  const http_response = {
    ...(Number.isInteger(code) ? { code } : {}),
    length: fields["bytes"],
    latency: Math.round(Number(fields["durationMs"])),
  };
  const http = asked.http === undefined ? {} : { http_request: httpRequest(asked.http, fields, -1) };
  if (!isCall(asked))
    return {
      classUid: httpActivity,
      activityId: 99,
      activityName: "Result",
      profiles: [],
      fields: { ...http, http_response },
    };
  const { service, operation } = callOf(asked);
  const ai = aiFields(asked, service);
  const tokens = tokensOf(answer);
  if (tokens !== null && asked.llm !== undefined)
    ai["message_context"] = { ...(ai["message_context"] as Json | undefined), ...tokens };
  return {
    classUid: apiActivity,
    activityId: 99,
    activityName: "Result",
    profiles: asked.grpc === undefined ? ["ai_operation"] : [],
    fields: {
      ...http,
      http_response,
      api: {
        operation,
        service: { name: service },
        request: { uid: String(fields["operationId"]) },
        response: Number.isInteger(code) ? { code } : {},
      },
      ...ai,
    },
  };
}

function isCall({ llm, mcp, grpc }: RecordedDetails): boolean {
  return llm !== undefined || mcp !== undefined || grpc !== undefined;
}

function callOf({ llm, mcp, grpc, http }: RecordedDetails): { service: string; operation: string; reads: boolean } {
  const host = String(http?.["host"] ?? "");
  if (llm !== undefined) return { service: host, operation: String(llm["api"]), reads: false };
  if (mcp !== undefined) {
    const method = String(mcp["method"]);
    const name = String(mcp["name"] ?? "");
    return {
      service: host,
      operation: name === "" ? method : `${method} ${name}`,
      reads: /^resources\/|\/(?:list|get)$/.test(method),
    };
  }
  return { service: String(grpc?.["service"]), operation: String(grpc?.["method"]), reads: false };
}

/** Profile `ai_operation`. */
function aiFields({ llm, mcp }: RecordedDetails, service: string): Json {
  if (llm !== undefined) {
    const provider = String(llm["provider"]);
    const model = String(llm["model"]);
    return {
      ...(model === "" ? {} : { ai_model: { name: model, ai_provider: providerNames[provider] ?? provider } }),
      // The estimate made before the call; the answer's event has what was counted.
      message_context: { service: { name: service }, ai_role_id: 1, prompt_tokens: llm["tokens"] },
    };
  }
  return mcp === undefined ? {} : { message_context: { service: { name: service }, ai_role_id: 3 } };
}

function tokensOf(answer: RecordedDetails): Json | null {
  const { inputTokens, outputTokens } = answer;
  if (typeof inputTokens !== "number" && typeof outputTokens !== "number") return null;
  return {
    ai_role_id: 2,
    ...(typeof inputTokens === "number" ? { prompt_tokens: inputTokens } : {}),
    ...(typeof outputTokens === "number" ? { completion_tokens: outputTokens } : {}),
    ...(typeof inputTokens === "number" && typeof outputTokens === "number"
      ? { total_tokens: inputTokens + outputTokens }
      : {}),
  };
}

function httpRequest(http: Readonly<Record<string, unknown>>, fields: Fields, bytes: number): Json {
  const [scheme, host, path, query] = ["scheme", "host", "path", "query"].map((key) => String(http[key] ?? ""));
  return {
    uid: String(fields["operationId"]),
    // The schema has a list of them; the name of another one is the activity's.
    ...(methods.includes(String(http["method"])) ? { http_method: http["method"] } : {}),
    ...(bytes >= 0 ? { body_length: bytes } : {}),
    url: {
      ...{ scheme, hostname: host, path },
      ...(query === "" ? {} : { query_string: query }),
      url_string: `${scheme}://${host}${path}${query === "" ? "" : `?${query}`}`,
    },
  };
}
