/**
 * A connection that arrived, before it is known who reads it: a stream of Node's is made only where one is wanted. It costs
 * more than a TLS record, and V8 does not collect it young, nor what hangs on it.
 */
import { Socket } from "node:net";
import type { Beneath } from "../core/beneath.ts";
import type { Endpoint } from "../core/flow.ts";

export interface Handle extends Beneath {
  getpeername(into: { address?: string; port?: number }): number;
  close(closed: () => void): void;
  /** With a reset; not 0: it could not. */
  reset(closed: () => void): number;
}

export class Arrival {
  readonly localPort: number;
  /** The protocol decides when an end ends a session: a half-closed client still gets its answer. */
  readonly allowHalfOpen = true;
  readonly source: Endpoint;
  readonly #closed: () => void;
  #handle: Handle | null;
  #socket: Socket | null = null;
  #reader: { destroy(): void } | null = null;

  constructor(handle: Handle, localPort: number, closed: () => void) {
    const peer: { address?: string; port?: number } = {};
    handle.getpeername(peer);
    this.source = { address: peer.address ?? "", port: peer.port ?? 0 };
    this.localPort = localPort;
    this.#handle = handle;
    this.#closed = closed;
  }

  /** Throws when it was closed, or is a stream already. */
  get fd(): number {
    return this.#open().fd;
  }
  /** For core/beneath.ts: it is asked whether the kernel still knows the peer. */
  get _handle(): Handle | null {
    return this.#handle;
  }

  /** Who reads from a duplicate of the descriptor: is ended before we are. */
  readBy(reader: { destroy(): void }): void {
    this.#reader = reader;
  }

  /** As Node's stream, paused. It begins with `read`, which others have read already. */
  socket(read?: Buffer): Socket {
    if (this.#socket !== null) return this.#socket;
    const handle = this.#open();
    this.#handle = null;
    const made: object = { handle, allowHalfOpen: true, pauseOnCreate: true, readable: true, writable: true };
    const socket = new Socket(made);
    // Without a listener an error of the client's end would end the agent.
    socket.on("error", () => {});
    socket.once("close", this.#closed);
    if (read !== undefined && read.length > 0) socket.unshift(read);
    this.#socket = socket;
    return socket;
  }

  destroy(): void {
    this.#reader?.destroy();
    this.#socket?.destroy();
    this.#handle?.close(this.#closed);
    this.#handle = null;
  }

  /** The peer hears of it at once. */
  reset(): void {
    this.#reader?.destroy();
    this.#socket?.resetAndDestroy();
    if (this.#handle !== null && this.#handle.reset(this.#closed) !== 0) this.#handle.close(this.#closed);
    this.#handle = null;
  }

  #open(): Handle {
    if (this.#handle === null) throw new Error("the connection was closed");
    return this.#handle;
  }
}
