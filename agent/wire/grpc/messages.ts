/** Messages of one way of a call, changed one after the other; what is long is left for the thread of long bodies. */
import { asBuffer, type LargeReply, largeBodyBytesMin } from "../http/large-body.ts";
import { LongParts } from "../http/long-parts.ts";
import { type Frame, FrameReader, messageBytesMax, plainMessage } from "./frames.ts";

export abstract class MessageByMessage {
  readonly #frames = new FrameReader();
  readonly #parts: LongParts<Frame>;
  /** What may still be read in this turn: some bytes of gzip are a thousand times as many, and many fit in one read. */
  #left = 0;

  constructor(coding: string) {
    this.#parts = new LongParts<Frame>({
      raw: ({ raw }) => raw,
      change: (frame, mayDefer) => {
        const message = plainMessage(frame, coding, mayDefer ? this.#left : messageBytesMax);
        if (message === "long") return mayDefer ? null : this.message(frame, null);
        this.#left -= message?.length ?? 0;
        return this.message(frame, message);
      },
    });
  }

  /** What leaves in place of it. `message` is it without compression; null: that cannot be undone. */
  protected abstract message(frame: Frame, message: Buffer | null): Buffer;

  get heldBytes(): number {
    return this.#frames.heldBytes + this.#parts.heldBytes;
  }

  /** The stream ended in the middle of a message, if it ended here. */
  protected get isOpen(): boolean {
    return this.#frames.isOpen;
  }

  defer(): void {
    this.#parts.defer();
  }

  push(bytes: Buffer): Buffer {
    this.#left = largeBodyBytesMin;
    // What comes in may be a view of a buffer that is read into again.
    return this.#parts.pass(this.#frames.push(Buffer.from(bytes)));
  }

  takeLarge(): Buffer | null {
    return this.#parts.takeLarge();
  }

  worked({ body }: LargeReply): Buffer {
    this.#left = largeBodyBytesMin;
    return this.#parts.goOn(asBuffer(body));
  }
}
