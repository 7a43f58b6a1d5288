/**
 * What a server answers: JSON or a stream of events, each with one JSON-RPC message. Lists lose what is denied, values
 * are masked, and everything else passes byte for byte. What has to be read and cannot be, is not passed.
 */
import type { DialectContext, ReplyReader, ReplySummary } from "../http/dialect.ts";
import { replyTextBytesMax } from "../http/dialect.ts";
import { type JsonMasks, maskJson } from "../http/json-mask.ts";
import { asBuffer, type LargeReply, largeBodyBytesMin } from "../http/large-body.ts";
import { checkInstructions, filterLists, hasInstructions, isList, type ListContext } from "./lists.ts";
import { masksFor } from "./masks.ts";
import { answerTokensMax, elementsOf, type Message, readAnswer, valueAt } from "./message.ts";
import { errorCodes, errorMessage } from "./refusal.ts";

/** Longest reply in JSON, and longest event of a stream: it is held until it is whole. */
export const replyBytesMax = 16 * 1024 * 1024;

/** Longest list of tools, resources or prompts: each entry is a value that is judged. */
export const listBytesMax = 2 * 1024 * 1024;

export interface ReplyContext extends ListContext {
  readonly context: DialectContext;
  readonly masks: JsonMasks | null;
  /** Id of the request as written, for an answer in place of one that cannot be passed. */
  readonly id: string | null;
  /** It is no answer of MCP, as HTTP says that it failed: what is no JSON then is a text. */
  readonly failed: boolean;
}

/** Reads messages one by one, whatever carries them. */
export class MessageReader {
  masked = 0;
  #error: string | null = null;
  #text: Buffer[] = [];
  #textBytes = 0;
  readonly #context: ReplyContext;

  constructor(context: ReplyContext) {
    this.#context = context;
  }

  /** One message or a batch of them, as it may leave; the same buffer when nothing is changed. */
  message(bytes: Buffer): Buffer {
    const out = this.#change(bytes, false);
    this.#keep(out);
    return out;
  }

  /** Text that is no message: what detectors find in it is masked. */
  text(bytes: Buffer): Buffer {
    const { masks } = this.#context;
    if (masks?.masker == null) return bytes;
    const copy = Buffer.from(bytes);
    const found = masks.masker.mask(copy, 0, copy.length);
    this.masked += found;
    return found === 0 ? bytes : copy;
  }

  /** A message that was read elsewhere. */
  worked({ body, masked, summary }: LargeReply): Buffer {
    this.masked += masked;
    this.#error = summary.error ?? this.#error;
    this.#keep(Buffer.from(summary.text, "utf8"));
    return asBuffer(body);
  }

  /** In place of a message that cannot be passed. */
  impossible(code: string, reason: string): Buffer {
    this.#error = reason;
    const { id } = this.#context;
    return errorMessage(id, { code: errorCodes.failed, message: `Weir: ${reason} (${code})`, data: { code, reason } });
  }

  summary(): ReplySummary {
    const text = Buffer.concat(this.#text).subarray(0, replyTextBytesMax);
    // Handles and blobs pass unmasked to the client, but have no place in the record.
    this.#context.masks?.masker?.mask(text, 0, text.length);
    return {
      text: text.toString("utf8"),
      inputTokens: null,
      outputTokens: null,
      toolCalls: [],
      error: this.#error,
    };
  }

  #change(bytes: Buffer, inBatch: boolean): Buffer {
    const read = readAnswer(bytes);
    switch (read.is) {
      case "message":
        return this.#one(bytes, read.message);
      case "batch": {
        if (inBatch) return this.#unreadable();
        const parts = elementsOf(bytes, { start: 0, end: bytes.length }).map(({ start, end }) =>
          bytes.subarray(start, end),
        );
        const changed = parts.map((part) => this.#change(part, true));
        if (parts.every((part, i) => part === changed[i])) return bytes;
        return Buffer.concat([
          Buffer.from("["),
          ...changed.flatMap((part, i) => [...(i === 0 ? [] : [Buffer.from(",")]), part]),
          Buffer.from("]"),
        ]);
      }
      case "plain":
        return this.#masked(bytes, this.#context.masks);
      case "unreadable":
        return this.#isText() ? this.text(bytes) : this.#unreadable();
    }
  }

  /** A path says nothing about a text: where one is asked for, only detectors are not enough. */
  #isText(): boolean {
    const { failed, masks } = this.#context;
    return failed && (masks === null || masks.paths.length === 0);
  }

  #unreadable(): Buffer {
    return this.impossible("WEIR_MASK_IMPOSSIBLE", "the server's answer is no JSON-RPC that can be read safely");
  }

  #one(bytes: Buffer, message: Message): Buffer {
    this.#noteError(bytes, message);
    const isOfTools = isList(message);
    if (isOfTools && bytes.length > listBytesMax)
      return this.impossible("WEIR_FRAME_TOO_LARGE", `the server's list is longer than ${listBytesMax} bytes`);
    let kept = isOfTools ? filterLists(bytes, message, this.#context) : bytes;
    // Places of the message are those of its own bytes: what was changed is read again.
    if (hasInstructions(message)) {
      const read = kept === bytes ? { is: "message" as const, message } : readAnswer(kept);
      if (read.is === "message") kept = checkInstructions(kept, read.message, this.#context);
    }
    const { masks } = this.#context;
    return this.#masked(kept, masks === null ? null : masksFor(masks, message));
  }

  #masked(bytes: Buffer, masks: JsonMasks | null): Buffer {
    if (masks === null) return bytes;
    const result = maskJson(bytes, masks);
    if (result === null)
      return this.impossible(
        "WEIR_MASK_IMPOSSIBLE",
        `the server's answer cannot be masked, as it is no JSON or has more than ${answerTokensMax} values`,
      );
    this.masked += result.masked;
    return result.bytes;
  }

  /** The code alone: its message is masked only with the rest. */
  #noteError(bytes: Buffer, message: Message): void {
    if (message.kind === "error") {
      const error = valueAt(bytes, message.members.get("error")) as { code?: unknown } | null;
      this.#error = `JSON-RPC error ${String(error?.code)}`;
    } else if (message.kind === "response" && valueAt(bytes, message.inner.get("isError")) === true) {
      this.#error = "the tool says that it failed";
    }
  }

  #keep(bytes: Buffer): void {
    if (this.#textBytes >= replyTextBytesMax) return;
    const part = bytes.subarray(0, replyTextBytesMax - this.#textBytes);
    this.#text.push(this.#textBytes === 0 ? Buffer.from(part) : Buffer.concat([Buffer.from("\n"), part]));
    this.#textBytes += part.length + 1;
  }
}

/** A reply that is one text: held until it is whole. */
export class WholeReply implements ReplyReader {
  readonly preservesLength = false;
  readonly isWhole = true;
  readonly #messages: MessageReader;
  readonly #isJson: boolean;
  #parts: Buffer[] = [];
  #bytes = 0;
  #tooLong = false;

  constructor(context: ReplyContext, isJson: boolean) {
    this.#messages = new MessageReader(context);
    this.#isJson = isJson;
  }

  get masked(): number {
    return this.#messages.masked;
  }

  get heldBytes(): number {
    return this.#bytes;
  }

  push(bytes: Buffer): Buffer {
    if (this.#tooLong) return nothing;
    // What comes in may be a view of a buffer that is read into again.
    this.#parts.push(Buffer.from(bytes));
    this.#bytes += bytes.length;
    if (this.#bytes <= replyBytesMax) return nothing;
    this.#tooLong = true;
    this.#parts = [];
    this.#bytes = 0;
    return this.#messages.impossible("WEIR_FRAME_TOO_LARGE", `the answer is longer than ${replyBytesMax} bytes`);
  }

  takeLarge(atEnd: boolean): Buffer | null {
    return atEnd && this.#bytes > largeBodyBytesMin ? this.#take() : null;
  }

  worked(done: LargeReply): Buffer {
    return this.#messages.worked(done);
  }

  #take(): Buffer {
    const whole = Buffer.concat(this.#parts, this.#bytes);
    this.#parts = [];
    this.#bytes = 0;
    return whole;
  }

  end(): Buffer {
    const whole = this.#take();
    if (this.#tooLong || whole.length === 0) return nothing;
    const isMessage = this.#isJson || opensJson.test(whole.toString("latin1", 0, 100));
    return isMessage ? this.#messages.message(whole) : this.#messages.text(whole);
  }

  summary(): ReplySummary {
    return this.#messages.summary();
  }
}

const nothing = Buffer.alloc(0);
/** A byte order mark and white space may come before it. */
const opensJson = /^(?:\xef\xbb\xbf)?\s*[{[]/;
