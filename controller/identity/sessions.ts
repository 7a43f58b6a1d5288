/**
 * Who is signed in to the page. The cookie is a random text that says nothing; only its digest is kept, in the store:
 * every controller on it knows the session, and none of them could make the cookie.
 */
import { createHmac } from "node:crypto";
import type { SignedIn } from "./claims.ts";
import { type Ended, idleMsMax, type SignInStore, sessionMsMax } from "./kept.ts";
import { keyOf, randomText } from "./pending.ts";

/** That somebody was here is written this often: an idle session may end so much earlier. */
const seenEveryMs = 60_000;

export interface PageSession {
  /** When he signed in. */
  readonly atMs: number;
  readonly person: SignedIn;
  /** Comes back in a header with everything that changes something. */
  readonly csrf: string;
}

export class PageSessions {
  readonly #store: SignInStore;
  readonly #now: () => number;

  constructor(store: SignInStore, now: () => number) {
    this.#store = store;
    this.#now = now;
  }

  /** The cookie's value. Always a new one: what a browser had before it signed in is worth nothing. */
  async open(person: SignedIn): Promise<string> {
    const id = randomText();
    const now = this.#now();
    await this.#store.addSession({ key: keyOf(id), person, atMs: now, seenMs: now });
    return id;
  }

  async get(id: string): Promise<PageSession | null> {
    const key = keyOf(id);
    const kept = await this.#store.session(key);
    if (kept === null) return null;
    const now = this.#now();
    const { person, atMs, seenMs } = kept;
    if (now - atMs > sessionMsMax || now - seenMs > idleMsMax) {
      await this.#store.removeSession(key);
      return null;
    }
    if (now - seenMs >= seenEveryMs) await this.#store.seenSession(key, now);
    return { person, atMs, csrf: csrfOf(id) };
  }

  close(id: string): Promise<SignedIn | null> {
    return this.#store.removeSession(keyOf(id));
  }

  /** Of a subject of this issuer, or one session there, whenever it began. */
  end(whose: Ended): Promise<void> {
    return this.#store.endSessions(whose, Number.MAX_SAFE_INTEGER);
  }
}

/** Made of the cookie, so that it need not be kept; the cookie cannot be made of it. */
function csrfOf(id: string): string {
  return createHmac("sha256", id).update("weir page csrf").digest("base64url");
}
