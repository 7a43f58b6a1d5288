/**
 * Cuts the JSON array that `streamGenerateContent` gives without `alt=sse` into its elements while it is still coming.
 * What stands between them (`[`, `,`, `]`, white space) is given out as it is.
 */
import { PeerError } from "../../errors.ts";
import { isObject, type JsonObject, type TextRuns, writeJson } from "./message-leaves.ts";
import { MessageStream } from "./message-stream.ts";
import { PartsBody } from "./parts-body.ts";

/** The array as a reply: elements that are not changed leave byte for byte. */
export class GeminiArray extends PartsBody<ArrayPiece> {
  readonly #reader = new JsonArrayReader();
  readonly #runs: TextRuns;

  constructor(runs: TextRuns) {
    super(new MessageStream());
    this.#runs = runs;
  }

  protected override get cutBytes(): number {
    return this.#reader.heldBytes;
  }

  protected override cut(bytes: Buffer): ArrayPiece[] {
    return this.#reader.push(bytes);
  }

  protected override raw({ bytes }: ArrayPiece): Buffer {
    return bytes;
  }

  protected override partOf(raw: Buffer): ArrayPiece {
    return { kind: "element", bytes: raw };
  }

  save(): unknown {
    return this.rewriter.save();
  }

  restore(state: never): void {
    this.rewriter.restore(state);
  }

  protected override change({ kind, bytes }: ArrayPiece): Buffer {
    return kind === "element" ? this.#element(bytes) : this.#between(bytes);
  }

  /** Of an array that was cut off: what was held back, as far as that goes. */
  end(): Buffer {
    this.#reader.end();
    return this.#rest();
  }

  #element(bytes: Buffer): Buffer {
    let event: unknown;
    try {
      event = JSON.parse(bytes.toString("utf8"));
    } catch (cause) {
      throw new PeerError("WEIR_FRAME_INVALID", "an element of the JSON array is no JSON", { cause });
    }
    const events = isObject(event) ? this.rewriter.event(event, this.#runs) : null;
    return events === null ? bytes : Buffer.from(events.map((one) => writeJson(one)).join(",\r\n"));
  }

  /** Before the array is closed, what was held back comes as one more element. */
  #between(bytes: Buffer): Buffer {
    const close = bytes.indexOf(closeBracket);
    return close < 0 ? bytes : Buffer.concat([bytes.subarray(0, close), this.#rest(), bytes.subarray(close)]);
  }

  #rest(): Buffer {
    const rest: JsonObject[] = this.rewriter.end(this.#runs);
    return Buffer.from(rest.map((event) => `,\r\n${writeJson(event)}`).join(""));
  }
}

export interface ArrayPiece {
  readonly kind: "between" | "element";
  readonly bytes: Buffer;
}

/** A longer element is refused: an image in base64 is the longest thing that comes. */
export const elementBytesMax = 8 * 1024 * 1024;

const quote = 0x22;
const backslash = 0x5c;
const openBracket = 0x5b;
const closeBracket = 0x5d;
const openBrace = 0x7b;
const closeBrace = 0x7d;
const comma = 0x2c;

export class JsonArrayReader {
  /** 0: before the array, 1: in it and between elements, more: in an element. */
  #depth = 0;
  #inText = false;
  #escaped = false;
  #ended = false;
  #parts: Buffer[] = [];
  #held = 0;

  get heldBytes(): number {
    return this.#held;
  }

  /** The pieces that these bytes complete, in order. Throws a PeerError for what is no array of objects. */
  push(bytes: Buffer): ArrayPiece[] {
    const pieces: ArrayPiece[] = [];
    let from = 0;
    for (let at = 0; at < bytes.length; at += 1) {
      const byte = bytes[at] as number;
      if (this.#depth >= 2) {
        if (this.#inside(byte)) {
          pieces.push({ kind: "element", bytes: this.#whole(bytes.subarray(from, at + 1)) });
          from = at + 1;
        }
        continue;
      }
      if (!this.#opens(byte)) continue;
      if (at > from) pieces.push({ kind: "between", bytes: bytes.subarray(from, at) });
      from = at;
    }
    if (from < bytes.length) {
      const rest = bytes.subarray(from);
      if (this.#depth >= 2) this.#keep(rest);
      else pieces.push({ kind: "between", bytes: rest });
    }
    return pieces;
  }

  /** The stream is over. */
  end(): void {
    if (this.#held > 0) throw new PeerError("WEIR_FRAME_INVALID", "the JSON array ends inside an element");
  }

  /** A byte outside of elements; true: an element begins with it. */
  #opens(byte: number): boolean {
    if (byte === 0x20 || byte === 0x0a || byte === 0x0d || byte === 0x09) return false;
    if (this.#depth === 0) {
      if (byte !== openBracket || this.#ended) throw new PeerError("WEIR_FRAME_INVALID", "the stream is no JSON array");
      this.#depth = 1;
      return false;
    }
    if (byte === comma) return false;
    if (byte === closeBracket) {
      this.#depth = 0;
      this.#ended = true;
      return false;
    }
    if (byte !== openBrace) throw new PeerError("WEIR_FRAME_INVALID", "an element of the JSON array is no object");
    this.#depth = 2;
    return true;
  }

  /** A byte of an element; true: the element ends with it. */
  #inside(byte: number): boolean {
    if (this.#inText) {
      if (this.#escaped) this.#escaped = false;
      else if (byte === backslash) this.#escaped = true;
      else if (byte === quote) this.#inText = false;
      return false;
    }
    if (byte === quote) this.#inText = true;
    else if (byte === openBrace || byte === openBracket) this.#depth += 1;
    else if (byte === closeBrace || byte === closeBracket) this.#depth -= 1;
    return this.#depth === 1;
  }

  #keep(part: Buffer): void {
    this.#held += part.length;
    if (this.#held > elementBytesMax) {
      throw new PeerError("WEIR_FRAME_TOO_LARGE", `an element of the JSON array is above ${elementBytesMax} bytes`);
    }
    this.#parts.push(part);
  }

  #whole(last: Buffer): Buffer {
    if (this.#held === 0) return last;
    this.#keep(last);
    const whole = Buffer.concat(this.#parts, this.#held);
    this.#parts = [];
    this.#held = 0;
    return whole;
  }
}
