/**
 * A batch of which a message was refused or failed. As the server does it, everything up to Sync is skipped; where the
 * server heard of the batch, or has a block open, a text that can only fail goes in place of the refused one.
 */
import { message, readyForQuery } from "./backend-messages.ts";
import { entry } from "./expected.ts";
import { type Fate, type Framer, pass, take } from "./framer.ts";
import { frontend } from "./frontend-messages.ts";
import { inTransaction, type SessionState } from "./state.ts";

/** A syntax error wherever it is read, and the same for every denied statement: its text never gets there. */
const substituteText = Buffer.from("weir_denied_statement\0");
const substituteQuery = message(frontend.query, substituteText);
const substituteParse = message(frontend.parse, Buffer.concat([Buffer.from([0]), substituteText, Buffer.from([0, 0])]));

export class BrokenBatch {
  readonly #state: SessionState;
  readonly #framer: Framer;
  #skipping = false;
  /** The server heard nothing of the batch, so its Sync is answered here. */
  #here = false;

  constructor(state: SessionState, framer: Framer) {
    this.#state = state;
    this.#framer = framer;
  }

  get skipping(): boolean {
    return this.#skipping;
  }

  /** The server failed a message of it. False: there is nothing to skip that is not skipped already. */
  failed(): boolean {
    if (!this.#state.batchDirty || this.#skipping) return false;
    this.#skip(false);
    return true;
  }

  /** What becomes of a message while it is skipped. */
  skip(type: number): Fate {
    const state = this.#state;
    if (type === frontend.terminate) return pass;
    if (type !== frontend.sync) return take;
    this.#skipping = false;
    if (this.#here) {
      this.#framer.flush();
      state.sendClient(readyForQuery(state.transaction));
      return take;
    }
    state.expected.push(entry("sync"));
    state.endBatch();
    return pass;
  }

  /** `extended`: what follows up to Sync is skipped. Else the message was a batch of its own. */
  refuse(response: Buffer, extended: boolean): void {
    const state = this.#state;
    this.#framer.flush();
    if (this.#unheard()) {
      state.sendClient(response);
      if (extended) this.#skip(true);
      else state.sendClient(readyForQuery(state.transaction));
      return;
    }
    state.sendServer(extended ? substituteParse : substituteQuery);
    state.expected.push(entry(extended ? "parse" : "query", { response }));
    if (extended) {
      this.#skip(false);
      state.batchDirty = true;
    } else state.endBatch();
  }

  #skip(here: boolean): void {
    this.#skipping = true;
    this.#here = here;
  }

  /** True when the server has nothing in flight and no block that would have to fail. */
  #unheard(): boolean {
    const state = this.#state;
    return state.expected.length === 0 && !state.batchDirty && state.transaction !== inTransaction;
  }
}
