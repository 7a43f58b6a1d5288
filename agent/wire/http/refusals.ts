/** What a client is told when its request does not go upstream. */
import type { Verdict } from "../../core/verdict.ts";
import { type Refusal, requestBodyBytesMax } from "./dialect.ts";

/** The requests inside would be governed by nobody. */
export const noConnect =
  "What a proxy carries in a tunnel cannot be read: take the proxy out of the client's settings, and name it as the target's `proxy`.";

/** What an SDK tells its developer. */
export function denial(verdict: Verdict, approvalId: string | null, retryAfterSeconds: number | null): Refusal {
  const asked = approvalId === null ? "" : ` (approval ${approvalId})`;
  return {
    kind: retryAfterSeconds === null ? "denied" : "busy",
    code: approvalId === null ? "WEIR_DENIED" : "WEIR_HOLD_DENIED",
    message: `Weir denied this request by rule "${verdict.rule}": ${verdict.reason}${asked}`,
    rule: verdict.rule,
    approvalId,
    retryAfterSeconds,
  };
}

export function failure(code: string, message: string): Refusal {
  return {
    // A later message of a request may be denied when the first has left.
    kind: code === "WEIR_DENIED" ? "denied" : "failed",
    code,
    message: `Weir: ${message} (${code})`,
    rule: "",
    approvalId: null,
    retryAfterSeconds: null,
  };
}

export function tooLarge(): Refusal {
  const why = `The request's body is longer than ${requestBodyBytesMax} bytes, and has to be read whole to be decided.`;
  return failure("WEIR_FRAME_TOO_LARGE", why);
}

/** A redaction would break the client's own signature. */
export const signedByClient =
  "The policy takes something out of what the client has signed (SigV4). Where the target has a sigv4 credential, Weir signs it anew.";
