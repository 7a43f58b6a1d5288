/**
 * A realtime session over a WebSocket: each event of the client's that gives the model something is an operation of its
 * own, decided and redacted before it leaves; what the server tells is masked event by event. Which events there are is
 * the API's: openai-realtime.ts, gemini-live.ts.
 */
import type { Verdict } from "../../core/verdict.ts";
import { WeirError } from "../../errors.ts";
import type { Masker } from "../../mask/masker.ts";
import type { Described, ReplyReader, Tunnel, TunnelStep } from "../http/dialect.ts";
import { largeBodyBytesMin } from "../http/large-body.ts";
import type { Masking } from "../http/mask-plans.ts";
import { maskControl } from "../websocket/control.ts";
import { MessageReader, opText, type WebSocketPart, writeMessage } from "../websocket/messages.ts";
import type { RealtimeApi, Spent } from "./api.ts";
import { readBody } from "./body.ts";
import type { ReplyMasks } from "./masking.ts";
import type { RequestFacts } from "./message-facts.ts";
import type { JsonObject } from "./message-leaves.ts";
import { Placeholders, type PlaceholdersState } from "./placeholders.ts";
import { redactBody } from "./redaction.ts";
import { StreamReply } from "./reply.ts";
import { ReplyRuns } from "./runs.ts";
import { EventBody, type EventContext } from "./stream-reply.ts";

export interface RealtimeOptions {
  readonly api: RealtimeApi;
  readonly masks: ReplyMasks | null;
  readonly masking: Masking;
  /** An operation of the session: its event's type, what it says, and what of it could not be read. */
  describe(type: string, facts: RequestFacts, traits: readonly string[]): Described;
}

/** What one message of the client's asks, as plain data. */
interface Asked {
  readonly described: Described;
  readonly bytes: number;
  readonly answered: boolean;
  readonly isSound: boolean;
  /** It passes undecided; sound, once some was allowed. */
  readonly passes: "idle" | "sound" | null;
  readonly id: unknown;
}

interface TunnelState {
  readonly names: PlaceholdersState;
  readonly model: string;
}

type Message = Extract<WebSocketPart, { kind: "message" }>;

const empty = Buffer.alloc(0);

export class RealtimeTunnel implements Tunnel {
  readonly reply: ReplyReader;
  readonly #options: RealtimeOptions;
  readonly #names = new Placeholders();
  readonly #reader = new MessageReader(true);
  readonly #body: RealtimeBody;
  #waiting: WebSocketPart[] = [];
  #waitingBytes = 0;
  #soundAllowed = false;
  #model = "";
  /** The client was told that the session ends. */
  #ended = false;

  constructor(options: RealtimeOptions) {
    this.#options = options;
    const { api, masks } = options;
    const runs = new ReplyRuns(masks, this.#names);
    this.#body = new RealtimeBody({
      rewriter: api.rewriter(),
      runs,
      paths: masks?.paths ?? [],
      key: masks?.key ?? empty,
      masker: masks?.masker ?? null,
      spent: (event) => api.spent(event),
    });
    this.reply = new StreamReply({ body: this.#body, runs, tell: (refusal) => this.farewell(refusal.message) });
  }

  get heldBytes(): number {
    return this.#reader.heldBytes + this.#waitingBytes;
  }

  get waitingBytes(): number {
    return this.#waitingBytes;
  }

  push(bytes: Buffer): void {
    for (const part of this.#reader.push(bytes)) {
      this.#waiting.push(part);
      this.#waitingBytes += part.raw.length;
    }
  }

  save(): TunnelState {
    return { names: this.#names.state(), model: this.#model };
  }

  restore(state: unknown): void {
    const { names, model } = state as TunnelState;
    this.#names.adopt(names);
    this.#model = model;
  }

  part(raw: Buffer, redact: Verdict | null) {
    const [message] = new MessageReader(true).push(raw);
    if (message?.kind !== "message") throw new WeirError("WEIR_INTERNAL", "A message was handed out that is none.");
    if (redact !== null) return { asked: null, body: this.#redact(message, redact) };
    return { asked: this.#read(message.payload), body: raw };
  }

  read(asked: unknown, raw: Buffer): TunnelStep {
    return this.#step(asked as Asked, raw, (verdict) => (isRedacted(verdict) ? { raw } : raw));
  }

  next(asked: boolean): TunnelStep | null {
    if (this.#ended) return null;
    // Pings overtake what waits for a decision, so that nobody takes the connection for dead.
    const at = asked ? this.#waiting.findIndex((part) => part.kind === "control" && !part.isLast) : 0;
    const [part] = at < 0 ? [] : this.#waiting.splice(at, 1);
    if (part === undefined) return null;
    this.#waitingBytes -= part.raw.length;
    return part.kind === "control" ? { type: "pass", bytes: part.raw } : this.#message(part);
  }

  #message(message: Message): TunnelStep {
    if (message.raw.length > largeBodyBytesMin) return { type: "long", raw: message.raw };
    return this.#step(this.#read(message.payload), message.raw, (verdict) => this.#redact(message, verdict));
  }

  #read(payload: Buffer): Asked {
    const { api, describe } = this.#options;
    const { value, problem } = readBody(payload);
    const { type, kind, facts, answered } = api.asked(value ?? {});
    const isSound = kind === "sound";
    const passes = problem === null && (kind === "idle" || isSound) ? kind : null;
    const traits = problem !== null ? [problem] : type === "" ? ["unreadable-body"] : isSound ? ["body-unread"] : [];
    if (facts.model !== "") this.#model = facts.model;
    const described = describe(type, { ...facts, model: this.#model }, traits);
    return { described, bytes: payload.length, answered, isSound, passes, id: value?.["event_id"] };
  }

  #step(asked: Asked, raw: Buffer, redact: (verdict: Verdict) => Buffer | { readonly raw: Buffer }): TunnelStep {
    const { api } = this.#options;
    const { described, bytes, answered, isSound, passes, id } = asked;
    if (passes === "idle" || (passes === "sound" && this.#soundAllowed)) return { type: "pass", bytes: raw };
    return {
      ...{ type: "ask", described, bytes, answered },
      send: (verdict) => {
        if (!isSound) return redact(verdict);
        this.#soundAllowed = true;
        return raw;
      },
      refuse: (refusal) => {
        this.#ended = api.refusalEnds;
        return api.refuse(refusal, { event_id: id });
      },
    };
  }

  #redact(message: Message, verdict: Verdict): Buffer {
    const redacted = redactBody(message.payload, verdict, this.#options.masking, this.#names);
    if (redacted === null || redacted.body === message.payload) return message.raw;
    return writeMessage(message.op, redacted.body, message.key);
  }

  spent() {
    return this.#body.spent();
  }

  farewell(message: string): Buffer {
    return this.#options.api.farewell(message);
  }
}

function isRedacted({ transforms }: Verdict): boolean {
  return (transforms.redactions?.length ?? 0) > 0;
}

interface RealtimeContext extends EventContext {
  readonly masker: Masker | null;
  spent(event: JsonObject): Spent | null;
}

interface BodyState {
  readonly rewriter: unknown;
  readonly spent: readonly Spent[];
  readonly input: number;
  readonly output: number;
}

/** What the server sends, event by event. */
class RealtimeBody extends EventBody<WebSocketPart> {
  readonly #reader = new MessageReader(false);
  readonly #context: RealtimeContext;
  #spent: Spent[] = [];
  #input = 0;
  #output = 0;

  constructor(context: RealtimeContext) {
    super(context);
    this.#context = context;
  }

  override get inputTokens(): number {
    return this.#input;
  }

  override get outputTokens(): number {
    return this.#output;
  }

  protected override get cutBytes(): number {
    return this.#reader.heldBytes;
  }

  protected override cut(bytes: Buffer): WebSocketPart[] {
    return this.#reader.push(bytes);
  }

  protected override raw({ raw }: WebSocketPart): Buffer {
    return raw;
  }

  protected override partOf(raw: Buffer): WebSocketPart {
    const [part] = new MessageReader(false).push(raw);
    if (part === undefined) throw new WeirError("WEIR_INTERNAL", "A part of a WebSocket was handed out that is none.");
    return part;
  }

  save(): BodyState {
    const rewriter = this.context.rewriter.save();
    return { rewriter, spent: this.#spent, input: this.#input, output: this.#output };
  }

  restore({ rewriter, spent, input, output }: BodyState): void {
    this.context.rewriter.restore(rewriter as never);
    this.#spent = [...spent];
    this.#input = input;
    this.#output = output;
  }

  end(): Buffer {
    return Buffer.concat(this.rest().map(({ text }) => writeMessage(opText, Buffer.from(text, "utf8"), null)));
  }

  spent() {
    const spent = this.#spent;
    this.#spent = [];
    return spent;
  }

  protected override change(part: WebSocketPart): Buffer {
    // Nothing may follow a close frame.
    if (part.kind === "control") {
      const control = maskControl(part.raw, this.#context.masker);
      return part.isLast ? Buffer.concat([this.end(), control]) : control;
    }
    const events = this.changeText(part.payload.toString("utf8"));
    if (events === null) return part.raw;
    return Buffer.concat(events.map((event) => writeMessage(part.op, Buffer.from(event.text, "utf8"), null)));
  }

  protected override note(event: JsonObject): void {
    const spent = this.#context.spent(event);
    if (spent === null) return;
    this.#input += spent.inputTokens ?? 0;
    this.#output += spent.outputTokens ?? 0;
    this.#spent.push(spent);
  }
}
