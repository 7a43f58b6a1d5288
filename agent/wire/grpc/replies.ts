/** What a server answers under a mask: with a descriptor by field, without one by what detectors find in the bytes. */
import { WeirError } from "../../errors.ts";
import type { BodyMasker } from "../../mask/body-masker.ts";
import type { ReplyReader } from "../http/dialect.ts";
import type { JsonMasks } from "../http/json-mask.ts";
import type { LargeReply } from "../http/large-body.ts";
import type { GrpcSchema, MessageType } from "./descriptors.ts";
import { type Frame, frameOf } from "./frames.ts";
import { maskMessage } from "./message-mask.ts";
import { MessageByMessage } from "./messages.ts";

const noSummary = { text: "", inputTokens: null, outputTokens: null, toolCalls: [], error: null };

/** Each message is read whole, and leaves without compression. */
export class TypedReply extends MessageByMessage implements ReplyReader {
  readonly preservesLength = false;
  masked = 0;
  readonly #type: MessageType;
  readonly #schema: GrpcSchema;
  readonly #masks: JsonMasks;
  readonly #coding: string;

  constructor(type: MessageType, schema: GrpcSchema, masks: JsonMasks, coding: string) {
    super(coding);
    this.#type = type;
    this.#schema = schema;
    this.#masks = masks;
    this.#coding = coding;
  }

  protected override message(frame: Frame, message: Buffer | null): Buffer {
    if (message === null) throw compressed(this.#coding);
    const copy = Buffer.from(message);
    const masked = maskMessage(copy, this.#type, this.#schema, this.#masks);
    this.masked += masked;
    return masked === 0 && !frame.isCompressed ? frame.raw : frameOf(copy);
  }

  override worked(done: LargeReply): Buffer {
    this.masked += done.masked;
    return super.worked(done);
  }

  end(): Buffer {
    if (this.isOpen)
      throw new WeirError("WEIR_MASK_IMPOSSIBLE", "The server's stream ends in the middle of a message.");
    return Buffer.alloc(0);
  }

  summary() {
    return noSummary;
  }
}

const frameHeadBytes = 5;

/** Only what is inside of messages is looked at; a mask has the length of what it hides. */
export class BareReply implements ReplyReader {
  readonly preservesLength = true;
  readonly #masker: BodyMasker;
  readonly #coding: string;
  #head = Buffer.alloc(0);
  #left = 0;

  constructor(masker: BodyMasker, coding: string) {
    this.#masker = masker;
    this.#coding = coding;
  }

  get masked(): number {
    return this.#masker.masked;
  }

  get heldBytes(): number {
    return this.#masker.held + this.#head.length;
  }

  push(bytes: Buffer): Buffer {
    const out: Buffer[] = [];
    let at = 0;
    while (at < bytes.length) {
      if (this.#left === 0) {
        const take = Math.min(frameHeadBytes - this.#head.length, bytes.length - at);
        this.#head = Buffer.concat([this.#head, bytes.subarray(at, at + take)]);
        at += take;
        if (this.#head.length < frameHeadBytes) break;
        if (this.#head[0] !== 0) throw compressed(this.#coding);
        this.#left = this.#head.readUInt32BE(1);
        out.push(this.#head);
        this.#head = Buffer.alloc(0);
        continue;
      }
      const size = Math.min(this.#left, bytes.length - at);
      out.push(this.#masker.push(bytes.subarray(at, at + size)));
      at += size;
      this.#left -= size;
      // A value does not go on in the next message: what was held back belongs to this one.
      if (this.#left === 0) out.push(this.#masker.end());
    }
    return Buffer.concat(out);
  }

  end(): Buffer {
    return this.#masker.end();
  }

  summary() {
    return noSummary;
  }
}

/** Paths were asked for and cannot be followed: nothing of the answer passes. */
export class NoReply implements ReplyReader {
  readonly preservesLength = false;
  readonly masked = 0;
  readonly heldBytes = 0;
  push(): Buffer {
    throw new WeirError("WEIR_MASK_IMPOSSIBLE", "A mask names fields of a message that no descriptor describes.");
  }
  end(): Buffer {
    return Buffer.alloc(0);
  }
  summary() {
    return noSummary;
  }
}

function compressed(coding: string): WeirError {
  return new WeirError("WEIR_MASK_IMPOSSIBLE", `A gRPC message is compressed (${coding.slice(0, 20)}).`);
}
