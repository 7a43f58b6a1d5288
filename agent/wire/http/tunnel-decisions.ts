/**
 * The messages that a client sends after a 101, where its API's dialect reads them: one after the other is asked about,
 * recorded, and sent or answered with a refusal. Later ones wait for the one that is held.
 */
import type { Operation } from "../../core/operation.ts";
import type { Decision, Permit, Verdict } from "../../core/verdict.ts";
import { type ErrorCode, WeirError } from "../../errors.ts";
import type { Described, ReplyReader, Tunnel, TunnelStep } from "./dialect.ts";
import type { ExchangeSink } from "./exchange-sink.ts";
import { asBuffer, type LargeFailure, type LargeMessage } from "./large-body.ts";
import type { Masking } from "./mask-plans.ts";
import { recordedOperation } from "./recorded.ts";
import { denial } from "./refusals.ts";

export interface TunnelDecisionsOptions {
  readonly sink: ExchangeSink;
  /** Of the connection. */
  readonly permit: Permit;
  readonly now: () => number;
  fill(described: Described, bytes: number): Operation;
  readonly masking: Masking;
  /** The client is told something that is not from the server. */
  tell(bytes: Buffer): void;
  /** Hands a long message out; `worked` brings it back. `redact` null: what it asks. */
  handOut(raw: Buffer, tunnel: unknown, redact: Verdict | null): void;
}

type Ask = Extract<TunnelStep, { type: "ask" }>;

interface Asked {
  readonly step: Ask;
  readonly operation: Operation;
  readonly startedMs: number;
  id: number;
  approvalId: string | null;
  recorded: boolean;
}

/** Responses that were asked for and are not told to be done. */
const unansweredMax = 1_000;

export class TunnelDecisions {
  readonly #tunnel: Tunnel;
  readonly #options: TunnelDecisionsOptions;
  #asked: Asked | null = null;
  /** A long message is read elsewhere, or redacted to leave by this permit. */
  #away: { readonly bytes: number; readonly permit: Permit | null } | null = null;
  readonly #unanswered: Asked[] = [];

  constructor(tunnel: Tunnel, options: TunnelDecisionsOptions) {
    this.#tunnel = tunnel;
    this.#options = options;
  }

  get reply(): ReplyReader {
    return this.#tunnel.reply;
  }

  get heldBytes(): number {
    return this.#tunnel.heldBytes + (this.#away?.bytes ?? 0);
  }

  get waitingBytes(): number {
    return this.#tunnel.waitingBytes;
  }

  push(bytes: Buffer): void {
    this.#tunnel.push(bytes);
    this.#go();
  }

  farewell(message: string): Buffer {
    return this.#tunnel.farewell(message);
  }

  #go(): void {
    const { sink, permit } = this.#options;
    for (let step = this.#next(); step !== null; step = this.#next()) {
      if (step.type === "pass") sink.sendBody(step.bytes, permit);
      else if (step.type === "ask") this.#ask(step);
      else this.#handOut(step.raw, null, null);
    }
  }

  #next(): TunnelStep | null {
    return this.#tunnel.next(this.#asked !== null || this.#away !== null);
  }

  #handOut(raw: Buffer, permit: Permit | null, redact: Verdict | null): void {
    this.#away = { bytes: raw.length, permit };
    this.#options.handOut(raw, this.#tunnel.save(), redact);
  }

  /** A long message is back. Throws a WeirError where nothing became of it: later ones may not overtake it. */
  worked(done: LargeMessage | LargeFailure): void {
    const away = this.#away;
    if (away === null) return;
    this.#away = null;
    if (done.is === "failed") throw new WeirError(done.code as ErrorCode, done.message);
    this.#tunnel.restore(done.tunnel);
    const raw = asBuffer(done.body);
    const { sink, permit } = this.#options;
    if (away.permit === null) {
      const step = this.#tunnel.read(done.asked, raw);
      if (step.type === "ask") this.#ask(step);
      else if (step.type === "pass") sink.sendBody(step.bytes, permit);
    } else {
      const asked = this.#asked;
      this.#asked = null;
      sink.sendBody(raw, away.permit);
      if (asked !== null) this.#sent(asked);
    }
    this.#go();
  }

  #ask(step: Ask): void {
    const { sink, now } = this.#options;
    const operation = this.#options.fill(step.described, step.bytes);
    const asked: Asked = { step, operation, startedMs: now(), id: 0, approvalId: null, recorded: false };
    this.#asked = asked;
    asked.id = sink.askNext(operation);
  }

  decided(decision: Decision, approvalId: string | null, retryAfterSeconds: number | null): void {
    const asked = this.#asked;
    if (asked === null) return;
    const { sink, tell } = this.#options;
    const { verdict } = decision;
    asked.approvalId = approvalId ?? asked.approvalId;
    this.#record(asked, verdict);
    if (decision.action === "hold") return;
    if (decision.action === "deny" || decision.permit === null) {
      this.#asked = null;
      const refused = denial(verdict, asked.approvalId, retryAfterSeconds);
      tell(asked.step.refuse(refused));
      this.#result(asked, { code: refused.code, message: refused.message });
    } else {
      const out = asked.step.send(verdict);
      if (!Buffer.isBuffer(out)) {
        this.#handOut(out.raw, decision.permit, verdict);
        return;
      }
      this.#asked = null;
      sink.sendBody(out, decision.permit);
      this.#sent(asked);
    }
    this.#go();
  }

  #sent(asked: Asked): void {
    if (asked.step.answered && this.#unanswered.length < unansweredMax) this.#unanswered.push(asked);
    else this.#result(asked, null);
  }

  /** The server has told something: what it cost belongs to what was asked first. */
  answered(): void {
    for (const spent of this.#tunnel.spent()) {
      const asked = this.#unanswered.shift();
      if (asked !== undefined) this.#result(asked, null, spent);
    }
  }

  close(reason: string): void {
    if (this.#asked !== null) {
      this.#options.sink.withdraw(reason);
      if (this.#asked.recorded) this.#result(this.#asked, { code: "closed", message: reason });
    }
    this.#asked = null;
    for (const asked of this.#unanswered.splice(0)) this.#result(asked, { code: "closed", message: reason });
  }

  #record(asked: Asked, verdict: Verdict): void {
    if (asked.recorded) return;
    asked.recorded = true;
    const { id: operationId, approvalId } = asked;
    const operation = recordedOperation(asked.operation, verdict, this.#options.masking);
    this.#options.sink.record({ type: "operation", operationId, operation, verdict, approvalId });
  }

  #result(asked: Asked, error: { code: string; message: string } | null, spent: object = {}): void {
    this.#options.sink.record({
      type: "result",
      operationId: asked.id,
      tag: "message",
      rows: 0,
      bytes: 0,
      masked: 0,
      durationMs: this.#options.now() - asked.startedMs,
      error,
      details: JSON.stringify(Object.fromEntries(Object.entries(spent).filter(([, value]) => value !== null))),
    });
  }
}
