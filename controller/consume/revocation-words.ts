/**
 * What stands on the topic of revocations, and has to go on standing there. A logout ends when no proof of before it counts
 * any more: then a tombstone takes it away. What is taken away before its time, or has an older word written over it, is
 * written again: agents that come later read what compaction has left. A revocation has no end: it holds until it is lifted.
 */
import { logoutKeptMs } from "../../agent/core/identity.ts";
import type { FeedMessage } from "../../agent/kafka/feed.ts";
import type { OutMessage } from "../../agent/kafka/transport.ts";

/** Words that are watched, 1 KB each; those beyond it are after the next start, when others have ended. */
const wordsMax = 100_000;
/** What follows in the topic is read by then. */
const settleMs = 2_000;
const everyMs = 3_600_000;

interface Word {
  readonly message: OutMessage;
  /** Of two with the same key the higher one counts. */
  readonly rank: number;
  /** Null: never. */
  readonly endsAtMs: number | null;
  /** It is not what the topic has last under its key. */
  missing: boolean;
}

export interface RevocationWordsOptions {
  send(message: OutMessage): Promise<void>;
  now(): number;
  log(level: "info" | "warn", message: string): void;
}

export class RevocationWords {
  readonly #options: RevocationWordsOptions;
  readonly #all = new Map<string, Word>();
  readonly #timer: NodeJS.Timeout;
  #settling: NodeJS.Timeout | null = null;

  constructor(options: RevocationWordsOptions) {
    this.#options = options;
    this.#timer = setInterval(() => this.#settle(), everyMs).unref();
  }

  /** Signed by a controller that is trusted. */
  logout(message: FeedMessage, beforeMs: number): void {
    this.#take(message, beforeMs, beforeMs + logoutKeptMs);
  }

  revocation(message: FeedMessage, version: number): void {
    this.#take(message, version, null);
  }

  tombstone(key: string): void {
    const known = this.#all.get(key);
    if (known === undefined) return;
    known.missing = true;
    this.#settle();
  }

  close(): void {
    clearInterval(this.#timer);
    if (this.#settling !== null) clearTimeout(this.#settling);
  }

  #take({ topic, key, value, headers }: FeedMessage, rank: number, endsAtMs: number | null): void {
    const known = this.#all.get(key);
    if (known !== undefined && known.rank > rank) {
      known.missing = true;
      this.#settle();
      return;
    }
    if (known === undefined && this.#all.size >= wordsMax) return;
    const texts = Object.fromEntries(Object.entries(headers).map(([name, text]) => [name, String(text)]));
    this.#all.set(key, { message: { topic, key, value, headers: texts }, rank, endsAtMs, missing: false });
    if (endsAtMs !== null && endsAtMs <= this.#options.now()) this.#settle();
  }

  #settle(): void {
    this.#settling ??= setTimeout(() => {
      this.#settling = null;
      this.#put();
    }, settleMs).unref();
  }

  /** Its own words come back by the feed, and are then what the topic has. */
  #put(): void {
    const { send, now, log } = this.#options;
    for (const [key, { message, endsAtMs, missing }] of this.#all) {
      const over = endsAtMs !== null && endsAtMs <= now();
      if (over && missing) this.#all.delete(key);
      if (over === missing) continue;
      if (missing) log("warn", `revocations: a word that holds was taken from the topic, and is written again: ${key}`);
      send(over ? { ...message, value: null } : message).catch((error: unknown) =>
        log("warn", `revocations: ${error instanceof Error ? error.message : String(error)}`),
      );
    }
  }
}
