/** Which API a request belongs to. */
import type { LlmProvider, TargetProtocol } from "../../core/operation.ts";
import type { RequestHead } from "../http/message.ts";
import { anthropicApi } from "./anthropic.ts";
import { anyApi, type LlmApi } from "./api.ts";
import { bedrockApi } from "./bedrock.ts";
import { geminiApi } from "./gemini.ts";
import type { Route } from "./message-facts.ts";
import { ollamaApi } from "./ollama.ts";
import { openaiApi } from "./openai.ts";

const apis: Readonly<Record<LlmProvider, LlmApi>> = {
  openai: openaiApi,
  anthropic: anthropicApi,
  gemini: anyApi(geminiApi),
  bedrock: anyApi(bedrockApi),
  ollama: anyApi(ollamaApi),
};

export interface Called {
  readonly api: LlmApi;
  readonly call: Route;
}

/** Null: no operation of a model's API. */
export function apiFor(protocol: TargetProtocol, head: RequestHead, path: string, query: string): Called | null {
  if (head.method === "CONNECT" || head.method === "OPTIONS") return null;
  for (const provider of protocol === "llm" ? guess(head, path) : [protocol]) {
    const api = (apis as Readonly<Record<string, LlmApi | undefined>>)[provider];
    const call = api?.route(head, path, query) ?? null;
    if (api !== undefined && call !== null) return { api, call };
  }
  return unknownCall(protocol, head);
}

/**
 * Where the policy says which API a server has, what nobody here knows of it is no plain HTTP: a prompt may be in it, so
 * it is read as one, and counts as not understood. What asks without a body passes as plain HTTP.
 */
function unknownCall(protocol: TargetProtocol, head: RequestHead): Called | null {
  const api = (apis as Readonly<Record<string, LlmApi | undefined>>)[protocol];
  if (api === undefined || head.body.kind === "none") return null;
  return { api, call: api.unknown };
}

/** Where the policy names no API: signs that only one of them has come first, the API that many are like last. */
function guess({ headers, authority }: RequestHead, path: string): LlmProvider[] {
  if (headers.has("anthropic-version") || /\/v1\/(?:messages|complete)(?:\/|$)/.test(path)) return ["anthropic"];
  if (headers.has("x-goog-api-key") || /\/models\/[^/]+:\w+$/.test(path) || /(?:^|\.)googleapis\.com/.test(authority))
    return ["gemini"];
  if (/^\/+model\/.+\/(?:converse|invoke|count-tokens)/.test(path) || /^bedrock[\w.-]*\./.test(authority))
    return ["bedrock"];
  if (/^\/api\/(?!v\d)/.test(path)) return ["ollama"];
  return ["openai"];
}
