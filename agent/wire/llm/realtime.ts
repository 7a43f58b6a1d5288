/**
 * A realtime session of OpenAI's API over a WebSocket: each event of the client's that gives the model something is an
 * operation of its own, decided and redacted before it leaves; what the server tells is masked event by event.
 * https://platform.openai.com/docs/api-reference/realtime-client-events
 */
import type { Verdict } from "../../core/verdict.ts";
import type { Described, Refusal, ReplyReader, Tunnel, TunnelStep } from "../http/dialect.ts";
import type { Masking } from "../http/mask-plans.ts";
import { closeFrame, MessageReader, opText, type WebSocketPart, writeMessage } from "../websocket/messages.ts";
import { readBody } from "./body.ts";
import type { ReplyMasks } from "./masking.ts";
import type { RequestFacts } from "./message-facts.ts";
import { isObject, type JsonObject, textsOf } from "./message-leaves.ts";
import { openaiUsage } from "./openai-parts.ts";
import { ResponsesStream } from "./openai-responses-stream.ts";
import { Placeholders } from "./placeholders.ts";
import { redactBody } from "./redaction.ts";
import { StreamReply } from "./reply.ts";
import { ReplyRuns } from "./runs.ts";
import { EventBody } from "./stream-reply.ts";

export interface RealtimeOptions {
  readonly masks: ReplyMasks | null;
  readonly masking: Masking;
  /** An operation of the session: its event's type, what it says, and what of it could not be read. */
  describe(type: string, facts: RequestFacts, traits: readonly string[]): Described;
}

type Message = Extract<WebSocketPart, { kind: "message" }>;

const empty = Buffer.alloc(0);
const base64 = /^[A-Za-z0-9+/]+={0,2}$/;
const soundCharactersMin = 256;
/** Sound comes in many small pieces: one decision stands for all of a session's. */
const audioType = /^input_audio_buffer\./;
/** They give the model nothing. */
const idleTypes: ReadonlySet<string> = new Set([
  ...["response.cancel", "output_audio_buffer.clear", "conversation.item.delete", "conversation.item.truncate"],
  "conversation.item.retrieve",
]);

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

  constructor(options: RealtimeOptions) {
    this.#options = options;
    const { masks } = options;
    const runs = new ReplyRuns(masks, this.#names);
    this.#body = new RealtimeBody({
      rewriter: new ResponsesStream(true),
      runs,
      paths: masks?.paths ?? [],
      key: masks?.key ?? empty,
    });
    this.reply = new StreamReply({ body: this.#body, runs, tell: (refusal) => this.farewell(refusal.message) });
  }

  get heldBytes(): number {
    return this.#reader.heldBytes + this.#waitingBytes;
  }

  push(bytes: Buffer): void {
    for (const part of this.#reader.push(bytes)) {
      this.#waiting.push(part);
      this.#waitingBytes += part.raw.length;
    }
  }

  next(asked: boolean): TunnelStep | null {
    // Pings overtake what waits for a decision, so that nobody takes the connection for dead.
    const at = asked ? this.#waiting.findIndex((part) => part.kind === "control" && !part.isLast) : 0;
    const [part] = at < 0 ? [] : this.#waiting.splice(at, 1);
    if (part === undefined) return null;
    this.#waitingBytes -= part.raw.length;
    return part.kind === "control" ? { type: "pass", bytes: part.raw } : this.#message(part);
  }

  #message(message: Message): TunnelStep {
    const { value, problem } = readBody(message.payload);
    const type = typeof value?.["type"] === "string" ? value["type"] : "";
    const isSound = audioType.test(type);
    if (problem === null && (idleTypes.has(type) || (isSound && this.#soundAllowed)))
      return { type: "pass", bytes: message.raw };
    const traits = problem !== null ? [problem] : type === "" ? ["unreadable-body"] : isSound ? ["body-unread"] : [];
    const facts = requestFacts(value ?? {}, type);
    if (facts.model !== "") this.#model = facts.model;
    const eventId = value?.["event_id"];
    return {
      type: "ask",
      described: this.#options.describe(type, { ...facts, model: this.#model }, traits),
      bytes: message.payload.length,
      answered: type === "response.create",
      send: (verdict) => {
        if (!isSound) return this.#redact(message, verdict);
        this.#soundAllowed = true;
        return message.raw;
      },
      refuse: (refusal) => refused(refusal, eventId),
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
    return Buffer.concat([errorFrame({ message, code: "weir", event_id: null }), closeFrame(1008, message)]);
  }
}

/** What the server sends, event by event. */
class RealtimeBody extends EventBody {
  readonly #reader = new MessageReader(false);
  #spent: { inputTokens: number | null; outputTokens: number | null }[] = [];
  #input = 0;
  #output = 0;

  override get inputTokens(): number {
    return this.#input;
  }

  override get outputTokens(): number {
    return this.#output;
  }

  get heldBytes(): number {
    return this.#reader.heldBytes;
  }

  push(bytes: Buffer): Buffer {
    return Buffer.concat(this.#reader.push(bytes).map((part) => this.#part(part)));
  }

  end(): Buffer {
    return Buffer.concat(this.rest().map(({ text }) => writeMessage(opText, Buffer.from(text, "utf8"), null)));
  }

  spent() {
    const spent = this.#spent;
    this.#spent = [];
    return spent;
  }

  #part(part: WebSocketPart): Buffer {
    // Nothing may follow a close frame.
    if (part.kind === "control") return part.isLast ? Buffer.concat([this.end(), part.raw]) : part.raw;
    const text = part.payload.toString("utf8");
    this.#note(text);
    const events = this.change(text);
    if (events === null) return part.raw;
    return Buffer.concat(events.map((event) => writeMessage(part.op, Buffer.from(event.text, "utf8"), null)));
  }

  #note(text: string): void {
    if (!text.includes('"response.done"')) return;
    let event: unknown = null;
    try {
      event = JSON.parse(text);
    } catch {}
    if (!isObject(event) || event["type"] !== "response.done") return;
    const { response } = event;
    const { input, output } = openaiUsage(isObject(response) ? response["usage"] : null);
    this.#input += input ?? 0;
    this.#output += output ?? 0;
    this.#spent.push({ inputTokens: input, outputTokens: output });
  }
}

/** Members that are no text for the model. */
const settings: ReadonlySet<string> = new Set([
  ...["type", "event_id", "model", "voice", "output_modalities", "modalities", "tool_choice", "tools"],
  ...["input_audio_format", "output_audio_format", "turn_detection", "metadata", "include"],
]);

function requestFacts(event: JsonObject, type: string): RequestFacts {
  const holder = isObject(event["session"]) ? event["session"] : isObject(event["response"]) ? event["response"] : {};
  const tools: string[] = [];
  const prompt: string[] = [];
  for (const part of [event, holder]) {
    const told = Object.entries(part).filter(([key]) => !settings.has(key) && key !== "session" && key !== "response");
    if (!audioType.test(type)) textsOf(Object.fromEntries(told), prompt);
  }
  for (const tool of Array.isArray(holder["tools"]) ? holder["tools"] : []) {
    if (!isObject(tool)) continue;
    const name = tool["name"] ?? tool["server_label"] ?? tool["type"];
    if (typeof name === "string") tools.push(name);
    textsOf({ description: tool["description"], schema: tool["parameters"] }, prompt);
  }
  const texts = prompt.filter((text) => text.length < soundCharactersMin || !base64.test(text));
  const most = holder["max_output_tokens"] ?? holder["max_response_output_tokens"];
  return {
    model: typeof holder["model"] === "string" ? holder["model"] : "",
    stream: true,
    tools: [...new Set(tools)],
    outputTokensMax: typeof most === "number" ? most : null,
    prompt: texts,
  };
}

function refused({ message, code }: Refusal, eventId: unknown): Buffer {
  return errorFrame({ message, code: code.toLowerCase(), event_id: typeof eventId === "string" ? eventId : null });
}

/** https://platform.openai.com/docs/api-reference/realtime-server-events/error */
function errorFrame(error: JsonObject): Buffer {
  const event = {
    type: "error",
    event_id: "event_weir",
    error: { type: "invalid_request_error", param: null, ...error },
  };
  return writeMessage(opText, Buffer.from(JSON.stringify(event), "utf8"), null);
}
