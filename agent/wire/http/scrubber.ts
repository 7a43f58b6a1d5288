/** Overwrites secrets in a stream of bytes; holds back only what a secret could still begin with. */
import type { ReplyReader, ReplySummary } from "./dialect.ts";

/** A shorter secret would be found in every other text. */
export const scrubbedBytesMin = 6;
/** In place of each byte of a secret. */
export const star = 0x2a;

export const noSummary: ReplySummary = {
  ...{ text: "", inputTokens: null, outputTokens: null },
  ...{ toolCalls: [], error: null },
};

export class BodyScrubber implements ReplyReader {
  readonly preservesLength = true;
  masked = 0;
  readonly #secrets: readonly Buffer[];
  readonly #heldBytesMin: number;
  #held = Buffer.alloc(0);

  constructor(secrets: readonly Buffer[], heldBytesMin: number) {
    this.#secrets = secrets;
    this.#heldBytesMin = heldBytesMin;
  }

  get heldBytes(): number {
    return this.#held.length;
  }

  push(bytes: Buffer): Buffer {
    const all = this.#held.length === 0 ? bytes : Buffer.concat([this.#held, bytes]);
    for (const secret of this.#secrets) {
      for (let at = all.indexOf(secret); at >= 0; at = all.indexOf(secret, at + secret.length)) {
        all.fill(star, at, at + secret.length);
        this.masked += 1;
      }
    }
    const begun = openBytes(all, this.#secrets);
    const open = begun < this.#heldBytesMin ? 0 : begun;
    this.#held = Buffer.from(all.subarray(all.length - open));
    return all.subarray(0, all.length - open);
  }

  end(): Buffer {
    const last = this.#held;
    this.#held = Buffer.alloc(0);
    return last;
  }

  summary(): ReplySummary {
    return noSummary;
  }
}

/** Of a part of a body: what looks much like the end of a secret at its beginning, or like a beginning at its end, is hidden too. */
export class PartScrubber implements ReplyReader {
  readonly preservesLength = true;
  readonly #secrets: readonly Buffer[];
  readonly #body: BodyScrubber;
  /** The beginning, as long as a secret; null: it has been looked at. */
  #start: Buffer | null = Buffer.alloc(0);
  #masked = 0;

  constructor(secrets: readonly Buffer[]) {
    this.#secrets = secrets;
    this.#body = new BodyScrubber(secrets, 1);
  }

  get masked(): number {
    return this.#masked + this.#body.masked;
  }

  get heldBytes(): number {
    return (this.#start?.length ?? 0) + this.#body.heldBytes;
  }

  push(bytes: Buffer): Buffer {
    if (this.#start === null) return this.#body.push(bytes);
    this.#start = Buffer.concat([this.#start, bytes]);
    const longest = this.#secrets.reduce((most, secret) => Math.max(most, secret.length), 0);
    return this.#start.length < longest ? empty : this.#begin(this.#start);
  }

  #begin(start: Buffer): Buffer {
    this.#start = null;
    let closed = 0;
    for (const secret of this.#secrets) {
      for (let size = Math.min(secret.length - 1, start.length); size >= scrubbedBytesMin && size > closed; size -= 1)
        if (secret.compare(start, 0, size, secret.length - size) === 0) closed = size;
    }
    if (closed > 0) this.#masked += 1;
    start.fill(star, 0, closed);
    return this.#body.push(start);
  }

  end(): Buffer {
    const before = this.#start === null ? empty : this.#begin(this.#start);
    const last = this.#body.end();
    if (last.length >= scrubbedBytesMin) {
      last.fill(star);
      this.#masked += 1;
    }
    return Buffer.concat([before, last]);
  }

  summary(): ReplySummary {
    return noSummary;
  }
}

const empty: Buffer = Buffer.alloc(0);

/** Length of the longest end of `bytes` that a secret begins with. */
export function openBytes(bytes: Buffer, secrets: readonly Buffer[]): number {
  let open = 0;
  for (const secret of secrets) {
    for (let size = Math.min(secret.length - 1, bytes.length); size > open; size -= 1) {
      if (bytes[bytes.length - size] !== secret[0]) continue;
      if (bytes.compare(secret, 0, size, bytes.length - size, bytes.length) === 0) open = size;
    }
  }
  return open;
}
