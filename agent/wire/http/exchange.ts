/**
 * One HTTP request: read as far as the operation needs, asked about, refused or sent on, and recorded. What its client
 * is told is `reply-passage.ts`. It knows no framing: parts of messages come in, and leave by the sink.
 */
import type { HttpFacts, Operation } from "../../core/operation.ts";
import type { Decision, Permit, Verdict } from "../../core/verdict.ts";
import { WeirError } from "../../errors.ts";
import type { HttpContext } from "./context.ts";
import { applyCredential } from "./credential.ts";
import type { Described, DialectExchange, Refusal, ReplyReader } from "./dialect.ts";
import { requestBodyBytesMax } from "./dialect.ts";
import type { ExchangeOptions, ExchangeSink } from "./exchange-sink.ts";
import { ForwardedBody } from "./forwarded-body.ts";
import { asBuffer, handOut, type LargeDone, largeBodyBytesMin } from "./large-body.ts";
import { contentCoding, type Headers, mediaType, type RequestHead, type ResponseHead, setLength } from "./message.ts";
import { askReadable, type PartsAllowed } from "./ranges.ts";
import { recordedOperation } from "./recorded.ts";
import { denial, failure, noConnect, signedByClient, tooLarge } from "./refusals.ts";
import { type Impassable, ReplyPassage } from "./reply-passage.ts";
import { factsOf, requestDigest, requestOperation } from "./request-facts.ts";
import { EventSigner, signsBody } from "./sigv4.ts";

/** What of a plain request's body is read before it is decided: enough for forms and small JSON. */
export const peekBytesMax = 64 * 1024;
/** How long the beginning of a plain body is waited for. */
const peekMs = 1_000;

type Phase = "reading" | "inflating" | "describing" | "asked" | "held" | "rewriting" | "forwarding" | "over";

export class Exchange {
  readonly head: RequestHead;
  readonly #options: ExchangeOptions;
  readonly #dialect: DialectExchange;
  readonly #context: HttpContext;
  readonly #sink: ExchangeSink;
  readonly #reply: ReplyPassage;
  readonly #facts: HttpFacts;
  readonly #startedMs: number;
  #phase: Phase = "reading";
  #parts: Buffer[] = [];
  #bytes = 0;
  /** The whole request body is in `#parts`. */
  #whole = false;
  #trailers: Headers | null = null;
  #operation: Operation | null = null;
  #recorded = false;
  #approvalId: string | null = null;
  #permit: Permit | null = null;
  /** What waits for the rewritten body. */
  #sending: { readonly permit: Permit; readonly verdict: Verdict } | null = null;
  #forget: (() => void) | null = null;
  /** The request's body on its way, where it is read part by part. */
  #forwarded: ForwardedBody | null = null;
  /** Of a body that is read as far as its dialect needs it: bytes from which on it is asked again. */
  #needed = 0;
  #parted: PartsAllowed = "yes";

  constructor(options: ExchangeOptions) {
    this.head = options.head;
    this.#options = options;
    this.#dialect = options.dialect;
    this.#context = options.context;
    this.#sink = options.sink;
    this.#reply = new ReplyPassage(options);
    this.#facts = factsOf(options.head);
    this.#startedMs = options.now();
  }

  /** Bytes held back now. */
  get heldBytes(): number {
    return (this.#phase === "forwarding" ? (this.#forwarded?.heldBytes ?? 0) : this.#bytes) + this.#reply.heldBytes;
  }

  /** Of the client's messages after a 101, what waits: not the one that is still coming. */
  get tunnelWaitingBytes(): number {
    return this.#reply.decisions?.waitingBytes ?? 0;
  }

  /** False: no part of the request's body is wanted now. */
  get wantsRequest(): boolean {
    if (this.#phase === "forwarding") return this.#forwarded?.isWorking !== true;
    return this.#phase === "reading" || this.#phase === "over";
  }

  get over(): boolean {
    return this.#phase === "over";
  }

  /** The server has sent all of its response, though it may still be decoded. */
  get answered(): boolean {
    return this.#reply.answered;
  }

  /** True once something of a response has left for the client, or is kept back until it is whole. */
  get responded(): boolean {
    return this.#reply.responded;
  }

  start(): void {
    const { body, headers } = this.head;
    const expects = headers.get("expect")?.toLowerCase() === "100-continue";
    if (body.kind === "none") this.#whole = true;
    const needsAll = this.#dialect.reads === "whole";
    if (needsAll && body.kind === "length" && body.bytes > requestBodyBytesMax) {
      this.#refuse(tooLarge(), 413);
      return;
    }
    if (this.#whole || this.#dialect.reads === "head" || (expects && !needsAll)) {
      this.#ask();
      return;
    }
    if (expects) this.#sink.sendContinue();
    if (this.#dialect.reads === "peek" || this.#dialect.waits === false) this.#sink.wake(peekMs);
  }

  requestBody(bytes: Buffer): void {
    if (this.#phase === "forwarding") {
      this.#sendPart(bytes);
      return;
    }
    if (this.#phase === "over") return;
    this.#parts.push(bytes);
    this.#bytes += bytes.length;
    if (this.#phase !== "reading") return;
    if (this.#dialect.reads === "whole") {
      if (this.#bytes > requestBodyBytesMax) this.#refuse(tooLarge(), 413);
    } else if (this.#dialect.reads === "first") {
      if (this.#bytes < this.#needed) return;
      this.#needed = this.#dialect.needs?.(this.#body()) ?? 0;
      if (this.#needed === 0) this.#ask();
    } else if (this.#bytes >= peekBytesMax) this.#ask();
  }

  requestEnd(trailers: Headers | null): void {
    if (this.#phase === "over") return;
    this.#whole = true;
    this.#trailers = trailers;
    if (this.#phase === "forwarding") this.#sendEnd();
    else if (this.#phase === "reading") this.#decode();
  }

  /** A content coding hides the operation: it is taken away before anything is decided. */
  #decode(): void {
    const coding = contentCoding(this.head.headers);
    if (this.#dialect.reads !== "whole" || coding === "" || this.#bytes === 0) {
      this.#ask();
      return;
    }
    this.#phase = "inflating";
    this.#sink.inflate(coding, this.#body(), requestBodyBytesMax);
  }

  inflated(body: Buffer | null, problem: string): void {
    if (this.#phase !== "inflating") return;
    if (body === null) {
      this.#refuse(failure("WEIR_FRAME_INVALID", `The request's body cannot be decoded: ${problem}.`), 400);
      return;
    }
    this.head.headers.delete("content-encoding");
    this.#parts = [body];
    this.#bytes = body.length;
    this.#phase = "reading";
    this.#ask();
  }

  #ask(): void {
    const isGiven = this.#dialect.reads === "whole" || this.#dialect.reads === "first" || this.#whole;
    if (isGiven && this.#isLarge()) {
      this.#phase = "describing";
      const body = this.#body();
      // Its memory goes along; what comes meanwhile stands behind it.
      this.#parts = [];
      handOut(this.#options, { do: "describe" }, body);
      return;
    }
    this.#described(this.#dialect.describe(isGiven ? this.#body() : null));
  }

  #described(described: Described): void {
    this.#phase = "asked";
    this.#operation = this.#fill(described);
    this.#sink.ask(this.#operation, () => this.#digest());
  }

  #isLarge(): boolean {
    const { twin } = this.#dialect;
    return twin !== undefined && (this.#bytes > largeBodyBytesMin || twin.isLong?.(this.#body()) === true);
  }

  /** A long body is back. Who is over by now wants it no more. */
  worked(done: LargeDone): void {
    const { twin } = this.#dialect;
    const phase = this.#phase;
    if (phase === "over") return;
    if (done.is === "failed" && (phase === "describing" || phase === "rewriting")) {
      this.#refuse(failure(done.code, done.message), 503);
    } else if (done.is === "described" && phase === "describing") {
      twin?.restore(done.state);
      const body = asBuffer(done.body);
      this.#parts.unshift(body);
      this.#described(twin?.unpack?.(done.described, body) ?? done.described);
    } else if (done.is === "rewritten" && phase === "rewriting" && this.#sending !== null) {
      twin?.restore(done.state);
      if (done.fields !== null) this.head.headers.replace(done.fields);
      this.#leave(this.#sending.permit, this.#sending.verdict, { body: asBuffer(done.body), isNew: done.changed });
    } else if (done.is === "forwarded" || (done.is === "failed" && done.of === "forward")) {
      this.#forwarded?.worked(done);
    } else if (done.is === "message" || (done.is === "failed" && done.of === "message")) {
      try {
        this.#reply.messageWorked(done);
      } catch (error) {
        this.#unreadable(error);
      }
    } else if (done.is === "reply" || done.is === "failed") {
      try {
        if (!this.#reply.isTunnel && this.#reply.worked(done)) this.#left();
        if (this.#reply.isTunnel && this.#reply.tunnelWorked(done)) this.#finish(null);
      } catch (error) {
        this.#unreadable(error);
      }
    }
  }

  #fill(described: Described): Operation {
    const { body } = this.head;
    const known = this.#whole ? this.#bytes : body.kind === "length" ? body.bytes : Number.MAX_SAFE_INTEGER;
    return requestOperation(described, this.head, this.#facts, this.#context.destination, known);
  }

  decided(decision: Decision, approvalId: string | null, retryAfterSeconds: number | null = null): void {
    if (this.#phase === "forwarding") {
      this.#forwarded?.decided(decision, approvalId, retryAfterSeconds);
      this.#reply.decisions?.decided(decision, approvalId, retryAfterSeconds);
      return;
    }
    if (this.#phase !== "asked" && this.#phase !== "held") return;
    const { verdict } = decision;
    this.#approvalId = approvalId ?? this.#approvalId;
    this.#record(verdict);
    if (decision.action === "hold") {
      this.#phase = "held";
      const { cancelName } = this.#dialect;
      if (cancelName != null) this.#forget = this.#context.named.held(cancelName, () => this.#givenUp());
      this.#reply.hold();
      return;
    }
    if (decision.action === "deny") {
      const denied = denial(verdict, this.#approvalId, retryAfterSeconds);
      const hint = this.head.method === "CONNECT" ? ` ${noConnect}` : "";
      this.#refuse({ ...denied, message: `${denied.message}${hint}` });
      return;
    }
    if (decision.permit !== null) this.#send(decision.permit, verdict);
  }

  /** Another request of this client gave this one up while it was held. */
  #givenUp(): void {
    if (this.#phase !== "held") return;
    const reason = "the client gave the request up";
    this.#sink.withdraw(reason);
    this.#refuse(failure("WEIR_HOLD_WITHDRAWN", `The request was withdrawn: ${reason}.`), 499);
  }

  #record(verdict: Verdict): void {
    if (this.#recorded || this.#operation === null) return;
    this.#recorded = true;
    this.#sink.record({
      type: "operation",
      operationId: this.#options.id,
      operation: recordedOperation(this.#operation, verdict, this.#context),
      verdict,
      approvalId: this.#approvalId,
    });
  }

  #send(permit: Permit, verdict: Verdict): void {
    this.#forget?.();
    // Whatever the policy says of such a request: the key is for the target's own hosts.
    if (this.#context.credential !== null && this.#operation?.traits.includes("host-mismatch") === true) {
      const message = "The request names another host than the one that the target's credential is for.";
      this.#refuse(failure("WEIR_DENIED", message), 403);
      return;
    }
    const { cancels } = this.#dialect;
    if (cancels != null) this.#context.named.giveUp(cancels);
    const { head } = this;
    if (head.method === "CONNECT") {
      this.#refuse(failure("WEIR_UNSUPPORTED", noConnect), 501);
      return;
    }
    if (!this.#whole) {
      this.#leave(permit, verdict, null);
      return;
    }
    const body = this.#body();
    if (this.#dialect.forward === undefined && this.#isLarge() && (verdict.transforms.redactions?.length ?? 0) > 0) {
      this.#phase = "rewriting";
      this.#sending = { permit, verdict };
      handOut(this.#options, { do: "rewrite", verdict }, body);
      return;
    }
    const rewritten = this.#dialect.rewrite?.(body, verdict) ?? body;
    this.#leave(permit, verdict, { body: rewritten, isNew: rewritten !== body });
  }

  /** `whole`: the request's body as the verdict lets it go, where it is here. */
  #leave(permit: Permit, verdict: Verdict, whole: { readonly body: Buffer; readonly isNew: boolean } | null): void {
    this.#sending = null;
    let reader: ReplyReader | null = null;
    let body = whole?.body ?? null;
    const signer = this.#eventSigner();
    try {
      reader = this.#dialect.forward?.(verdict, signer) ?? null;
      // What is here whole is signed as it leaves.
      if (reader?.preservesLength === true && body !== null) {
        body = Buffer.concat([reader.push(body), reader.end()]);
        reader = null;
      }
    } catch (error) {
      this.#unreadable(error);
      return;
    }
    const isChanged =
      whole !== null && body !== null && (whole.isNew || (body !== whole.body && !body.equals(whole.body)));
    if (isChanged && this.#context.credential === null && signsBody(this.head)) {
      this.#refuse({ ...failure("WEIR_MASK_IMPOSSIBLE", signedByClient), kind: "denied" }, 403);
      return;
    }
    const isResized = reader?.preservesLength === false;
    this.#permit = permit;
    this.#phase = "forwarding";
    const { head } = this;
    const { headers } = head;
    if (body !== null) {
      // A length that is written anew has to be right, and a body that was decoded lost its own.
      if ((whole?.isNew === true || headers.changed) && !isResized) {
        setLength(head, {
          kind: body.length === 0 && head.body.kind === "none" ? "none" : "length",
          bytes: body.length,
        });
      }
      if (headers.has("expect")) headers.delete("expect");
    }
    if (isResized && headers.has("content-length")) setLength(head, { kind: "chunked" });
    this.#parted = askReadable(headers, {
      credential: this.#context.credential,
      isMasked: verdict.transforms.masks.length > 0,
      isWhole: this.#dialect.reads === "whole",
      isTunnelRead: this.#dialect.tunnel !== undefined,
    });
    const target =
      this.#context.credential === null
        ? null
        : applyCredential(head, body, this.#context.credential, this.#options.now());
    signer?.signHead(head);
    this.#sink.sendHead(head, target, permit);
    const parts = body === null ? this.#parts : [body];
    this.#parts = [];
    this.#bytes = 0;
    if (reader !== null)
      this.#forwarded = new ForwardedBody({
        ...{ reader, permit, sink: this.#sink, now: this.#options.now, masking: this.#context },
        fill: (described) => this.#fill(described),
        handOut: (part) => handOut(this.#options, { do: "forward", verdict }, part),
        sendEnd: () => this.#sink.sendEnd(this.#trailers, permit),
        failed: (error) => this.#unreadable(error),
      });
    for (const part of parts) if (!this.over) this.#sendPart(part);
    if (this.#whole && !this.over) this.#sendEnd();
  }

  /** Of a body whose parts are signed each by itself. */
  #eventSigner(): EventSigner | null {
    const { credential } = this.#context;
    const isSigned =
      credential?.kind === "sigv4" && mediaType(this.head.headers) === "application/vnd.amazon.eventstream";
    return isSigned ? new EventSigner(credential, this.#options.now) : null;
  }

  #sendPart(bytes: Buffer): void {
    if (this.#forwarded !== null) this.#forwarded.push(bytes);
    else if (bytes.length > 0) this.#sink.sendBody(bytes, this.#allowed());
  }

  #sendEnd(): void {
    if (this.#forwarded !== null) this.#forwarded.end();
    else this.#sink.sendEnd(this.#trailers, this.#allowed());
  }

  /** The response's head. A 1xx is passed on and another head follows. */
  responseHead(head: ResponseHead): void {
    if (this.#phase !== "forwarding") return;
    const permit = this.#allowed();
    const problem =
      head.status === 101 ? this.#openTunnel(head, permit) : this.#reply.head(head, permit.verdict, this.#parted);
    if (problem !== null) this.#fail(problem.code, problem.message);
  }

  #openTunnel(head: ResponseHead, permit: Permit): Impassable | null {
    return this.#reply.openTunnel(head, permit, (described, bytes) => ({ ...this.#fill(described), bytes }));
  }

  /** What came back after a 101. */
  tunnelled(bytes: Buffer): void {
    if (this.#phase !== "forwarding") return;
    try {
      if (this.#reply.tunnelled(bytes)) this.#finish(null);
    } catch (error) {
      this.#unreadable(error);
    }
  }

  /** What the client sends after a 101. False: it is not read here, and passes as it is. */
  tunnelSent(bytes: Buffer): boolean {
    if (this.#reply.decisions === null || this.#phase !== "forwarding") return false;
    try {
      this.#reply.tunnelSent(bytes);
    } catch (error) {
      this.#unreadable(error);
    }
    return true;
  }

  responseBody(bytes: Buffer): void {
    if (this.#phase !== "forwarding") return;
    try {
      if (this.#reply.push(bytes)) this.#left();
    } catch (error) {
      this.#unreadable(error);
    }
  }

  /** Decoded bytes of the response; null: all of it was decoded. */
  decoded(bytes: Buffer | null): void {
    if (this.#phase !== "forwarding") return;
    try {
      if (this.#reply.decoded(bytes)) this.#left();
    } catch (error) {
      this.#unreadable(error);
    }
  }

  responseEnd(trailers: Headers | null): void {
    if (this.#phase !== "forwarding") return;
    try {
      if (this.#reply.end(trailers, this.#allowed().verdict)) this.#left();
    } catch (error) {
      this.#unreadable(error);
    }
  }

  /** What cannot be read cannot be masked: the response ends here, and the client sees that it is not whole. */
  #unreadable(error: unknown): void {
    if (!(error instanceof WeirError)) throw error;
    this.upstreamFailed(error.code, error.message);
  }

  #left(): void {
    this.#finish(null);
    this.#sink.done(this.#reply.whole);
  }

  /** The other protocol after a 101 ended. */
  tunnelEnded(farewell = ""): void {
    if (this.#phase !== "forwarding") return;
    this.#reply.tunnelEnded(farewell);
    this.#finish(null);
  }

  tick(): void {
    // A body that comes slowly is decided by what is there: its sender may wait for the answer.
    if (this.#phase === "reading" && (this.#dialect.reads === "peek" || this.#dialect.waits === false)) {
      this.#ask();
    } else if (this.#phase === "held") this.#reply.beat();
  }

  /** The client went away before its answer was whole. */
  clientLeft(reason: string): void {
    if (this.#phase === "over") return;
    if (this.#phase === "held" || this.#phase === "asked") this.#sink.withdraw(reason);
    this.#finish({ code: "closed", message: reason });
  }

  /** The upstream cannot be reached, broke off, or answers what is no HTTP. */
  upstreamFailed(code: string, message: string): void {
    if (this.#phase === "over") return;
    if (this.#reply.begun) {
      this.#finish({ code, message });
      this.#sink.done(false);
      return;
    }
    this.#fail(code, message);
  }

  /** The agent ends it: shutdown, revocation, a spool that takes nothing. */
  terminate(code: string, reason: string): void {
    if (this.#phase === "held" || this.#phase === "asked") this.#sink.withdraw(reason);
    if (this.#phase === "over" || this.#reply.begun) this.#finish({ code, message: reason });
    else this.#refuse(failure(code, reason), code === "WEIR_IDENTITY_REVOKED" ? 403 : 503, false);
  }

  #fail(code: string, message: string): void {
    this.#refuse(failure(code, message), code === "WEIR_DENIED" ? 403 : 502, false);
  }

  /** `reusable`: the upstream connection was not touched, and may carry the next request. */
  #refuse(refusal: Refusal, status?: number, reusable = true): void {
    this.#parts = [];
    this.#bytes = 0;
    this.#reply.refuse(refusal, status);
    this.#finish({ code: refusal.code, message: refusal.message });
    this.#sink.done(reusable);
  }

  #finish(error: { code: string; message: string } | null): void {
    if (this.#phase === "over") return;
    this.#phase = "over";
    this.#reply.decisions?.close(error?.message ?? "the connection was closed");
    this.#forwarded?.close(error?.message ?? "the call is over");
    this.#forget?.();
    this.#parts = [];
    if (!this.#recorded) return;
    const durationMs = this.#options.now() - this.#startedMs;
    this.#sink.record(this.#reply.result(durationMs, error, this.#permit?.verdict.record === "result"));
  }

  #digest(): string {
    const key = this.head.headers.get("idempotency-key") ?? "";
    return requestDigest(this.#facts, key, this.#dialect.retryKey ?? this.#body());
  }

  /** The permit that it was sent by; without one nothing is forwarded. */
  #allowed(): Permit {
    if (this.#permit === null) throw new Error("an exchange forwards what was not allowed");
    return this.#permit;
  }

  #body(): Buffer {
    if (this.#parts.length !== 1) this.#parts = [Buffer.concat(this.#parts, this.#bytes)];
    return this.#parts[0] as Buffer;
  }
}
