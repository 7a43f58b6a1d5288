/**
 * Sign-ins that are under way: what was sent along to the issuer and has to come back, once, to the same browser. The
 * browser holds a random cookie, of which only the digest is kept here.
 */
import { createHash, randomBytes, timingSafeEqual } from "node:crypto";
import type { KeptOnce, SignInStore } from "./kept.ts";

const pendingMsMax = 10 * 60_000;

interface Pending<Value> {
  readonly value: Value;
  readonly browser: string;
}

export class PendingSignIns<Value> {
  readonly #store: SignInStore;
  readonly #kind: KeptOnce["kind"];
  readonly #now: () => number;

  constructor(store: SignInStore, kind: KeptOnce["kind"], now: () => number) {
    this.#store = store;
    this.#kind = kind;
    this.#now = now;
  }

  async add(key: string, browser: string, value: Value): Promise<void> {
    const pending: Pending<Value> = { value, browser: keyOf(browser) };
    const now = this.#now();
    await this.#store.keep(
      { kind: this.#kind, key: keyOf(key), value: JSON.stringify(pending), untilMs: now + pendingMsMax },
      now,
      // Whoever begins many does not keep others out for longer than they take.
      "evict",
    );
  }

  /** Null: nothing of that key is under way in this browser. Taken once, also when the browser is a wrong one. */
  async take(key: string, browser: string): Promise<Value | null> {
    const found = await this.#store.take(this.#kind, keyOf(key), this.#now());
    if (found === null) return null;
    const pending = JSON.parse(found) as Pending<Value>;
    return sameText(pending.browser, keyOf(browser)) ? pending.value : null;
  }
}

export function randomText(): string {
  return randomBytes(32).toString("base64url");
}

export function sameText(a: string, b: string): boolean {
  return timingSafeEqual(digest(a), digest(b));
}

/** Under which a secret is kept. */
export function keyOf(secret: string): string {
  return digest(secret).toString("base64url");
}

function digest(text: string): Buffer {
  return createHash("sha256").update(text).digest();
}
