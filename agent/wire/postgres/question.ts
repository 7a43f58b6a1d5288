/** The operation of the client's message at hand: asked, perhaps held, decided; and what is said where it may not go. */
import type { Decision } from "../../core/verdict.ts";
import { PeerError } from "../../errors.ts";
import { deniedResponse, deniedText, heldNotice, maskDeniedResponse, withdrawnResponse } from "./refusal.ts";
import { carriesData } from "./replication.ts";
import { nextLimit, type Run } from "./run.ts";
import type { SessionState } from "./state.ts";

export class Question {
  readonly #state: SessionState;
  /** Asked, and perhaps held, until its decision comes. */
  #waiting: Run | null = null;
  #held = false;
  /** Decided; taken when the message it belongs to is shown again. */
  #answered: Run | null = null;
  /** What is said in place of the policy's own words: a hold that was cancelled. */
  #response: Buffer | null = null;

  constructor(state: SessionState) {
    this.#state = state;
  }

  get waiting(): Run | null {
    return this.#waiting;
  }

  /** The message at hand is decided, and waits for what the server tells of it. */
  get isDecided(): boolean {
    return this.#answered !== null;
  }

  ask(run: Run): void {
    this.#waiting = run;
    this.#state.out.push({ type: "ask", askId: run.askId, operation: run.operation });
  }

  /** Here and beneath, true: it is answered, and its message can be shown again. */
  decided(decision: Decision, approvalId: string | null, by: string): boolean {
    const run = this.#waiting;
    if (run === null) return false;
    run.verdict = decision.verdict;
    run.permit = decision.permit;
    if (approvalId !== null) run.approvalId = approvalId;
    run.by = by;
    this.#record(run);
    const refused = decision.action !== "deny" && this.#refuseStream(run);
    if (decision.action === "hold" && !refused) {
      this.#held = true;
      this.#state.notices.push(heldNotice(run.approvalId ?? "", decision.verdict));
      return false;
    }
    return this.#answer(run);
  }

  /** A stream of the server's log cannot be masked: it is refused before it begins. */
  #refuseStream(run: Run): boolean {
    if (run.operation.kind !== "replication") return false;
    if ((run.verdict?.transforms.masks.length ?? 0) === 0 || !carriesData(run.info)) return false;
    const reason = "replication carries whole tables past every mask";
    run.startedMs = this.#state.context.now();
    this.refuse(run, maskDeniedResponse(reason), reason);
    return true;
  }

  /** The client gave up what it waits for. */
  cancelled(reason: string): boolean {
    const run = this.#waiting;
    if (run === null || !this.#held) return false;
    this.withdraw(reason);
    this.#response = withdrawnResponse();
    return this.#answer(run);
  }

  /** Where it is held, nobody has to decide it any more. */
  withdraw(reason: string): void {
    if (this.#waiting === null || !this.#held) return;
    this.#state.out.push({ type: "withdraw", askId: this.#waiting.askId, reason });
  }

  /** The server failed its batch: nothing of it will be shown again. True: something waited. */
  drop(): boolean {
    // Decided, and waiting for what the server tells of it: it is skipped, and must not stand for a later message.
    if (this.#answered !== null) this.#state.finish(this.#answered);
    this.#answered = null;
    this.withdraw("an earlier message of the batch failed");
    const waited = this.#waiting !== null;
    this.#waiting = null;
    this.#held = false;
    return waited;
  }

  #answer(run: Run): true {
    this.#waiting = null;
    this.#held = false;
    this.#answered = run;
    return true;
  }

  #record(run: Run): void {
    if (run.recorded || run.verdict === null) return;
    run.recorded = true;
    this.#state.record({
      type: "operation",
      operationId: run.askId,
      operation: this.#state.recordable(run.operation, run.verdict),
      verdict: run.verdict,
      approvalId: run.approvalId,
    });
  }

  /** What was decided; null: the message at hand is shown for the first time. */
  take(): Run | null {
    const run = this.#answered;
    this.#answered = null;
    return run;
  }

  /** It waits for the server, and will be taken again. */
  keep(run: Run): void {
    this.#answered = run;
  }

  /** True when it may go. */
  admit(run: Run): boolean {
    const state = this.#state;
    if (run.permit === null || run.verdict === null || this.#response !== null) return false;
    state.forwardPermit = run.permit;
    run.startedMs = state.context.now();
    const { masks, limits } = run.verdict.transforms;
    if (masks.length > 0) state.masks = masks;
    if (limits.length > 0) run.rowsMax = nextLimit(limits, -1)?.rows ?? run.rowsMax;
    return true;
  }

  /** Allowed, and yet it may not go. */
  refuse(run: Run, response: Buffer, reason: string): void {
    this.#response = response;
    run.error = { code: "42501", message: reason };
    this.#state.finish(run);
  }

  /** What the client is told of one that may not go. */
  refusal(run: Run): Buffer {
    const response = this.#response;
    this.#response = null;
    if (response !== null) {
      run.error ??= { code: "57014", message: "withdrawn" };
      return response;
    }
    if (run.verdict === null) throw new PeerError("WEIR_STATE_INVALID", "refused without a verdict");
    run.error = deniedText(run.verdict);
    return deniedResponse(run.verdict, "ERROR", run.approvalId !== null, run.by);
  }
}
