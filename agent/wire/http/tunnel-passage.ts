/** Both ways of a connection after a 101, as far as they are read: masked, scrubbed, decided message by message. */

import { WeirError } from "../../errors.ts";
import type { ReplyReader, ReplySummary, Tunnel } from "./dialect.ts";
import { closeFrame, FrameBorder } from "./frame-border.ts";
import type { LargeFailure, LargeMessage, LargeReplied } from "./large-body.ts";
import { ReplyBody } from "./reply-body.ts";
import { TunnelDecisions, type TunnelDecisionsOptions } from "./tunnel-decisions.ts";

export interface TunnelPassageOptions {
  /** Reads what the server sends; null: it passes as it is. */
  readonly reader: ReplyReader | null;
  readonly scrubber: ReplyReader | null;
  /** What the client sends is decided message by message; null: it passes as it is. */
  readonly tunnel: Tunnel | null;
  readonly decisions: Omit<TunnelDecisionsOptions, "tell">;
  /** Frames that are not read: where a last word may stand has to be known. */
  readonly isUnreadWebSocket: boolean;
  out(bytes: Buffer): void;
  handOut(body: Buffer, stream: unknown): void;
}

export class TunnelPassage {
  readonly decisions: TunnelDecisions | null;
  readonly #body: ReplyBody;
  readonly #border: FrameBorder | null;
  readonly #out: (bytes: Buffer) => void;

  constructor({ reader, scrubber, tunnel, decisions, isUnreadWebSocket, out, handOut }: TunnelPassageOptions) {
    const tell = (bytes: Buffer): void => this.#body.tell(bytes);
    this.decisions = tunnel === null ? null : new TunnelDecisions(tunnel, { ...decisions, tell });
    this.#border = isUnreadWebSocket ? new FrameBorder() : null;
    const counted = (bytes: Buffer): void => {
      if (bytes.length > 0) this.#border?.push(bytes);
      out(bytes);
    };
    this.#out = counted;
    this.#body = new ReplyBody({ reader: tunnel?.reply ?? reader, scrubber, handOut, out: counted });
  }

  get heldBytes(): number {
    return (this.decisions?.heldBytes ?? 0) + this.#body.heldBytes;
  }

  get masked(): number {
    return this.#body.masked;
  }

  /** Nothing more of it is worth reading. */
  get over(): boolean {
    return this.#body.over;
  }

  summary(): ReplySummary | null {
    return this.#body.summary();
  }

  /** What the server sends. */
  server(bytes: Buffer): void {
    this.#body.push(bytes);
    this.decisions?.answered();
  }

  /** A long message of the server's is back. */
  worked(done: LargeReplied): void {
    this.#body.worked(done);
    this.decisions?.answered();
  }

  /** What the client sends, where it is read. */
  client(bytes: Buffer): void {
    this.#client(() => this.decisions?.push(bytes));
  }

  /** A long message of the client's is back. */
  clientWorked(done: LargeMessage | LargeFailure): void {
    this.#client(() => this.decisions?.worked(done));
  }

  #client(work: () => void): void {
    try {
      work();
    } catch (error) {
      if (error instanceof WeirError) this.#body.tell(this.decisions?.farewell(`Weir: ${error.message}`) ?? empty);
      throw error;
    }
  }

  /** `farewell`: what the client is told, where it ends on our side. */
  end(farewell: string): void {
    this.decisions?.close(farewell === "" ? "the connection was closed" : farewell);
    if (farewell !== "" && this.decisions !== null) this.#body.tell(this.decisions.farewell(farewell));
    this.#body.stop(farewell === "" || this.decisions === null);
    // In the middle of a frame of the server there is no word that the client would understand.
    if (farewell !== "" && this.#border?.isOpen === true) this.#out(closeFrame(farewell));
  }
}

const empty = Buffer.alloc(0);
