/**
 * What a client is told of its request, until it is told all: signs of life while it is held, the server's response as
 * its dialect lets it pass, the bytes of a tunnel, or a refusal in their place.
 */
import type { EntryBody } from "../../core/record.ts";
import type { Permit, Verdict } from "../../core/verdict.ts";
import { type ErrorCode, WeirError } from "../../errors.ts";
import { scrubberFor, scrubHead, scrubTrailers, tunnelScrubberFor } from "./credential.ts";
import type { HoldingStream, Refusal } from "./dialect.ts";
import type { ExchangeOptions } from "./exchange-sink.ts";
import { handOut, type LargeFailure, type LargeMessage, type LargeReplied, replyHeadData } from "./large-body.ts";
import { contentCoding, fitHead, type Headers, type ResponseHead, streamHead } from "./message.ts";
import { cutPart, isPart, type PartsAllowed, unreadTunnel } from "./ranges.ts";
import { resultDetails } from "./recorded.ts";
import { ReplyBody } from "./reply-body.ts";
import type { TunnelDecisions, TunnelDecisionsOptions } from "./tunnel-decisions.ts";
import { TunnelPassage } from "./tunnel-passage.ts";

/** A held request whose client waits for a stream gets its first sign of life after this, the others after `beatMs`. */
const firstBeatMs = 10_000;
const beatMs = 15_000;
/** An upstream's error that has to be told inside a stream which has begun. */
const wrappedBytesMax = 16 * 1024 * 1024;

/** Why a response does not pass; nothing of it has left. */
export interface Impassable {
  readonly code: ErrorCode;
  readonly message: string;
}

export class ReplyPassage {
  readonly #exchange: ExchangeOptions;
  #holding: HoldingStream | null = null;
  #beats = 0;
  #tunnel: TunnelPassage | null = null;
  #body: ReplyBody | null = null;
  /** Did not leave yet. */
  #head: ResponseHead | null = null;
  #begun = false;
  #answered = false;
  #decoding = false;
  #trailers: Headers | null = null;
  #whole = false;
  #wrapping: { status: number; parts: Buffer[]; bytes: number } | null = null;
  #status = 0;
  #bytes = 0;
  #maskedFields = 0;

  constructor(exchange: ExchangeOptions) {
    this.#exchange = exchange;
  }

  get heldBytes(): number {
    return (this.#tunnel?.heldBytes ?? 0) + (this.#body?.heldBytes ?? 0) + (this.#wrapping?.bytes ?? 0);
  }

  /** The server has sent all of it, though it may still be decoded. */
  get answered(): boolean {
    return this.#answered;
  }

  /** The server's response has left, or the first of it. */
  get begun(): boolean {
    return this.#begun;
  }

  /** Something has left, or is kept back until it is whole. */
  get responded(): boolean {
    return this.#begun || this.#beats > 0 || this.#body !== null;
  }

  /** The server has sent all of what was passed on, and its connection may carry another. */
  get whole(): boolean {
    return this.#whole;
  }

  get isTunnel(): boolean {
    return this.#tunnel !== null;
  }

  /** The messages of the client in a tunnel, where they are read. */
  get decisions(): TunnelDecisions | null {
    return this.#tunnel?.decisions ?? null;
  }

  /** Until something else is said the client gets signs of life, if it understands them. */
  hold(): void {
    this.#holding = this.#exchange.dialect.holding();
    if (this.#holding !== null) this.#exchange.sink.wake(firstBeatMs);
  }

  beat(): void {
    const holding = this.#holding;
    if (holding === null) return;
    const { sink, head } = this.#exchange;
    if (this.#beats === 0) sink.replyHead(streamHead(holding.head, head.version));
    this.#out(holding.beat(this.#beats));
    this.#beats += 1;
    sink.wake(beatMs);
  }

  /** A 1xx is passed on and another head follows. */
  head(head: ResponseHead, verdict: Verdict, parted: PartsAllowed): Impassable | null {
    const { context, dialect, sink } = this.#exchange;
    if (context.credential !== null) scrubHead(context.credential, head);
    const begun = this.#beats > 0;
    if (head.status < 200) {
      if (!begun) sink.replyHead(head);
      return null;
    }
    this.#status = head.status;
    this.#maskedFields += dialect.fields?.(head.headers, verdict) ?? 0;
    const isStream = head.headers.get("content-type")?.toLowerCase().startsWith("text/event-stream") === true;
    const problem = this.#openReaders(head, verdict, parted);
    if (problem !== null) return problem;
    if (begun && !(head.status < 300 && isStream)) {
      this.#wrapping = { status: head.status, parts: [], bytes: 0 };
      return null;
    }
    if (begun) this.#begun = true;
    else this.#head = head;
    // Nothing of a reply that is changed as a whole leaves before its end: until then an error can be told in its place.
    if (this.#body?.isWhole !== true) this.#sendHead();
    return null;
  }

  #sendHead(): void {
    const head = this.#head;
    if (head === null) return;
    this.#head = null;
    this.#begun = true;
    this.#exchange.sink.replyHead(head);
  }

  #openReaders(head: ResponseHead, verdict: Verdict, parted: PartsAllowed): Impassable | null {
    if (head.body.kind === "none") return null;
    const { context, dialect, sink } = this.#exchange;
    const reader = dialect.reply(head, verdict);
    const scrubber = context.credential === null ? null : scrubberFor(context.credential, isPart(head));
    if (reader === null && scrubber === null) return null;
    const handed = replyHeadData(head);
    const isMasked = reader !== null && verdict.transforms.masks.length > 0;
    if (isPart(head) && (isMasked || (scrubber !== null && parted === "no")))
      return { code: "WEIR_MASK_IMPOSSIBLE", message: cutPart };
    const coding = contentCoding(head.headers);
    if (coding !== "") {
      // Asked for identity, some servers send what they like.
      if (!sink.decode(coding)) {
        const message = `The response is encoded as ${coding.slice(0, 20)}, which is not known.`;
        return { code: "WEIR_MASK_IMPOSSIBLE", message };
      }
      this.#decoding = true;
      head.headers.delete("content-encoding");
    }
    fitHead(head, { isRead: reader !== null, isResized: reader?.preservesLength === false || this.#decoding });
    this.#body = new ReplyBody({
      reader,
      scrubber,
      handOut: (body, stream) => handOut(this.#exchange, { do: "reply", verdict, reply: handed, stream }, body),
      out: (bytes) => this.#out(bytes),
    });
    return null;
  }

  /** A 101: both ways are another protocol from now on. `fill`: an operation of its messages. */
  openTunnel(head: ResponseHead, permit: Permit, fill: TunnelDecisionsOptions["fill"]): Impassable | null {
    const { head: request, context, dialect, sink, now } = this.#exchange;
    const { credential } = context;
    if (credential !== null) scrubHead(credential, head);
    // Another protocol than the one that was asked for, and decided, is none of the client's (RFC 9110 §7.8).
    const asked = request.headers.get("upgrade")?.toLowerCase() ?? null;
    if (asked === null || head.headers.get("upgrade")?.toLowerCase() !== asked) {
      const message = "The server changes to a protocol that the client did not ask for.";
      return { code: "WEIR_FRAME_INVALID", message };
    }
    const { verdict } = permit;
    const { masks, redactions = [] } = verdict.transforms;
    const { tunnel } = dialect;
    const changes = masks.length > 0 || redactions.length > 0;
    const reader = tunnel !== undefined || redactions.length > 0 || !changes ? null : context.tunnel(request, verdict);
    if (tunnel === undefined && changes && reader === null)
      return { code: "WEIR_MASK_IMPOSSIBLE", message: unreadTunnel };
    this.#tunnel = new TunnelPassage({
      reader,
      scrubber: credential === null ? null : tunnelScrubberFor(credential, asked),
      tunnel: tunnel?.(verdict) ?? null,
      decisions: {
        ...{ sink, permit, now, fill, masking: context },
        handOut: (body, tunnel, redact) => handOut(this.#exchange, { do: "message", verdict, tunnel, redact }, body),
      },
      handOut: (body, stream) => handOut(this.#exchange, { do: "reply", verdict, reply: null, stream }, body),
      isUnreadWebSocket: tunnel === undefined && asked === "websocket",
      out: (bytes) => this.#out(bytes),
    });
    this.#status = 101;
    this.#begun = true;
    sink.replyHead(head);
    sink.tunnel(verdict, permit);
    return null;
  }

  /** What came back after a 101. True: nothing more of it is worth reading. */
  tunnelled(bytes: Buffer): boolean {
    this.#tunnel?.server(bytes);
    return this.#tunnel?.over === true;
  }

  /** What the client sends after a 101, where it is read. */
  tunnelSent(bytes: Buffer): void {
    this.#tunnel?.client(bytes);
  }

  /** A long message of the client's is back. */
  messageWorked(done: LargeMessage | LargeFailure): void {
    this.#tunnel?.clientWorked(done);
  }

  tunnelEnded(farewell: string): void {
    this.#tunnel?.end(farewell);
  }

  /** True, here and beneath: all of the response has left. A WeirError: it ends here, and is not whole. */
  push(bytes: Buffer): boolean {
    if (!this.#decoding) return this.#read(bytes);
    this.#exchange.sink.decodeBody(bytes);
    return false;
  }

  end(trailers: Headers | null, verdict: Verdict): boolean {
    const { context, dialect, sink } = this.#exchange;
    this.#answered = true;
    if (trailers !== null) {
      if (context.credential !== null) scrubTrailers(context.credential, trailers);
      this.#maskedFields += dialect.fields?.(trailers, verdict) ?? 0;
    }
    this.#trailers = trailers;
    if (!this.#decoding) return this.#ended(true);
    sink.decodeEnd();
    return false;
  }

  /** Decoded bytes of the response; null: all of it was decoded. */
  decoded(bytes: Buffer | null): boolean {
    return bytes === null ? this.#ended(true) : this.#read(bytes);
  }

  /** A long part is back. */
  worked(done: LargeReplied): boolean {
    const body = this.#body;
    if (body?.isWorking !== true) return false;
    this.#exchange.sink.pauseReply(false);
    if (body.worked(done)) return this.#left();
    return body.over && this.#ended(false);
  }

  /** A long message of the server's in a tunnel is back. True: nothing more of it is worth reading. */
  tunnelWorked(done: LargeReplied): boolean {
    this.#exchange.sink.pauseReply(false);
    this.#tunnel?.worked(done);
    return this.#tunnel?.over === true;
  }

  #read(bytes: Buffer): boolean {
    const body = this.#body;
    if (body === null) {
      this.#out(bytes);
      return false;
    }
    body.push(bytes);
    return body.over && this.#ended(false);
  }

  #ended(whole: boolean): boolean {
    this.#whole = whole;
    if (!whole) this.#trailers = null;
    return this.#body?.end() !== false && this.#left();
  }

  #left(): true {
    const wrapping = this.#wrapping;
    if (wrapping !== null && this.#holding !== null) {
      this.#wrapping = null;
      this.#out(this.#holding.wrap(wrapping.status, Buffer.concat(wrapping.parts)));
    }
    this.#sendHead();
    this.#exchange.sink.replyEnd(wrapping === null ? this.#trailers : null);
    return true;
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
    this.#bytes += bytes.length;
    this.#sendHead();
    this.#exchange.sink.replyBody(bytes);
  }

  /** Tells a refusal in place of a response. */
  refuse(refusal: Refusal, status: number | undefined): void {
    const { dialect, sink } = this.#exchange;
    this.#wrapping = null;
    this.#head = null;
    if (this.#beats > 0 && this.#holding !== null) {
      this.#out(this.#holding.refuse(refusal));
      sink.replyEnd(null);
      return;
    }
    const own = dialect.refuse(refusal);
    this.#status = status !== undefined && own.status >= 400 ? status : own.status;
    sink.reply({
      status: this.#status,
      headers: [
        ...own.headers,
        ["weir-code", refusal.code],
        ...(refusal.rule === "" ? [] : [["weir-rule", refusal.rule] as const]),
      ],
      body: own.body,
    });
  }

  /** For the record. */
  result(
    durationMs: number,
    error: { readonly code: string; readonly message: string } | null,
    keepsText: boolean,
  ): EntryBody {
    const passage = this.#body ?? this.#tunnel;
    return {
      type: "result",
      operationId: this.#exchange.id,
      tag: String(this.#status),
      rows: 0,
      bytes: this.#bytes,
      masked: (passage?.masked ?? 0) + this.#maskedFields,
      durationMs,
      error,
      details: resultDetails(this.#status, passage?.summary() ?? null, keepsText),
    };
  }
}
