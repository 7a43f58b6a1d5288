/**
 * A TLS connection on a descriptor, with the part of a stream's interface that a session uses: data, end, drain, error,
 * close; write, pause, resume, end, destroy. It has no buffers of a stream: bytes go from the engine to the listener.
 */
import { EventEmitter } from "node:events";
import { type Beneath, beneath } from "../../core/beneath.ts";
import type { Described, Failure } from "./addon.ts";
import { event, hub } from "./hub.ts";

/** What a connection rests on: it lives as long, so that what counts open sockets still counts this one. */
export interface Carrier {
  readonly allowHalfOpen: boolean;
  destroy(): void;
}

/** Where the bytes are: a descriptor that becomes ours, or a connection of the engine's that was listened to. */
export type Base =
  /** Without a carrier it is nobody else's, and connecting still. */
  { readonly carrier: Carrier | null; readonly fd: number } | { readonly carrier: Carrier; readonly slot: number };

export interface SecureSocketOptions {
  readonly context: object;
  readonly base: Base;
  /** Asked for by SNI; "" for none, and on the server's side. */
  readonly serverName: string;
  readonly alpn: readonly string[];
  /** Bytes of the handshake that were read already. */
  readonly first: Uint8Array;
}

const unknown: Failure = { error: null, errorCode: null, connecting: false };

/** There is no connection yet that could have failed. */
export class ConnectError extends Error {}

type Told = (error?: Error | null) => void;

/** Also emits `secure` once, when the handshake is done; nothing can be written before. */
export class SecureSocket extends EventEmitter {
  readonly #carrier: Carrier | null;
  readonly #slot: number;
  /** Events that came while paused: what one read brought, as no further one is made then. */
  #held: { readonly kind: number; readonly bytes: Buffer | null }[] = [];
  #flowing: boolean | null = null;
  #handing = false;
  #secured = false;
  #destroyed = false;
  #readEnded = false;
  #writableEnded = false;
  #finished = false;
  #needDrain = false;
  #written: Told[] = [];

  constructor({ context, base, serverName, alpn, first }: SecureSocketOptions) {
    super();
    this.#carrier = base.carrier;
    const names = Buffer.concat(alpn.map((name) => Buffer.from([name.length, ...Buffer.from(name, "latin1")])));
    if ("slot" in base) {
      this.#slot = base.slot;
      hub().secure(this, base.slot, context, names, first);
    } else this.#slot = hub().open(this, context, base.fd, serverName, names, first, base.carrier === null);
    // Nobody may listen yet when the peer resets; that must not end the agent.
    this.on("error", () => {});
  }

  get destroyed(): boolean {
    return this.#destroyed;
  }
  get writableEnded(): boolean {
    return this.#writableEnded;
  }
  get writableNeedDrain(): boolean {
    return this.#needDrain;
  }
  /** Cipher text that waits for the peer. */
  get writableLength(): number {
    return this.#destroyed ? 0 : hub().pending(this.#slot);
  }
  /** For core/beneath.ts, which asks here whether the kernel still knows a peer. */
  get _handle(): Beneath | null {
    return this.#carrier === null ? null : beneath(this.#carrier);
  }

  /** Null after destroy. */
  describe(): Described | null {
    return this.#destroyed ? null : hub().addon.tlsDescribe(hub().handle, this.#slot);
  }

  /** New keys for both directions (TLS 1.3); false where there is no such thing. */
  updateKeys(): boolean {
    return !this.#destroyed && hub().addon.tlsKeyUpdate(hub().handle, this.#slot);
  }

  override on(name: string, listener: (...words: never[]) => void): this {
    super.on(name, listener as (...words: unknown[]) => void);
    if (name === "data" && this.#flowing === null) this.resume();
    return this;
  }

  override addListener(name: string, listener: (...words: never[]) => void): this {
    return this.on(name, listener);
  }

  override once(name: string, listener: (...words: never[]) => void): this {
    super.once(name, listener as (...words: unknown[]) => void);
    if (name === "data" && this.#flowing === null) this.resume();
    return this;
  }

  /** False: wait for `drain`. Empty and late writes are nothing; `told` hears when the bytes are with the kernel. */
  write(data: Uint8Array | string, encoding?: BufferEncoding | Told, told?: Told): boolean {
    const callback = typeof encoding === "function" ? encoding : told;
    if (!this.#secured || this.#destroyed || this.#writableEnded) {
      const error = new Error(this.#secured ? "write after end" : "write before the handshake");
      if (callback !== undefined) process.nextTick(callback, error);
      if (!this.#secured && !this.#destroyed) throw error;
      return false;
    }
    const bytes = typeof data === "string" ? Buffer.from(data, typeof encoding === "string" ? encoding : "utf8") : data;
    const accepted = hub().write(this.#slot, bytes);
    if (!accepted) this.#needDrain = true;
    if (callback !== undefined) {
      if (accepted) process.nextTick(callback, null);
      else this.#written.push(callback);
    }
    return accepted;
  }

  /** Pieces of one turn leave together anyway. */
  cork(): void {}
  uncork(): void {}

  pause(): this {
    this.#flowing = false;
    if (!this.#destroyed) hub().read(this.#slot, false);
    return this;
  }

  resume(): this {
    this.#flowing = true;
    if (this.#destroyed) return this;
    if (this.#held.length === 0) hub().read(this.#slot, true);
    else if (!this.#handing) {
      this.#handing = true;
      process.nextTick(() => this.#handOver());
    }
    return this;
  }

  isPaused(): boolean {
    return this.#flowing === false;
  }

  /** Sends what was written, then close_notify, then the end of the TCP stream; reading goes on. */
  end(data?: Uint8Array | string, encoding?: BufferEncoding): this {
    if (this.#writableEnded || this.#destroyed) return this;
    if (data !== undefined) this.write(data, encoding);
    this.#writableEnded = true;
    hub().end(this.#slot);
    return this;
  }

  destroy(error?: Error): this {
    if (this.#destroyed) return this;
    this.#destroyed = true;
    this.#held = [];
    hub().close(this.#slot);
    this.#carrier?.destroy();
    const waiting = this.#written;
    this.#written = [];
    // Not in this tick: one call may bring the handshake's end and the connection's, and whoever awaited the handshake has
    // to hear of both.
    setImmediate(() => {
      for (const told of waiting) told(error ?? new Error("the connection was closed"));
      if (error !== undefined) this.emit("error", error);
      this.emit("close", error !== undefined);
    });
    return this;
  }

  /** For the hub. */
  onEvent(kind: number, bytes: Buffer | null): void {
    if (kind === event.data || kind === event.end) {
      if (this.#flowing !== true || this.#held.length > 0) this.#held.push({ kind, bytes });
      else this.#tell(kind, bytes);
    } else if (kind === event.drain) this.#drained();
    else if (kind === event.secure) {
      this.#secured = true;
      // Until somebody wants the data no more is read than came with the handshake.
      if (this.#flowing !== true) hub().read(this.#slot, false);
      this.emit("secure");
    } else if (kind === event.finished) {
      this.#finished = true;
      this.emit("finish");
      if (this.#readEnded) this.destroy();
    } else this.destroy(this.#failure());
  }

  #handOver(): void {
    this.#handing = false;
    while (this.#flowing === true && !this.#destroyed) {
      const first = this.#held.shift();
      if (first === undefined) {
        hub().read(this.#slot, true);
        return;
      }
      this.#tell(first.kind, first.bytes);
    }
  }

  #tell(kind: number, bytes: Buffer | null): void {
    if (kind === event.data) {
      this.emit("data", bytes);
      return;
    }
    this.#readEnded = true;
    this.emit("end");
    if (this.#destroyed) return;
    if (this.#finished) this.destroy();
    else if (this.#carrier?.allowHalfOpen !== true) this.end();
  }

  #drained(): void {
    const waiting = this.#written;
    this.#written = [];
    for (const told of waiting) told(null);
    if (!this.#needDrain || this.#destroyed) return;
    this.#needDrain = false;
    if (!this.#writableEnded) this.emit("drain");
  }

  /** The kernel has not connected yet. */
  get connecting(): boolean {
    return !this.#destroyed && hub().addon.tlsFailure(hub().handle, this.#slot)?.connecting === true;
  }

  #failure(): Error {
    const { error, errorCode, connecting } = hub().addon.tlsFailure(hub().handle, this.#slot) ?? unknown;
    const text = errorCode === null ? (error ?? "the connection failed") : `${error} ${errorCode}`;
    return Object.assign(connecting ? new ConnectError(text) : new Error(text), { code: errorCode ?? "ERR_TLS" });
  }
}
