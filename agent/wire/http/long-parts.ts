/**
 * Messages of one way, in order: those that are too long to be worked on in one go are left for `takeLarge`, and what
 * comes behind such a one waits until it is back.
 */

export interface LongPartsOptions<Part> {
  /** What leaves in place of the part; null: it is too long for that. */
  change(part: Part, mayDefer: boolean): Buffer | null;
  /** What is handed out of it. */
  raw(part: Part): Buffer;
}

export class LongParts<Part> {
  readonly #options: LongPartsOptions<Part>;
  #defers = false;
  /** From a long part on; it is the first. */
  #waiting: Part[] = [];

  constructor(options: LongPartsOptions<Part>) {
    this.#options = options;
  }

  /** From now on nothing long is worked on here. */
  defer(): void {
    this.#defers = true;
  }

  get heldBytes(): number {
    return this.#waiting.reduce((sum, part) => sum + this.#options.raw(part).length, 0);
  }

  /** What may leave now. */
  pass(parts: readonly Part[]): Buffer {
    const out: Buffer[] = [];
    for (const [at, part] of parts.entries()) {
      const changed = this.#options.change(part, this.#defers);
      if (changed === null) {
        this.#waiting = parts.slice(at);
        break;
      }
      out.push(changed);
    }
    return out.length === 1 ? (out[0] as Buffer) : Buffer.concat(out);
  }

  /** The part that waits to be worked on elsewhere; null: there is none. */
  takeLarge(): Buffer | null {
    const [first] = this.#waiting;
    return first === undefined ? null : this.#options.raw(first);
  }

  /** `first` leaves in place of the long part, and then what waited behind it. */
  goOn(first: Buffer): Buffer {
    const [, ...next] = this.#waiting;
    this.#waiting = [];
    return Buffer.concat([first, this.pass(next)]);
  }
}
