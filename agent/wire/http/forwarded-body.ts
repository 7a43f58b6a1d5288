/**
 * The body of a request that goes on while it is answered, on its way to the server: read and changed part by part. What
 * is too long to be worked on in one go is handed out, and the rest waits behind it.
 */
import type { ReplyReader } from "./dialect.ts";
import type { LargeReplied } from "./large-body.ts";
import { ReplyBody } from "./reply-body.ts";

export interface ForwardedBodyOptions {
  readonly reader: ReplyReader;
  handOut(part: Buffer): void;
  send(bytes: Buffer): void;
  sendEnd(): void;
  /** Something of it cannot be read, or may not pass. */
  failed(error: unknown): void;
}

export class ForwardedBody {
  readonly #options: ForwardedBodyOptions;
  readonly #body: ReplyBody;

  constructor(options: ForwardedBodyOptions) {
    const { reader, handOut } = options;
    this.#options = options;
    const out = (bytes: Buffer): void => {
      if (bytes.length > 0) options.send(bytes);
    };
    this.#body = new ReplyBody({ reader, scrubber: null, handOut, out });
  }

  get heldBytes(): number {
    return this.#body.heldBytes;
  }

  get isWorking(): boolean {
    return this.#body.isWorking;
  }

  push(bytes: Buffer): void {
    this.#try(() => {
      this.#body.push(bytes);
      return false;
    });
  }

  end(): void {
    this.#try(() => this.#body.end());
  }

  worked(done: LargeReplied): void {
    this.#try(() => this.#body.worked(done));
  }

  /** `pass` says whether all of it has left. */
  #try(pass: () => boolean): void {
    try {
      if (pass()) this.#options.sendEnd();
    } catch (error) {
      this.#options.failed(error);
    }
  }
}
