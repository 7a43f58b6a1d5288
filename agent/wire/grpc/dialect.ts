/**
 * gRPC over HTTP/2 (github.com/grpc/grpc/blob/master/doc/PROTOCOL-HTTP2.md): a call is decided by its service and
 * method. Messages stay as they are, but for what detectors find in them: a mask is as long as what it hides, so a
 * string of protocol buffers stays whole.
 */
import type { Verdict } from "../../core/verdict.ts";
import { WeirError } from "../../errors.ts";
import { type BodyMasker, createBodyMasker } from "../../mask/body-masker.ts";
import type { Described, Dialect, DialectContext, DialectExchange, Refusal, ReplyReader } from "../http/dialect.ts";
import { plansOf } from "../http/mask-plans.ts";
import { mediaType, type OwnResponse, type RequestHead, type ResponseHead } from "../http/message.ts";
import { splitTarget } from "../http/request-facts.ts";

/** Status codes of grpc.io/docs/guides/status-codes. */
const permissionDenied = 7;
const resourceExhausted = 8;
const unavailable = 14;

export const grpcDialect: Dialect = {
  family: "grpc",
  open(head, context) {
    if (context.targetProtocol !== "grpc" && context.targetProtocol !== "http") return null;
    if (head.method !== "POST" || !/^application\/grpc(?:\+|$)/.test(mediaType(head.headers))) return null;
    const call = /^\/([\w.]+)\/(\w+)$/.exec(splitTarget(head.target).path);
    return call === null ? null : new GrpcExchange(head, context, call[1] as string, call[2] as string);
  },
};

class GrpcExchange implements DialectExchange {
  readonly reads = "head";
  readonly #head: RequestHead;
  readonly #context: DialectContext;
  readonly #service: string;
  readonly #method: string;

  constructor(head: RequestHead, context: DialectContext, service: string, method: string) {
    this.#head = head;
    this.#context = context;
    this.#service = service;
    this.#method = method;
  }

  describe(): Described {
    const { authority } = this.#head;
    return {
      protocol: "grpc",
      text: `grpc ${authority} ${this.#service}/${this.#method}`,
      verbs: [this.#method.toLowerCase()],
      // Nothing tells whether a method reads or writes.
      writes: true,
      traits: [],
      grpc: { service: this.#service, method: this.#method, message: null },
    };
  }

  rewrite(body: Buffer): Buffer {
    return body;
  }

  /** "Trailers-Only": status and message stand in the head, and there is no body. */
  refuse(refusal: Refusal): OwnResponse {
    const status =
      refusal.kind === "denied" ? permissionDenied : refusal.kind === "busy" ? resourceExhausted : unavailable;
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

  reply(head: ResponseHead, verdict: Verdict): ReplyReader | null {
    const { reply, paths } = plansOf(verdict, this.#context);
    if (reply === null && paths.length === 0) return null;
    // A status without messages (its head is all there is) has nothing in it to mask.
    if (head.body.kind === "none") return null;
    if (reply === null) return null;
    return new GrpcReply(createBodyMasker(reply), head.headers.get("grpc-encoding") ?? "identity");
  }
}

const frameHeadBytes = 5;

/** Messages of a stream, each behind a flag byte and its length; only what is inside of them is looked at. */
class GrpcReply implements ReplyReader {
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
        if (this.#head[0] !== 0)
          throw new WeirError("WEIR_MASK_IMPOSSIBLE", `A gRPC message is compressed (${this.#coding.slice(0, 20)}).`);
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
    return { text: "", inputTokens: null, outputTokens: null, toolCalls: [], error: null };
  }
}

/** Percent-encoding of `Status-Message`. */
function percentEncoded(text: string): string {
  return [...Buffer.from(text, "utf8")]
    .map((byte) =>
      byte >= 0x20 && byte <= 0x7e && byte !== 0x25
        ? String.fromCharCode(byte)
        : `%${byte.toString(16).toUpperCase().padStart(2, "0")}`,
    )
    .join("");
}
