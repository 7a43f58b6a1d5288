/** Facts of a request as a case gives them, filled up with what such a request usually says. */
import {
  type GrpcFacts,
  type HttpFacts,
  type LlmFacts,
  type McpFacts,
  type Operation,
  speaksHttp,
} from "../core/operation.ts";
import type { Target } from "../core/target.ts";
import { familyOf, providers } from "./words.ts";

export interface AskedHttp extends Partial<HttpFacts> {
  /** Of the body; `unknown`: its length is not known before it ends. */
  readonly bytes?: number | "unknown";
}

export interface AskedRequest {
  readonly http?: AskedHttp;
  readonly llm?: Partial<LlmFacts>;
  readonly mcp?: Partial<McpFacts>;
  readonly grpc?: Partial<GrpcFacts>;
}

/** Keys that a case may give, by fact. */
export const requestCaseKeys: Readonly<Record<keyof AskedRequest, readonly string[]>> = {
  http: ["method", "scheme", "host", "path", "query", "contentType", "bytes"],
  llm: ["provider", "api", "model", "stream", "tools", "tokens", "outputTokensMax", "prompt"],
  mcp: ["method", "name", "arguments"],
  grpc: ["service", "method", "message"],
};

const safeMethods = new Set(["GET", "HEAD", "OPTIONS", "TRACE"]);
/** A rough count, as the agent's estimate before the call is one. */
const charactersPerToken = 4;

type Words = Pick<Operation, "protocol" | "verbs" | "text" | "writes" | "bytes"> &
  Partial<Pick<Operation, "http" | "llm" | "mcp" | "grpc">>;

/** null: the case asks about no request. */
export function requestOf(asked: AskedRequest, target: Target): Words | null {
  if (!speaksHttp(target.protocol) && Object.keys(requestCaseKeys).every((key) => !(key in asked))) return null;
  const words = wordsOf(asked, target);
  const isCall = words.protocol !== "http";
  const method = asked.http?.method ?? (isCall ? "POST" : "GET");
  const http: HttpFacts = {
    method,
    scheme: asked.http?.scheme ?? "https",
    host: asked.http?.host ?? hostOf(target),
    path: asked.http?.path ?? (words.grpc === undefined ? "/" : `/${words.grpc.service}/${words.grpc.method}`),
    query: asked.http?.query ?? "",
    contentType:
      asked.http?.contentType ?? (words.grpc === undefined ? (isCall ? "application/json" : "") : "application/grpc"),
  };
  const { bytes } = asked.http ?? {};
  const known = bytes === "unknown" ? Number.MAX_SAFE_INTEGER : (bytes ?? Buffer.byteLength(words.text));
  if (isCall) return { ...words, bytes: known, http };
  return {
    ...{ protocol: "http", http, bytes: bytes === undefined ? 0 : known },
    verbs: [method.toLowerCase()],
    text: `${method} ${http.path}${http.query === "" ? "" : `?${http.query}`}`,
    writes: !safeMethods.has(method),
  };
}

function wordsOf({ llm, mcp, grpc }: AskedRequest, target: Target): Omit<Words, "bytes"> {
  if (llm !== undefined) {
    const prompt = llm.prompt ?? "";
    const facts: LlmFacts = {
      provider: providers.find((provider) => provider === target.protocol) ?? "openai",
      ...{ api: "chat", model: "model", stream: false, tools: [], outputTokensMax: null, prompt },
      tokens: Math.ceil(prompt.length / charactersPerToken),
      ...llm,
    };
    return { protocol: "llm", verbs: [facts.api], text: prompt, writes: false, llm: facts };
  }
  if (mcp !== undefined) {
    const facts: McpFacts = { method: "tools/call", name: "", arguments: null, ...mcp };
    const given = facts.arguments === null ? "" : ` ${JSON.stringify(facts.arguments)}`;
    const text = `${facts.method}${facts.name === "" ? "" : ` ${facts.name}`}${given}`;
    return { protocol: "mcp", verbs: [facts.method], text, writes: facts.method === "tools/call", mcp: facts };
  }
  if (grpc !== undefined) {
    const facts: GrpcFacts = { service: "Service", method: "Method", message: null, ...grpc };
    const text = `${facts.service}/${facts.method}`;
    return { protocol: "grpc", verbs: [facts.method.toLowerCase()], text, writes: true, grpc: facts };
  }
  // A request that its API does not know is plain HTTP, whatever the target speaks.
  return { protocol: familyOf(target.protocol) === "opaque" ? "opaque" : "http", verbs: [], text: "", writes: false };
}

function hostOf({ hosts }: Target): string {
  const [host] = hosts;
  if (host?.kind === "name") return host.name;
  if (host?.kind === "suffix") return `host${host.suffix}`;
  return host?.kind === "cidr" ? host.address : "host.example";
}
