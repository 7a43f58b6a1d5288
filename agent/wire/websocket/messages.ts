/**
 * Messages of a WebSocket (RFC 6455 §5), whole: the frames of one side in, its messages and control frames out. Strict:
 * what two readers could understand differently is refused.
 */
import { PeerError } from "../../errors.ts";

/** Longest message that is held; sound in base64 is the longest that real APIs send. */
export const messageBytesMax = 16 * 1024 * 1024;
/** Frames of one message: each takes some hundred bytes beside its own. */
export const messageFramesMax = 65_536;
const controlBytesMax = 125;

export const opText = 1;
const opBinary = 2;
const opClose = 8;

export type WebSocketPart =
  | WebSocketMessage
  /** `isLast`: a close frame, after which its side sends nothing more. */
  | { readonly kind: "control"; readonly raw: Buffer; readonly isLast: boolean };

interface Frame {
  readonly final: boolean;
  readonly op: number;
  /** As it stands in `raw`: of a client's frame under its key. */
  readonly payload: Buffer;
  readonly key: Buffer | null;
  readonly raw: Buffer;
}

export class WebSocketMessage {
  readonly kind = "message";
  readonly op: number;
  /** Its frames as they came, without the control frames between them. */
  readonly raw: Buffer;
  /** The masking key of its first frame; null from a server. */
  readonly key: Buffer | null;
  readonly #frames: readonly Frame[];
  #payload: Buffer | null = null;

  constructor(frames: readonly Frame[]) {
    const [first] = frames as [Frame];
    this.op = first.op;
    this.key = first.key;
    this.raw = frames.length === 1 ? first.raw : Buffer.concat(frames.map(({ raw }) => raw));
    this.#frames = frames;
  }

  /** Not before it is asked for: of a long message it takes some time, and somebody else may ask. */
  get payload(): Buffer {
    if (this.#payload === null) {
      const parts = this.#frames.map(({ payload, key }) => (key === null ? payload : unmasked(payload, key)));
      this.#payload = parts.length === 1 ? (parts[0] as Buffer) : Buffer.concat(parts);
    }
    return this.#payload;
  }
}

export class MessageReader {
  readonly #fromClient: boolean;
  #parts: Buffer[] = [];
  #held = 0;
  /** Bytes from which on the frame at hand, or its head, can be read. */
  #needed = 2;
  #frames: Frame[] = [];
  #framesBytes = 0;
  #closed = false;

  constructor(fromClient: boolean) {
    this.#fromClient = fromClient;
  }

  get heldBytes(): number {
    return this.#held + this.#framesBytes;
  }

  /** Throws a PeerError, after which nothing more may be pushed. */
  push(bytes: Buffer): WebSocketPart[] {
    // What comes in may be a view of a buffer that is read into again.
    this.#parts.push(Buffer.from(bytes));
    this.#held += bytes.length;
    if (this.#held < this.#needed) return [];
    const whole = this.#parts.length === 1 ? (this.#parts[0] as Buffer) : Buffer.concat(this.#parts, this.#held);
    const out: WebSocketPart[] = [];
    let at = 0;
    for (let frame = this.#frame(whole, at); frame !== null; frame = this.#frame(whole, at)) {
      at += frame.raw.length;
      const part = this.#take(frame);
      if (part !== null) out.push(part);
    }
    // Of what was taken whole nothing is kept: its memory may be given to another thread.
    this.#parts = at < whole.length ? [whole.subarray(at)] : [];
    this.#held = whole.length - at;
    return out;
  }

  /** null: more bytes are needed, and `#needed` says how many. */
  #frame(bytes: Buffer, at: number): Frame | null {
    const there = bytes.length - at;
    this.#needed = 2;
    if (there < 2) return null;
    const first = bytes[at] as number;
    const second = bytes[at + 1] as number;
    if ((first & 0x70) !== 0) throw broken("a frame uses an extension that was not agreed on");
    if (((second & 0x80) !== 0) !== this.#fromClient)
      throw broken(this.#fromClient ? "a client's frame has no masking key" : "a server's frame has a masking key");
    const short = second & 0x7f;
    const lengthBytes = short === 126 ? 2 : short === 127 ? 8 : 0;
    const headBytes = 2 + lengthBytes + (this.#fromClient ? 4 : 0);
    this.#needed = headBytes;
    if (there < headBytes) return null;
    const length =
      lengthBytes === 0
        ? short
        : lengthBytes === 2
          ? bytes.readUInt16BE(at + 2)
          : Number(bytes.readBigUInt64BE(at + 2));
    if (length + this.#framesBytes > messageBytesMax)
      throw new PeerError("WEIR_FRAME_TOO_LARGE", `a message is longer than ${messageBytesMax} bytes`);
    this.#needed = headBytes + length;
    if (there < this.#needed) return null;
    const raw = bytes.subarray(at, at + headBytes + length);
    const key = this.#fromClient ? raw.subarray(headBytes - 4, headBytes) : null;
    this.#needed = 2;
    return { final: (first & 0x80) !== 0, op: first & 0x0f, payload: raw.subarray(headBytes), key, raw };
  }

  #take(frame: Frame): WebSocketPart | null {
    if (this.#closed) throw broken("frames follow a close frame");
    const { op, final, payload, raw } = frame;
    if (op >= opClose) {
      if (op > 0x0a) throw broken(`a frame has the unknown opcode ${op}`);
      if (!final || payload.length > controlBytesMax) throw broken("a control frame is cut, or too long");
      this.#closed = op === opClose;
      return { kind: "control", raw, isLast: this.#closed };
    }
    if (op > opBinary) throw broken(`a frame has the unknown opcode ${op}`);
    if ((op === 0) !== this.#frames.length > 0) throw broken("a message begins inside of another, or never began");
    if (this.#frames.length >= messageFramesMax)
      throw new PeerError("WEIR_FRAME_TOO_LARGE", `a message has more than ${messageFramesMax} frames`);
    this.#frames.push(frame);
    this.#framesBytes += raw.length;
    if (!final) return null;
    const frames = this.#frames;
    this.#frames = [];
    this.#framesBytes = 0;
    return new WebSocketMessage(frames);
  }
}

/** One frame with the whole of a message. `key`: a client's masking key. */
export function writeMessage(op: number, payload: Buffer, key: Buffer | null): Buffer {
  const lengthBytes = payload.length < 126 ? 0 : payload.length < 65_536 ? 2 : 8;
  const head = Buffer.alloc(2 + lengthBytes);
  head[0] = 0x80 | op;
  head[1] = (key === null ? 0 : 0x80) | (lengthBytes === 0 ? payload.length : lengthBytes === 2 ? 126 : 127);
  if (lengthBytes === 2) head.writeUInt16BE(payload.length, 2);
  else if (lengthBytes === 8) head.writeBigUInt64BE(BigInt(payload.length), 2);
  return Buffer.concat(key === null ? [head, payload] : [head, key, unmasked(payload, key)]);
}

/** A close frame (§5.5.1); the reason is cut to what fits. */
export function closeFrame(code: number, reason: string): Buffer {
  const payload = Buffer.alloc(controlBytesMax);
  payload.writeUInt16BE(code, 0);
  const written = payload.write(reason, 2, "utf8");
  return writeMessage(opClose, payload.subarray(0, 2 + written), null);
}

/** The same both ways (§5.3). */
function unmasked(bytes: Buffer, key: Buffer): Buffer {
  const out = Buffer.allocUnsafe(bytes.length);
  for (let at = 0; at < bytes.length; at += 1) out[at] = (bytes[at] as number) ^ (key[at & 3] as number);
  return out;
}

function broken(what: string): PeerError {
  return new PeerError("WEIR_FRAME_INVALID", `the WebSocket cannot be read: ${what}`);
}
