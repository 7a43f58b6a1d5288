/**
 * The memory that the engine in C and this side share, and the one call in which it tells several events.
 * The numbers are those of engine.h.
 */
import { neededAddon, type TlsAddon, tlsAddon } from "./addon.ts";

/** Both legs of every flow, and some. */
const connectionsMax = 32_768;
const eventsMax = 1_024;
const opsMax = 1_024;
/** Small writes of one turn are laid side by side in here. */
const outBytes = 256 * 1024;
/** Plain text of several reads; a piece that is kept keeps its whole slab. */
const slabBytes = 256 * 1024;
/** What one read of the engine may bring (`read_room`): with less left a new slab is given. */
const readRoomBytes = 81 * 1024;
/** Larger pieces are encrypted where they are; copying them would cost more than a call. */
const copiedWriteBytesMax = 16 * 1024;
/** As many bytes waiting for a peer make `write` say false. */
export const highWaterBytes = 64 * 1024;

export const event = { secure: 0, data: 1, end: 2, drain: 3, finished: 4, error: 5 } as const;
const op = { write: 0, end: 1, resume: 2 } as const;
const eventWords = 4;
const opWords = 4;
const stateWords = 3;
const [statePending, stateReading, stateArmed] = [0, 1, 2];

/** What a connection is told; it may do anything meanwhile, also close itself. */
export interface Listener {
  onEvent(kind: number, bytes: Buffer | null): void;
}

export class Hub {
  readonly addon: TlsAddon;
  readonly handle: object;
  readonly #events = new Int32Array(eventsMax * eventWords);
  readonly #ops = new Int32Array(opsMax * opWords);
  readonly #state = new Int32Array(connectionsMax * stateWords);
  readonly #out = Buffer.allocUnsafeSlow(outBytes);
  readonly #listeners: (Listener | null)[] = [];
  #slab = Buffer.allocUnsafeSlow(slabBytes);
  #inCall = false;
  #flushing = false;
  #atTurnEnd: (() => void)[] = [];

  constructor(addon: TlsAddon) {
    this.addon = addon;
    // An addon built before it told of a turn's end says nothing of `last`: each of its calls is one then, so nothing waits for ever.
    this.handle = addon.tlsHub(this.#events, this.#ops, this.#state, this.#out, (from, to, last) =>
      this.#onEvents(from, to, last !== 0),
    );
    addon.tlsSlab(this.handle, this.#slab);
  }

  open(
    listener: Listener,
    context: object,
    fd: number,
    serverName: string,
    alpn: Uint8Array,
    first: Uint8Array,
    connecting: boolean,
  ): number {
    const slot = this.addon.tlsOpen(this.handle, context, fd, Buffer.from(serverName), alpn, first, connecting);
    this.#listeners[slot] = listener;
    return slot;
  }

  /** What comes is told as it is until `secure`. */
  listen(listener: Listener, fd: number): number {
    const slot = this.addon.tlsListen(this.handle, fd);
    this.#listeners[slot] = listener;
    return slot;
  }

  secure(listener: Listener, slot: number, context: object, alpn: Uint8Array, first: Uint8Array): void {
    this.addon.tlsSecure(this.handle, slot, context, alpn, first);
    this.#listeners[slot] = listener;
  }

  /** False: enough waits for the peer; a drain event follows. */
  write(slot: number, bytes: Uint8Array): boolean {
    const { length } = bytes;
    if (length > copiedWriteBytesMax) {
      this.#flushNow();
      this.addon.tlsWrite(this.handle, slot, bytes);
    } else if (length > 0) {
      if (outBytes - (this.#ops[1] as number) < length) this.#flushNow();
      const at = this.#ops[1] as number;
      this.#out.set(bytes, at);
      // Before the length is noted: this may flush, which begins the slab anew.
      this.#note(slot, op.write, at, length);
    }
    return this.pending(slot) < highWaterBytes;
  }

  end(slot: number): void {
    this.#note(slot, op.end, 0, 0);
  }

  /** Bytes that wait for the peer, as of the last flush. */
  pending(slot: number): number {
    return this.#state[slot * stateWords + statePending] as number;
  }

  read(slot: number, wanted: boolean): void {
    const at = slot * stateWords;
    this.#state[at + stateReading] = wanted ? 1 : 0;
    // Only an engine that stopped has to be told; a pause it sees when bytes come.
    if (wanted && this.#state[at + stateArmed] === 0) this.#note(slot, op.resume, 0, 0);
  }

  close(slot: number): void {
    this.#listeners[slot] = null;
    this.addon.tlsClose(this.handle, slot);
  }

  /** How often the engine stayed awake for bytes that did not come (wait.c). */
  get vainWaits(): number {
    return this.#ops[3] as number;
  }

  /**
   * Runs once when every connection that had something in this turn of the event loop was heard, and before what they
   * wrote is sent. An immediate would run in the next turn only.
   */
  atTurnEnd(run: () => void): void {
    if (!this.#inCall) {
      setImmediate(run);
      return;
    }
    this.#atTurnEnd.push(run);
    this.#ops[2] = 1;
  }

  /** Sends what was noted, at the latest when the running callback ends. */
  #note(slot: number, kind: number, offset: number, length: number): void {
    const ops = this.#ops;
    const count = (ops[0] as number) + 1;
    const at = count * opWords;
    const last = at - opWords;
    if (kind === op.write && count > 1 && ops[last] === slot && ops[last + 1] === op.write) {
      // Pieces of one connection lie side by side: one record.
      ops[last + 3] = (ops[last + 3] as number) + length;
      ops[1] = offset + length;
      return;
    }
    ops[at] = slot;
    ops[at + 1] = kind;
    ops[at + 2] = offset;
    ops[at + 3] = length;
    ops[0] = count;
    ops[1] = (ops[1] as number) + length;
    if (count >= opsMax - 1) this.#flushNow();
    else if (!this.#inCall && !this.#flushing) {
      this.#flushing = true;
      queueMicrotask(() => {
        this.#flushing = false;
        this.#flushNow();
      });
    }
  }

  #flushNow(): void {
    if (this.#ops[0] !== 0) this.addon.tlsFlush(this.handle);
  }

  #endTurn(): void {
    const runs = this.#atTurnEnd;
    this.#atTurnEnd = [];
    this.#ops[2] = 0;
    for (const run of runs) {
      try {
        run();
      } catch (error) {
        throwLater(error);
      }
    }
  }

  #onEvents(from: number, to: number, last: boolean): void {
    const events = this.#events;
    const slab = this.#slab;
    let used = 0;
    this.#inCall = true;
    for (let at = from * eventWords; at < to * eventWords; at += eventWords) {
      const listener = this.#listeners[events[at] as number];
      const kind = events[at + 1] as number;
      let bytes: Buffer | null = null;
      if (kind === event.data) {
        const offset = events[at + 2] as number;
        used = offset + (events[at + 3] as number);
        bytes = slab.subarray(offset, used);
      }
      if (listener === null || listener === undefined) continue;
      try {
        listener.onEvent(kind, bytes);
      } catch (error) {
        throwLater(error);
      }
    }
    if (last && this.#ops[2] !== 0) this.#endTurn();
    this.#inCall = false;
    if (slabBytes - used < readRoomBytes) {
      this.#slab = Buffer.allocUnsafeSlow(slabBytes);
      this.addon.tlsSlab(this.handle, this.#slab);
    }
  }
}

/** As with any emitter it is nobody's to catch; the other connections still hear what they must. */
function throwLater(error: unknown): void {
  process.nextTick(() => {
    throw error;
  });
}

let shared: Hub | null = null;

/** Whether this Node can run the engine. */
export function hasNativeTls(): boolean {
  return tlsAddon() !== null;
}

export function hub(): Hub {
  shared ??= new Hub(neededAddon());
  return shared;
}
