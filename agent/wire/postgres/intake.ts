/**
 * The part of a conversation before the first query reads like one: `yield* intake.clientMessage()` gives the next
 * message of a side, whatever pieces it came in. What is read too early for its step stays queued here.
 */

import { PeerError } from "../../errors.ts";
import type { Command, Side, TlsFacts, WireEvent } from "../protocol.ts";
import { headerBytes } from "./framer.ts";
import { queuedBytesMax } from "./limits.ts";

/** A step of the conversation: it is given events, and ends with a value. */
export type Step<T> = Generator<undefined, T, WireEvent>;

/** The peer or the agent ends the session here; `text` is told to the client when it is not null. */
export class SessionOver extends Error {
  readonly code: string;
  readonly tell: boolean;
  constructor(code: string, reason: string, tell: boolean) {
    super(reason);
    this.name = "SessionOver";
    this.code = code;
    this.tell = tell;
  }
}

export interface WireMessage {
  readonly type: number;
  /** The whole message with its header. */
  readonly bytes: Buffer;
}

export type Dialled =
  | { readonly ready: true; readonly tls: TlsFacts | null }
  | { readonly ready: false; readonly code: string; readonly message: string };

export class Intake {
  out: Command[] = [];
  /** In the middle of a handshake no word of ours is understood. */
  #securing = false;
  client: Buffer = Buffer.alloc(0);
  server: Buffer = Buffer.alloc(0);

  get heldBytes(): number {
    return this.client.length + this.server.length;
  }

  /** Waits for the next event; bytes are queued on the way. */
  *event(): Step<WireEvent> {
    const event: WireEvent = yield;
    if (event.type === "client-bytes") {
      this.client = joined(this.client, event.bytes);
      if (this.client.length > queuedBytesMax)
        throw new PeerError("WEIR_LIMIT_REACHED", "the client sends on before it is logged in");
    } else if (event.type === "server-bytes") this.server = joined(this.server, event.bytes);
    else if (event.type === "client-end") throw new SessionOver("closed", "the client closed the connection", false);
    else if (event.type === "server-end")
      throw new SessionOver("WEIR_UPSTREAM_UNREACHABLE", "the server closed the connection", true);
    else if (event.type === "terminate") throw new SessionOver(event.code, event.reason, !this.#securing);
    return event;
  }

  /** At least `count` bytes of the client, which stay in the queue. */
  *clientPeek(count: number): Step<Buffer> {
    while (this.client.length < count) yield* this.event();
    return this.client;
  }

  *clientMessage(bytesMax: number): Step<WireMessage> {
    return yield* this.message("client", bytesMax);
  }

  *serverMessage(bytesMax: number): Step<WireMessage> {
    return yield* this.message("server", bytesMax);
  }

  *message(side: Side, bytesMax: number): Step<WireMessage> {
    for (;;) {
      const queued = this[side];
      if (queued.length >= headerBytes) {
        const length = queued.readUInt32BE(1) + 1;
        if (length < headerBytes) throw new PeerError("WEIR_FRAME_INVALID", `a message has the length ${length - 1}`);
        if (length > bytesMax)
          throw new PeerError("WEIR_FRAME_TOO_LARGE", `a message of ${length} bytes is above ${bytesMax}`);
        if (queued.length >= length) {
          this[side] = queued.subarray(length);
          return { type: queued[0] as number, bytes: queued.subarray(0, length) };
        }
      }
      yield* this.event();
    }
  }

  /** Takes `count` bytes of the client that were peeked at. */
  take(count: number): Buffer {
    const taken = this.client.subarray(0, count);
    this.client = this.client.subarray(count);
    return taken;
  }

  *dial(tls: "required" | "preferred"): Step<Dialled> {
    this.out.push({ type: "dial", tls, negotiation: "postgres", alpn: ["postgresql"] });
    for (;;) {
      const event = yield* this.event();
      if (event.type === "server-ready") return { ready: true, tls: event.tls };
      if (event.type === "server-failed") return { ready: false, code: event.code, message: event.message };
    }
  }

  *clientTls(leftover: Buffer): Step<TlsFacts> {
    this.out.push({ type: "start-client-tls", leftover, alpn: ["postgresql"] });
    this.#securing = true;
    for (;;) {
      const event = yield* this.event();
      if (event.type !== "client-tls") continue;
      this.#securing = false;
      return event.tls;
    }
  }

  sendClient(bytes: Buffer): void {
    this.out.push({ type: "send-client", bytes });
  }
}

function joined(queued: Buffer, bytes: Buffer): Buffer {
  return queued.length === 0 ? bytes : Buffer.concat([queued, bytes]);
}
