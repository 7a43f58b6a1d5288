/**
 * One HTTP request and its response: read as far as the operation needs, asked about, refused or sent on, and its
 * response masked and recorded. It knows no framing: parts of messages come in, and leave by the sink.
 */
import type { HttpFacts, Operation } from "../../core/operation.ts";
import type { Decision, Permit, Verdict } from "../../core/verdict.ts";
import { WeirError } from "../../errors.ts";
import type { HttpContext } from "./context.ts";
import { applyCredential, scrubberFor, scrubHead, scrubTrailers, tunnelScrubberFor } from "./credential.ts";
import type { Described, DialectExchange, HoldingStream, Refusal } from "./dialect.ts";
import { requestBodyBytesMax } from "./dialect.ts";
import type { ExchangeOptions, ExchangeSink } from "./exchange-sink.ts";
import { asBuffer, headData, type LargeDone, type LargeTask, largeBodyBytesMin, replyHeadData } from "./large-body.ts";
import { fitHead, type Headers, type RequestHead, type ResponseHead, setLength, streamHead } from "./message.ts";
import { askReadable, cutPart, isPart, type PartsAllowed, unreadTunnel } from "./ranges.ts";
import { recordedOperation, resultDetails } from "./recorded.ts";
import { denial, failure, noConnect, tooLarge } from "./refusals.ts";
import { ReplyBody } from "./reply-body.ts";
import { factsOf, requestDigest, requestOperation } from "./request-facts.ts";
import { TunnelDecisions } from "./tunnel-decisions.ts";
import { TunnelPassage } from "./tunnel-passage.ts";

/** A held request whose client waits for a stream gets its first sign of life after this, the others after `beatMs`. */
const firstBeatMs = 10_000;
const beatMs = 15_000;
/** What of a plain request's body is read before it is decided: enough for forms and small JSON. */
export const peekBytesMax = 64 * 1024;
/** How long the beginning of a plain body is waited for. */
const peekMs = 1_000;
/** An upstream's error that has to be told inside a stream which has begun. */
const wrappedBytesMax = 16 * 1024 * 1024;

type Phase = "reading" | "inflating" | "describing" | "asked" | "held" | "rewriting" | "forwarding" | "over";

export class Exchange {
  readonly head: RequestHead;
  readonly #id: number;
  readonly #dialect: DialectExchange;
  readonly #context: HttpContext;
  readonly #sink: ExchangeSink;
  readonly #now: () => number;
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
  #holding: HoldingStream | null = null;
  #beats = 0;
  #tunnel: TunnelPassage | null = null;
  #reply: ReplyBody | null = null;
  /** Did not leave yet. */
  #replyHead: ResponseHead | null = null;
  /** All of the response came; `whole` as of `#ended`. */
  #ending: { readonly trailers: Headers | null; readonly whole: boolean } | null = null;
  /** What waits for the rewritten body. */
  #sending: { readonly permit: Permit; readonly verdict: Verdict } | null = null;
  #wrapping: { status: number; parts: Buffer[]; bytes: number } | null = null;
  #forget: () => void = () => {};
  #parted: PartsAllowed = "yes";
  #responded = false;
  #answered = false;
  #decoding = false;
  #responseTrailers: Headers | null = null;
  #replyBytes = 0;
  #maskedFields = 0;
  #status = 0;

  constructor(options: ExchangeOptions) {
    this.head = options.head;
    this.#id = options.id;
    this.#dialect = options.dialect;
    this.#context = options.context;
    this.#sink = options.sink;
    this.#now = options.now;
    this.#facts = factsOf(options.head);
    this.#startedMs = options.now();
  }

  /** Bytes held back now. */
  get heldBytes(): number {
    const reply = (this.#tunnel?.heldBytes ?? 0) + (this.#reply?.heldBytes ?? 0) + (this.#wrapping?.bytes ?? 0);
    return (this.#phase === "forwarding" ? 0 : this.#bytes) + reply;
  }

  /** False: no part of the request's body is wanted now. */
  get wantsRequest(): boolean {
    return this.#phase === "reading" || this.#phase === "forwarding" || this.#phase === "over";
  }

  get over(): boolean {
    return this.#phase === "over";
  }

  /** The server has sent all of its response, though it may still be decoded. */
  get answered(): boolean {
    return this.#answered;
  }

  /** True once something of a response has left for the client, or is kept back until it is whole. */
  get responded(): boolean {
    return this.#responded || this.#beats > 0 || this.#reply !== null;
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
      this.#forward([bytes]);
      return;
    }
    if (this.#phase === "over") return;
    this.#parts.push(bytes);
    this.#bytes += bytes.length;
    if (this.#phase !== "reading") return;
    if (this.#dialect.reads === "whole") {
      if (this.#bytes > requestBodyBytesMax) this.#refuse(tooLarge(), 413);
    } else if (this.#dialect.reads === "first") {
      if (this.#dialect.enough?.(this.#body()) !== false) this.#ask();
    } else if (this.#bytes >= peekBytesMax) this.#ask();
  }

  requestEnd(trailers: Headers | null): void {
    if (this.#phase === "over") return;
    this.#whole = true;
    this.#trailers = trailers;
    if (this.#phase === "forwarding") this.#sink.sendEnd(trailers, this.#allowed());
    else if (this.#phase === "reading") this.#decode();
  }

  /** A content coding hides the operation: it is taken away before anything is decided. */
  #decode(): void {
    const coding = this.head.headers.get("content-encoding")?.trim().toLowerCase() ?? "";
    if (this.#dialect.reads !== "whole" || coding === "" || coding === "identity" || this.#bytes === 0) {
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
    if (this.#dialect.reads === "whole" && this.#isLarge()) {
      this.#phase = "describing";
      this.#work({ do: "describe" }, this.#body());
      return;
    }
    const isGiven = this.#dialect.reads === "whole" || this.#dialect.reads === "first" || this.#whole;
    this.#described(this.#dialect.describe(isGiven ? this.#body() : null));
  }

  #described(described: Described): void {
    this.#phase = "asked";
    this.#operation = this.#fill(described);
    this.#sink.ask(this.#operation, () => this.#digest());
  }

  #isLarge(): boolean {
    return this.#bytes > largeBodyBytesMin && this.#dialect.twin !== undefined;
  }

  #work(step: LargeTask["step"], body: Buffer): void {
    const { twin } = this.#dialect;
    if (twin === undefined) throw new Error("a long body of a dialect that has no twin");
    const head = headData(this.head);
    const { targetProtocol } = this.#context;
    this.#sink.work({ family: twin.family, targetProtocol, head, state: twin.save(), body, step });
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
      this.#parts = [body];
      this.#described(twin?.unpack?.(done.described, body) ?? done.described);
    } else if (done.is === "rewritten" && phase === "rewriting" && this.#sending !== null) {
      twin?.restore(done.state);
      if (done.fields !== null) this.head.headers.replace(done.fields);
      this.#leave(this.#sending.permit, this.#sending.verdict, { body: asBuffer(done.body), isNew: done.changed });
    } else if ((done.is === "reply" || done.is === "failed") && this.#reply?.isWorking === true) {
      this.#sink.pauseReply(false);
      this.#passed(() => this.#reply?.worked(done) === true);
    }
  }

  #fill(described: Described): Operation {
    const { body } = this.head;
    const known = this.#whole ? this.#bytes : body.kind === "length" ? body.bytes : Number.MAX_SAFE_INTEGER;
    return requestOperation(described, this.head, this.#facts, this.#context.destination, known);
  }

  decided(decision: Decision, approvalId: string | null, retryAfterSeconds: number | null = null): void {
    if (this.#tunnel !== null && this.#phase === "forwarding") {
      this.#tunnel.decisions?.decided(decision, approvalId, retryAfterSeconds);
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
      this.#holding = this.#dialect.holding();
      if (this.#holding !== null) this.#sink.wake(firstBeatMs);
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
      operationId: this.#id,
      operation: recordedOperation(this.#operation, verdict, this.#context),
      verdict,
      approvalId: this.#approvalId,
    });
  }

  #send(permit: Permit, verdict: Verdict): void {
    this.#forget();
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
    if (this.#isLarge() && (verdict.transforms.redactions?.length ?? 0) > 0) {
      this.#phase = "rewriting";
      this.#sending = { permit, verdict };
      this.#work({ do: "rewrite", verdict }, body);
      return;
    }
    const rewritten = this.#dialect.rewrite(body, verdict);
    this.#leave(permit, verdict, { body: rewritten, isNew: rewritten !== body });
  }

  /** `whole`: the request's body as the verdict lets it go, where it is here. */
  #leave(permit: Permit, verdict: Verdict, whole: { readonly body: Buffer; readonly isNew: boolean } | null): void {
    this.#sending = null;
    this.#permit = permit;
    this.#phase = "forwarding";
    const { head } = this;
    const { headers } = head;
    const body = whole?.body ?? null;
    if (body !== null) {
      // A length that is written anew has to be right, and a body that was decoded lost its own.
      if ((whole?.isNew === true || headers.changed) && this.#dialect.forward === undefined) {
        setLength(head, {
          kind: body.length === 0 && head.body.kind === "none" ? "none" : "length",
          bytes: body.length,
        });
      }
      if (headers.has("expect")) headers.delete("expect");
    }
    // What a dialect forwards part by part may become longer or shorter.
    if (this.#dialect.forward !== undefined && headers.has("content-length")) {
      setLength(head, { kind: "chunked" });
    }
    this.#parted = askReadable(headers, {
      credential: this.#context.credential,
      isMasked: verdict.transforms.masks.length > 0,
      isWhole: this.#dialect.reads === "whole",
      isTunnelRead: this.#dialect.tunnel !== undefined,
    });
    const target =
      this.#context.credential === null ? null : applyCredential(head, body, this.#context.credential, this.#now());
    this.#sink.sendHead(head, target, permit);
    const parts = body === null ? this.#parts : [body];
    this.#parts = [];
    this.#bytes = 0;
    this.#forward(parts);
    if (this.#whole && this.#phase === "forwarding") this.#sink.sendEnd(this.#trailers, permit);
  }

  /** The request's body on its way; the dialect may look at each part of it. */
  #forward(parts: readonly Buffer[]): void {
    const permit = this.#allowed();
    for (const part of parts) {
      let out = part;
      try {
        out = this.#dialect.forward?.(part, permit.verdict) ?? part;
      } catch (error) {
        if (!(error instanceof WeirError)) throw error;
        this.upstreamFailed(error.code, error.message);
        return;
      }
      if (out.length > 0) this.#sink.sendBody(out, permit);
    }
  }

  /** The response's head. A 1xx is passed on and another head follows. */
  responseHead(head: ResponseHead): void {
    if (this.#phase !== "forwarding") return;
    const permit = this.#allowed();
    if (this.#context.credential !== null) scrubHead(this.#context.credential, head);
    if (head.status === 101) {
      // Another protocol than the one that was asked for, and decided, is none of the client's (RFC 9110 §7.8).
      const asked = this.head.headers.get("upgrade")?.toLowerCase() ?? null;
      if (asked === null || head.headers.get("upgrade")?.toLowerCase() !== asked) {
        this.#fail("WEIR_FRAME_INVALID", "The server changes to a protocol that the client did not ask for.");
        return;
      }
      if (!this.#openTunnel(permit.verdict)) return;
      this.#status = 101;
      this.#responded = true;
      this.#sink.replyHead(head);
      this.#sink.tunnel(permit.verdict, permit);
      return;
    }
    if (head.status < 200) {
      if (this.#beats === 0) this.#sink.replyHead(head);
      return;
    }
    this.#status = head.status;
    this.#maskedFields += this.#dialect.fields?.(head.headers, permit.verdict) ?? 0;
    const begun = this.#beats > 0;
    const isStream = head.headers.get("content-type")?.toLowerCase().startsWith("text/event-stream") === true;
    if (!this.#openReaders(head, permit.verdict)) return;
    if (begun && !(head.status < 300 && isStream)) {
      this.#wrapping = { status: head.status, parts: [], bytes: 0 };
      return;
    }
    if (begun) this.#responded = true;
    else this.#replyHead = head;
    // Nothing of a reply that is changed as a whole leaves before its end: until then an error can be told in its place.
    if (this.#reply?.isWhole !== true) this.#sendReplyHead();
  }

  #sendReplyHead(): void {
    const head = this.#replyHead;
    if (head === null) return;
    this.#replyHead = null;
    this.#responded = true;
    this.#sink.replyHead(head);
  }

  /** False: frames of another protocol would have to be masked and cannot be read; the client was told. */
  #openTunnel(verdict: Verdict): boolean {
    const { masks, redactions = [] } = verdict.transforms;
    const { tunnel } = this.#dialect;
    const changes = masks.length > 0 || redactions.length > 0;
    const reader =
      tunnel !== undefined || redactions.length > 0 || !changes ? null : this.#context.tunnel(this.head, verdict);
    if (tunnel === undefined && changes && reader === null) {
      this.#fail("WEIR_MASK_IMPOSSIBLE", unreadTunnel);
      return false;
    }
    const upgrade = this.head.headers.get("upgrade")?.toLowerCase() ?? "";
    this.#tunnel = new TunnelPassage({
      reader,
      scrubber: this.#context.credential === null ? null : tunnelScrubberFor(this.#context.credential, upgrade),
      decisions:
        tunnel === undefined
          ? null
          : (tell) =>
              new TunnelDecisions(tunnel(verdict), {
                sink: this.#sink,
                permit: this.#allowed(),
                now: this.#now,
                fill: (described, bytes) => ({ ...this.#fill(described), bytes }),
                masking: this.#context,
                tell,
              }),
      isUnreadWebSocket: tunnel === undefined && upgrade === "websocket",
      out: (bytes) => this.#out(bytes),
    });
    return true;
  }

  /** What came back after a 101. */
  tunnelled(bytes: Buffer): void {
    if (this.#phase !== "forwarding") return;
    try {
      this.#tunnel?.server(bytes);
    } catch (error) {
      this.#unreadable(error);
      return;
    }
    if (this.#tunnel?.over === true) this.#finish(null);
  }

  /** What the client sends after a 101. False: it is not read here, and passes as it is. */
  tunnelSent(bytes: Buffer): boolean {
    if (this.#tunnel?.decisions == null || this.#phase !== "forwarding") return false;
    try {
      this.#tunnel.client(bytes);
    } catch (error) {
      this.#unreadable(error);
    }
    return true;
  }

  /** False: what has to be read cannot be, and the client was told. */
  #openReaders(head: ResponseHead, verdict: Verdict): boolean {
    if (head.body.kind === "none") return true;
    const step: LargeTask["step"] = { do: "reply", verdict, reply: replyHeadData(head) };
    const reader = this.#dialect.reply(head, verdict);
    const scrubber = this.#context.credential === null ? null : scrubberFor(this.#context.credential, isPart(head));
    if (reader === null && scrubber === null) return true;
    const isMasked = reader !== null && verdict.transforms.masks.length > 0;
    if (isPart(head) && (isMasked || (scrubber !== null && this.#parted === "no"))) {
      this.#fail("WEIR_MASK_IMPOSSIBLE", cutPart);
      return false;
    }
    const coding = head.headers.get("content-encoding")?.trim().toLowerCase() ?? "";
    if (coding !== "" && coding !== "identity") {
      // Asked for identity, some servers send what they like.
      if (!this.#sink.decode(coding)) {
        this.#fail("WEIR_MASK_IMPOSSIBLE", `The response is encoded as ${coding.slice(0, 20)}, which is not known.`);
        return false;
      }
      this.#decoding = true;
      head.headers.delete("content-encoding");
    }
    fitHead(head, { isRead: reader !== null, isResized: reader?.preservesLength === false || this.#decoding });
    this.#reply = new ReplyBody({
      reader,
      scrubber,
      handOut: (body) => {
        this.#sink.pauseReply(true);
        this.#work(step, body);
      },
      out: (bytes) => this.#out(bytes),
    });
    return true;
  }

  responseBody(bytes: Buffer): void {
    if (this.#phase !== "forwarding") return;
    if (this.#decoding) this.#sink.decodeBody(bytes);
    else this.#read(bytes);
  }

  #read(bytes: Buffer): void {
    const reply = this.#reply;
    if (reply === null) {
      this.#out(bytes);
      return;
    }
    try {
      reply.push(bytes);
    } catch (error) {
      this.#unreadable(error);
      return;
    }
    if (reply.over) this.#ended(null, false);
  }

  /** What cannot be read cannot be masked: the response ends here, and the client sees that it is not whole. */
  #unreadable(error: unknown): void {
    if (!(error instanceof WeirError)) throw error;
    this.upstreamFailed(error.code, error.message);
  }

  /** Decoded bytes of the response; null: all of it was decoded. */
  decoded(bytes: Buffer | null): void {
    if (this.#phase !== "forwarding") return;
    if (bytes === null) this.#ended(this.#responseTrailers);
    else this.#read(bytes);
  }

  responseEnd(trailers: Headers | null): void {
    if (this.#phase !== "forwarding") return;
    this.#answered = true;
    if (trailers !== null) {
      if (this.#context.credential !== null) scrubTrailers(this.#context.credential, trailers);
      this.#maskedFields += this.#dialect.fields?.(trailers, this.#allowed().verdict) ?? 0;
    }
    this.#responseTrailers = trailers;
    if (this.#decoding) this.#sink.decodeEnd();
    else this.#ended(trailers);
  }

  /** `whole`: the server has sent all of it, and its connection may carry another. */
  #ended(trailers: Headers | null, whole = true): void {
    this.#ending = { trailers, whole };
    this.#passed(() => this.#reply?.end() !== false);
  }

  /** `pass` says whether all of the response has left. */
  #passed(pass: () => boolean): void {
    try {
      if (!pass()) return;
    } catch (error) {
      this.#unreadable(error);
      return;
    }
    const { trailers, whole } = this.#ending ?? { trailers: null, whole: false };
    const wrapping = this.#wrapping;
    if (wrapping !== null && this.#holding !== null) {
      this.#wrapping = null;
      this.#out(this.#holding.wrap(wrapping.status, Buffer.concat(wrapping.parts)));
    }
    this.#sendReplyHead();
    this.#sink.replyEnd(wrapping === null ? trailers : null);
    this.#finish(null);
    this.#sink.done(whole);
  }

  #out(bytes: Buffer): void {
    if (bytes.length === 0) return;
    if (this.#wrapping !== null) {
      if (this.#wrapping.bytes + bytes.length > wrappedBytesMax)
        throw new WeirError("WEIR_LIMIT_REACHED", `The answer is longer than ${wrappedBytesMax} bytes.`);
      this.#wrapping.parts.push(bytes);
      this.#wrapping.bytes += bytes.length;
      return;
    }
    this.#replyBytes += bytes.length;
    this.#sendReplyHead();
    this.#sink.replyBody(bytes);
  }

  /** The other protocol after a 101 ended. */
  tunnelEnded(farewell = ""): void {
    if (this.#phase !== "forwarding") return;
    this.#tunnel?.end(farewell);
    this.#finish(null);
  }

  tick(): void {
    // A body that comes slowly is decided by what is there: its sender may wait for the answer.
    if (this.#phase === "reading" && (this.#dialect.reads === "peek" || this.#dialect.waits === false)) {
      this.#ask();
      return;
    }
    const holding = this.#holding;
    if (this.#phase !== "held" || holding === null) return;
    if (this.#beats === 0) {
      this.#sink.replyHead(streamHead(holding.head, this.head.version));
    }
    this.#out(holding.beat(this.#beats));
    this.#beats += 1;
    this.#sink.wake(beatMs);
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
    if (this.#responded) {
      this.#finish({ code, message });
      this.#sink.done(false);
      return;
    }
    this.#fail(code, message);
  }

  /** The agent ends it: shutdown, revocation, a spool that takes nothing. */
  terminate(code: string, reason: string): void {
    if (this.#phase === "held" || this.#phase === "asked") this.#sink.withdraw(reason);
    if (this.#phase === "over" || this.#responded) this.#finish({ code, message: reason });
    else this.#refuse(failure(code, reason), code === "WEIR_IDENTITY_REVOKED" ? 403 : 503, false);
  }

  #fail(code: string, message: string): void {
    this.#refuse(failure(code, message), code === "WEIR_DENIED" ? 403 : 502, false);
  }

  /** `reusable`: the upstream connection was not touched, and may carry the next request. */
  #refuse(refusal: Refusal, status?: number, reusable = true): void {
    this.#parts = [];
    this.#bytes = 0;
    this.#wrapping = null;
    this.#replyHead = null;
    if (this.#beats > 0 && this.#holding !== null) {
      this.#out(this.#holding.refuse(refusal));
      this.#sink.replyEnd(null);
    } else {
      const own = this.#dialect.refuse(refusal);
      this.#status = status !== undefined && own.status >= 400 ? status : own.status;
      this.#sink.reply({
        status: this.#status,
        headers: [
          ...own.headers,
          ["weir-code", refusal.code],
          ...(refusal.rule === "" ? [] : [["weir-rule", refusal.rule] as const]),
        ],
        body: own.body,
      });
    }
    this.#finish({ code: refusal.code, message: refusal.message });
    this.#sink.done(reusable);
  }

  #finish(error: { code: string; message: string } | null): void {
    if (this.#phase === "over") return;
    this.#phase = "over";
    this.#tunnel?.decisions?.close(error?.message ?? "the connection was closed");
    this.#forget();
    this.#parts = [];
    if (!this.#recorded) return;
    const summary = (this.#reply ?? this.#tunnel)?.summary() ?? null;
    this.#sink.record({
      type: "result",
      operationId: this.#id,
      tag: String(this.#status),
      rows: 0,
      bytes: this.#replyBytes,
      masked: ((this.#reply ?? this.#tunnel)?.masked ?? 0) + this.#maskedFields,
      durationMs: this.#now() - this.#startedMs,
      error,
      details: resultDetails(this.#status, summary, this.#permit?.verdict.record === "result"),
    });
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
