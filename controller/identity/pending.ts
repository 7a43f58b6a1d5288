/**
 * Sign-ins that are under way: what was sent along to the issuer and has to come back, once, to the same browser. The
 * browser holds a random cookie, of which only the digest is kept here.
 */
import { createHash, randomBytes, timingSafeEqual } from "node:crypto";

const pendingMsMax = 10 * 60_000;
/** Beyond this the oldest go: whoever asks for many does not keep others out for longer than they take. */
const pendingMax = 10_000;

interface Pending<Value> {
  readonly value: Value;
  readonly browser: Buffer;
  readonly atMs: number;
}

export class PendingSignIns<Value> {
  readonly #all = new Map<string, Pending<Value>>();
  readonly #now: () => number;

  constructor(now: () => number) {
    this.#now = now;
  }

  add(key: string, browser: string, value: Value): void {
    for (const [known, { atMs }] of this.#all) {
      if (this.#all.size < pendingMax && this.#now() - atMs <= pendingMsMax) break;
      this.#all.delete(known);
    }
    this.#all.set(key, { value, browser: digest(browser), atMs: this.#now() });
  }

  /** Null: nothing of that key is under way in this browser. Taken once, also when the browser is a wrong one. */
  take(key: string, browser: string): Value | null {
    const pending = this.#all.get(key);
    this.#all.delete(key);
    if (pending === undefined || this.#now() - pending.atMs > pendingMsMax) return null;
    return timingSafeEqual(pending.browser, digest(browser)) ? pending.value : null;
  }
}

export function randomText(): string {
  return randomBytes(32).toString("base64url");
}

export function digest(text: string): Buffer {
  return createHash("sha256").update(text).digest();
}
