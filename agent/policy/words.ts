/** The words a policy may use, in one place: the schema, the compiler and the messages all read them from here. */
import type { LlmProvider, ProtocolName, TargetProtocol } from "../core/operation.ts";
import type { DetectorName, MaskStyle } from "../core/verdict.ts";

export const providers: readonly LlmProvider[] = ["openai", "anthropic", "gemini", "bedrock", "ollama"];

/** What a target speaks, and what `match.protocol` may name, with the ports where it is looked for. */
export const defaultPorts: Readonly<Record<TargetProtocol, readonly number[]>> = {
  ...{ postgres: [5432], opaque: [], http: [80, 443], llm: [443] },
  ...{ openai: [443], anthropic: [443], gemini: [443], bedrock: [443], ollama: [11434, 443] },
  ...{ mcp: [80, 443], grpc: [443] },
};
export const protocols = Object.keys(defaultPorts) as readonly TargetProtocol[];

/** The family that an operation on a target of this protocol belongs to. */
export function familyOf(protocol: TargetProtocol): ProtocolName {
  return providers.includes(protocol as LlmProvider) ? "llm" : (protocol as ProtocolName);
}

/** Words of later releases: they get a sentence of their own instead of "unknown". */
export const laterProtocols: readonly string[] = ["mysql", "redis", "mongodb", "kafka"];
export const laterMatchKeys: readonly string[] = ["rows"];
/** What others call it. */
export const protocolAliases: Readonly<Record<string, TargetProtocol>> = {
  ...{ https: "http", http1: "http", http2: "http", websocket: "http", sse: "http" },
  ...{ azure: "openai", "azure-openai": "openai", vllm: "openai", vertex: "gemini", claude: "anthropic" },
};

export const modes = ["enforce", "report", "open"] as const;
export const actions = ["allow", "deny", "hold"] as const;
export const kinds = ["connect", "statement", "prepare", "call", "cancel", "replication", "request"] as const;
/** Parts of `by` of a token budget, and its periods. */
export const budgetKeys = ["identity", "model", "target", "job"] as const;
export const periods = ["minute", "hour", "day"] as const;
export const maskStyles: readonly MaskStyle[] = ["redact", "last4", "hash", "null", "email", "partial"];
export const detectorNames: readonly DetectorName[] = [
  ...(["credit-card", "ssn", "email", "phone", "iban"] as const),
  ...(["aws-key", "openai-key", "anthropic-key", "github-token", "jwt", "private-key"] as const),
];

/**
 * Of a request over HTTP: its body, or what it is and to whom, cannot be told for certain, so a rule might look at one
 * thing and the server do another.
 */
export const undecodableRequestTraits: readonly string[] = [
  ...[
    "unreadable-body",
    "duplicate-keys",
    "unknown-api",
    "batch",
    "header-mismatch",
    "upgrade",
    "host-mismatch",
    "ambiguous-path",
  ],
];

/**
 * What a text could not be read to. Such an operation is decided by `defaults.undecodable`, unless a rule names the
 * trait, see decide.ts.
 */
export const undecodableTraits: readonly string[] = [
  ...["unparsable", "too-large", "invalid-text", "unknown-statement"],
  // Set by the session: the text may mean something else to the server than to the parser, or names what was not seen.
  ...["encoding", "nonstandard-strings", "unknown-prepared"],
  ...undecodableRequestTraits,
];

/** The text does not show everything that is read: a mask that names a relation is added all the same. */
export const opaqueTraits: readonly string[] = [
  ...undecodableTraits,
  ...["dynamic-sql", "execute", "do-block", "unknown-function", "procedural-body", "cursor"],
];

/** Every trait that a protocol may set: a rule with a misspelt trait would never match, so it is refused. */
export const traits: readonly string[] = [
  ...["empty", "unparsable", "too-large", "invalid-text", "backslash", "multi-statement", "unknown-statement"],
  ...["unknown-function", "dynamic-sql", "do-block", "procedural-body", "prepare", "execute", "explain"],
  ...["explain-analyze", "no-where", "trivial-where", "no-limit", "whole-table", "select-into", "for-update", "upsert"],
  ...["cursor", "ddl", "drop-column", "privilege", "security-definer", "set-meaning", "copy-in", "copy-out"],
  ...["copy-file", "copy-program", "server-file", "large-object", "load-library", "replication", "statistics"],
  ...["remote", "admin-function", "system-setting", "two-phase"],
  ...["encoding", "nonstandard-strings", "unknown-prepared"],
  ...undecodableRequestTraits,
  ...["websocket", "length-unknown", "plaintext", "connect-method", "body-unread", "prompt-cut"],
  ...["tool-changed", "instructions-changed", "unknown-tool", "unknown-method", "unknown-fields", "source-code"],
];
