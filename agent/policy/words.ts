/** The words a policy may use, in one place: the schema, the compiler and the messages all read them from here. */
import type { ProtocolName } from "../core/operation.ts";
import type { DetectorName, MaskStyle } from "../core/verdict.ts";

export const protocols: readonly ProtocolName[] = ["postgres", "opaque"];

/** Words of later releases: they get a sentence of their own instead of "unknown". */
export const laterProtocols: readonly string[] = [
  ...["mysql", "redis", "mongodb", "http", "https", "http1", "http2", "websocket", "sse"],
  ...["llm", "openai", "anthropic", "gemini", "bedrock", "ollama", "mcp", "grpc", "kafka"],
];
export const laterMatchKeys: readonly string[] = [
  "method",
  "path",
  "host",
  "model",
  "tool",
  "argument",
  "rows",
  "tokens",
];

export const modes = ["enforce", "report", "open"] as const;
export const actions = ["allow", "deny", "hold"] as const;
export const kinds = ["connect", "statement", "prepare", "call", "cancel", "replication"] as const;
export const maskStyles: readonly MaskStyle[] = ["redact", "last4", "hash", "null", "email", "partial"];
export const detectorNames: readonly DetectorName[] = [
  ...(["credit-card", "ssn", "email", "phone", "iban"] as const),
  ...(["aws-key", "openai-key", "anthropic-key", "github-token", "jwt", "private-key"] as const),
];

/**
 * What a text could not be read to. Such an operation is decided by `defaults.undecodable`, unless a rule names the
 * trait, see decide.ts.
 */
export const undecodableTraits: readonly string[] = [
  ...["unparsable", "too-large", "invalid-text", "unknown-statement"],
  // Set by the session: the text may mean something else to the server than to the parser, or names what was not seen.
  ...["encoding", "nonstandard-strings", "unknown-prepared"],
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
];
