/** Both ways of a connection after a 101, as far as they are read: masked, scrubbed, decided message by message. */
import { WeirError } from "../../errors.ts";
import type { ReplyReader, ReplySummary } from "./dialect.ts";
import { closeFrame, FrameBorder } from "./frame-border.ts";
import type { TunnelDecisions } from "./tunnel-decisions.ts";

export interface TunnelPassageOptions {
  /** Reads what the server sends; null: it passes as it is. */
  readonly reader: ReplyReader | null;
  readonly scrubber: ReplyReader | null;
  /** What the client sends is decided message by message; `tell` is where it tells the client something. */
  readonly decisions: ((tell: (bytes: Buffer) => void) => TunnelDecisions) | null;
  /** Frames that are not read: where a last word may stand has to be known. */
  readonly isUnreadWebSocket: boolean;
  out(bytes: Buffer): void;
}

export class TunnelPassage {
  readonly decisions: TunnelDecisions | null;
  readonly #reader: ReplyReader | null;
  readonly #scrubber: ReplyReader | null;
  readonly #border: FrameBorder | null;
  readonly #out: (bytes: Buffer) => void;

  constructor({ reader, scrubber, decisions, isUnreadWebSocket, out }: TunnelPassageOptions) {
    this.decisions = decisions?.((bytes) => this.#tell(bytes)) ?? null;
    this.#reader = this.decisions?.reply ?? reader;
    this.#scrubber = scrubber;
    this.#border = isUnreadWebSocket ? new FrameBorder() : null;
    this.#out = (bytes) => {
      if (bytes.length > 0) this.#border?.push(bytes);
      out(bytes);
    };
  }

  get heldBytes(): number {
    return (this.decisions?.heldBytes ?? 0) + (this.#reader?.heldBytes ?? 0) + (this.#scrubber?.heldBytes ?? 0);
  }

  get masked(): number {
    return (this.#reader?.masked ?? 0) + (this.#scrubber?.masked ?? 0);
  }

  /** Nothing more of it is worth reading. */
  get over(): boolean {
    return this.#reader?.over === true;
  }

  summary(): ReplySummary | null {
    return this.#reader?.summary() ?? null;
  }

  /** What the server sends. */
  server(bytes: Buffer): void {
    this.#tell(this.#reader === null ? bytes : this.#reader.push(bytes));
    this.decisions?.answered();
  }

  /** What the client sends, where it is read. */
  client(bytes: Buffer): void {
    try {
      this.decisions?.push(bytes);
    } catch (error) {
      if (error instanceof WeirError) this.#tell(this.decisions?.farewell(`Weir: ${error.message}`) ?? empty);
      throw error;
    }
  }

  /** `farewell`: what the client is told, where it ends on our side. */
  end(farewell: string): void {
    this.decisions?.close(farewell === "" ? "the connection was closed" : farewell);
    const isTold = farewell !== "" && this.decisions !== null;
    this.#tell(isTold ? this.decisions.farewell(farewell) : (this.#reader?.end() ?? empty));
    if (this.#scrubber !== null) this.#out(this.#scrubber.end());
    // In the middle of a frame of the server there is no word that the client would understand.
    if (farewell !== "" && this.#border?.isOpen === true) this.#out(closeFrame(farewell));
  }

  /** In order behind what is held back, whoever says it. */
  #tell(bytes: Buffer): void {
    this.#out(this.#scrubber === null ? bytes : this.#scrubber.push(bytes));
  }
}

const empty = Buffer.alloc(0);
