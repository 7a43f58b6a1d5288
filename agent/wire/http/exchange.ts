/**
 * One HTTP request and its response: read as far as the operation needs, asked about, refused or sent on, and its
 * response masked and recorded. It knows no framing: parts of messages come in, and leave by the sink.
 */
import { createHash } from "node:crypto";
import type { HttpFacts, Operation } from "../../core/operation.ts";
import type { Decision, Permit, Verdict } from "../../core/verdict.ts";
import { WeirError } from "../../errors.ts";
import type { HttpContext } from "./context.ts";
import { applyCredential, scrubberFor, scrubHead, scrubTrailers, tunnelScrubberFor } from "./credential.ts";
import type { Described, DialectExchange, HoldingStream, Refusal, ReplyReader } from "./dialect.ts";
import { requestBodyBytesMax } from "./dialect.ts";
import type { ExchangeOptions, ExchangeSink } from "./exchange-sink.ts";
import { closeFrame, FrameBorder } from "./frame-border.ts";
import { type BodyLength, Headers, type RequestHead, type ResponseHead } from "./message.ts";
import { askWhole, isPart, type PartsAllowed } from "./ranges.ts";
import { recordedOperation, resultDetails } from "./recorded.ts";
import { denial, failure, noConnect } from "./refusals.ts";
import { factsOf, traitsOf } from "./request-facts.ts";
import { TunnelDecisions } from "./tunnel-decisions.ts";

/** A held request whose client waits for a stream gets its first sign of life after this, the others after `beatMs`. */
const firstBeatMs = 10_000;
const beatMs = 15_000;
/** What of a plain request's body is read before it is decided: enough for forms and small JSON. */
export const peekBytesMax = 64 * 1024;
/** How long the beginning of a plain body is waited for. */
const peekMs = 1_000;
/** An upstream's error that has to be told inside a stream which has begun. */
const wrappedBytesMax = 16 * 1024 * 1024;

type Phase = "reading" | "inflating" | "asked" | "held" | "forwarding" | "over";

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
  #tunnel: TunnelDecisions | null = null;
  /** Of a WebSocket that is not read: where a last word may stand. */
  #border: FrameBorder | null = null;
  #reader: ReplyReader | null = null;
  #scrubber: ReplyReader | null = null;
  #wrapping: { status: number; parts: Buffer[]; bytes: number } | null = null;
  #forget: () => void = () => {};
  /** Whether the answer may be a part of the resource. */
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
    const tunnel = this.#tunnel?.heldBytes ?? 0;
    const reply =
      tunnel + (this.#reader?.heldBytes ?? 0) + (this.#scrubber?.heldBytes ?? 0) + (this.#wrapping?.bytes ?? 0);
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

  /** True once something of a response has left for the client. */
  get responded(): boolean {
    return this.#responded || this.#beats > 0;
  }

  start(): void {
    const { body, headers } = this.head;
    const expects = headers.get("expect")?.toLowerCase() === "100-continue";
    if (body.kind === "none") this.#whole = true;
    const needsAll = this.#dialect.reads === "whole";
    if (needsAll && body.kind === "length" && body.bytes > requestBodyBytesMax) {
      this.#refuseTooLarge();
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
      if (this.#bytes > requestBodyBytesMax) this.#refuseTooLarge();
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
    this.#phase = "asked";
    const isGiven = this.#dialect.reads === "whole" || this.#dialect.reads === "first" || this.#whole;
    const described = this.#dialect.describe(isGiven ? this.#body() : null);
    this.#operation = this.#fill(described);
    this.#sink.ask(this.#operation, () => this.#digest());
  }

  #fill(described: Described): Operation {
    const { body } = this.head;
    const known = this.#whole ? this.#bytes : body.kind === "length" ? body.bytes : Number.MAX_SAFE_INTEGER;
    const traits = [...described.traits, ...traitsOf(this.head, this.#context.destination)];
    if (known === Number.MAX_SAFE_INTEGER) traits.push("length-unknown");
    return {
      kind: "request",
      user: "",
      database: "",
      relations: none,
      columns: none,
      functions: none,
      parameters: none,
      ...described,
      traits,
      bytes: known,
      http: this.#facts,
    };
  }

  decided(decision: Decision, approvalId: string | null, retryAfterSeconds: number | null = null): void {
    if (this.#tunnel !== null && this.#phase === "forwarding") {
      this.#tunnel.decided(decision, approvalId, retryAfterSeconds);
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
    this.#permit = permit;
    this.#phase = "forwarding";
    const { headers } = head;
    let body: Buffer | null = this.#whole ? this.#body() : null;
    if (body !== null) {
      const rewritten = this.#dialect.rewrite(body, verdict);
      // A length that is written anew has to be right, and a body that was decoded lost its own.
      if ((rewritten !== body || headers.changed) && this.#dialect.forward === undefined) {
        body = rewritten;
        this.#setLength({
          kind: body.length === 0 && head.body.kind === "none" ? "none" : "length",
          bytes: body.length,
        });
      }
      if (headers.has("expect")) headers.delete("expect");
    }
    // What a dialect forwards part by part may become longer or shorter.
    if (this.#dialect.forward !== undefined && headers.has("content-length")) {
      this.#setLength({ kind: "chunked" });
      headers.delete("content-length");
      if (head.version !== "2") headers.set("transfer-encoding", "chunked");
    }
    if (verdict.transforms.masks.length > 0 || this.#context.credential !== null || this.#dialect.reads === "whole")
      this.#askIdentity();
    this.#parted = askWhole(headers, this.#context.credential, verdict.transforms.masks.length > 0);
    // Compressed messages could not be read.
    const isRead =
      verdict.transforms.masks.length > 0 || this.#context.credential !== null || this.#dialect.tunnel !== undefined;
    if (isRead && headers.has("sec-websocket-extensions")) headers.delete("sec-websocket-extensions");
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

  /** What is masked has to be readable: no content coding is asked for. */
  #askIdentity(): void {
    for (const name of ["accept-encoding", "grpc-accept-encoding"])
      if (this.head.headers.has(name)) this.head.headers.set(name, "identity");
  }

  #setLength(body: BodyLength): void {
    const { headers } = this.head;
    this.head.body = body;
    headers.delete("transfer-encoding");
    if (body.kind === "length") headers.set("content-length", String(body.bytes));
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
    this.#responded = true;
    if (!begun) this.#sink.replyHead(head);
  }

  /** False: frames of another protocol would have to be masked and cannot be read; the client was told. */
  #openTunnel(verdict: Verdict): boolean {
    const { masks, redactions = [] } = verdict.transforms;
    this.#scrubber =
      this.#context.credential === null
        ? null
        : tunnelScrubberFor(this.#context.credential, this.head.headers.get("upgrade")?.toLowerCase() ?? "");
    if (this.#dialect.tunnel !== undefined) {
      this.#tunnel = new TunnelDecisions(this.#dialect.tunnel(verdict), {
        sink: this.#sink,
        permit: this.#allowed(),
        now: this.#now,
        fill: (described, bytes) => ({ ...this.#fill(described), bytes }),
        refusal: denial,
        recorded: (operation, decided) => recordedOperation(operation, decided, this.#context),
        tell: (bytes) => this.#tell(bytes),
      });
      this.#reader = this.#tunnel.reply;
      return true;
    }
    if (this.head.headers.get("upgrade")?.toLowerCase() === "websocket") this.#border = new FrameBorder();
    if (masks.length === 0 && redactions.length === 0) return true;
    this.#reader = redactions.length > 0 ? null : (this.#context.tunnel(this.head, verdict) ?? null);
    if (this.#reader !== null) return true;
    this.#fail("WEIR_MASK_IMPOSSIBLE", "The server changes the protocol, and what it carries would have to be masked.");
    return false;
  }

  /** What came back after a 101. */
  tunnelled(bytes: Buffer): void {
    if (this.#phase !== "forwarding") return;
    try {
      this.#tell(this.#reader === null ? bytes : this.#reader.push(bytes));
      this.#tunnel?.answered();
    } catch (error) {
      this.#unreadable(error);
      return;
    }
    if (this.#reader?.over === true) this.#finish(null);
  }

  /** Inside of a tunnel, whoever says it: in order behind what is held back. */
  #tell(bytes: Buffer): void {
    this.#out(this.#scrubber === null ? bytes : this.#scrubber.push(bytes));
  }

  /** What the client sends after a 101. False: it is not read here, and passes as it is. */
  tunnelSent(bytes: Buffer): boolean {
    if (this.#tunnel === null || this.#phase !== "forwarding") return false;
    try {
      this.#tunnel.push(bytes);
    } catch (error) {
      if (error instanceof WeirError) this.#tell(this.#tunnel.farewell(`Weir: ${error.message}`));
      this.#unreadable(error);
    }
    return true;
  }

  /** False: what has to be read cannot be, and the client was told. */
  #openReaders(head: ResponseHead, verdict: Verdict): boolean {
    if (head.body.kind === "none") return true;
    this.#reader = this.#dialect.reply(head, verdict);
    const part = isPart(head);
    this.#scrubber = this.#context.credential === null ? null : scrubberFor(this.#context.credential, part);
    if (this.#reader === null && this.#scrubber === null) return true;
    const isCut = this.#reader !== null && verdict.transforms.masks.length > 0;
    if (part && (isCut || (this.#scrubber !== null && this.#parted === "no"))) {
      this.#reader = null;
      this.#scrubber = null;
      this.#fail("WEIR_MASK_IMPOSSIBLE", "The server answers with a part, at whose ends a value may be cut.");
      return false;
    }
    const coding = head.headers.get("content-encoding")?.trim().toLowerCase() ?? "";
    if (coding !== "" && coding !== "identity") {
      // Asked for identity, some servers send what they like.
      if (!this.#sink.decode(coding)) {
        this.#reader = null;
        this.#scrubber = null;
        this.#fail("WEIR_MASK_IMPOSSIBLE", `The response is encoded as ${coding.slice(0, 20)}, which is not known.`);
        return false;
      }
      this.#decoding = true;
      head.headers.delete("content-encoding");
    }
    if ((this.#reader?.preservesLength === false || this.#decoding) && head.body.kind === "length") {
      head.headers.delete("content-length");
      head.body = head.version === "1.0" ? { kind: "close" } : { kind: "chunked" };
      if (head.version === "1.1") head.headers.set("transfer-encoding", "chunked");
    }
    if (this.#reader !== null) for (const name of digestFields) head.headers.delete(name);
    return true;
  }

  responseBody(bytes: Buffer): void {
    if (this.#phase !== "forwarding") return;
    if (this.#decoding) this.#sink.decodeBody(bytes);
    else this.#read(bytes);
  }

  #read(bytes: Buffer): void {
    try {
      const read = this.#reader === null ? bytes : this.#reader.push(bytes);
      this.#out(this.#scrubber === null ? read : this.#scrubber.push(read));
    } catch (error) {
      this.#unreadable(error);
      return;
    }
    if (this.#reader?.over === true) this.#ended(null, false);
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
    try {
      const last = this.#reader?.end() ?? empty;
      if (this.#scrubber === null) this.#out(last);
      else {
        this.#out(this.#scrubber.push(last));
        this.#out(this.#scrubber.end());
      }
    } catch (error) {
      this.#unreadable(error);
      return;
    }
    const wrapping = this.#wrapping;
    if (wrapping !== null && this.#holding !== null) {
      this.#wrapping = null;
      this.#out(this.#holding.wrap(wrapping.status, Buffer.concat(wrapping.parts)));
    }
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
    this.#border?.push(bytes);
    this.#sink.replyBody(bytes);
  }

  /** The other protocol after a 101 ended. */
  tunnelEnded(farewell = ""): void {
    if (this.#phase !== "forwarding") return;
    this.#tunnel?.close(farewell === "" ? "the connection was closed" : farewell);
    const isTold = farewell !== "" && this.#tunnel !== null;
    this.#tell(isTold ? (this.#tunnel as TunnelDecisions).farewell(farewell) : (this.#reader?.end() ?? empty));
    if (this.#scrubber !== null) this.#out(this.#scrubber.end());
    // In the middle of a frame of the server there is no word that the client would understand.
    if (farewell !== "" && this.#border?.isOpen === true) this.#out(closeFrame(farewell));
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
      const fields = holding.head.headers.flat();
      const headers = new Headers([
        ...fields,
        ...(this.head.version === "1.1" ? ["transfer-encoding", "chunked"] : []),
      ]);
      this.#sink.replyHead({
        status: holding.head.status,
        reason: "OK",
        headers,
        version: "1.1",
        body: this.head.version === "1.0" ? { kind: "close" } : { kind: "chunked" },
        raw: null,
      });
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
    // A later message of a request may be denied when the first has left.
    const isDenied = code === "WEIR_DENIED";
    this.#refuse({ ...failure(code, message), kind: isDenied ? "denied" : "failed" }, isDenied ? 403 : 502, false);
  }

  #refuseTooLarge(): void {
    this.#refuse(
      failure(
        "WEIR_FRAME_TOO_LARGE",
        `The request's body is longer than ${requestBodyBytesMax} bytes, and has to be read whole to be decided.`,
      ),
      413,
    );
  }

  /** `reusable`: the upstream connection was not touched, and may carry the next request. */
  #refuse(refusal: Refusal, status?: number, reusable = true): void {
    this.#parts = [];
    this.#bytes = 0;
    this.#wrapping = null;
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
    this.#tunnel?.close(error?.message ?? "the connection was closed");
    this.#forget();
    this.#parts = [];
    if (!this.#recorded) return;
    const details = resultDetails(this.#status, this.#reader, this.#permit?.verdict.record === "result");
    this.#sink.record({
      type: "result",
      operationId: this.#id,
      tag: String(this.#status),
      rows: 0,
      bytes: this.#replyBytes,
      masked: (this.#reader?.masked ?? 0) + (this.#scrubber?.masked ?? 0) + this.#maskedFields,
      durationMs: this.#now() - this.#startedMs,
      error,
      details,
    });
  }

  /** Who asks for the same thing again, with the same bytes, has the same digest; the policy's session adds who it is. */
  #digest(): string {
    const { method, host, path, query } = this.#facts;
    const key = this.head.headers.get("idempotency-key") ?? "";
    return createHash("sha256")
      .update(JSON.stringify([method, host, path, query, key]))
      .update(this.#dialect.retryKey ?? this.#body())
      .digest("hex");
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

const none: readonly never[] = Object.freeze([]);
const empty: Buffer = Buffer.alloc(0);
/** Digests of a body that was changed are wrong (RFC 9530, RFC 1864). */
const digestFields = ["content-md5", "digest", "content-digest", "repr-digest", "etag"];
