/** Asks, holds and records the operations of one flow: the part of a session that is the same for every driver. */
import { type Baseline, usual } from "../anomaly/baseline.ts";
import type { Flow } from "../core/flow.ts";
import type { AnomalyFacts, Operation } from "../core/operation.ts";
import type { EntryBody } from "../core/record.ts";
import type { Target } from "../core/target.ts";
import type { Verdict } from "../core/verdict.ts";
import type { Command, WireEvent } from "../wire/protocol.ts";
import type { Exceeded, Reservation } from "./budgets.ts";
import type { Held, SessionPorts } from "./ports.ts";

type DecisionEvent = Extract<WireEvent, { type: "decision" }>;
type Ask = Extract<Command, { type: "ask" }>;
/** How it is known again when its client tries again. */
type Again = Pick<Ask, "digest" | "once">;

export interface DeskOptions {
  readonly flow: Flow;
  readonly target: Target;
  readonly ports: SessionPorts;
  /** A held operation was decided. */
  decided(event: DecisionEvent): void;
  /** The spool cannot take an entry: nothing more may go upstream. */
  recordFailed(error: Error): void;
}

export class Desk {
  operations = 0;
  denied = 0;
  /** What was appended last is safe once the gate has settled past this. */
  recordedEpoch = 0;
  /** Why an entry was not taken: from then on nothing goes upstream. */
  failure: Error | null = null;
  readonly #options: DeskOptions;
  readonly #held = new Map<number, Held>();
  readonly #reserved = new Map<number, Reservation>();
  readonly #baseline: Baseline;
  /** Score that was last told: a finding that stands is told once. */
  #told = 0;

  constructor(options: DeskOptions) {
    this.#options = options;
    this.#baseline = options.ports.anomalies.of(options.flow, options.target);
  }

  get holds(): boolean {
    return this.#held.size > 0;
  }

  /** What has to be waited for before `ask`; null: nothing. */
  prepare(operation: Operation): Promise<void> | null {
    const { flow, target, ports } = this.#options;
    return ports.prepare(flow, target, operation);
  }

  /** The decision, or that it is held; then `decided` brings the final one. */
  ask(ask: Ask): DecisionEvent {
    const { askId, operation: asked, limit } = ask;
    const { flow, target, ports } = this.#options;
    const anomaly = limit === undefined ? this.#odd(this.#baseline.operation(asked, Date.now())) : usual;
    const operation: Operation = anomaly === usual ? asked : { ...asked, anomaly };
    const decision = ports.decide(flow, target, operation);
    // A row limit said `hold`: the statement itself was allowed, its verdict only lends the approvers and the time.
    if (limit !== undefined) {
      const verdict: Verdict = { ...decision.verdict, action: "hold", rule: limit.rule, reason: limit.reason };
      return this.#hold(askId, operation, verdict, limit, {});
    }
    this.operations += 1;
    const budgets = decision.verdict.transforms.budgets ?? [];
    if (decision.action === "allow" && budgets.length > 0) {
      const taken = ports.budgets.reserve(budgets, { flow, target, operation });
      if ("budget" in taken) return this.#overBudget(askId, operation, decision.verdict, taken, ask);
      this.#reserved.set(askId, taken);
    }
    if (decision.action === "deny") this.#deny();
    if (decision.action === "hold") return this.#hold(askId, operation, decision.verdict, null, ask);
    return { type: "decision", askId, decision, approvalId: null };
  }

  #deny(): void {
    this.denied += 1;
    this.#odd(this.#baseline.denied(Date.now()));
  }

  /** A new finding, or one that grew, stands in the record as a notice. */
  #odd(anomaly: AnomalyFacts): AnomalyFacts {
    if (anomaly.score >= this.#told + 1) {
      const reasons = anomaly.reasons.join(" ");
      this.record({ type: "notice", text: `anomaly ${anomaly.score.toFixed(1)}: ${reasons}` });
    }
    this.#told = anomaly.score;
    return anomaly;
  }

  #overBudget(
    askId: number,
    operation: Operation,
    decided: Verdict,
    { budget, reason, retryAfterSeconds }: Exceeded,
    again: Again,
  ): DecisionEvent {
    const verdict: Verdict = { ...decided, action: budget.then, rule: budget.rule, reason };
    if (budget.then === "hold") return this.#hold(askId, operation, verdict, null, again);
    this.#deny();
    const decision = this.#options.ports.refuse(verdict, reason);
    return { type: "decision", askId, decision, approvalId: null, retryAfterSeconds };
  }

  #hold(
    askId: number,
    operation: Operation,
    verdict: Verdict,
    limit: { rule: string; rows: number; reason: string } | null,
    { digest, once }: Again,
  ): DecisionEvent {
    const { flow, target, ports } = this.#options;
    const again = once === true ? { digest: `${flow.id} ${askId}`, once } : { digest: digest?.() ?? null };
    const held = ports.hold({ flow, target, operation, verdict, limit, ...again }, (outcome) => {
      if (!this.#held.delete(askId)) return;
      const { decision, by, reason } = outcome;
      this.record({ type: "approval", operationId: askId, approvalId: held.id, decision, by, reason });
      this.#options.decided({
        type: "decision",
        askId,
        decision: decision === "approved" ? ports.approve(verdict) : ports.refuse(verdict, reason),
        approvalId: held.id,
        by: decision === "timeout" ? "timeout" : by,
      });
    });
    this.#held.set(askId, held);
    return {
      type: "decision",
      askId,
      decision: { action: "hold", permit: null, verdict },
      approvalId: held.id,
    };
  }

  withdraw(askId: number, reason: string): void {
    this.#held.get(askId)?.withdraw(reason);
    this.#held.delete(askId);
  }

  record(body: EntryBody): void {
    const { flow, ports } = this.#options;
    if (body.type === "result") {
      this.#settle(body.operationId, body.details ?? "");
      if (body.rows > 0) this.#odd(this.#baseline.rows(body.rows, Date.now()));
    }
    try {
      ports.record(flow.id, body);
      // What came back holds nothing up: only what is about to go upstream has to be written first.
      if (body.type === "result" || body.type === "rows") ports.gate.touchLater();
      else this.recordedEpoch = ports.gate.touch();
    } catch (error) {
      this.fail(error instanceof Error ? error : new Error(String(error)));
    }
  }

  fail(error: Error): void {
    this.failure = error;
    this.#options.recordFailed(error);
  }

  /** The reply said what the call cost. */
  #settle(operationId: number, details: string): void {
    const reserved = this.#reserved.get(operationId);
    if (reserved === undefined) return;
    this.#reserved.delete(operationId);
    const said = (details === "" ? {} : JSON.parse(details)) as { inputTokens?: number; outputTokens?: number };
    const known = said.inputTokens !== undefined || said.outputTokens !== undefined;
    const tokens = known ? (said.inputTokens ?? 0) + (said.outputTokens ?? 0) : null;
    this.#options.ports.budgets.settle(reserved, tokens);
  }

  close(reason: string): void {
    for (const held of this.#held.values()) held.withdraw(reason);
    this.#held.clear();
  }
}
