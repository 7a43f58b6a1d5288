/**
 * Overwrites secrets in what a server sends over a WebSocket (RFC 6455 §5): the payloads of its frames are one text, so
 * that a secret cut over frames, or over messages, is found. Inside of a message what a secret may begin with waits for
 * the next frame. A message's end waits for nothing: what looks much like a secret's beginning is hidden there, and the
 * rest of it in the next message.
 */
import { WeirError } from "../../errors.ts";
import type { ReplyReader, ReplySummary } from "./dialect.ts";
import { controlBytesMax, FrameCutter } from "./frame-cutter.ts";
import { noSummary, openBytes, scrubbedBytesMin, star } from "./scrubber.ts";

const opClose = 8;

/** In the order in which they leave. */
interface Part {
  bytes: Buffer;
  readonly isText: boolean;
}

export class FrameScrubber implements ReplyReader {
  readonly preservesLength = true;
  readonly #text: TextScrubber;
  /** Pings and closes tell a text of their own. */
  readonly #control: TextScrubber;
  readonly #frames = new FrameCutter({
    begin: (head, length) => this.#begin(head, length),
    payload: (bytes) => this.#payload(bytes),
    end: () => this.#frameEnd(),
  });
  #isControl = false;
  #isFinal = false;
  #controlParts: Buffer[] = [];
  #waiting: Part[] = [];

  constructor(secrets: readonly Buffer[]) {
    this.#text = new TextScrubber(secrets);
    this.#control = new TextScrubber(secrets);
  }

  get masked(): number {
    return this.#text.masked + this.#control.masked;
  }

  get heldBytes(): number {
    const waiting = this.#waiting.reduce((sum, { bytes }) => sum + bytes.length, 0);
    return waiting + this.#frames.heldBytes + this.#controlParts.reduce((sum, bytes) => sum + bytes.length, 0);
  }

  push(bytes: Buffer): Buffer {
    // What comes in may be a view of a buffer that is read into again, and payloads are changed where they stand.
    this.#frames.push(Buffer.from(bytes));
    return this.#leave();
  }

  #begin(head: Buffer, length: number): void {
    const first = head[0] as number;
    this.#isControl = (first & 0x0f) >= opClose;
    this.#isFinal = (first & 0x80) !== 0;
    if (this.#isControl && (!this.#isFinal || length > controlBytesMax))
      throw new WeirError("WEIR_FRAME_INVALID", "A WebSocket control frame is cut, or too long.");
    this.#waiting.push({ bytes: head, isText: false });
  }

  #payload(bytes: Buffer): void {
    if (this.#isControl) this.#controlParts.push(bytes);
    else {
      this.#waiting.push({ bytes, isText: true });
      this.#text.push(bytes);
    }
  }

  #frameEnd(): void {
    if (this.#isControl) {
      const bytes = Buffer.concat(this.#controlParts);
      this.#controlParts = [];
      this.#control.push(bytes);
      this.#control.messageEnd();
      this.#waiting.push({ bytes, isText: false });
    } else if (this.#isFinal) this.#text.messageEnd();
  }

  /** All but what is held of the text, and what stands behind it. */
  #leave(): Buffer {
    const all = this.#waiting.reduce((sum, { bytes, isText }) => sum + (isText ? bytes.length : 0), 0);
    let free = all - this.#text.held;
    const out: Buffer[] = [];
    while (this.#waiting.length > 0) {
      const part = this.#waiting[0] as Part;
      if (part.isText && part.bytes.length > free) {
        out.push(part.bytes.subarray(0, free));
        part.bytes = part.bytes.subarray(free);
        break;
      }
      if (part.isText) free -= part.bytes.length;
      out.push(part.bytes);
      this.#waiting.shift();
    }
    return Buffer.concat(out);
  }

  /** The connection ends in the middle of a message: the little that is held may go, but for a secret's beginning. */
  end(): Buffer {
    this.#text.messageEnd();
    return this.#leave();
  }

  summary(): ReplySummary {
    return noSummary;
  }
}

/** One text in pieces, which are changed where they stand. */
class TextScrubber {
  masked = 0;
  /** At the text's end: bytes that have not left. */
  held = 0;
  readonly #secrets: readonly Buffer[];
  /** The end of the text as it came, which a secret begins with; of it the last `held` bytes have not left. */
  #open: Buffer = Buffer.alloc(0);
  /** Where the bytes of `#open` that are held stand. */
  #places: Buffer[] = [];

  constructor(secrets: readonly Buffer[]) {
    this.#secrets = secrets;
  }

  push(bytes: Buffer): void {
    const known = this.#open.length;
    const text = known === 0 ? Buffer.from(bytes) : Buffer.concat([this.#open, bytes]);
    this.#places.push(bytes);
    this.held += bytes.length;
    for (const secret of this.#secrets) {
      for (let at = text.indexOf(secret); at >= 0; at = text.indexOf(secret, at + secret.length)) {
        const end = at + secret.length;
        if (end <= known) continue;
        const behind = text.length - end;
        // What has left of it, has left.
        this.#hide(Math.min(secret.length, this.held - behind), behind);
        this.masked += 1;
      }
    }
    // Of the text as it came: what was hidden may be the middle of a longer form.
    const open = openBytes(text, this.#secrets);
    this.#open = Buffer.from(text.subarray(text.length - open));
    this.#keep(Math.min(open, this.held));
  }

  messageEnd(): void {
    if (this.#open.length >= scrubbedBytesMin && this.held > 0) {
      this.#hide(this.held, 0);
      this.masked += 1;
    }
    this.#keep(0);
  }

  /** Overwrites so many bytes that have not left, with so many of them behind. */
  #hide(size: number, behind: number): void {
    let from = this.held - behind - size;
    let left = size;
    for (const place of this.#places) {
      if (left <= 0) return;
      if (from >= place.length) {
        from -= place.length;
        continue;
      }
      const start = Math.max(0, from);
      const end = Math.min(place.length, start + left);
      place.fill(star, start, end);
      left -= end - start;
      from = 0;
    }
  }

  /** Only the last `size` bytes are held from now on. */
  #keep(size: number): void {
    let over = this.held - size;
    while (over > 0) {
      const place = this.#places[0] as Buffer;
      if (place.length > over) {
        this.#places[0] = place.subarray(over);
        break;
      }
      over -= place.length;
      this.#places.shift();
    }
    this.held = size;
  }
}
