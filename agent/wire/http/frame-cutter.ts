/** Cuts what a server sends over a WebSocket at the borders of its frames (RFC 6455 §5.2), for who masks and who scrubs. */
import { WeirError } from "../../errors.ts";

/** Two bytes, a length of eight, and a key of four. */
const headBytesMax = 14;
/** §5.5: a control frame's payload is no longer. */
export const controlBytesMax = 125;

export interface FrameTaker {
  begin(head: Buffer, length: number): void;
  /** In pieces, as they come. */
  payload(bytes: Buffer): void;
  end(): void;
}

export class FrameCutter {
  readonly #taker: FrameTaker;
  #head = Buffer.alloc(0);
  /** Of the payload of the frame at hand. */
  #left = 0;

  constructor(taker: FrameTaker) {
    this.#taker = taker;
  }

  get heldBytes(): number {
    return this.#head.length;
  }

  push(bytes: Buffer): void {
    let at = 0;
    while (at < bytes.length) {
      if (this.#left === 0) {
        this.#head = Buffer.concat([this.#head, bytes.subarray(at, at + 1)]);
        at += 1;
        const length = payloadLength(this.#head);
        if (length === null) continue;
        this.#begin(length);
      } else {
        const size = Math.min(this.#left, bytes.length - at);
        this.#left -= size;
        this.#taker.payload(bytes.subarray(at, at + size));
        at += size;
      }
      if (this.#left === 0) this.#taker.end();
    }
  }

  #begin(length: number): void {
    const head = this.#head;
    this.#head = Buffer.alloc(0);
    if (((head[0] as number) & 0x70) !== 0)
      throw new WeirError("WEIR_MASK_IMPOSSIBLE", "A WebSocket frame uses an extension, and cannot be read.");
    this.#left = length;
    this.#taker.begin(head, length);
  }
}

/** null: the head is not whole yet. A server's frames carry no masking key (§5.1). */
function payloadLength(head: Buffer): number | null {
  if (head.length < 2) return null;
  const second = head[1] as number;
  if ((second & 0x80) !== 0) throw new WeirError("WEIR_FRAME_INVALID", "A server's WebSocket frame has a masking key.");
  if (second < 126) return second;
  if (second === 126) return head.length < 4 ? null : head.readUInt16BE(2);
  if (head.length < 10) return null;
  const length = head.readBigUInt64BE(2);
  if (length > BigInt(Number.MAX_SAFE_INTEGER) || head.length > headBytesMax)
    throw new WeirError("WEIR_FRAME_INVALID", "A WebSocket frame has no valid length.");
  return Number(length);
}
