/**
 * What a request over HTTP was, as JSON in `Operation.details`: its facts, without what stands in `text` already (a
 * prompt, arguments, a message). Empty for everything else.
 */
import type { Operation } from "../core/operation.ts";

/** Of one text; who sends more is seen in `bytes`. */
const textCharactersMax = 8_192;
/** Tools of a call of a language model; `toolsLeftOut` tells how many there were beyond. */
const toolsMax = 128;
const toolCharactersMax = 128;

export function detailsOf(operation: Operation): string {
  const { http, llm, mcp, grpc } = operation;
  if (http === undefined && llm === undefined && mcp === undefined && grpc === undefined) return "";
  if (operation !== last) {
    lastText = JSON.stringify(factsOf(operation));
    last = operation;
  }
  return lastText;
}

/** Asked for its length and, at once, for its text. */
let last: Operation | null = null;
let lastText = "";

function factsOf({ http, llm, mcp, grpc }: Operation): Record<string, unknown> {
  const facts: Record<string, unknown> = {};
  if (http !== undefined) {
    const { method, scheme, host, path, query, contentType, traceparent } = http;
    // A member without a value is not written.
    facts["http"] = {
      method,
      scheme,
      host,
      path: cut(path),
      query: cut(query),
      contentType: cut(contentType),
      traceparent,
    };
  }
  if (llm !== undefined) {
    const { provider, api, model, stream, tools, tokens, outputTokensMax } = llm;
    const leftOut = tools.length - toolsMax;
    facts["llm"] = {
      ...{ provider, api, model: cut(model), stream },
      tools: tools.slice(0, toolsMax).map((tool) => cut(tool, toolCharactersMax)),
      ...(leftOut > 0 ? { toolsLeftOut: leftOut } : {}),
      ...{ tokens, outputTokensMax },
    };
  }
  if (mcp !== undefined) facts["mcp"] = { method: cut(mcp.method), name: cut(mcp.name) };
  if (grpc !== undefined) facts["grpc"] = { service: cut(grpc.service), method: cut(grpc.method) };
  return facts;
}

function cut(text: string, max = textCharactersMax): string {
  return text.length > max ? `${text.slice(0, max)}…` : text;
}

/** `Operation.bytes`; -1: the length was not known before the body's end. */
export function recordedBytes({ bytes }: Operation): number {
  return bytes === Number.MAX_SAFE_INTEGER ? -1 : bytes;
}

/** The facts of an entry that was read back; empty when there are none. */
export function readDetails(fields: Readonly<Record<string, unknown>>): RecordedDetails {
  const text = fields["details"];
  if (typeof text !== "string" || text === "") return {};
  try {
    const value = JSON.parse(text) as unknown;
    return value !== null && typeof value === "object" && !Array.isArray(value) ? (value as RecordedDetails) : {};
  } catch {
    return {};
  }
}

/** Of an operation the facts, of a result what the protocol told of it. Read from a file, so nothing is certain. */
export interface RecordedDetails {
  readonly http?: Readonly<Record<string, unknown>>;
  readonly llm?: Readonly<Record<string, unknown>>;
  readonly mcp?: Readonly<Record<string, unknown>>;
  readonly grpc?: Readonly<Record<string, unknown>>;
  readonly [key: string]: unknown;
}
