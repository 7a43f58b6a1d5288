/**
 * APIs of language models over HTTP, as `agent/wire/http` asks for them: one exchange is one call and its reply. What
 * the APIs differ in is behind `LlmApi`.
 */
import type { Operation } from "../../core/operation.ts";
import type { Verdict } from "../../core/verdict.ts";
import { WeirError } from "../../errors.ts";
import { bodyReader } from "../http/body-mask.ts";
import type {
  Described,
  Dialect,
  DialectContext,
  DialectExchange,
  HoldingStream,
  Refusal,
  ReplyReader,
  Tunnel,
} from "../http/dialect.ts";
import { promptBytesMax } from "../http/dialect.ts";
import { asBuffer, largeBodyBytesMin, type Twin } from "../http/large-body.ts";
import { LongParts } from "../http/long-parts.ts";
import { isText } from "../http/media-type.ts";
import { charset, mediaType, type OwnResponse, type RequestHead, type ResponseHead } from "../http/message.ts";
import { factsOf, splitTarget } from "../http/request-facts.ts";
import type { EventSigner } from "../http/sigv4.ts";
import type { LlmStream, RealtimeApi, RequestEvent, RequestEvents, StreamBody } from "./api.ts";
import { apiFor, type Called } from "./apis.ts";
import { dataUrl, readBody } from "./body.ts";
import { type ReplyMasks, replyMasks } from "./masking.ts";
import type { RequestFacts } from "./message-facts.ts";
import { Placeholders } from "./placeholders.ts";
import { RealtimeTunnel } from "./realtime.ts";
import { redactBody } from "./redaction.ts";
import { ObservedReply, StreamReply, WholeReply } from "./reply.ts";
import { ReplyRuns } from "./runs.ts";
import { NdjsonBody, SseBody } from "./stream-reply.ts";
import { SseTap, StreamTap, WholeTap } from "./tap.ts";
import { estimateTokens } from "./tokens.ts";

export const llmDialect: Dialect = {
  family: "llm",
  open(head, context) {
    const { path, query } = splitTarget(head.target);
    const called = apiFor(context.targetProtocol, head, path, query);
    return called === null ? null : new LlmExchange(head, context, called);
  },
};

/** Of the operation's text; the prompt itself is in `llm.prompt`. */
const textBytesMax = 64 * 1024;

/** Calls that have a prompt. */
const prompted: ReadonlySet<string> = new Set(["chat", "responses", "messages", "completions", "embeddings"]);

/** What an exchange and its twin have in common. */
interface State {
  readonly stream: boolean;
  readonly names: readonly (readonly [string, string])[] | null;
  readonly judged: number;
  readonly passed: number;
}

class LlmExchange implements DialectExchange {
  readonly reads: "head" | "whole" | "first";
  readonly forward: DialectExchange["forward"];
  readonly tunnel: DialectExchange["tunnel"];
  readonly twin: Twin;
  readonly #head: RequestHead;
  readonly #context: DialectContext;
  readonly #called: Called;
  #stream = false;
  #names: Placeholders | null = null;
  #verdict: Verdict | null = null;
  /** The reply is masked as one text. */
  #isRead = false;
  /** Of a request that goes on: events that the verdict has seen, and those that went on. */
  #judged = 0;
  #passed = 0;

  constructor(head: RequestHead, context: DialectContext, called: Called) {
    this.#head = head;
    this.#context = context;
    this.#called = called;
    this.reads = called.call.reads;
    this.twin = {
      family: "llm",
      save: (): State => ({
        stream: this.#stream,
        names: this.#names?.entries() ?? null,
        judged: this.#judged,
        passed: this.#passed,
      }),
      restore: (state) => this.#restore(state as State | null),
    };
    const { api, call } = called;
    const { realtime } = api;
    const events = api.events?.(call) ?? null;
    this.forward = events === null ? undefined : (verdict, signer = null) => this.#forwarded(events, verdict, signer);
    if (events !== null) this.reads = "first";
    if (call.api === "realtime" && realtime !== undefined) {
      const tunnel = (verdict: Verdict): Tunnel => this.#realtime(realtime, verdict);
      this.tunnel = tunnel;
    }
  }

  #restore(state: State | null): void {
    this.#stream = state?.stream ?? false;
    this.#judged = state?.judged ?? 0;
    this.#passed = state?.passed ?? 0;
    this.#names = state?.names == null ? null : Placeholders.of(state.names);
  }

  #realtime(api: RealtimeApi, verdict: Verdict): Tunnel {
    return new RealtimeTunnel({
      api,
      masks: this.#masks(verdict),
      masking: this.#context,
      describe: (type, facts, traits) => this.#described(facts, [...traits], type),
    });
  }

  /** A client whose request goes on while it is answered may wait for the answer's head. */
  get waits(): boolean {
    return this.reads !== "first";
  }

  needs(body: Buffer): number {
    const { api, call } = this.#called;
    const events = api.events?.(call) ?? null;
    try {
      return events === null || events.cut(body).length > 0 ? 0 : events.neededBytes;
    } catch {
      return 0;
    }
  }

  #first(body: Buffer): RequestEvent | null {
    const { api, call } = this.#called;
    const events = api.events?.(call) ?? null;
    const [raw] = events?.cut(body) ?? [];
    return raw === undefined ? null : (events?.read(raw) ?? null);
  }

  /** Of a request that goes on while it is answered. */
  #forwarded(events: RequestEvents, verdict: Verdict, signer: EventSigner | null): ReplyReader {
    const redacts = (verdict.transforms.redactions?.length ?? 0) > 0;
    // Names that are given while the reply is read already.
    if (redacts) this.#names ??= new Placeholders();
    let held: Described | null = null;
    const leave = (raw: Buffer): Buffer => {
      const json = redacts ? this.#redactEvent(events.read(raw), verdict) : null;
      return json === null && signer === null ? raw : events.write(raw, json, signer);
    };
    const parts = new LongParts<Buffer>({
      raw: (raw) => raw,
      change: (raw, mayDefer) => {
        // A thread would not know the names.
        if (mayDefer && !redacts && raw.length > largeBodyBytesMin) return null;
        held = this.#judge(events.read(raw), mayDefer);
        return held === null ? leave(raw) : null;
      },
    });
    return {
      preservesLength: false,
      masked: 0,
      get heldBytes() {
        return events.heldBytes + parts.heldBytes;
      },
      push: (bytes) => parts.pass(events.cut(bytes)),
      defer: () => parts.defer(),
      takeLarge: () => parts.takeLarge(),
      held: () => held,
      release() {
        const raw = parts.takeLarge() ?? Buffer.alloc(0);
        held = null;
        return parts.goOn(leave(raw));
      },
      worked: ({ body }) => {
        this.#passed += 1;
        return parts.goOn(leave(asBuffer(body)));
      },
      end: () => events.end(signer),
      summary: () => ({ text: "", inputTokens: null, outputTokens: null, toolCalls: [], error: null }),
    };
  }

  /** Null: nothing is taken out of it. */
  #redactEvent({ json }: RequestEvent, verdict: Verdict): Buffer | null {
    if (json === null) return null;
    const redacted = redactBody(json, verdict, this.#context, this.#names ?? undefined)?.body ?? json;
    return redacted === json ? null : redacted;
  }

  /** Every event after the first is judged when it comes; what is returned is held. */
  #judge(event: RequestEvent, mayHold: boolean): Described | null {
    this.#passed += 1;
    if (this.#passed <= this.#judged) return null;
    const described = this.#described(event.facts, [...event.traits], event.type);
    const said = this.#context.would({ ...described, http: factsOf(this.#head) });
    if (said.action === "hold" && mayHold) return described;
    if (said.action !== "allow")
      throw new WeirError("WEIR_DENIED", `A later event of the call is denied by rule "${said.rule}": ${said.reason}`);
    return null;
  }

  #describeFirst(body: Buffer | null): Described {
    this.#stream = true;
    let event: RequestEvent | null = null;
    try {
      event = body === null ? null : this.#first(body);
    } catch {
      return this.#described(null, ["unreadable-body"], "");
    }
    this.#judged = event === null ? 0 : 1;
    return this.#described(event?.facts ?? null, [...(event?.traits ?? [])], event?.type ?? "");
  }

  describe(body: Buffer | null): Described {
    if (this.reads === "first") return this.#describeFirst(body);
    const { api, call } = this.#called;
    const read = body === null || this.reads === "head" || body.length === 0 ? null : readBody(body);
    const traits: string[] = read?.problem == null ? [] : [read.problem];
    // A call whose body is missing asks nothing that could be judged.
    if (read === null && this.reads === "whole" && prompted.has(call.api)) traits.push("unreadable-body");
    if (call.readable === false || (read?.problem === null && !this.#isUtf8())) traits.push("unreadable-body");
    if (call.known === false) traits.push("unknown-api");
    if (this.reads === "head" && this.#head.body.kind !== "none") traits.push("body-unread");
    let facts: RequestFacts | null = null;
    if (read?.value != null) {
      try {
        facts = api.request(read.value, call);
      } catch {
        traits.push("unreadable-body");
      }
    }
    this.#stream = call.stream ?? facts?.stream ?? false;
    return this.#described(facts, traits, "");
  }

  /** `event`: of a session over a WebSocket. */
  #described(facts: RequestFacts | null, traits: string[], event: string): Described {
    const { api, call } = this.#called;
    const texts = (facts?.prompt ?? []).filter((text) => !dataUrl.test(text));
    const all = texts.join("\n");
    const prompt = cutTo(all, promptBytesMax);
    // What rules look for may stand in the rest.
    if (prompt.length < all.length) traits.push("prompt-cut");
    const model = (facts?.model || call.model) ?? "";
    const { method } = this.#head;
    const { path } = splitTarget(this.#head.target);
    const where = [method, path, model, event].filter((word) => word !== "").join(" ");
    return {
      protocol: "llm",
      text: cutTo(prompt === "" ? where : `${where}\n\n${prompt}`, textBytesMax),
      verbs: [call.api],
      // A realtime session is opened by a GET, and the prompts follow in it.
      writes: (method !== "GET" && method !== "HEAD") || call.api === "realtime",
      traits,
      llm: {
        provider: api.provider,
        api: call.api,
        model,
        stream: event !== "" || this.#stream,
        tools: facts?.tools ?? [],
        tokens: estimateTokens(texts),
        outputTokensMax: facts?.outputTokensMax ?? null,
        prompt,
      } satisfies NonNullable<Operation["llm"]>,
    };
  }

  /** A server that follows another character set reads other words than stand here. */
  #isUtf8(): boolean {
    const said = charset(this.#head.headers);
    return said === null || /^(?:utf-?8|us-ascii)$/.test(said);
  }

  rewrite(body: Buffer, verdict: Verdict): Buffer {
    this.#verdict = verdict;
    if (this.reads !== "whole" || body.length === 0) return body;
    const redacted = redactBody(body, verdict, this.#context);
    if (redacted === null) return body;
    this.#names = redacted.names.size === 0 ? null : redacted.names;
    return redacted.body;
  }

  refuse(refusal: Refusal): OwnResponse {
    return this.#called.api.refuse(refusal, this.#called.call);
  }

  holding(): HoldingStream | null {
    if (!this.#stream) return null;
    const { api, call } = this.#called;
    const stream = api.holding(call);
    if (stream === null) return null;
    return {
      head: stream.head,
      beat: (sequence) => stream.beat(sequence),
      refuse: (refusal) => stream.refuse(refusal),
      // What comes in one text has been through its reader.
      wrap: (status, body) => {
        const reader = this.#verdict === null || this.#isRead ? null : this.#whole(this.#masks(this.#verdict));
        return stream.wrap(status, reader === null ? body : Buffer.concat([reader.push(body), reader.end()]));
      },
    };
  }

  reply(head: ResponseHead, verdict: Verdict): ReplyReader | null {
    this.#verdict = verdict;
    if (head.body.kind === "none") return null;
    const { api, call } = this.#called;
    const masks = this.#masks(verdict);
    const changes = masks !== null || this.#names !== null;
    // Files and lists of models pass unread unless something in them is masked.
    if (!changes && this.reads === "head") return null;
    const stream = head.status < 300 ? api.stream(head, call) : null;
    if (stream !== null) return changes ? this.#streamed(stream, masks) : observed(stream, verdict);
    const type = mediaType(head.headers);
    if (changes && type !== "" && !isText(type)) return this.#unnamed(type, verdict, masks);
    // Sound, pictures and archives are no text.
    if (type !== "" && !isText(type)) return null;
    if (changes) return this.#whole(masks, type === "application/json" || type.endsWith("+json"));
    return new ObservedReply(new WholeTap((body) => api.reply(body, call), verdict.record === "result"));
  }

  /** The answer to a prompt is text whatever it is called; files that say nothing of themselves are lines of JSON mostly. */
  #unnamed(type: string, verdict: Verdict, masks: ReplyMasks | null): ReplyReader | null {
    if (/^(?:image|audio|video|font)\//.test(type)) return null;
    if (prompted.has(this.#called.call.api)) return this.#whole(masks);
    return type === "application/octet-stream" ? bodyReader("", verdict, this.#context) : null;
  }

  #masks(verdict: Verdict): ReplyMasks | null {
    return replyMasks(verdict, this.#context);
  }

  #streamed(stream: LlmStream, masks: ReplyMasks | null): ReplyReader {
    const { api, call } = this.#called;
    const runs = new ReplyRuns(masks, this.#names);
    return new StreamReply({
      body: bodyOf(stream, runs, masks),
      runs,
      tell: (refusal) => api.holding(call)?.refuse(refusal) ?? api.refuse(refusal, call).body,
    });
  }

  #whole(masks: ReplyMasks | null, isJson = false): ReplyReader {
    this.#isRead = true;
    const { api, call } = this.#called;
    return new WholeReply({
      masks,
      isJson,
      names: this.#names,
      facts: (body) => api.reply(body, call),
      tell: (refusal) => api.refuse(refusal, call).body,
    });
  }
}

function bodyOf(stream: LlmStream, runs: ReplyRuns, masks: ReplyMasks | null): StreamBody {
  if (stream.framing === "own") return stream.body(runs);
  const context = { rewriter: stream.rewriter(), runs, paths: masks?.paths ?? [], key: masks?.key ?? Buffer.alloc(0) };
  return stream.framing === "sse" ? new SseBody(context) : new NdjsonBody(context);
}

/** Nothing changes: bytes pass at once. */
function observed(stream: LlmStream, verdict: Verdict): ReplyReader {
  const runs = new ReplyRuns(null, null);
  if (stream.framing === "sse" && verdict.record !== "result")
    return new ObservedReply(new SseTap(stream.rewriter(), runs));
  return new ObservedReply(new StreamTap(bodyOf(stream, runs, null), runs));
}

/** Cut at a character. */
function cutTo(text: string, bytesMax: number): string {
  if (text.length * 3 <= bytesMax || Buffer.byteLength(text) <= bytesMax) return text;
  const bytes = Buffer.from(text, "utf8").subarray(0, bytesMax);
  let end = bytes.length;
  while (end > 0 && ((bytes[end - 1] ?? 0) & 0xc0) === 0x80) end -= 1;
  // The character that begins here may be whole; leaving it out costs nothing.
  return bytes.toString("utf8", 0, Math.max(0, end - 1));
}
