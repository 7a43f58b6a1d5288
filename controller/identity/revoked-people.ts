/** Who is revoked or has logged out, as the topic says: the page lets him in no more, whichever controller heard it. */
import type { LogoutWord } from "../../agent/kafka/logout-messages.ts";
import type { RevocationWord } from "../../agent/kafka/revocation-messages.ts";
import type { SignedIn } from "./claims.ts";

/** Logouts that are remembered; beyond them the oldest go, and sign-ins last `sessionMsMax` anyway. */
const logoutsMax = 10_000;

export class RevokedPeople {
  readonly #revoked = new Map<string, RevocationWord>();
  readonly #loggedOut = new Map<string, number>();

  /** False: of this identity a newer word is known, so it changes nothing. */
  revocation(word: RevocationWord): boolean {
    const key = nameOf(word.issuer, word.subject, null);
    if (word.version <= (this.#revoked.get(key)?.version ?? 0)) return false;
    this.#revoked.set(key, word);
    return true;
  }

  logout({ issuer, subject, sid, beforeMs }: LogoutWord): void {
    const key = sid === null ? nameOf(issuer, subject, null) : nameOf(issuer, null, sid);
    const before = this.#loggedOut.get(key) ?? 0;
    this.#loggedOut.delete(key);
    this.#loggedOut.set(key, Math.max(before, beforeMs));
    if (this.#loggedOut.size > logoutsMax) this.#loggedOut.delete(this.#loggedOut.keys().next().value as string);
  }

  /** Why somebody who signed in then is not believed any more; null: nothing against him. */
  against({ subject, issuer, sid }: SignedIn, sinceMs: number): string | null {
    for (const whose of [issuer, null]) {
      const word = this.#revoked.get(nameOf(whose, subject, null));
      if (word?.revoked) return `${subject} is revoked${word.reason === "" ? "" : `: ${word.reason}`}.`;
    }
    const keys = [nameOf(issuer, subject, null), ...(sid === null ? [] : [nameOf(issuer, null, sid)])];
    return keys.some((key) => sinceMs <= (this.#loggedOut.get(key) ?? 0)) ? `${subject} has logged out.` : null;
  }
}

function nameOf(issuer: string | null, subject: string | null, sid: string | null): string {
  return JSON.stringify([issuer, subject, sid]);
}
