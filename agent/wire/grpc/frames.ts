/** Messages of a gRPC stream, each behind a flag byte and its length ("Length-Prefixed-Message"). */
import { gunzipSync, inflateSync } from "node:zlib";
import { WeirError } from "../../errors.ts";

/** Of one message, compressed or not, where it has to be read; gRPC's own default is 4 MiB. */
export const messageBytesMax = 16 * 1024 * 1024;
const headBytes = 5;

export interface Frame {
  readonly isCompressed: boolean;
  readonly message: Buffer;
  /** With its head, as it came. */
  readonly raw: Buffer;
}

/** Takes whole messages out of bytes that come in any pieces. */
export class FrameReader {
  #parts: Buffer[] = [];
  #bytes = 0;

  get heldBytes(): number {
    return this.#bytes;
  }

  /** Throws WEIR_FRAME_TOO_LARGE before a message is waited for that is too long. */
  push(bytes: Buffer): Frame[] {
    if (bytes.length > 0) this.#parts.push(bytes);
    this.#bytes += bytes.length;
    const frames: Frame[] = [];
    for (let needed = this.#needed(); this.#bytes >= needed && this.#bytes > 0; needed = this.#needed()) {
      const all = this.#joined();
      if (all.length < headBytes) break;
      const raw = all.subarray(0, needed);
      const flag = raw[0] as number;
      if (flag > 1) throw new WeirError("WEIR_FRAME_INVALID", `A gRPC message has the flag ${flag}.`);
      frames.push({ isCompressed: flag === 1, message: raw.subarray(headBytes), raw });
      this.#parts = needed < all.length ? [all.subarray(needed)] : [];
      this.#bytes = all.length - needed;
    }
    return frames;
  }

  /** Bytes of the message at hand from its beginning on, or of its head as long as that is not there. */
  get neededBytes(): number {
    return this.#needed();
  }

  /** True when the stream ended in the middle of a message. */
  get isOpen(): boolean {
    return this.#bytes > 0;
  }

  /** Bytes of the next frame, as far as its head is there. */
  #needed(): number {
    if (this.#bytes < headBytes) return headBytes;
    let first = this.#parts[0] as Buffer;
    if (first.length < headBytes) first = this.#joined();
    const length = first.readUInt32BE(1);
    if (length > messageBytesMax)
      throw new WeirError("WEIR_FRAME_TOO_LARGE", `A gRPC message is longer than ${messageBytesMax} bytes.`);
    return headBytes + length;
  }

  #joined(): Buffer {
    if (this.#parts.length !== 1) this.#parts = [Buffer.concat(this.#parts, this.#bytes)];
    return this.#parts[0] as Buffer;
  }
}

export function frameOf(message: Buffer): Buffer {
  const head = Buffer.alloc(headBytes);
  head.writeUInt32BE(message.length, 1);
  return Buffer.concat([head, message]);
}

/**
 * The message as it is without its compression; null: the coding is not known, or it cannot be undone. `long`: there is
 * more of it than `bytesMax`.
 */
export function plainMessage(
  { isCompressed, message }: Frame,
  coding: string,
  bytesMax: number,
): Buffer | null | "long" {
  if (message.length > bytesMax) return "long";
  if (!isCompressed) return message;
  const options = { maxOutputLength: bytesMax };
  try {
    if (coding === "gzip") return gunzipSync(message, options);
    if (coding === "deflate") return inflateSync(message, options);
  } catch (error) {
    return (error as { code?: unknown }).code === "ERR_BUFFER_TOO_LARGE" ? "long" : null;
  }
  return null;
}
