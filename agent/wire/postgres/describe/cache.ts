/**
 * Two generations of texts: a hit in the young one is a single Map look-up; one in the old is moved up. When the
 * young generation is full it becomes the old one, so what was not used for a whole generation goes.
 */
import type { StatementInfo } from "./statement-info.ts";

/** Of one generation; both together hold at most twice as many. */
export const describeCacheEntriesMax = 4096;
/** Of one generation: bytes taken, by `costOf`. */
export const describeCacheBytesMax = 8 * 1024 * 1024;
/** A longer text is described each time: bulk inserts never come twice. */
export const describeCacheTextLengthMax = 32 * 1024;

export class InfoCache {
  #young = new Map<string, StatementInfo>();
  #old = new Map<string, StatementInfo>();
  #youngBytes = 0;

  get(text: string): StatementInfo | undefined {
    const hit = this.#young.get(text);
    if (hit !== undefined) return hit;
    const old = this.#old.get(text);
    if (old !== undefined) this.set(text, old);
    return old;
  }

  set(text: string, info: StatementInfo): void {
    if (text.length > describeCacheTextLengthMax) return;
    const bytes = costOf(text, info);
    if (this.#young.size >= describeCacheEntriesMax || this.#youngBytes + bytes > describeCacheBytesMax) {
      this.#old = this.#young;
      this.#young = new Map();
      this.#youngBytes = 0;
    }
    this.#young.set(text, info);
    this.#youngBytes += bytes;
  }

  get size(): number {
    return this.#young.size + this.#old.size;
  }

  clear(): void {
    this.#young.clear();
    this.#old.clear();
    this.#youngBytes = 0;
  }
}

/** A rough upper estimate: two bytes a character, an object, and each word in a list or set. */
function costOf(text: string, info: StatementInfo): number {
  const words =
    info.verbs.length + info.relations.length + info.columns.length + info.functions.length + info.traits.length;
  return 800 + text.length * 2 + (words + info.flow.mentioned.size + info.flow.tables.length) * 48;
}
