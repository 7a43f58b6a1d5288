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
        if (message === "long") return mayDefer ? null : this.message(frame, null, mayDefer);
        this.#left -= message?.length ?? 0;
        return this.message(frame, message, mayDefer);
      },
    });
  }

  /**
   * What leaves in place of it; null: it has to wait (`mayWait`). `message` is it without compression; null: that cannot
   * be undone.
   */
  protected abstract message(frame: Frame, message: Buffer | null, mayWait: boolean): Buffer | null;

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
    return this.goOn(asBuffer(body));
  }

  /** `first` leaves in place of the message that waited, and then those behind it. */
  protected goOn(first: Buffer): Buffer {
    this.#left = largeBodyBytesMin;
    return this.#parts.goOn(first);
  }
}
