/**
 * A reply that is a stream of server-sent events, each with one message: it leaves when it is whole, in the bytes it
 * came in unless its message was changed. Comments leave at once.
 */
import { WeirError } from "../../errors.ts";
import type { ReplyReader, ReplySummary } from "../http/dialect.ts";
import { type LargeReply, largeBodyBytesMin } from "../http/large-body.ts";
import { readEvent, withData, writeEvent } from "../sse/event.ts";
import { type SseBlock, SseParser } from "../sse/parser.ts";
import { MessageReader, type ReplyContext, replyBytesMax } from "./reply.ts";

export class EventStreamReply implements ReplyReader {
  readonly preservesLength = false;
  readonly #messages: MessageReader;
  /** Null: an event was too long; nothing more is passed, as the place where the next begins is not known. */
  #parser: SseParser | null = new SseParser(replyBytesMax);

  #defers = false;
  /** From a long event on; it is the first. */
  #waiting: SseBlock[] = [];

  constructor(context: ReplyContext) {
    this.#messages = new MessageReader(context);
  }

  defer(): void {
    this.#defers = true;
  }

  get masked(): number {
    return this.#messages.masked;
  }

  get heldBytes(): number {
    return this.#waiting.reduce((sum, { raw }) => sum + raw.length, this.#parser?.heldBytes ?? 0);
  }

  push(bytes: Buffer): Buffer {
    if (this.#parser === null) return empty;
    let blocks: SseBlock[];
    try {
      blocks = this.#parser.push(bytes);
    } catch (error) {
      if (!(error instanceof WeirError)) throw error;
      this.#parser = null;
      return this.#tooLong();
    }
    return this.#pass(blocks);
  }

  #pass(blocks: readonly SseBlock[]): Buffer {
    const out: Buffer[] = [];
    for (const [at, block] of blocks.entries()) {
      if (this.#defers && block.raw.length > largeBodyBytesMin) {
        this.#waiting = blocks.slice(at);
        break;
      }
      out.push(this.#block(block));
    }
    return out.length === 1 ? (out[0] as Buffer) : Buffer.concat(out);
  }

  takeLarge(): Buffer | null {
    return this.#waiting[0]?.raw ?? null;
  }

  worked(done: LargeReply): Buffer {
    return this.#goOn(this.#messages.worked(done));
  }

  failed(code: string, message: string): Buffer {
    return this.#goOn(writeEvent("", this.#messages.impossible(code, message).toString("utf8")));
  }

  #goOn(first: Buffer): Buffer {
    const [, ...next] = this.#waiting;
    this.#waiting = [];
    return Buffer.concat([first, this.#pass(next)]);
  }

  /** An event without its empty line is never dispatched by a client, and so does not leave either. */
  end(): Buffer {
    const rest = this.#parser?.end() ?? null;
    if (rest === null || readEvent(rest.raw).data !== null) return empty;
    return this.#messages.text(rest.raw);
  }

  summary(): ReplySummary {
    return this.#messages.summary();
  }

  #tooLong(): Buffer {
    const reason = `an event is longer than ${replyBytesMax} bytes`;
    return writeEvent("", this.#messages.impossible("WEIR_FRAME_TOO_LARGE", reason).toString("utf8"));
  }

  #block({ raw, isEvent }: SseBlock): Buffer {
    if (!isEvent) return this.#messages.text(raw);
    const { name, data } = readEvent(raw);
    if (data === null) return this.#messages.text(raw);
    // Of the old transport: an address that the client posts to, not a message.
    if (name === "endpoint" && address.test(data)) return raw;
    if (name !== "" && name !== "message" && !/^\s*[{[]/.test(data)) return this.#messages.text(raw);
    const bytes = Buffer.from(data, "utf8");
    const changed = bytes.length === 0 ? bytes : this.#messages.message(bytes);
    const fields = this.#fields(raw);
    return changed === bytes ? fields : withData(fields, changed.toString("utf8"));
  }

  /** Comments and fields beside the message are masked as text; the data is left to be written anew. */
  #fields(raw: Buffer): Buffer {
    const lines = linesOf(raw);
    const out = lines.map((line) => (isData(line) ? line : this.#messages.text(line)));
    return out.every((line, i) => line === lines[i]) ? raw : Buffer.concat(out);
  }
}

const empty = Buffer.alloc(0);
const address = /^[A-Za-z0-9%+&=._~*!'(),:;@/?#$-]{1,4096}$/;

/** Lines with their ends. */
function linesOf(raw: Buffer): Buffer[] {
  const hasCr = raw.includes(0x0d);
  const lines: Buffer[] = [];
  for (let from = 0; from < raw.length; ) {
    let end = raw.indexOf(0x0a, from) + 1;
    if (end === 0) end = raw.length;
    const cr = hasCr ? raw.subarray(from, end).indexOf(0x0d) : -1;
    if (cr >= 0 && from + cr + 1 < end && raw[from + cr + 1] !== 0x0a) end = from + cr + 1;
    lines.push(raw.subarray(from, end));
    from = end;
  }
  return lines;
}

function isData(line: Buffer): boolean {
  return /^(?:\xef\xbb\xbf)?data[:\r\n]/.test(line.toString("latin1", 0, 8));
}
