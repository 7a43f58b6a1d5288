/**
 * AWS event stream framing (`application/vnd.amazon.eventstream`), as Bedrock streams its replies.
 * https://docs.aws.amazon.com/AmazonS3/latest/API/RESTSelectObjectAppendix.html and the smithy specification
 * "Amazon Event Stream Specification".
 *
 *     frame   = total:u32 headers:u32 crc(the 8 bytes before):u32 header* payload crc(all before):u32
 *     header  = length:u8 name type:u8 value
 *     value   = nothing (0 true, 1 false) | i8 (2) | i16 (3) | i32 (4) | i64 (5) | u16 bytes (6) | u16 text (7)
 *               | i64 milliseconds (8) | 16 bytes (9)
 */
import { crc32 } from "node:zlib";
import { PeerError } from "../../errors.ts";

/** One header; `value` is the bytes of the wire without their length, whatever the type means. */
export interface EventHeader {
  readonly name: string;
  readonly type: number;
  readonly value: Buffer;
}

export interface EventFrame {
  /** The whole frame as it came: what is not changed leaves as it is. */
  readonly raw: Buffer;
  readonly headers: readonly EventHeader[];
  readonly payload: Buffer;
}

/** A longer frame is refused before a byte of it is kept; Bedrock's own are some hundred bytes, images some MiB. */
export const frameBytesMax = 8 * 1024 * 1024;
/** The specification's limit for the headers of one frame. */
export const frameHeaderBytesMax = 128 * 1024;

const preludeBytes = 12;
const trailerBytes = 4;
export const frameBytesMin = preludeBytes + trailerBytes;

/** Of the header types 0 to 9: how long the value is; -1: a u16 length stands before it. */
const valueBytes = [0, 0, 1, 2, 4, 8, -1, -1, 8, 16] as const;
export const textHeader = 7;

/** Cuts bytes into frames; both checksums are right in every frame that it shows. */
export class EventStreamReader {
  #parts: Buffer[] = [];
  #held = 0;
  /** Length of the frame whose prelude was read; 0: not yet. */
  #wanted = 0;

  get heldBytes(): number {
    return this.#held;
  }

  /** Bytes of the frame at hand from its beginning on, or of its prelude as long as that is not there. */
  get neededBytes(): number {
    return this.#wanted || preludeBytes;
  }

  /** The frames that these bytes complete. Throws a PeerError, after which nothing more may be pushed. */
  push(bytes: Buffer): EventFrame[] {
    const frames: EventFrame[] = [];
    let chunk = bytes;
    if (this.#held > 0) {
      this.#keep(chunk);
      // Short parts are joined when they complete something, so that a frame fed byte by byte costs no square.
      if (this.#held < (this.#wanted || preludeBytes)) return frames;
      chunk = this.#parts.length === 1 ? (this.#parts[0] as Buffer) : Buffer.concat(this.#parts, this.#held);
      this.#parts = [];
      this.#held = 0;
    }
    let at = 0;
    while (chunk.length - at >= preludeBytes) {
      const total = this.#wanted || readPrelude(chunk, at);
      if (chunk.length - at < total) {
        this.#wanted = total;
        break;
      }
      this.#wanted = 0;
      frames.push(readFrame(at === 0 && total === chunk.length ? chunk : chunk.subarray(at, at + total)));
      at += total;
    }
    if (at < chunk.length) this.#keep(chunk.subarray(at));
    return frames;
  }

  /** The stream is over: a frame that has begun is an error. */
  end(): void {
    if (this.#held > 0) {
      throw new PeerError("WEIR_FRAME_INVALID", `the event stream ends inside a frame, ${this.#held} bytes of it came`);
    }
  }

  #keep(part: Buffer): void {
    this.#parts.push(part);
    this.#held += part.length;
  }
}

/** A frame with these headers as they are on the wire, and both checksums. */
export function writeFrame(headers: Buffer, payload: Buffer): Buffer {
  const total = preludeBytes + headers.length + payload.length + trailerBytes;
  const frame = Buffer.allocUnsafe(total);
  frame.writeUInt32BE(total, 0);
  frame.writeUInt32BE(headers.length, 4);
  frame.writeUInt32BE(crc32(frame.subarray(0, 8)), 8);
  headers.copy(frame, preludeBytes);
  payload.copy(frame, preludeBytes + headers.length);
  frame.writeUInt32BE(crc32(frame.subarray(0, total - trailerBytes)), total - trailerBytes);
  return frame;
}

/** The same frame with another payload: its headers stay byte for byte. */
export function withPayload(frame: EventFrame, payload: Buffer): Buffer {
  const end = preludeBytes + frame.raw.readUInt32BE(4);
  return writeFrame(frame.raw.subarray(preludeBytes, end), payload);
}

export function writeHeaders(headers: readonly EventHeader[]): Buffer {
  const parts: Buffer[] = [];
  for (const { name, type, value } of headers) {
    const label = Buffer.from(name, "utf8");
    parts.push(Buffer.from([label.length]), label, Buffer.from([type]));
    if (valueBytes[type] === -1) parts.push(Buffer.from([value.length >> 8, value.length & 0xff]));
    parts.push(value);
  }
  return Buffer.concat(parts);
}

/** Headers whose values are all text, as Bedrock's are. */
export function writeTextHeaders(fields: readonly (readonly [string, string])[]): Buffer {
  return writeHeaders(fields.map(([name, value]) => ({ name, type: textHeader, value: Buffer.from(value, "utf8") })));
}

/** The value of a text header; null when there is none of this name. */
export function headerText(frame: EventFrame, name: string): string | null {
  for (const header of frame.headers) {
    if (header.name === name && header.type === textHeader) return header.value.toString("utf8");
  }
  return null;
}

/** Total length of the frame that begins at `at`, once its own checksum says that the length can be believed. */
function readPrelude(chunk: Buffer, at: number): number {
  if (crc32(chunk.subarray(at, at + 8)) !== chunk.readUInt32BE(at + 8)) {
    throw new PeerError("WEIR_FRAME_INVALID", "the checksum of an event stream prelude is wrong");
  }
  const total = chunk.readUInt32BE(at);
  const headers = chunk.readUInt32BE(at + 4);
  if (total > frameBytesMax) {
    throw new PeerError("WEIR_FRAME_TOO_LARGE", `an event stream frame of ${total} bytes is above ${frameBytesMax}`);
  }
  if (headers > frameHeaderBytesMax) {
    throw new PeerError("WEIR_FRAME_TOO_LARGE", `event stream headers of ${headers} bytes are above the limit`);
  }
  if (total < frameBytesMin + headers) {
    throw new PeerError("WEIR_FRAME_INVALID", `an event stream frame of ${total} bytes has ${headers} of headers`);
  }
  return total;
}

function readFrame(raw: Buffer): EventFrame {
  const end = raw.length - trailerBytes;
  if (crc32(raw.subarray(0, end)) !== raw.readUInt32BE(end)) {
    throw new PeerError("WEIR_FRAME_INVALID", "the checksum of an event stream frame is wrong");
  }
  const payloadAt = preludeBytes + raw.readUInt32BE(4);
  return { raw, headers: readHeaders(raw, preludeBytes, payloadAt), payload: raw.subarray(payloadAt, end) };
}

function readHeaders(raw: Buffer, from: number, end: number): EventHeader[] {
  const headers: EventHeader[] = [];
  let at = from;
  const take = (bytes: number): Buffer => {
    if (at + bytes > end) throw new PeerError("WEIR_FRAME_INVALID", "an event stream header is longer than its frame");
    at += bytes;
    return raw.subarray(at - bytes, at);
  };
  while (at < end) {
    const name = take(take(1)[0] as number).toString("utf8");
    const type = take(1)[0] as number;
    const known = valueBytes[type];
    if (known === undefined) throw new PeerError("WEIR_FRAME_INVALID", `event stream header type ${type} is not known`);
    headers.push({ name, type, value: take(known === -1 ? take(2).readUInt16BE(0) : known) });
  }
  return headers;
}
