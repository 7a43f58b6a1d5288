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
  readonly session: string;
  readonly protocol: string;
  readonly host: string;
  readonly job: string | null;
  readonly identity: { readonly subject: string; readonly issuer: string } | null;
  /** Groups that may decide; empty: everybody who may sign in. */
  readonly approvers: readonly string[];
  /** Sentences: what makes it worth a look. */
  readonly risks: readonly string[];
  /** Words of `text` that the sentences are about. */
  readonly highlights: readonly string[];
  /** How `text` is best shown; a changed tool ends with its difference, line by line. */
  readonly language: "sql" | "json" | "diff" | "text";
  /** SHA-256 over all that is approved: bytes, parameters, who, where, rule and policy. Null: nothing that can be granted ahead. */
  readonly digest: string | null;
}

export interface Approval extends ApprovalSummary {
  readonly id: string;
  readonly status: ApprovalStatus;
  readonly createdAtMs: number;
  readonly expiresAtMs: number;
  readonly decidedBy: string | null;
  readonly decidedReason: string | null;
  /** Until when the same digest is approved without asking again; null: this once only. */
  readonly grantedUntilMs: number | null;
}

export interface Decided {
  readonly decision: "approved" | "denied" | "timeout";
  readonly by: string;
  readonly reason: string;
}

/** Longest time that an approval may be granted ahead. */
export const grantMsMax = 60 * 60_000;
/** Digests that are approved ahead at once; the oldest one goes. */
const grantsMax = 1_000;
/** Pending approvals at once; a further hold is refused. */
const pendingMax = 1_000;
/** Decided approvals that are still shown. */
const decidedMax = 500;
/** Node takes a longer wait for none at all. */
const timerMsMax = 2 ** 31 - 1;

/** Who approved a digest ahead, and until when. */
interface Grant {
  readonly by: string;
  readonly reason: string;
  readonly untilMs: number;
}

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
  readonly #grants = new Map<string, Grant>();

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
      grantedUntilMs: null,
    };
    const { id } = approval;
    const grant = this.#granted(summary.digest, now);
    if (grant !== null) return this.#take(approval, grant, decided);
    this.#pending.set(id, { approval, decided, timer: this.#arm(id, limits.timeoutMs, limits.onTimeout) });
    this.#options.changed(approval);
    return { id, withdraw: (reason) => void this.#settle(id, "withdrawn", "the client", reason) };
  }

  /**
   * The decided approval; null when it is not pending (any more). `grantMs` approves the same digest for so long without
   * asking again, at most `grantMsMax`.
   */
  decide(id: string, decision: "approved" | "denied", by: string, reason: string, grantMs = 0): Approval | null {
    const digest = this.#pending.get(id)?.approval.digest ?? null;
    const untilMs =
      decision === "approved" && digest !== null && grantMs > 0
        ? this.#options.now() + Math.min(grantMs, grantMsMax)
        : null;
    const slot = this.#settle(id, decision, by, reason, untilMs);
    if (slot === null) return null;
    if (untilMs !== null && digest !== null) this.#grant(digest, { by, reason, untilMs });
    slot.decided({ decision, by, reason: reason === "" ? `${decision} by ${by}` : reason });
    return slot.approval;
  }

  /** Decided here, and before that elsewhere, where it counts: what was really done is shown, and who came too late. */
  overrule(id: string, status: Exclude<ApprovalStatus, "pending">, by: string, reason: string): void {
    const here = this.#decided.get(id);
    if (here === undefined || (here.status === status && here.decidedBy === by)) return;
    // What was granted ahead with a word that did not count is not granted.
    if (here.digest !== null && here.grantedUntilMs !== null) this.#grants.delete(here.digest);
    const late = `${here.decidedBy} ${here.status} it here, too late`;
    const decidedReason = reason === "" ? late : `${reason} (${late})`;
    this.#keep({ ...here, status, decidedBy: by, decidedReason, grantedUntilMs: null });
  }

  get(id: string): Approval | null {
    return this.#pending.get(id)?.approval ?? this.#decided.get(id) ?? null;
  }

  /** Pending ones first, oldest first; then the decided ones, newest first. */
  list(): Approval[] {
    return [...[...this.#pending.values()].map((slot) => slot.approval), ...[...this.#decided.values()].reverse()];
  }

  /** Ends every grant: a new policy, or somebody who approved has lost the right to. */
  endGrants(): void {
    this.#grants.clear();
  }

  #grant(digest: string, grant: Grant): void {
    this.#grants.delete(digest);
    this.#grants.set(digest, grant);
    if (this.#grants.size > grantsMax) this.#grants.delete(this.#grants.keys().next().value as string);
  }

  #granted(digest: string | null, now: number): Grant | null {
    const grant = digest === null ? undefined : this.#grants.get(digest);
    if (grant === undefined) return null;
    if (grant.untilMs > now) return grant;
    this.#grants.delete(digest as string);
    return null;
  }

  /** Approved ahead: it is shown with the decided ones, and runs as if somebody had pressed the button now. */
  #take(
    approval: Approval,
    { by, reason, untilMs }: Grant,
    decided: (outcome: Decided) => void,
  ): { id: string; withdraw(reason: string): void } {
    const told = `approved ahead by ${by}${reason === "" ? "" : `: ${reason}`}`;
    let withdrawn = false;
    const withdraw = (): void => {
      withdrawn = true;
    };
    this.#keep({ ...approval, status: "approved", decidedBy: by, decidedReason: told, grantedUntilMs: untilMs });
    setImmediate(() => {
      if (!withdrawn) decided({ decision: "approved", by, reason: told });
    });
    return { id: approval.id, withdraw };
  }

  #keep(approval: Approval): void {
    this.#decided.set(approval.id, approval);
    if (this.#decided.size > decidedMax) this.#decided.delete(this.#decided.keys().next().value as string);
    this.#options.changed(approval);
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

  #settle(
    id: string,
    status: ApprovalStatus,
    by: string,
    reason: string,
    grantedUntilMs: number | null = null,
  ): Slot | null {
    const slot = this.#pending.get(id);
    if (slot === undefined) return null;
    this.#pending.delete(id);
    clearTimeout(slot.timer);
    slot.approval = { ...slot.approval, status, decidedBy: by, decidedReason: reason, grantedUntilMs };
    this.#keep(slot.approval);
    return slot;
  }
}
