/**
 * A connection whose first bytes the engine reads before it is known what they are. What begins with a ClientHello goes on in
 * the engine; with anything else it becomes Node's stream, and nothing that was read is lost.
 */
import { EventEmitter } from "node:events";
import type { Socket } from "node:net";
import { event, hub, type Listener } from "./hub.ts";
import type { Base, Carrier } from "./secure-socket.ts";
import { giveUp } from "./take-over.ts";

/** What arrived and is nobody's yet. */
export interface Arrived extends Carrier {
  readonly fd: number;
  readBy(reader: { destroy(): void }): void;
  socket(read?: Buffer): Socket;
}

const nothing = Buffer.alloc(0);

/** Emits `data`, `end` and `close` as a socket does; reads from `resume` to `pause`. */
export class HeardConnection extends EventEmitter implements Listener {
  readonly #arrived: Arrived;
  readonly #slot: number;
  #read: Buffer = nothing;
  #ours = true;
  #flowing = true;

  constructor(arrived: Arrived) {
    super();
    this.#arrived = arrived;
    const fd = hub().addon.tlsDuplicate(arrived.fd);
    try {
      this.#slot = hub().listen(this, fd);
    } catch (error) {
      giveUp(fd);
      throw error;
    }
    arrived.readBy(this);
  }

  resume(): void {
    this.#flowing = true;
    if (this.#ours) hub().read(this.#slot, true);
  }

  pause(): void {
    this.#flowing = false;
    if (this.#ours) hub().read(this.#slot, false);
  }

  /** Whoever takes the connection on begins with these. */
  unshift(bytes: Buffer): void {
    this.#read = bytes;
  }

  socket(): Socket {
    this.destroy();
    return this.#arrived.socket(this.#give());
  }

  /** For a TLS connection, which it belongs to from then on. Throws when it was closed. */
  take(): { readonly base: Base; readonly first: Buffer } {
    if (!this.#ours) throw new Error("the connection was closed");
    this.#ours = false;
    return { base: { carrier: this.#arrived, slot: this.#slot }, first: this.#give() };
  }

  /** Kept here it would keep its whole slab. */
  #give(): Buffer {
    const read = this.#read;
    this.#read = nothing;
    return read;
  }

  /** Of the reading; what arrived stays. */
  destroy(): void {
    if (!this.#ours) return;
    this.#ours = false;
    hub().close(this.#slot);
  }

  /** For the hub. */
  onEvent(kind: number, bytes: Buffer | null): void {
    if (kind === event.data) {
      if (this.#flowing) this.emit("data", bytes);
      else this.#read = Buffer.concat([this.#read, bytes as Buffer]);
    } else this.emit(kind === event.end ? "end" : "close");
  }
}
