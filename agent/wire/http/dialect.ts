/**
 * What an API over HTTP (LLM, MCP, gRPC) adds to a plain request: which operation it is, how a refusal is said so that
 * the API's own SDK understands it, and what is masked in its replies. A dialect sees whole messages and decoded
 * bodies; framing, holding, recording and credentials are the exchange's.
 */
import type { Operation, TargetProtocol } from "../../core/operation.ts";
import type { Verdict } from "../../core/verdict.ts";
import type { Detector } from "../../mask/detector.ts";
import type { LargeReply, Twin } from "./large-body.ts";
import type { Headers, OwnResponse, RequestHead, ResponseHead } from "./message.ts";
import type { EventSigner } from "./sigv4.ts";

/** Of one operation, what a dialect says; the exchange fills in the rest (`http`, `bytes`, empty SQL words). */
export type Described = Pick<Operation, "protocol" | "text" | "verbs" | "writes" | "traits"> &
  Partial<Pick<Operation, "llm" | "mcp" | "grpc" | "parameters" | "user" | "http">>;

/** Why a request does not go upstream, or ended without its answer. */
export interface Refusal {
  /** `denied`: by the policy or an approver. `failed`: the upstream or a limit. `busy`: a token budget is used up. */
  readonly kind: "denied" | "failed" | "busy";
  /** A code of agent/errors.ts. */
  readonly code: string;
  /** One sentence for the developer: rule and reason are in it already. */
  readonly message: string;
  readonly rule: string;
  readonly approvalId: string | null;
  /** Seconds after which trying again makes sense; null: never. */
  readonly retryAfterSeconds: number | null;
}

export interface DialectContext {
  readonly targetProtocol: TargetProtocol;
  readonly maskKey: Buffer;
  /** Detectors that the policy defines, by name. */
  readonly custom: ReadonlyMap<string, Detector>;
  /** A FileDescriptorSet that says what the messages of a gRPC target are; null or left out: nothing describes them. */
  readonly grpcDescriptors?: Buffer | null;
  /** What the policy would say of an operation: for lists that leave out what is denied. Never recorded. */
  would(described: Described): Verdict;
  /** Remembers digests at first sight: MCP tools. `null`: as it was seen before, or first seen now. */
  pin(name: string, digest: string, text: string): { readonly before: string } | null;
  /** What `pin` remembers: null when it never saw the name; `changed` as long as the last sight is not the first. */
  pinned(name: string): { readonly changed: { readonly before: string; readonly now: string } | null } | null;
}

export interface Dialect {
  readonly family: "llm" | "mcp" | "grpc";
  /** null: none of its operations; the request is then decided as plain HTTP. */
  open(head: RequestHead, context: DialectContext): DialectExchange | null;
}

/** One request of a dialect and its reply. */
export interface DialectExchange {
  /**
   * `whole`: `describe` needs the whole body, content-encoding taken away. `peek`: a body that is short is given too.
   * `head`: nothing is waited for, as a client may wait for the answer before it sends on. `first`: as much is waited
   * for as `needs` says, and `describe` gets what came.
   */
  readonly reads: "head" | "peek" | "whole" | "first";
  /** Of `first`: how many bytes have to be there before it makes sense to ask again; 0: these can be described. */
  needs?(body: Buffer): number;
  /** Of `first`: false when a client may wait for the server before it sends anything; what came is then decided. */
  readonly waits?: boolean;
  /** `body` is null when it was not read whole. Never throws: what cannot be read gets the trait `unreadable-body`. */
  describe(body: Buffer | null): Described;
  /** The whole body that goes upstream under this verdict: redactions made. The same buffer when nothing changed. */
  rewrite?(body: Buffer, verdict: Verdict): Buffer;
  /**
   * Reads and changes the body that goes upstream part by part; called once, null: there is nothing to change. It, and the
   * reader, throw a WeirError to refuse. `signer`: the agent signs what leaves; events that are signed each by itself have
   * to be signed by it.
   */
  readonly forward?: ((verdict: Verdict, signer?: EventSigner | null) => ReplyReader | null) | undefined;
  /** The reply that tells a refusal; the SDK of the API makes its typed error of it. */
  refuse(refusal: Refusal): OwnResponse;
  /**
   * How a client is kept while its request is held: the response begins at once, and `beat` is sent every so often.
   * null: it has to wait in silence (it asked for no stream).
   */
  holding(): HoldingStream | null;
  /**
   * Known after `describe`. `cancelName`: under this name another request may give this one up while it is held.
   * `cancels`: the name of the held request that this one gives up (MCP: `notifications/cancelled`). The exchange
   * counts names by client process, so that none cancels another's.
   */
  readonly cancelName?: string | null;
  readonly cancels?: string | null;
  /**
   * Known after `describe`: the same for a request and its retries, where these differ in their bytes (MCP: in their
   * id) and in nothing that changes what is done. null: they are the same byte for byte.
   */
  readonly retryKey?: string | null;
  /** Reads and changes the reply's body; null: it passes as it is. Bodies come decoded. */
  reply(head: ResponseHead, verdict: Verdict): ReplyReader | null;
  /** Masks what a response's head or trailers say in words; how many values. Left out: they say nothing. */
  fields?(fields: Headers, verdict: Verdict): number;
  /** Of a request that changes the protocol, when its messages are read; left out: they are not. */
  readonly tunnel?: ((verdict: Verdict) => Tunnel) | undefined;
  /** How long bodies are worked on elsewhere; left out: none of its bodies is long. */
  readonly twin?: Twin;
}

/**
 * Both ways of a connection that changed its protocol (a WebSocket), where the API's messages in it are read: each that
 * asks for something is an operation of its own.
 */
export interface Tunnel {
  /** What the server sends. */
  readonly reply: ReplyReader;
  /** Bytes of the client's that are held; of whole messages that wait for a decision. */
  readonly heldBytes: number;
  readonly waitingBytes: number;
  /** Bytes of the client. Throws a PeerError for what cannot be read. */
  push(bytes: Buffer): void;
  /** The next thing to do of what was pushed; while a decision is waited for (`asked`) only what may overtake it. */
  next(asked: boolean): TunnelStep | null;
  /** What it knows of the client's messages, as plain data, for a long one that is worked on elsewhere. */
  save(): unknown;
  restore(state: unknown): void;
  /** Such a message: `redact` null: what it asks; else itself as it may leave. */
  part(raw: Buffer, redact: Verdict | null): { readonly asked: unknown; readonly body: Buffer };
  /** It is back, and what it asks is known. */
  read(asked: unknown, raw: Buffer): TunnelStep;
  /** What responses to the client's messages have cost, each told once. */
  spent(): readonly { readonly inputTokens: number | null; readonly outputTokens: number | null }[];
  /** Bytes that tell the client why the connection ends. */
  farewell(message: string): Buffer;
}

export type TunnelStep =
  /** Goes upstream by the permit of the connection. */
  | { readonly type: "pass"; readonly bytes: Buffer }
  /** A message that is too long to be read here: `read` goes on with it. */
  | { readonly type: "long"; readonly raw: Buffer }
  | {
      readonly type: "ask";
      readonly described: Described;
      readonly bytes: number;
      /** True: `spent` will tell what it cost. */
      readonly answered: boolean;
      /** What goes upstream under this verdict: redactions made. `raw`: they are to be made elsewhere, of this. */
      send(verdict: Verdict): Buffer | { readonly raw: Buffer };
      /** What the client is told instead. */
      refuse(refusal: Refusal): Buffer;
    };

export interface HoldingStream {
  readonly head: Pick<OwnResponse, "status" | "headers">;
  /** Bytes that a parser of this stream skips; null with MCP progress until a token is known. */
  beat(sequence: number): Buffer;
  /** The refusal as an event of the stream that has begun, and its end. */
  refuse(refusal: Refusal): Buffer;
  /** The upstream's answer was no stream (an error in JSON): the same as an event of the stream that has begun. */
  wrap(status: number, body: Buffer): Buffer;
}

export interface ReplyReader {
  /** True: as many bytes come out as go in, so `content-length` stays. */
  readonly preservesLength: boolean;
  /** What may leave now; may be empty, and hold back what could still become part of a masked value. */
  push(bytes: Buffer): Buffer;
  end(): Buffer;
  /** True: what the client is told ends here, and the rest of the reply is not worth reading. */
  readonly over?: boolean;
  /** True: nothing leaves before `end`. */
  readonly isWhole?: true;
  /** From now on what is long is left for `takeLarge`; without, `push` works on everything at once. */
  defer?(): void;
  /**
   * What is too long to be worked on in one go, taken out of what is held; null: there is no such thing. Asked for after
   * each `push` and `worked`, and before `end`.
   */
  takeLarge?(atEnd: boolean): Buffer | null;
  /**
   * Of a stream whose parts go on in each other: what is known between two of them, as plain data. A reader of the same
   * stream elsewhere goes on from it with the part that was taken out.
   */
  save?(): unknown;
  restore?(state: unknown): void;
  part?(raw: Buffer): Buffer;
  /** Of a request that goes on while it is answered: a part that somebody has to decide; null: there is none. */
  held?(): Described | null;
  /** It was approved; returns what may leave now. */
  release?(): Buffer;
  /** What became of it; returns what may leave now. */
  worked?(done: LargeReply): Buffer;
  /** Nothing did: what the client is told in its place; left out: the reply ends here. */
  failed?(code: string, message: string): Buffer;
  /** Values masked so far. */
  readonly masked: number;
  /** Bytes held back now. */
  readonly heldBytes: number;
  /** After the end: what the record keeps. `text` is the reply as it left, masked, cut to `replyTextBytesMax`. */
  summary(): ReplySummary;
}

export interface ReplySummary {
  readonly text: string;
  readonly inputTokens: number | null;
  readonly outputTokens: number | null;
  /** Names of tools that the model called, in order. */
  readonly toolCalls: readonly string[];
  /** An error that the API told in its body; null: none. */
  readonly error: string | null;
}

/** Largest request body that is read whole; a longer one is refused for APIs whose operations stand in the body. */
export const requestBodyBytesMax = 32 * 1024 * 1024;
/** Text of a prompt kept for rules and record. */
export const promptBytesMax = 1024 * 1024;
/** Text of a reply kept for the record. */
export const replyTextBytesMax = 64 * 1024;
