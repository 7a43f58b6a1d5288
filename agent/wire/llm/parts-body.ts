/** A streamed reply as the parts that it is cut into, each changed by itself; a long one is handed out. */
import { largeBodyBytesMin } from "../http/large-body.ts";
import { LongParts } from "../http/long-parts.ts";
import type { StreamBody } from "./api.ts";
import type { StreamRewriter } from "./message-leaves.ts";

export abstract class PartsBody<Part> implements StreamBody {
  /** Has the counts, and changes what the parts say. */
  protected readonly rewriter: StreamRewriter;
  readonly #parts: LongParts<Part>;

  constructor(rewriter: StreamRewriter) {
    this.rewriter = rewriter;
    this.#parts = new LongParts<Part>({
      raw: (part) => this.raw(part),
      change: (part, mayDefer) => (mayDefer && this.raw(part).length > largeBodyBytesMin ? null : this.change(part)),
    });
  }

  /** The parts that these bytes complete. */
  protected abstract cut(bytes: Buffer): readonly Part[];
  protected abstract raw(part: Part): Buffer;
  protected abstract change(part: Part): Buffer;
  /** One part, of its bytes. */
  protected abstract partOf(raw: Buffer): Part;
  /** Bytes of a part that is not whole. */
  protected abstract get cutBytes(): number;
  abstract end(): Buffer;
  abstract save(): unknown;
  abstract restore(state: never): void;

  get inputTokens(): number | null {
    return this.rewriter.inputTokens;
  }

  get outputTokens(): number | null {
    return this.rewriter.outputTokens;
  }

  get toolCalls(): readonly string[] {
    return this.rewriter.toolCalls;
  }

  get error(): string | null {
    return this.rewriter.error;
  }

  get heldBytes(): number {
    return this.cutBytes + this.#parts.heldBytes;
  }

  push(bytes: Buffer): Buffer {
    return this.#parts.pass(this.cut(bytes));
  }

  defer(): void {
    this.#parts.defer();
  }

  takeLarge(): Buffer | null {
    return this.#parts.takeLarge();
  }

  part(raw: Buffer): Buffer {
    return this.change(this.partOf(raw));
  }

  goOn(first: Buffer): Buffer {
    return this.#parts.goOn(first);
  }
}
