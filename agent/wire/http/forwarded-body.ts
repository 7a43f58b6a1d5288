/**
 * The body of a request that goes on while it is answered, on its way to the server: read and changed part by part. What
 * is too long to be worked on in one go is handed out, and a part that is held is asked about; the rest waits behind it,
 * while the server's answer goes on.
 */
import type { Operation } from "../../core/operation.ts";
import type { Decision, Permit, Verdict } from "../../core/verdict.ts";
import { WeirError } from "../../errors.ts";
import type { Described, ReplyReader } from "./dialect.ts";
import type { ExchangeSink } from "./exchange-sink.ts";
import type { LargeReplied } from "./large-body.ts";
import type { Masking } from "./mask-plans.ts";
import { recordedOperation } from "./recorded.ts";
import { denial } from "./refusals.ts";
import { ReplyBody } from "./reply-body.ts";

export interface ForwardedBodyOptions {
  readonly reader: ReplyReader;
  readonly sink: ExchangeSink;
  /** Of the request. */
  readonly permit: Permit;
  readonly now: () => number;
  readonly masking: Masking;
  fill(described: Described): Operation;
  handOut(part: Buffer): void;
  sendEnd(): void;
  /** Something of it cannot be read, or may not pass. */
  failed(error: unknown): void;
}

/** A part that somebody decides. */
interface Asked {
  readonly operation: Operation;
  readonly startedMs: number;
  id: number;
  recorded: boolean;
}

export class ForwardedBody {
  readonly #options: ForwardedBodyOptions;
  readonly #body: ReplyBody;
  #asked: Asked | null = null;
  /** What leaves now was allowed by it. */
  #permit: Permit;

  constructor(options: ForwardedBodyOptions) {
    const { reader, handOut, sink } = options;
    this.#options = options;
    this.#permit = options.permit;
    const out = (bytes: Buffer): void => {
      if (bytes.length > 0) sink.sendBody(bytes, this.#permit);
    };
    this.#body = new ReplyBody({ reader, scrubber: null, handOut, out, ask: (held) => this.#ask(held) });
  }

  get heldBytes(): number {
    return this.#body.heldBytes;
  }

  /** Some of it is worked on, or decided, elsewhere. */
  get isWorking(): boolean {
    return this.#body.isWorking;
  }

  push(bytes: Buffer): void {
    this.#try(() => {
      this.#body.push(bytes);
      return false;
    });
  }

  end(): void {
    this.#try(() => this.#body.end());
  }

  worked(done: LargeReplied): void {
    this.#try(() => this.#body.worked(done));
  }

  #ask(held: Described): void {
    const { sink, now, fill } = this.#options;
    const operation = fill(held);
    const asked: Asked = { operation, startedMs: now(), id: 0, recorded: false };
    this.#asked = asked;
    asked.id = sink.askNext(operation);
  }

  decided(decision: Decision, approvalId: string | null, retryAfterSeconds: number | null): void {
    const asked = this.#asked;
    if (asked === null) return;
    const { verdict, permit } = decision;
    this.#record(asked, verdict, approvalId);
    if (decision.action === "hold") return;
    this.#asked = null;
    if (permit === null) {
      const { message } = denial(verdict, approvalId, retryAfterSeconds);
      this.#result(asked, { code: "WEIR_DENIED", message });
      this.#options.failed(new WeirError("WEIR_DENIED", message));
      return;
    }
    this.#result(asked, null);
    this.#permit = permit;
    this.#try(() => this.#body.released());
    this.#permit = this.#options.permit;
  }

  /** Nobody waits for the decision any more. */
  close(reason: string): void {
    const asked = this.#asked;
    if (asked === null) return;
    this.#asked = null;
    this.#options.sink.withdraw(reason);
    if (asked.recorded) this.#result(asked, { code: "closed", message: reason });
  }

  #record(asked: Asked, verdict: Verdict, approvalId: string | null): void {
    if (asked.recorded) return;
    asked.recorded = true;
    const { sink, masking } = this.#options;
    const operation = recordedOperation(asked.operation, verdict, masking);
    sink.record({ type: "operation", operationId: asked.id, operation, verdict, approvalId });
  }

  #result({ id, startedMs }: Asked, error: { code: string; message: string } | null): void {
    const durationMs = this.#options.now() - startedMs;
    const counts = { rows: 0, bytes: 0, masked: 0, durationMs };
    this.#options.sink.record({ type: "result", operationId: id, tag: "message", ...counts, error, details: "{}" });
  }

  /** `pass` says whether all of it has left. */
  #try(pass: () => boolean): void {
    try {
      if (pass()) this.#options.sendEnd();
    } catch (error) {
      this.#options.failed(error);
    }
  }
}
