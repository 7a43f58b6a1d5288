/** Where an exchange's parts go: the driver (HTTP/1.1 or HTTP/2) that carries them, and what it is made of. */
import type { Operation } from "../../core/operation.ts";
import type { EntryBody } from "../../core/record.ts";
import type { Permit, Verdict } from "../../core/verdict.ts";
import type { HttpContext } from "./context.ts";
import type { DialectExchange } from "./dialect.ts";
import type { LargeTask } from "./large-body.ts";
import type { Headers, OwnResponse, RequestHead, ResponseHead } from "./message.ts";

export interface ExchangeSink {
  /** `digest`: retries of one request have the same, and meet one approval; asked for only when it is held. */
  ask(operation: Operation, digest: () => string): void;
  /** Inside of a tunnel, or of a body, its next message: one that is sent again is another. Gives the operation's id. */
  askNext(operation: Operation): number;
  withdraw(reason: string): void;
  record(body: EntryBody): void;
  sendHead(head: RequestHead, target: string | null, permit: Permit): void;
  sendBody(bytes: Buffer, permit: Permit): void;
  sendEnd(trailers: Headers | null, permit: Permit): void;
  /** The client waits for this before it sends its body (RFC 9110 §10.1.1). */
  sendContinue(): void;
  replyHead(head: ResponseHead): void;
  replyBody(bytes: Buffer): void;
  replyEnd(trailers: Headers | null): void;
  /** A whole response of our own. */
  reply(response: OwnResponse): void;
  /** After a 101 or a CONNECT: both ways are bytes of another protocol. */
  tunnel(verdict: Verdict, permit: Permit): void;
  /** Calls `tick` once in so many milliseconds. */
  wake(ms: number): void;
  /** Takes a content coding away from a whole body, within `bytesMax`, and answers by `inflated`. */
  inflate(coding: string, body: Buffer, bytesMax: number): void;
  /** Takes a content coding away from the response's body: false when it is not known. Answers by `decoded`. */
  decode(coding: string): boolean;
  decodeBody(bytes: Buffer): void;
  decodeEnd(): void;
  /** Works on a long body where it holds nothing else up, and answers by `worked`. One at a time. */
  work(task: LargeTask): void;
  /** `true`: no more of the response is wanted until `false` is said. */
  pauseReply(paused: boolean): void;
  /** The exchange is over. `reusable`: the upstream connection may carry another. */
  done(reusable: boolean): void;
}

export interface ExchangeOptions {
  readonly id: number;
  readonly head: RequestHead;
  readonly dialect: DialectExchange;
  readonly context: HttpContext;
  readonly now: () => number;
  readonly sink: ExchangeSink;
}
