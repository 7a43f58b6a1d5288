/**
 * Where the frames of a WebSocket end (RFC 6455 §5.2), so that a last word can be put between two of them. Nothing is
 * held and nothing is judged: only heads are looked at.
 */
const headBytesMax = 14;
const opClose = 8;
/** §5.5: a control frame's payload is no longer. */
const controlBytesMax = 125;
/** §7.4.1: a message, or who sends it, is against a policy. */
const policyViolation = 1008;

export class FrameBorder {
  readonly #head = Buffer.alloc(headBytesMax);
  #headBytes = 0;
  /** Of the payload of the frame at hand. */
  #left = 0;
  #closed = false;

  /** True: a frame of ours may go out now; after a close frame none may. */
  get isOpen(): boolean {
    return this.#headBytes === 0 && this.#left === 0 && !this.#closed;
  }

  push(bytes: Buffer): void {
    let at = 0;
    while (at < bytes.length) {
      if (this.#left > 0) {
        const size = Math.min(this.#left, bytes.length - at);
        this.#left -= size;
        at += size;
        continue;
      }
      this.#head[this.#headBytes] = bytes[at] as number;
      this.#headBytes += 1;
      at += 1;
      this.#begin();
    }
  }

  #begin(): void {
    const head = this.#head;
    const second = head[1] as number;
    const short = second & 0x7f;
    const wide = short === 126 ? 2 : short === 127 ? 8 : 0;
    if (this.#headBytes < 2 || this.#headBytes < 2 + wide + ((second & 0x80) === 0 ? 0 : 4)) return;
    this.#headBytes = 0;
    this.#left = wide === 0 ? short : wide === 2 ? head.readUInt16BE(2) : Number(head.readBigUInt64BE(2));
    if (((head[0] as number) & 0x0f) === opClose) this.#closed = true;
  }
}

/** A server's close frame: it carries no masking key. */
export function closeFrame(reason: string): Buffer {
  let text = reason;
  while (Buffer.byteLength(text) > controlBytesMax - 2) text = [...text].slice(0, -1).join("");
  const payload = Buffer.from(text);
  const head = Buffer.from([0x80 | opClose, payload.length + 2, policyViolation >> 8, policyViolation & 0xff]);
  return Buffer.concat([head, payload]);
}
