/** An operation: one thing a client wants done, in words a policy can speak about. */

/** A protocol with a wire of its own. */
type WireName = "postgres" | "opaque";

/** A protocol family name as the policy uses it. */
export type ProtocolName = WireName | "http" | "llm" | "mcp" | "grpc";

/** What `protocol` of a target may say: a family, or one API of it whose requests are then read without guessing. */
export type TargetProtocol = ProtocolName | LlmProvider;

export type LlmProvider = "openai" | "anthropic" | "gemini" | "bedrock" | "ollama";

const wires: Readonly<Record<WireName, true>> = { postgres: true, opaque: true };

/** All but the wires of their own: a request has `http` facts, and a credential is put on it in HTTP's ways. */
export function speaksHttp(protocol: TargetProtocol): boolean {
  return !Object.hasOwn(wires, protocol);
}

/** An HTTP request (RFC 9110), whatever version carried it. Set for every operation that goes over HTTP. */
export interface HttpFacts {
  /** As sent; methods are case-sensitive. */
  readonly method: string;
  readonly scheme: "http" | "https";
  /** Host without port, lower case. */
  readonly host: string;
  /** Without query, percent-encoding normalised (RFC 3986 §6.2.2), dot segments removed. */
  readonly path: string;
  /** Without the question mark; empty when there is none. */
  readonly query: string;
  /** Media type without parameters, lower case; empty when there is none. */
  readonly contentType: string;
  /** W3C Trace Context as the client sent it, when its form is right. */
  readonly traceparent?: string;
}

/** A call of a language model's API. */
export interface LlmFacts {
  readonly provider: LlmProvider;
  readonly api:
    | "chat"
    | "responses"
    | "messages"
    | "completions"
    | "embeddings"
    | "realtime"
    | "files"
    | "batch"
    | "other";
  readonly model: string;
  readonly stream: boolean;
  /** Names of the tools that the request offers to the model. */
  readonly tools: readonly string[];
  /** Input tokens as estimated before the call. */
  readonly tokens: number;
  /** Most output tokens that the client asked for; null: it set no limit. */
  readonly outputTokensMax: number | null;
  /** All text the model is given, parts joined by a line end, cut to `promptBytesMax`. */
  readonly prompt: string;
}

/** One JSON-RPC message of the Model Context Protocol. */
export interface McpFacts {
  /** `tools/call`, `resources/read`, … */
  readonly method: string;
  /** Name of the tool, URI of the resource or name of the prompt; empty when the method has none. */
  readonly name: string;
  /** Of a tool or prompt, as JSON; null when there are none. */
  readonly arguments: unknown;
}

/** A gRPC call. */
export interface GrpcFacts {
  /** With its package: `grpc.testing.TestService`. */
  readonly service: string;
  readonly method: string;
  /** The first message as JSON, where a descriptor is known; else null. */
  readonly message: unknown;
}

/** How far an operation is from what its identity usually does at its target. */
export interface AnomalyFacts {
  /** In standard deviations: 3 is odd, 6 very odd; 0 is as usual. */
  readonly score: number;
  /** Sentences, one a finding. */
  readonly reasons: readonly string[];
}

export interface Operation {
  readonly protocol: ProtocolName;
  /** `connect` opens the session; `statement` is one SQL text; `cancel` a CancelRequest; `call` a FunctionCall; `prepare` a Parse whose run is decided again later; `request` one HTTP request, LLM, MCP or gRPC call. */
  readonly kind: "connect" | "statement" | "prepare" | "call" | "cancel" | "replication" | "request";
  /** The text as the client sent it, cut to `operationTextBytesMax`; empty for `connect`. */
  readonly text: string;
  readonly user: string;
  readonly database: string;
  /**
   * Lower case SQL verbs of every statement in it, sub-statements and CTEs included: `select insert update delete drop
   * truncate …`. Of HTTP the method in lower case, of an LLM call its `api`, of MCP the JSON-RPC method.
   */
  readonly verbs: readonly string[];
  /** `schema.table` as written (no schema when none was written), CTE names taken out, lower case unless quoted. */
  readonly relations: readonly string[];
  /** Column names that the text mentions, without table; `*` when a star appears. */
  readonly columns: readonly string[];
  readonly functions: readonly string[];
  /** True when the text writes, or when that cannot be decided from the text. */
  readonly writes: boolean;
  /** Properties a rule can name in `trait`; see `traits` in agent/wire/postgres/README.md. */
  readonly traits: readonly string[];
  /** Bind parameters in text form, cut to `parameterBytesMax` each; binary ones as hex with a leading `\x`. Null is SQL NULL. */
  readonly parameters: readonly (string | null)[];
  /** Size in bytes of what the client sent for it; of a body whose length is not known, `Number.MAX_SAFE_INTEGER`. */
  readonly bytes: number;
  readonly http?: HttpFacts;
  readonly llm?: LlmFacts;
  readonly mcp?: McpFacts;
  readonly grpc?: GrpcFacts;
  readonly anomaly?: AnomalyFacts;
}
