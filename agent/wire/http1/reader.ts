/**
 * HTTP/1.1 framing (RFC 9112), strict: whatever two readers could understand differently is refused, so that nothing
 * can be smuggled past the one that decides. Bytes are pushed, parts are pulled; a message that is not asked for stays.
 */
import { PeerError } from "../../errors.ts";
import { type BodyLength, Headers, type RequestHead, type ResponseHead } from "../http/message.ts";
import { fieldsOf, headLines, requestLine, statusLine } from "./head.ts";

export type Part<Head> =
  | { readonly type: "head"; readonly head: Head }
  | { readonly type: "body"; readonly bytes: Buffer }
  | { readonly type: "end"; readonly trailers: Headers | null };

export const headBytesMax = 64 * 1024;
/** A chunk's size line with its extensions; nobody sends extensions of any length. */
const chunkLineBytesMax = 256;
const trailerBytesMax = 16 * 1024;
const headEnd = Buffer.from("\r\n\r\n");
const none = Buffer.alloc(0);

type State = "head" | "length" | "chunk-line" | "chunk-data" | "chunk-end" | "trailers" | "close" | "end" | "raw";

abstract class MessageReader<Head extends { body: BodyLength }> {
  #bytes: Buffer = none;
  #at = 0;
  #state: State = "head";
  #left = 0;
  #ended = false;

  get heldBytes(): number {
    return this.#bytes.length - this.#at;
  }

  /** Between two messages, with nothing of the next one there. */
  get idle(): boolean {
    return this.#state === "head" && this.heldBytes === 0;
  }

  push(bytes: Buffer): void {
    this.#bytes = this.heldBytes === 0 ? bytes : Buffer.concat([this.#bytes.subarray(this.#at), bytes]);
    this.#at = 0;
  }

  /** The connection ended: a body that lasts until then is whole now. */
  finish(): void {
    this.#ended = true;
  }

  /** From here on bytes are no HTTP any more (101, CONNECT): `rest` gives them. */
  becomeRaw(): void {
    this.#state = "raw";
  }

  rest(): Buffer {
    const rest = this.#bytes.subarray(this.#at);
    this.#bytes = none;
    this.#at = 0;
    return rest;
  }

  /** The next part, or null when more bytes are needed. Throws PeerError WEIR_FRAME_INVALID or WEIR_FRAME_TOO_LARGE. */
  next(): Part<Head> | null {
    switch (this.#state) {
      case "head":
        return this.#head();
      case "length":
        return this.#data("end");
      case "chunk-line":
        return this.#chunkLine();
      case "chunk-data":
        return this.#data("chunk-end");
      case "chunk-end":
        return this.#chunkEnd();
      case "trailers":
        return this.#trailers();
      case "close":
        return this.#untilClose();
      case "end":
        return this.#end(null);
      case "raw":
        return null;
    }
  }

  protected abstract parse(text: string, raw: Buffer): Head;

  #head(): Part<Head> | null {
    // An empty line before a message is skipped (RFC 9112 §2.2): some clients send one after a body.
    while (this.heldBytes >= 2 && this.#bytes[this.#at] === 0x0d && this.#bytes[this.#at + 1] === 0x0a) this.#at += 2;
    if (this.heldBytes === 0) return null;
    const to = this.#bytes.indexOf(headEnd, this.#at);
    const end = to < 0 ? this.#bytes.length : to + 4;
    if (end - this.#at > headBytesMax)
      throw new PeerError("WEIR_FRAME_TOO_LARGE", `the head is longer than ${headBytesMax} bytes`);
    if (to < 0) {
      refuseBareLineEnd(this.#bytes, this.#at);
      return null;
    }
    const raw = this.#bytes.subarray(this.#at, end);
    const head = this.parse(raw.toString("latin1", 0, raw.length - 4), raw);
    this.#at = end;
    this.#begin(head.body);
    return { type: "head", head };
  }

  #begin(body: BodyLength): void {
    if (body.kind === "length" && body.bytes > 0) {
      this.#left = body.bytes;
      this.#state = "length";
    } else if (body.kind === "chunked") this.#state = "chunk-line";
    else this.#state = body.kind === "close" ? "close" : "end";
  }

  #data(then: State): Part<Head> | null {
    const bytes = Math.min(this.#left, this.heldBytes);
    if (bytes === 0) return null;
    const part = this.#bytes.subarray(this.#at, this.#at + bytes);
    this.#at += bytes;
    this.#left -= bytes;
    if (this.#left === 0) this.#state = then;
    return { type: "body", bytes: part };
  }

  #untilClose(): Part<Head> | null {
    if (this.heldBytes > 0) return { type: "body", bytes: this.rest() };
    return this.#ended ? this.#end(null) : null;
  }

  /** chunk-size [ chunk-ext ] CRLF (RFC 9112 §7.1); extensions are read over and not sent on. */
  #chunkLine(): Part<Head> | null {
    const line = this.#line(chunkLineBytesMax);
    if (line === null) return null;
    const size = /^([0-9A-Fa-f]{1,12})(?:[ \t]*;[\t\x20-\x7e\x80-\xff]*)?$/.exec(line);
    if (size === null) throw new PeerError("WEIR_FRAME_INVALID", "a chunk has no valid size");
    this.#left = Number.parseInt(size[1] as string, 16);
    this.#state = this.#left === 0 ? "trailers" : "chunk-data";
    return this.next();
  }

  #chunkEnd(): Part<Head> | null {
    if (this.heldBytes < 2) {
      if (this.heldBytes === 1 && this.#bytes[this.#at] !== 0x0d) throw chunkEndMissing();
      return null;
    }
    if (this.#bytes[this.#at] !== 0x0d || this.#bytes[this.#at + 1] !== 0x0a) throw chunkEndMissing();
    this.#at += 2;
    this.#state = "chunk-line";
    return this.next();
  }

  #trailers(): Part<Head> | null {
    if (this.heldBytes >= 2 && this.#bytes[this.#at] === 0x0d && this.#bytes[this.#at + 1] === 0x0a) {
      this.#at += 2;
      return this.#end(null);
    }
    const to = this.#bytes.indexOf(headEnd, this.#at);
    if ((to < 0 ? this.heldBytes : to - this.#at) > trailerBytesMax)
      throw new PeerError("WEIR_FRAME_TOO_LARGE", `the trailers are longer than ${trailerBytesMax} bytes`);
    if (to < 0) {
      refuseBareLineEnd(this.#bytes, this.#at);
      return null;
    }
    const fields = fieldsOf(headLines(this.#bytes.toString("latin1", this.#at, to)), 0);
    this.#at = to + 4;
    for (let at = 0; at < fields.length; at += 2) {
      if (/^(?:content-length|transfer-encoding|host|trailer|content-encoding)$/i.test(fields[at] as string))
        throw new PeerError("WEIR_FRAME_INVALID", `${fields[at]} may not be a trailer`);
    }
    return this.#end(new Headers(fields));
  }

  #end(trailers: Headers | null): Part<Head> {
    this.#state = "head";
    return { type: "end", trailers };
  }

  #line(bytesMax: number): string | null {
    const to = this.#bytes.indexOf(0x0a, this.#at);
    if ((to < 0 ? this.heldBytes : to - this.#at) > bytesMax)
      throw new PeerError("WEIR_FRAME_TOO_LARGE", `a chunk's size line is longer than ${bytesMax} bytes`);
    if (to < 0) return null;
    if (this.#bytes[to - 1] !== 0x0d || to === this.#at)
      throw new PeerError("WEIR_FRAME_INVALID", "a line ends without a carriage return");
    const line = this.#bytes.toString("latin1", this.#at, to - 1);
    if (line.includes("\r")) throw new PeerError("WEIR_FRAME_INVALID", "a carriage return stands inside a line");
    this.#at = to + 1;
    return line;
  }
}

export class RequestReader extends MessageReader<RequestHead> {
  readonly #scheme: "http" | "https";

  constructor(scheme: "http" | "https") {
    super();
    this.#scheme = scheme;
  }

  protected parse(text: string, raw: Buffer): RequestHead {
    return requestLine(text, raw, this.#scheme);
  }
}

export class ResponseReader extends MessageReader<ResponseHead> {
  #method = "";

  /** The method of the request that the next response answers: a HEAD has no body, whatever its head says. */
  expect(method: string): void {
    this.#method = method;
  }

  protected parse(text: string, raw: Buffer): ResponseHead {
    return statusLine(text, raw, this.#method);
  }
}

function chunkEndMissing(): PeerError {
  return new PeerError("WEIR_FRAME_INVALID", "a chunk is longer than its size");
}

/** A head that ends its lines with a bare LF never shows an end: it is refused at the first one. */
function refuseBareLineEnd(bytes: Buffer, from: number): void {
  for (let at = bytes.indexOf(0x0a, from); at >= 0; at = bytes.indexOf(0x0a, at + 1)) {
    if (at === from || bytes[at - 1] !== 0x0d)
      throw new PeerError("WEIR_FRAME_INVALID", "a line ends without a carriage return");
  }
}
