/** The queue of held operations: pending → approved | denied | timeout | withdrawn, decided once whatever races. */

export type ApprovalStatus = "pending" | "approved" | "denied" | "timeout" | "withdrawn";

export interface ApprovalSummary {
  readonly user: string;
  readonly database: string;
  readonly target: string;
  readonly process: string;
  /** cgroup of the process that asks: what is in it may not decide. */
  readonly cgroup: string;
  readonly text: string;
  readonly rule: string;
  readonly reason: string;
}

export interface Approval extends ApprovalSummary {
  readonly id: string;
  readonly status: ApprovalStatus;
  readonly createdAtMs: number;
  readonly expiresAtMs: number;
  readonly decidedBy: string | null;
  readonly decidedReason: string | null;
}

export interface Decided {
  readonly decision: "approved" | "denied" | "timeout";
  readonly by: string;
  readonly reason: string;
}

/** Pending approvals at once; a further hold is refused. */
const pendingMax = 1_000;
/** Decided approvals that are still shown. */
const decidedMax = 500;
/** Node takes a longer wait for none at all. */
const timerMsMax = 2 ** 31 - 1;

interface Slot {
  approval: Approval;
  readonly decided: (outcome: Decided) => void;
  timer: NodeJS.Timeout;
}

export interface ApprovalStoreOptions {
  readonly now: () => number;
  /** A short name that nobody can guess or confuse: eight characters of base32. */
  readonly newId: () => string;
  readonly changed: (approval: Approval) => void;
}

export class ApprovalStore {
  readonly #options: ApprovalStoreOptions;
  readonly #pending = new Map<string, Slot>();
  readonly #decided = new Map<string, Approval>();

  constructor(options: ApprovalStoreOptions) {
    this.#options = options;
  }

  /** Queues an operation; `decided` is called once, unless it is withdrawn. Null when the queue is full. */
  hold(
    summary: ApprovalSummary,
    limits: { readonly timeoutMs: number; readonly onTimeout: "deny" | "allow" },
    decided: (outcome: Decided) => void,
  ): { readonly id: string; withdraw(reason: string): void } | null {
    if (this.#pending.size >= pendingMax) return null;
    const now = this.#options.now();
    const approval: Approval = {
      ...summary,
      id: this.#options.newId(),
      status: "pending",
      createdAtMs: now,
      expiresAtMs: now + limits.timeoutMs,
      decidedBy: null,
      decidedReason: null,
    };
    const { id } = approval;
    this.#pending.set(id, { approval, decided, timer: this.#arm(id, limits.timeoutMs, limits.onTimeout) });
    this.#options.changed(approval);
    return { id, withdraw: (reason) => void this.#settle(id, "withdrawn", "the client", reason) };
  }

  /** The decided approval; null when it is not pending (any more). */
  decide(id: string, decision: "approved" | "denied", by: string, reason: string): Approval | null {
    const slot = this.#settle(id, decision, by, reason);
    if (slot === null) return null;
    slot.decided({ decision, by, reason: reason === "" ? `${decision} by ${by}` : reason });
    return slot.approval;
  }

  get(id: string): Approval | null {
    return this.#pending.get(id)?.approval ?? this.#decided.get(id) ?? null;
  }

  /** Pending ones first, oldest first; then the decided ones, newest first. */
  list(): Approval[] {
    return [...[...this.#pending.values()].map((slot) => slot.approval), ...[...this.#decided.values()].reverse()];
  }

  #arm(id: string, leftMs: number, onTimeout: "deny" | "allow"): NodeJS.Timeout {
    const waitMs = Math.min(leftMs, timerMsMax);
    const timer = setTimeout(() => {
      const slot = this.#pending.get(id);
      if (waitMs < leftMs && slot !== undefined) slot.timer = this.#arm(id, leftMs - waitMs, onTimeout);
      else this.#timeout(id, onTimeout);
    }, waitMs);
    return timer.unref();
  }

  #timeout(id: string, onTimeout: "deny" | "allow"): void {
    const slot = this.#settle(
      id,
      "timeout",
      "nobody",
      `nobody decided in time, so it is ${onTimeout === "deny" ? "denied" : "allowed"}`,
    );
    if (slot === null) return;
    if (onTimeout === "allow")
      slot.decided({ decision: "approved", by: "onTimeout", reason: "nobody decided in time" });
    else slot.decided({ decision: "timeout", by: "nobody", reason: "Nobody approved it in time." });
  }

  #settle(id: string, status: ApprovalStatus, by: string, reason: string): Slot | null {
    const slot = this.#pending.get(id);
    if (slot === undefined) return null;
    this.#pending.delete(id);
    clearTimeout(slot.timer);
    slot.approval = { ...slot.approval, status, decidedBy: by, decidedReason: reason };
    this.#decided.set(id, slot.approval);
    if (this.#decided.size > decidedMax) this.#decided.delete(this.#decided.keys().next().value as string);
    this.#options.changed(slot.approval);
    return slot;
  }
}
