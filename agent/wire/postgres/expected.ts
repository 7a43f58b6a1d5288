/** What the server still owes: one entry for each forwarded message that it answers, in order. */
import type { Portal, Prepared, Run } from "./run.ts";

export type Awaited = "startup" | "query" | "parse" | "bind" | "describe" | "execute" | "close" | "sync" | "call";

export interface Entry {
  readonly awaited: Awaited;
  readonly run: Run | null;
  readonly prepared: Prepared | null;
  readonly portal: Portal | null;
  /** A Describe of ours: its answer does not reach the client. */
  readonly ours: boolean;
  /** Sent while a COPY FROM STDIN was not finished: the server ignores it if it really was in copy mode. */
  readonly inCopy: boolean;
  /** This is a text that can only fail, in the place of a denied one: what the client reads in place of its error. */
  readonly response: Buffer | null;
  /** Of a FunctionCall. */
  readonly called: { readonly oid: number; readonly resultFormat: number } | null;
}

/** The head is taken from the front by index; the array is shortened only now and then. */
const compactAfter = 256;

export class Expected {
  #entries: Entry[] = [];
  #head = 0;

  get length(): number {
    return this.#entries.length - this.#head;
  }

  get head(): Entry | undefined {
    return this.#entries[this.#head];
  }

  at(index: number): Entry | undefined {
    return this.#entries[this.#head + index];
  }

  push(entry: Entry): void {
    this.#entries.push(entry);
  }

  shift(): Entry | undefined {
    const entry = this.#entries[this.#head];
    if (entry === undefined) return undefined;
    this.#head += 1;
    if (this.#head === this.#entries.length) {
      this.#entries.length = 0;
      this.#head = 0;
    } else if (this.#head > compactAfter && this.#head * 2 > this.#entries.length) {
      this.#entries = this.#entries.slice(this.#head);
      this.#head = 0;
    }
    return entry;
  }

  /** Takes out every entry that `gone` says yes to. */
  remove(gone: (entry: Entry) => boolean): void {
    this.#entries = this.#entries.slice(this.#head).filter((entry) => !gone(entry));
    this.#head = 0;
  }

  *all(): Generator<Entry> {
    for (let index = this.#head; index < this.#entries.length; index += 1) yield this.#entries[index] as Entry;
  }
}

export function entry(awaited: Awaited, fields: Partial<Entry> = {}): Entry {
  return {
    ...{ awaited, run: null, prepared: null, portal: null, ours: false, inCopy: false, response: null, called: null },
    ...fields,
  };
}
