/**
 * A body that is too long to be read in one turn of the event loop: its exchange hands it out, with all that is needed
 * to work on it as plain data, and goes on when it comes back. The work itself is the dialect's own, done by a twin of
 * its exchange (`agent/wire/large-task.ts`), so that a long body meets the same code as a short one.
 */
import type { TargetProtocol } from "../../core/operation.ts";
import type { Verdict } from "../../core/verdict.ts";
import type { Described, ReplySummary } from "./dialect.ts";
import type { ExchangeOptions } from "./exchange-sink.ts";
import { type BodyLength, Headers, type RequestHead, type ResponseHead } from "./message.ts";

/** A longer body, or event of a stream, is handed out. One of this size, all brackets and digits, takes 40 ms at most. */
export const largeBodyBytesMin = 192 * 1024;

export interface LargeTask {
  readonly family: TwinFamily;
  readonly targetProtocol: TargetProtocol;
  readonly head: HeadData;
  /** What `Twin.save` gave. */
  readonly state: unknown;
  readonly body: Uint8Array;
  readonly step:
    | { readonly do: "describe" }
    | { readonly do: "rewrite"; readonly verdict: Verdict }
    /** One message of a request that goes on while it is answered. */
    | { readonly do: "forward"; readonly verdict: Verdict }
    /** A message of the client's after a 101; `redact` null: what it asks. `tunnel`: what its reader knows. */
    | { readonly do: "message"; readonly verdict: Verdict; readonly tunnel: unknown; readonly redact: Verdict | null }
    /** All of a reply, or one event of its stream. */
    | {
        readonly do: "reply";
        readonly verdict: Verdict;
        /** null: what a server says after a 101. */
        readonly reply: ReplyHeadData | null;
        /** Of a part of a stream, what its reader knows (`ReplyReader.save`); left out: the body is all of the reply. */
        readonly stream?: unknown;
      };
}

export type LargeDone =
  | { readonly is: "described"; readonly described: Described; readonly state: unknown; readonly body: Uint8Array }
  | {
      readonly is: "rewritten";
      readonly changed: boolean;
      /** Of the request's head, when the body's change changed them. */
      readonly fields: readonly string[] | null;
      readonly state: unknown;
      readonly body: Uint8Array;
    }
  | LargeMessage
  | LargeReplied;

export interface LargeMessage {
  readonly is: "message";
  readonly asked: unknown;
  readonly tunnel: unknown;
  readonly body: Uint8Array;
}

export type LargeReplied = ({ readonly is: "reply" | "forwarded" } & LargeReply) | LargeFailure;

/** `of`: the step that failed; both ways of one exchange may be worked on at a time. */
export interface LargeFailure {
  readonly is: "failed";
  readonly of: LargeTask["step"]["do"];
  readonly code: string;
  readonly message: string;
}

/** What became of a reply, of one of its events, or of a message of the request. */
export interface LargeReply {
  readonly body: Uint8Array;
  readonly masked: number;
  readonly summary: ReplySummary;
  /** What the reader of the stream knows after it. */
  readonly stream?: unknown;
}

export type TwinFamily = "llm" | "mcp" | "grpc" | "plain";

/** How an exchange of a dialect goes on with what its twin elsewhere has found out. */
export interface Twin {
  readonly family: TwinFamily;
  /** Plain data: all that the exchange knows beside its head. */
  save(): unknown;
  restore(state: unknown): void;
  /** Of a body that is short: it becomes a long one when it is read. */
  isLong?(body: Buffer): boolean;
  /** Of a description, what costs more to be sent than to be made again; the other side makes it again. */
  pack?(described: Described): Described;
  unpack?(described: Described, body: Buffer): Described;
}

/** `worked` of the exchange will say what became of it. */
export function handOut(
  { head, dialect, context, sink }: ExchangeOptions,
  step: LargeTask["step"],
  body: Buffer,
): void {
  const { twin } = dialect;
  if (twin === undefined) throw new Error("a long body of a dialect that has no twin");
  const { targetProtocol } = context;
  if (step.do === "reply") sink.pauseReply(true);
  sink.work({ family: twin.family, targetProtocol, head: headData(head), state: twin.save(), body, step });
}

/** The same bytes; a copy only where they are a part of something larger. */
export function asBuffer(bytes: Uint8Array): Buffer {
  return Buffer.from(bytes.buffer, bytes.byteOffset, bytes.byteLength);
}

export interface HeadData {
  readonly method: string;
  readonly target: string;
  readonly scheme: "http" | "https";
  readonly authority: string;
  readonly fields: readonly string[];
  readonly version: RequestHead["version"];
  readonly body: BodyLength;
}

export function headData({ method, target, scheme, authority, headers, version, body }: RequestHead): HeadData {
  return { method, target, scheme, authority, fields: [...headers.fields], version, body };
}

export function requestHeadOf({ fields, ...rest }: HeadData): RequestHead {
  return { ...rest, headers: new Headers([...fields]), raw: null };
}

export interface ReplyHeadData {
  readonly status: number;
  readonly fields: readonly string[];
}

export function replyHeadData({ status, headers }: ResponseHead): ReplyHeadData {
  return { status, fields: [...headers.fields] };
}

export function responseHeadOf({ status, fields }: ReplyHeadData): ResponseHead {
  const body: BodyLength = { kind: "chunked" };
  return { status, reason: "", headers: new Headers([...fields]), version: "1.1", body, raw: null };
}
