/**
 * Held operations over Kafka: what waits in the agent's queue is asked of the controllers, and what they decide is
 * checked (a key that is trusted, this request, still waiting) before it decides the queue. The queue stays the agent's:
 * it decides once, whoever comes first, and it works while Kafka is away.
 */
import type { KeyObject } from "node:crypto";
import {
  type ApprovalOutcome,
  type ApprovalRequest,
  approvalMessage,
  asDecision,
  requestDigest,
} from "../kafka/approval-messages.ts";
import type { FeedMessage } from "../kafka/feed.ts";
import type { Outbox } from "../kafka/outbox.ts";
import { readSigned } from "../kafka/signed.ts";
import { kindHeader, topics } from "../kafka/topics.ts";

export interface ApprovalLinkOptions {
  readonly agent: string;
  /** The agent's: controllers know it by its record. */
  readonly key: KeyObject;
  /** Keys of controllers that may decide. */
  readonly trusted: readonly KeyObject[];
  readonly outbox: Outbox;
  /** Decides the agent's queue; false: it is not pending there (any more). */
  decide(id: string, decision: "approved" | "denied", by: string, reason: string, grantMs: number): boolean;
  log(level: "info" | "warn", message: string): void;
  readonly now?: () => number;
}

export interface ApprovalLink {
  /** An operation waits. */
  held(request: Omit<ApprovalRequest, "agent">): void;
  /** It is decided, by whomever. */
  settled(id: string, outcome: Pick<ApprovalOutcome, "status" | "by" | "reason" | "grantedUntilMs">): void;
  /** From the topic of approvals. */
  take(message: FeedMessage): void;
}

/** Requests that wait for an answer; the queue itself has fewer. */
const pendingMax = 2_000;

export function linkApprovals(options: ApprovalLinkOptions): ApprovalLink {
  const { agent, key, trusted, outbox, log, now = Date.now } = options;
  /** SHA-256 of the request's text. */
  const pending = new Map<string, string>();

  function send(...words: Parameters<typeof approvalMessage>): void {
    outbox.send(approvalMessage(...words)).catch(() => {});
  }

  return {
    held(held) {
      if (pending.size >= pendingMax) return;
      const request: ApprovalRequest = { ...held, agent };
      pending.set(held.id, requestDigest(JSON.stringify(request)));
      send("approval-request", request, key);
    },
    settled(id, outcome) {
      const request = pending.get(id);
      if (request === undefined) return;
      pending.delete(id);
      send("approval-outcome", { ...outcome, agent, id, request, atMs: now() }, key);
    },
    take({ topic, headers, value }) {
      if (topic !== topics.approvals || String(headers[kindHeader]) !== "approval-decision") return;
      const signed = readSigned("approval-decision", value);
      const decision = signed === null ? null : asDecision(signed.body);
      if (signed === null || decision === null || decision.agent !== agent) return;
      const request = pending.get(decision.id);
      // Not ours any more: decided, withdrawn, or a decision that somebody wrote again.
      if (request === undefined) return;
      if (!trusted.some((one) => signed.isSignedBy(one)))
        return log("warn", `approvals: a decision for ${decision.id} is not signed by a controller that is trusted.`);
      if (decision.request !== request)
        return log("warn", `approvals: a decision for ${decision.id} is about another request.`);
      const { id, by, reason, grantMs } = decision;
      options.decide(id, decision.decision, by, reason, grantMs);
    },
  };
}
