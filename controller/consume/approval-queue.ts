/**
 * The agents' held operations in a controller's queue. Each controller hears of all of them, and each may decide: the
 * decision goes back signed, and it is the agent that decides once. What became of it comes back and settles the queue.
 */
import { createHash, type KeyObject } from "node:crypto";
import {
  type ApprovalOutcome,
  type ApprovalRequest,
  approvalMessage,
  asOutcome,
  asRequest,
  requestDigest,
} from "../../agent/kafka/approval-messages.ts";
import type { FeedMessage } from "../../agent/kafka/feed.ts";
import type { Outbox } from "../../agent/kafka/outbox.ts";
import { readSigned, type SignedMessage } from "../../agent/kafka/signed.ts";
import { kindHeader } from "../../agent/kafka/topics.ts";
import type { ApprovalStore, ApprovalSummary, Decided } from "../approvals/store.ts";
import type { ApprovalHistory } from "../store/store.ts";

export interface ApprovalQueueOptions {
  /** Its ids come from `nextId`. */
  readonly approvals: ApprovalStore;
  readonly history: ApprovalHistory;
  /** This controller's, which agents trust. */
  readonly key: KeyObject;
  keyOf(agent: string): Promise<KeyObject | null>;
  readonly outbox: Outbox;
  log(level: "info" | "warn", message: string): void;
  readonly now?: () => number;
}

/** Requests at once; the queue itself has fewer. */
const requestsMax = 2_000;
/** An agent's key comes by another topic; so long it is waited for. */
const keyWithinMs = 30_000;
const keyEveryMs = 500;
/** Requests from before the start are shown when no outcome came behind them. */
const settleMs = 2_000;

interface Asked {
  readonly request: ApprovalRequest;
  readonly digest: string;
  withdraw(reason: string): void;
  /** Decided elsewhere: nothing is to be sent. */
  remote: boolean;
}

export class ApprovalQueue {
  readonly #options: ApprovalQueueOptions;
  readonly #now: () => number;
  readonly #startedAtMs: number;
  /** By the queue's id. */
  readonly #asked = new Map<string, Asked>();
  readonly #settled = new Set<string>();
  #nextId = "";

  constructor(options: ApprovalQueueOptions) {
    this.#options = options;
    this.#now = options.now ?? Date.now;
    this.#startedAtMs = this.#now();
  }

  /** For the queue: the agents' own ids, so that `weir approvals` on the host and the page speak of the same. */
  nextId(): string {
    return this.#nextId;
  }

  async take({ headers, value }: FeedMessage): Promise<void> {
    const kind = String(headers[kindHeader]);
    if (kind !== "approval-request" && kind !== "approval-outcome") return;
    const signed = readSigned(kind, value);
    const request = signed !== null && kind === "approval-request" ? asRequest(signed.body) : null;
    const outcome = signed !== null && kind === "approval-outcome" ? asOutcome(signed.body) : null;
    if (signed === null || (request === null && outcome === null)) return this.#warn("a message cannot be read");
    const { agent, id } = (request ?? outcome) as ApprovalRequest | ApprovalOutcome;
    if (outcome !== null) this.#remember(`${agent}/${id}`);
    // A later message of others must not wait for one whose agent is not known yet.
    void this.#checked(agent, signed, async () => {
      if (request !== null) await this.#request(request, signed.text);
      else if (outcome !== null) await this.#outcome(outcome);
    }).catch((error: unknown) => this.#warn(error instanceof Error ? error.message : String(error)));
  }

  async #checked(agent: string, signed: SignedMessage, then: () => Promise<void>): Promise<void> {
    for (const deadline = this.#now() + keyWithinMs; ; ) {
      const key = await this.#options.keyOf(agent);
      if (key !== null && signed.isSignedBy(key)) return then();
      if (key !== null) return this.#warn(`a message in the name of ${agent} is not signed by it`);
      if (this.#now() > deadline) return this.#warn(`agent ${agent} is not known`);
      await new Promise((resolve) => setTimeout(resolve, keyEveryMs).unref());
    }
  }

  async #request(request: ApprovalRequest, text: string): Promise<void> {
    const { agent, id, session, createdAtMs, expiresAtMs } = request;
    await this.#options.history.putApproval({
      ...{ agent, id, session, createdAtMs, expiresAtMs },
      ...{ status: "pending", decidedBy: null, decidedReason: null, request: text },
    });
    if (createdAtMs < this.#startedAtMs) await new Promise((resolve) => setTimeout(resolve, settleMs).unref());
    const leftMs = expiresAtMs - this.#now();
    if (leftMs <= 0 || this.#settled.has(`${agent}/${id}`)) return;
    if (this.#asked.has(id) || !/^[a-z2-7]{8}$/.test(id)) return;
    this.#hold(request, requestDigest(text), leftMs);
  }

  #hold(request: ApprovalRequest, digest: string, timeoutMs: number): void {
    const { id, onTimeout } = request;
    const asked: Asked = { request, digest, withdraw: () => {}, remote: false };
    this.#asked.set(id, asked);
    // Of an agent that never said what became of it.
    if (this.#asked.size > requestsMax) this.#asked.delete(this.#asked.keys().next().value as string);
    this.#nextId = id;
    const limits = { timeoutMs, onTimeout };
    const held = this.#options.approvals.hold(summaryOf(request), limits, (decided) => this.#decided(id, decided));
    if (held === null) {
      this.#asked.delete(id);
      this.#warn("too many operations wait for approval");
      return;
    }
    asked.withdraw = held.withdraw;
  }

  /** On this controller, or over: only what a person decided here goes out. */
  #decided(id: string, { decision, by, reason }: Decided): void {
    const asked = this.#asked.get(id);
    if (asked === undefined || asked.remote || decision === "timeout" || by === "onTimeout") return;
    const { request, digest } = asked;
    const untilMs = this.#options.approvals.get(id)?.grantedUntilMs ?? null;
    const grantMs = untilMs === null ? 0 : Math.max(0, untilMs - this.#now());
    const body = { agent: request.agent, id, request: digest, decision, by, reason, grantMs, atMs: this.#now() };
    this.#options.outbox
      .send(approvalMessage("approval-decision", body, this.#options.key))
      .catch((error: unknown) => this.#warn(`${id}: the decision did not go out: ${String(error)}`));
  }

  async #outcome(outcome: ApprovalOutcome): Promise<void> {
    const { agent, id, status, by, reason } = outcome;
    const asked = this.#asked.get(id);
    const known = await this.#options.history.approval(agent, id);
    if (known !== null)
      await this.#options.history.putApproval({ ...known, status, decidedBy: by, decidedReason: reason });
    if (asked === undefined || asked.request.agent !== agent) return;
    this.#asked.delete(id);
    asked.remote = true;
    const { approvals } = this.#options;
    // The agent decides once, whoever came first: another controller, its host, or the clock.
    if (approvals.get(id)?.status !== "pending") approvals.overrule(id, status, by, reason);
    else if (status === "approved" || status === "denied") approvals.decide(id, status, by, reason);
    else asked.withdraw(reason);
  }

  #remember(name: string): void {
    this.#settled.add(name);
    if (this.#settled.size > requestsMax * 10) this.#settled.delete(this.#settled.values().next().value as string);
  }

  #warn(message: string): void {
    this.#options.log("warn", `approvals: ${message}`);
  }
}

const textMax = 8_192;
const listMax = 64;

/** The agent's words, as the queue has them; of another version of Weir some may be missing. */
function summaryOf({ agent, session, summary }: ApprovalRequest): ApprovalSummary {
  const text = (name: string): string => String(summary[name] ?? "").slice(0, textMax);
  const list = (name: string): string[] => {
    const value = summary[name];
    return Array.isArray(value) ? value.slice(0, listMax).map((one) => String(one).slice(0, textMax)) : [];
  };
  const identity = summary["identity"] as { subject?: unknown; issuer?: unknown } | null | undefined;
  const language = ["sql", "json", "diff"].find((one) => one === summary["language"]) as "sql" | undefined;
  return {
    ...{ user: text("user"), database: text("database"), target: text("target"), process: text("process") },
    ...{ cgroup: "", text: text("text"), rule: text("rule"), reason: text("reason"), session },
    ...{ protocol: text("protocol"), host: text("host") || agent, job: text("job") || null },
    identity: identity ? { subject: String(identity.subject), issuer: String(identity.issuer) } : null,
    ...{ approvers: list("approvers"), risks: list("risks"), highlights: list("highlights") },
    language: language ?? "text",
    // Of another agent's it is another.
    digest: summary["digest"]
      ? createHash("sha256")
          .update(`${agent}\n${text("digest")}`)
          .digest("hex")
      : null,
  };
}
