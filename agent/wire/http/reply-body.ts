/**
 * A response's body on its way to the client: read and changed by its dialect, scrubbed of the credential. What is too
 * long to be worked on in one go is handed out, and what comes behind it waits, so that nothing leaves out of its turn.
 */
import { type ErrorCode, WeirError } from "../../errors.ts";
import type { Described, ReplyReader, ReplySummary } from "./dialect.ts";
import type { LargeReplied } from "./large-body.ts";

export interface ReplyBodyOptions {
  readonly reader: ReplyReader | null;
  /** What takes the credential out; null: there is none. */
  readonly scrubber: ReplyReader | null;
  /** Hands a long part out; `worked` brings it back. Meanwhile as little as possible should come. */
  handOut(body: Buffer, stream: unknown): void;
  /** Asks about a part that is held; `released` lets it go. Left out: none is. */
  ask?(held: Described): void;
  /** What leaves. */
  out(bytes: Buffer): void;
}

export class ReplyBody {
  readonly #options: ReplyBodyOptions;
  #isWorking = false;
  /** Bytes of what is worked on elsewhere. */
  #away = 0;
  #waiting: Buffer[] = [];
  #waitingBytes = 0;
  #ends = false;

  constructor(options: ReplyBodyOptions) {
    this.#options = options;
    options.reader?.defer?.();
  }

  get heldBytes(): number {
    const { reader, scrubber } = this.#options;
    return (reader?.heldBytes ?? 0) + (scrubber?.heldBytes ?? 0) + this.#away + this.#waitingBytes;
  }

  get isWorking(): boolean {
    return this.#isWorking;
  }

  /** Nothing leaves before its end. */
  get isWhole(): boolean {
    return this.#options.reader?.isWhole === true;
  }

  /** True: what the client is told ends here. */
  get over(): boolean {
    return !this.#isWorking && this.#options.reader?.over === true;
  }

  get masked(): number {
    return (this.#options.reader?.masked ?? 0) + (this.#options.scrubber?.masked ?? 0);
  }

  summary(): ReplySummary | null {
    return this.#options.reader?.summary() ?? null;
  }

  /** What is not of the body, between two parts of it. */
  tell(bytes: Buffer): void {
    this.#pass(bytes);
  }

  push(bytes: Buffer): void {
    if (this.#isWorking) {
      // What comes in may be a view of a buffer that is read into again.
      this.#waiting.push(Buffer.from(bytes));
      this.#waitingBytes += bytes.length;
      return;
    }
    const { reader } = this.#options;
    this.#pass(reader === null ? bytes : reader.push(bytes));
    this.#handOut(false);
  }

  /** The last part came. False: some of it is worked on elsewhere, and `worked` will say when all has left. */
  end(): boolean {
    this.#ends = true;
    if (this.#isWorking || this.#handOut(true)) return false;
    const { reader, scrubber } = this.#options;
    if (reader !== null) this.#pass(reader.end());
    if (scrubber !== null) this.#options.out(scrubber.end());
    return true;
  }

  /** It ends here, with what is held back of it, or without (`withRest`); what is worked on elsewhere is lost. */
  stop(withRest: boolean): void {
    const { reader, scrubber, out } = this.#options;
    if (withRest && !this.#isWorking && reader !== null) this.#pass(reader.end());
    if (scrubber !== null) out(scrubber.end());
  }

  /** True: the end came before, and now all has left. Throws a WeirError where nothing can go on without it. */
  worked(done: LargeReplied): boolean {
    this.#isWorking = false;
    this.#away = 0;
    const { reader } = this.#options;
    if (done.is !== "failed") return this.#goOn(reader?.worked?.(done) ?? empty);
    if (reader?.failed === undefined) throw new WeirError(done.code as ErrorCode, done.message);
    return this.#goOn(reader.failed(done.code, done.message));
  }

  /** The same of a part that was held, and is approved. */
  released(): boolean {
    this.#isWorking = false;
    return this.#goOn(this.#options.reader?.release?.() ?? empty);
  }

  #goOn(first: Buffer): boolean {
    this.#pass(first);
    if (this.#handOut(false)) return false;
    const waiting = this.#waiting;
    this.#waiting = [];
    this.#waitingBytes = 0;
    for (const bytes of waiting) {
      this.push(bytes);
      if (this.over) break;
    }
    return this.#ends && !this.over ? this.end() : this.#ends;
  }

  #pass(bytes: Buffer): void {
    const { scrubber, out } = this.#options;
    out(scrubber === null ? bytes : scrubber.push(bytes));
  }

  #handOut(atEnd: boolean): boolean {
    const { reader, handOut, ask } = this.#options;
    const held = reader?.held?.() ?? null;
    if (held !== null && ask !== undefined) {
      this.#isWorking = true;
      ask(held);
      return true;
    }
    const large = reader?.takeLarge?.(atEnd) ?? null;
    if (large === null) return false;
    this.#isWorking = true;
    this.#away = large.length;
    handOut(large, reader?.save?.());
    return true;
  }
}

const empty = Buffer.alloc(0);
