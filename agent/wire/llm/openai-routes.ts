/**
 * Paths of OpenAI's API, of Azure's, and of the many servers that are like it (vLLM, Ollama, OpenRouter, Groq):
 *
 *     /v1/chat/completions   /openai/v1/…   /openai/deployments/{model}/chat/completions   /api/v1/…
 */
import type { RequestHead } from "../http/message.ts";
import { mediaType } from "../http/message.ts";
import { type Route, tidyPath } from "./message-facts.ts";

const prefix = /^(?:\/[\w.~-]+)*?\/(?:v\d+(?:beta)?|openai)(?=\/)/;
const deployment = /^\/deployments\/([^/]+)(?=\/)/;

/** Calls that take forms: files, sound, pictures. */
const formed: ReadonlySet<Route["api"]> = new Set(["files", "other"]);

/** Null: not of this API. */
export function openaiRoute({ method, headers }: RequestHead, target: string, query: string): Route | null {
  const path = tidyPath(target);
  let rest = path.replace(prefix, "");
  // `/openai/v1/…` has both.
  if (rest !== path) rest = rest.replace(/^\/v\d+(?:beta)?(?=\/)/, "");
  else if (!/^\/(?:chat\/completions|completions|embeddings|responses|engines\/)/.test(path)) return null;
  const model = deployment.exec(rest);
  if (model !== null) rest = rest.slice(model[0].length);
  // The oldest clients: /v1/engines/{model}/completions.
  const engine = /^\/engines\/([^/]+)(?=\/)/.exec(rest);
  if (engine !== null) rest = rest.slice(engine[0].length);
  const api = apiOf(rest);
  if (api === null) return null;
  const named = model?.[1] ?? engine?.[1] ?? null;
  // Forms carry files; what else comes with a body carries a prompt. Where forms mean nothing it is a prompt whatever it
  // is called: many servers do not look at the content type.
  const isForm = formed.has(api) && mediaType(headers).startsWith("multipart/");
  const whole = method !== "GET" && method !== "HEAD" && method !== "DELETE" && !isForm;
  return {
    api,
    reads: whole && api !== "files" ? "whole" : "head",
    stream: whole && (api === "chat" || api === "responses" || api === "completions" || api === "other") ? null : false,
    model: named === null ? (api === "realtime" ? modelOf(query) : null) : decode(named),
  };
}

function apiOf(path: string): Route["api"] | null {
  switch (/^\/([\w-]+)/.exec(path)?.[1]) {
    case "chat":
      if (path === "/chat/completions") return "chat";
      return path.startsWith("/chat/completions/") ? "other" : null;
    case "responses":
      return /^\/responses(?:\/(?:input_tokens|compact))?$/.test(path) ? "responses" : "other";
    case "completions":
      return "completions";
    case "embeddings":
      return "embeddings";
    case "realtime":
      return "realtime";
    case "files":
    case "uploads":
    case "containers":
      return "files";
    case "batches":
    case "batch":
      return "batch";
    case "models":
    case "moderations":
    case "images":
    case "audio":
    case "videos":
    case "assistants":
    case "conversations":
    case "threads":
    case "vector_stores":
    case "fine_tuning":
    case "evals":
    case "tokenize":
    case "rerank":
    case "score":
    case "organization":
      return "other";
    default:
      return null;
  }
}

function modelOf(query: string): string | null {
  return new URLSearchParams(query).get("model");
}

function decode(text: string): string {
  try {
    return decodeURIComponent(text);
  } catch {
    return text;
  }
}
