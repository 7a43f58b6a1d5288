/** What is recorded of one flow: an ordered, hash-chained list of entries. Masked values never get in here. */
import type { Flow } from "./flow.ts";
import type { Operation } from "./operation.ts";
import type { Verdict } from "./verdict.ts";

/** The body of an entry before the chain gives it its place. Times are added by the recorder. */
export type EntryBody =
  | { readonly type: "session-start"; readonly flow: Flow; readonly target: string; readonly protocol: string }
  | {
      readonly type: "login";
      readonly user: string;
      readonly database: string;
      readonly application: string;
      readonly clientTls: boolean;
      readonly upstreamTls: boolean;
    }
  | {
      readonly type: "operation";
      readonly operationId: number;
      readonly operation: Operation;
      readonly verdict: Verdict;
      readonly approvalId: string | null;
    }
  | {
      readonly type: "approval";
      readonly operationId: number;
      readonly approvalId: string;
      readonly decision: "approved" | "denied" | "timeout" | "withdrawn";
      readonly by: string;
      readonly reason: string;
    }
  | {
      readonly type: "result";
      readonly operationId: number;
      readonly tag: string;
      readonly rows: number;
      readonly bytes: number;
      readonly masked: number;
      readonly durationMs: number;
      readonly error: { readonly code: string; readonly message: string } | null;
      /** JSON of what the protocol knows more: status, tokens used, reason of the end. Empty: nothing. */
      readonly details?: string;
    }
  /** Masked rows, only where `record: result` is asked: JSON lines of at most `recordedRowsBytesMax`. */
  | {
      readonly type: "rows";
      readonly operationId: number;
      readonly columns: readonly string[];
      readonly rows: readonly (readonly (string | null)[])[];
      readonly truncated: boolean;
    }
  | { readonly type: "refused"; readonly code: string; readonly reason: string; readonly flow: Flow | null }
  | { readonly type: "notice"; readonly text: string }
  | {
      readonly type: "agent";
      readonly event:
        | "start"
        | "stop"
        | "recovered"
        | "policy-loaded"
        | "policy-rejected"
        | "bypass-open"
        /** Somebody changed the rules; they are put back. */
        | "firewall-restored"
        /** Connections older than the rules of a whole host, ended. */
        | "flows-ended";
      readonly detail: string;
    }
  | {
      readonly type: "session-end";
      readonly reason: string;
      readonly bytesUp: number;
      readonly bytesDown: number;
      readonly operations: number;
      readonly denied: number;
    };
