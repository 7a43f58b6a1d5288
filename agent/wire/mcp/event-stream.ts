/**
 * A reply that is a stream of server-sent events, each with one message: it leaves when it is whole, in the bytes it
 * came in unless its message was changed. Comments leave at once.
 */
import { WeirError } from "../../errors.ts";
import type { ReplyReader, ReplySummary } from "../http/dialect.ts";
import { type LargeReply, largeBodyBytesMin } from "../http/large-body.ts";
import { LongParts } from "../http/long-parts.ts";
import { readEvent, withData, withOthers, writeEvent } from "../sse/event.ts";
import { type SseBlock, SseParser } from "../sse/parser.ts";
import { MessageReader, type ReplyContext, replyBytesMax } from "./reply.ts";

export class EventStreamReply implements ReplyReader {
  readonly preservesLength = false;
  readonly #messages: MessageReader;
  /** Null: an event was too long; nothing more is passed, as the place where the next begins is not known. */
  #parser: SseParser | null = new SseParser(replyBytesMax);

  readonly #parts = new LongParts<SseBlock>({
    raw: ({ raw }) => raw,
    change: (block, mayDefer) => (mayDefer && block.raw.length > largeBodyBytesMin ? null : this.#block(block)),
  });

  constructor(context: ReplyContext) {
    this.#messages = new MessageReader(context);
  }

  defer(): void {
    this.#parts.defer();
  }

  get masked(): number {
    return this.#messages.masked;
  }

  get heldBytes(): number {
    return this.#parts.heldBytes + (this.#parser?.heldBytes ?? 0);
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
    return this.#parts.pass(blocks);
  }

  takeLarge(): Buffer | null {
    return this.#parts.takeLarge();
  }

  worked(done: LargeReply): Buffer {
    return this.#parts.goOn(this.#messages.worked(done));
  }

  failed(code: string, message: string): Buffer {
    return this.#parts.goOn(writeEvent("", this.#messages.impossible(code, message).toString("utf8")));
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
    // Comments and fields beside the message are masked as text; the data is left to be written anew.
    const fields = withOthers(raw, (line) => this.#messages.text(line));
    return changed === bytes ? fields : withData(fields, changed.toString("utf8"));
  }
}

const empty = Buffer.alloc(0);
const address = /^[A-Za-z0-9%+&=._~*!'(),:;@/?#$-]{1,4096}$/;
