/**
 * gRPC over HTTP/2 (github.com/grpc/grpc/blob/master/doc/PROTOCOL-HTTP2.md): a call is decided by its service, its
 * method and, where a descriptor is known, by its first message as JSON. Every further message of the client is judged
 * when it comes.
 */
import type { Verdict } from "../../core/verdict.ts";
import { WeirError } from "../../errors.ts";
import { createBodyMasker } from "../../mask/body-masker.ts";
import { maskerOf } from "../../mask/masker.ts";
import type { Described, Dialect, DialectContext, DialectExchange, Refusal, ReplyReader } from "../http/dialect.ts";
import { type LargeReply, largeBodyBytesMin, type Twin } from "../http/large-body.ts";
import { plansOf } from "../http/mask-plans.ts";
import { type Headers, mediaType, type OwnResponse, type RequestHead, type ResponseHead } from "../http/message.ts";
import { factsOf, splitTarget } from "../http/request-facts.ts";
import { type GrpcSchema, type MethodType, readDescriptorSet } from "./descriptors.ts";
import { type Frame, FrameReader, frameOf, messageBytesMax, plainMessage } from "./frames.ts";
import { messageJson } from "./message-json.ts";
import { maskMessage } from "./message-mask.ts";
import { MessageByMessage } from "./messages.ts";
import { BareReply, NoReply, TypedReply } from "./replies.ts";
import { maskStatus, percentEncoded } from "./status.ts";

/** Status codes of grpc.io/docs/guides/status-codes. */
const permissionDenied = 7;
const resourceExhausted = 8;
const unavailable = 14;
/** Of the operation's text. */
const textBytesMax = 64 * 1024;

export const grpcDialect: Dialect = {
  family: "grpc",
  open(head, context) {
    if (context.targetProtocol !== "grpc" && context.targetProtocol !== "http") return null;
    if (head.method !== "POST" || !/^application\/grpc(?:\+|$)/.test(mediaType(head.headers))) return null;
    const call = /^\/([\w.]+)\/(\w+)$/.exec(splitTarget(head.target).path);
    return call === null ? null : new GrpcExchange(head, context, call[1] as string, call[2] as string);
  },
};

/** What an exchange and its twin have in common: messages that the verdict has seen, and those that went on. */
interface State {
  readonly judged: number;
  readonly passed: number;
}

class GrpcExchange implements DialectExchange {
  readonly reads: "head" | "first";
  readonly forward: DialectExchange["forward"];
  readonly twin: Twin;
  readonly #head: RequestHead;
  readonly #context: DialectContext;
  readonly #service: string;
  readonly #method: string;
  readonly #schema: GrpcSchema | null;
  readonly #types: MethodType | null;
  #judged = 0;
  #passed = 0;

  constructor(head: RequestHead, context: DialectContext, service: string, method: string) {
    this.#head = head;
    this.#context = context;
    this.#service = service;
    this.#method = method;
    this.#schema = context.grpcDescriptors == null ? null : readDescriptorSet(context.grpcDescriptors);
    this.#types = this.#schema?.method(service, method) ?? null;
    this.reads = this.#types === null ? "head" : "first";
    this.forward = this.#types === null ? undefined : (verdict) => this.#forward(verdict);
    this.twin = {
      family: "grpc",
      save: (): State => ({ judged: this.#judged, passed: this.#passed }),
      restore: (state) => {
        const { judged, passed } = state as State;
        this.#judged = judged;
        this.#passed = passed;
      },
      isLong: (body) => this.#isLong(body),
    };
  }

  needs(body: Buffer): number {
    const frames = new FrameReader();
    try {
      return frames.push(body).length > 0 ? 0 : frames.neededBytes;
    } catch {
      return 0;
    }
  }

  /** In gzip some bytes may be a long message. */
  #isLong(body: Buffer): boolean {
    try {
      const [frame] = new FrameReader().push(body);
      return frame !== undefined && plainMessage(frame, this.#coding(), largeBodyBytesMin) === "long";
    } catch {
      return false;
    }
  }

  /** A client that streams may wait for the server's word before its own. */
  get waits(): boolean {
    return this.#types?.clientStreams === false;
  }

  describe(body: Buffer | null): Described {
    const traits: string[] = [];
    let message: unknown = null;
    if (this.#schema !== null && this.#types === null) traits.push("unknown-method");
    if (this.#types !== null) {
      let frame: Frame | undefined;
      try {
        [frame] = new FrameReader().push(body ?? Buffer.alloc(0));
        if (frame === undefined && (this.waits || (body?.length ?? 0) > 0)) traits.push("unreadable-body");
      } catch {
        traits.push("unreadable-body");
      }
      if (frame !== undefined) {
        this.#judged = 1;
        message = this.#view(frame, traits);
      }
    }
    return this.#describe(message, traits);
  }

  #describe(message: unknown, traits: readonly string[]): Described {
    const where = `grpc ${this.#head.authority} ${this.#service}/${this.#method}`;
    const said = message === null ? "" : ` ${JSON.stringify(message)}`;
    return {
      protocol: "grpc",
      text: `${where}${Buffer.from(said).toString("utf8", 0, textBytesMax)}`,
      verbs: [this.#method.toLowerCase()],
      // Nothing tells whether a method reads or writes.
      writes: true,
      traits,
      grpc: { service: this.#service, method: this.#method, message },
    };
  }

  #view(frame: Frame, traits: string[]): unknown {
    const message = plainMessage(frame, this.#coding(), messageBytesMax);
    return this.#viewPlain(message === "long" ? null : message, traits);
  }

  #viewPlain(message: Buffer | null, traits: string[]): unknown {
    const types = this.#types as MethodType;
    if (message === null) {
      traits.push("unreadable-body");
      return null;
    }
    try {
      const { value, hasUnknown } = messageJson(message, types.input, this.#schema as GrpcSchema);
      if (hasUnknown) traits.push("unknown-fields");
      return value;
    } catch (error) {
      if (!(error instanceof WeirError)) throw error;
      traits.push("unreadable-body");
      return null;
    }
  }

  #coding(): string {
    return this.#head.headers.get("grpc-encoding")?.toLowerCase() ?? "identity";
  }

  #forward(verdict: Verdict): ReplyReader {
    return new ForwardedMessages(this.#coding(), {
      judge: (message, mayHold) => this.#judge(message, mayHold),
      change: (frame, message) => this.#redact(frame, message, verdict),
      worked: () => {
        this.#passed += 1;
      },
    });
  }

  /** A later message of the client is judged as the first one was; what is returned is held. */
  #judge(message: Buffer | null, mayHold: boolean): Described | null {
    this.#passed += 1;
    if (this.#passed > this.#judged) {
      const traits: string[] = [];
      const described = this.#describe(this.#viewPlain(message, traits), traits);
      const said = this.#context.would({ ...described, http: factsOf(this.#head) });
      if (said.action === "hold" && mayHold) return described;
      if (said.action !== "allow")
        throw new WeirError(
          "WEIR_DENIED",
          `A later message of the call is denied by rule "${said.rule}": ${said.reason}`,
        );
    }
    return null;
  }

  #redact(frame: Frame, message: Buffer | null, verdict: Verdict): Buffer {
    const types = this.#types as MethodType;
    const { request } = plansOf(verdict, this.#context);
    if (request === null) return frame.raw;
    if (message === null) throw new WeirError("WEIR_MASK_IMPOSSIBLE", "A message cannot be decompressed.");
    const copy = Buffer.from(message);
    const masks = { masker: maskerOf(request), paths: [], key: this.#context.maskKey };
    return maskMessage(copy, types.input, this.#schema as GrpcSchema, masks) === 0 ? frame.raw : frameOf(copy);
  }

  /** "Trailers-Only": status and message stand in the head, and there is no body. */
  refuse(refusal: Refusal): OwnResponse {
    const status =
      refusal.kind === "denied" || refusal.code === "WEIR_DENIED"
        ? permissionDenied
        : refusal.kind === "busy"
          ? resourceExhausted
          : unavailable;
    return {
      status: 200,
      headers: [
        ["content-type", "application/grpc"],
        ["grpc-status", String(status)],
        ["grpc-message", percentEncoded(refusal.message)],
      ],
      body: Buffer.alloc(0),
    };
  }

  holding(): null {
    return null;
  }

  /** What an error says, and its details: any message, so that detectors look at its bytes. */
  fields(fields: Headers, verdict: Verdict): number {
    const { reply } = plansOf(verdict, this.#context);
    return reply === null ? 0 : maskStatus(fields, reply);
  }

  reply(head: ResponseHead, verdict: Verdict): ReplyReader | null {
    const { reply, paths } = plansOf(verdict, this.#context);
    if (reply === null && paths.length === 0) return null;
    // A status without messages (its head is all there is) has nothing in it to mask.
    if (head.body.kind === "none") return null;
    const coding = head.headers.get("grpc-encoding")?.toLowerCase() ?? "identity";
    if (this.#types !== null && this.#schema !== null) {
      const masks = { masker: reply === null ? null : maskerOf(reply), paths, key: this.#context.maskKey };
      return new TypedReply(this.#types.output, this.#schema, masks, coding);
    }
    if (this.#schema !== null && paths.length > 0) return new NoReply();
    return reply === null ? null : new BareReply(createBodyMasker(reply), coding);
  }
}

interface ForwardedOptions {
  judge(message: Buffer | null, mayHold: boolean): Described | null;
  change(frame: Frame, message: Buffer | null): Buffer;
  worked(): void;
}

/** What the client sends, message by message. */
class ForwardedMessages extends MessageByMessage implements ReplyReader {
  readonly preservesLength = false;
  readonly masked = 0;
  readonly #options: ForwardedOptions;
  /** The one that others wait for. */
  #held: { readonly described: Described; readonly frame: Frame; readonly message: Buffer | null } | null = null;

  constructor(coding: string, options: ForwardedOptions) {
    super(coding);
    this.#options = options;
  }

  protected override message(frame: Frame, message: Buffer | null, mayWait: boolean): Buffer | null {
    const described = this.#options.judge(message, mayWait);
    if (described === null) return this.#options.change(frame, message);
    this.#held = { described, frame, message };
    return null;
  }

  held(): Described | null {
    return this.#held?.described ?? null;
  }

  release(): Buffer {
    const held = this.#held;
    if (held === null) return Buffer.alloc(0);
    this.#held = null;
    return this.goOn(this.#options.change(held.frame, held.message));
  }

  override worked(done: LargeReply): Buffer {
    this.#options.worked();
    return super.worked(done);
  }

  /** The server says what it makes of half a message. */
  end(): Buffer {
    return Buffer.alloc(0);
  }

  summary() {
    return { text: "", inputTokens: null, outputTokens: null, toolCalls: [], error: null };
  }
}
