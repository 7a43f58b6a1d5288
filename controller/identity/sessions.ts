/**
 * Who is signed in to the page. The cookie is a random text that says nothing; only its digest is kept, in memory: when
 * the controller starts anew, people sign in again.
 */
import { timingSafeEqual } from "node:crypto";
import type { SignedIn } from "./claims.ts";
import { digest, randomText } from "./pending.ts";

export const sessionMsMax = 12 * 3_600_000;
const idleMsMax = 3_600_000;
/** Beyond this the longest idle goes. */
const sessionsMax = 10_000;

export interface PageSession {
  /** When he signed in. */
  readonly atMs: number;
  readonly person: SignedIn;
  /** Comes back in a header with everything that changes something. */
  readonly csrf: string;
}

interface Kept extends PageSession {
  seenMs: number;
}

export class PageSessions {
  readonly #all = new Map<string, Kept>();
  readonly #now: () => number;

  constructor(now: () => number) {
    this.#now = now;
  }

  /** The cookie's value. Always a new one: what a browser had before it signed in is worth nothing. */
  open(person: SignedIn): string {
    const oldest = this.#all.keys().next();
    if (this.#all.size >= sessionsMax && oldest.done === false) this.#all.delete(oldest.value);
    const id = randomText();
    const now = this.#now();
    this.#all.set(keyOf(id), { person, csrf: randomText(), atMs: now, seenMs: now });
    return id;
  }

  get(id: string): PageSession | null {
    const key = keyOf(id);
    const kept = this.#all.get(key);
    if (kept === undefined) return null;
    const now = this.#now();
    this.#all.delete(key);
    if (now - kept.atMs > sessionMsMax || now - kept.seenMs > idleMsMax) return null;
    kept.seenMs = now;
    // Back at the end: the first in the map is the longest idle.
    this.#all.set(key, kept);
    return kept;
  }

  close(id: string): SignedIn | null {
    const key = keyOf(id);
    const person = this.#all.get(key)?.person ?? null;
    this.#all.delete(key);
    return person;
  }

  /** Of a subject of this issuer, or one session there. */
  end(issuer: string, subject: string | null, sid: string | null): void {
    for (const [key, { person }] of this.#all) {
      if (person.issuer !== issuer) continue;
      // With both said, only that session ends (Back-Channel Logout 1.0, section 2.4).
      if (sid !== null ? person.sid !== sid : person.subject !== subject) continue;
      this.#all.delete(key);
    }
  }
}

export function sameText(a: string, b: string): boolean {
  return timingSafeEqual(digest(a), digest(b));
}

function keyOf(id: string): string {
  return digest(id).toString("base64url");
}
