/** How a refusal is said: a JSON-RPC error that an MCP SDK turns into its typed error with code, message and data. */
import type { Refusal } from "../http/dialect.ts";
import type { OwnResponse } from "../http/message.ts";

/**
 * Outside of -32768 to -32000: what lies in there belongs to JSON-RPC and to MCP's own errors (revision 2026-07-28,
 * "Error Codes"), and SDKs use -32000 and -32001 for a closed connection and a time-out of their own.
 */
export const errorCodes = { denied: -31403, busy: -31429, failed: -31502 } as const;

/** MCP's own code for headers that do not agree with the body; its clients know it. */
const headerMismatch = -32020;
/** JSON-RPC's own for what is no request. */
const invalidRequest = -32600;

export interface ErrorBody {
  readonly code: number;
  readonly message: string;
  readonly data: Readonly<Record<string, unknown>>;
}

/** How the message was sent, as far as it says how an error can reach the client. */
export interface Told {
  /** Of the request; null: it had none, so that no JSON-RPC answer can be matched to it. */
  readonly id: string | null;
  /** The client reads its answer from the reply to this POST (Streamable HTTP); false: from another stream. */
  readonly inReply: boolean;
  readonly traits: readonly string[];
}

export function refusalResponse(refusal: Refusal, told: Told): OwnResponse {
  return {
    status: statusOf(refusal, told),
    headers: [
      ["content-type", "application/json"],
      ...(refusal.retryAfterSeconds === null ? [] : [["retry-after", String(refusal.retryAfterSeconds)] as const]),
    ],
    body: refusalMessage(refusal, told),
  };
}

export function refusalMessage(refusal: Refusal, { id, traits }: Told): Buffer {
  return errorMessage(id, {
    code: codeOf(refusal, traits),
    message: refusal.message,
    data: {
      code: refusal.code,
      rule: refusal.rule,
      reason: refusal.message,
      approval: refusal.approvalId,
      ...(refusal.retryAfterSeconds === null ? {} : { retryAfterSeconds: refusal.retryAfterSeconds }),
    },
  });
}

/** The id goes in as it was written: a number of more than 15 digits stays what it is. */
export function errorMessage(id: string | null, error: ErrorBody): Buffer {
  return Buffer.from(`{"jsonrpc":"2.0","id":${id ?? "null"},"error":${JSON.stringify(error)}}`, "utf8");
}

function codeOf({ kind }: Refusal, traits: readonly string[]): number {
  if (kind === "denied" && traits.includes("header-mismatch")) return headerMismatch;
  if (kind === "denied" && isUnread(traits)) return invalidRequest;
  return errorCodes[kind];
}

/**
 * 200 where the SDK reads the error out of the body. On the old transport (HTTP+SSE) it would wait on its stream for
 * an answer that never comes: there, and for messages without an answer, the status has to tell.
 */
function statusOf({ kind }: Refusal, { id, inReply, traits }: Told): number {
  if (kind === "denied" && (isUnread(traits) || traits.includes("header-mismatch"))) return 400;
  if (id !== null && inReply) return 200;
  return kind === "denied" ? 403 : kind === "busy" ? 429 : 502;
}

function isUnread(traits: readonly string[]): boolean {
  return traits.includes("unreadable-body") || traits.includes("duplicate-keys");
}
