/**
 * A Bedrock reply in event stream frames, as it comes: what is changed in a frame's JSON is framed anew, every other
 * frame leaves byte for byte.
 *
 *     converse-stream               :event-type is the event's name, the payload its body
 *     invoke-with-response-stream   :event-type `chunk`, the payload {"bytes": base64 of the model's own event}
 *     both                          :message-type `exception` or `error` ends the stream
 */
import { ConverseStream } from "./bedrock-events.ts";
import {
  type EventFrame,
  EventStreamReader,
  headerText,
  withPayload,
  writeFrame,
  writeHeaders,
  writeTextHeaders,
} from "./eventstream.ts";
import { isObject, type JsonObject, maskLeaves, type TextRuns, writeJson } from "./message-leaves.ts";
import { MessageStream } from "./message-stream.ts";
import { PartsBody } from "./parts-body.ts";

const textRun = "chunk";

interface State {
  readonly stream: unknown;
  readonly error: string | null;
  readonly isText: boolean;
}

export class BedrockFrames extends PartsBody<EventFrame> {
  readonly #frames = new EventStreamReader();
  readonly #runs: TextRuns;
  readonly #isInvoke: boolean;
  #error: string | null = null;
  /** Chunks that are no JSON came. */
  #isText = false;

  constructor(runs: TextRuns, format: "converse" | "invoke" | "other") {
    super(format === "converse" ? new ConverseStream() : new MessageStream());
    this.#runs = runs;
    this.#isInvoke = format !== "converse";
  }

  protected override get cutBytes(): number {
    return this.#frames.heldBytes;
  }

  /** Throws a PeerError for what is no event stream. */
  protected override cut(bytes: Buffer): EventFrame[] {
    return this.#frames.push(bytes);
  }

  protected override raw({ raw }: EventFrame): Buffer {
    return raw;
  }

  protected override partOf(raw: Buffer): EventFrame {
    return new EventStreamReader().push(raw)[0] as EventFrame;
  }

  save(): State {
    return { stream: this.rewriter.save(), error: this.#error, isText: this.#isText };
  }

  restore({ stream, error, isText }: State): void {
    this.rewriter.restore(stream as never);
    this.#error = error;
    this.#isText = isText;
  }

  override get error(): string | null {
    return this.#error ?? super.error;
  }

  protected override change(frame: EventFrame): Buffer {
    const out: Buffer[] = [];
    this.#frame(frame, out);
    return out.length === 1 ? (out[0] as Buffer) : Buffer.concat(out);
  }

  end(): Buffer {
    this.#frames.end();
    return Buffer.concat(this.#rest());
  }

  #frame(frame: EventFrame, out: Buffer[]): void {
    const kind = headerText(frame, ":message-type");
    if (kind === "exception" || kind === "error") {
      out.push(...this.#rest(), this.#exception(frame));
      return;
    }
    const type = headerText(frame, ":event-type");
    const payload = parse(frame.payload);
    if (payload === null || type === null) {
      out.push(this.#opaque(frame));
      return;
    }
    if (!this.#isInvoke) {
      const event = { [type]: payload };
      const events = this.rewriter.event(event, this.#runs);
      if (events === null) out.push(frame.raw);
      else {
        // The event itself keeps its own headers.
        for (const one of events) out.push(one === event ? withPayload(frame, json(event[type])) : this.#write(one));
      }
      return;
    }
    const inner = type === "chunk" && typeof payload["bytes"] === "string" ? parse(decode(payload["bytes"])) : null;
    if (inner === null) {
      out.push(this.#whole(frame, payload));
      return;
    }
    const events = this.rewriter.event(inner, this.#runs);
    if (events === null) out.push(frame.raw);
    else {
      for (const one of events) {
        const bytes = json(one).toString("base64");
        out.push(one === inner ? withPayload(frame, json({ ...payload, bytes })) : this.#write(one));
      }
    }
  }

  /** JSON that is no event of a model: its texts come whole, but for a chunk, whose bytes go on in the next (agents). */
  #whole(frame: EventFrame, payload: JsonObject): Buffer {
    let changed = maskLeaves(payload, this.#runs, (way) => way.length === 1 && way[0] === "bytes");
    if (typeof payload["bytes"] === "string") {
      // Not as UTF-8: a chunk may end inside of a character, and may be no text.
      const text = decode(payload["bytes"]).toString("latin1");
      this.#isText = true;
      const masked = this.#runs.push(textRun, text, "text");
      if (masked !== text) {
        payload["bytes"] = Buffer.from(masked, "latin1").toString("base64");
        changed = true;
      }
    }
    return changed ? withPayload(frame, json(payload)) : frame.raw;
  }

  #rest(): Buffer[] {
    const rest = this.rewriter.end(this.#runs).map((event) => this.#write(event));
    const text = this.#isText ? this.#runs.close(textRun) : "";
    this.#isText = false;
    if (text !== "") rest.push(writeEvent("chunk", { bytes: Buffer.from(text, "latin1").toString("base64") }));
    return rest;
  }

  /** No JSON at all. */
  #opaque(frame: EventFrame): Buffer {
    const text = frame.payload.toString("utf8");
    const masked = this.#runs.whole(text);
    return masked === text ? frame.raw : withPayload(frame, Buffer.from(masked, "utf8"));
  }

  #exception(frame: EventFrame): Buffer {
    const code = headerText(frame, ":exception-type") ?? headerText(frame, ":error-code") ?? "error";
    const payload = parse(frame.payload);
    const said = headerText(frame, ":error-message") ?? payload?.["message"];
    this.#error = typeof said === "string" ? `${code}: ${this.#runs.whole(said)}` : code;
    if (frame.payload.length === 0) return this.#errorHeader(frame);
    return payload === null ? this.#opaque(frame) : this.#whole(frame, payload);
  }

  /** `error` frames have their message in a header. */
  #errorHeader(frame: EventFrame): Buffer {
    let changed = false;
    const headers = frame.headers.map((header) => {
      if (header.name !== ":error-message") return header;
      const text = header.value.toString("utf8");
      const masked = this.#runs.whole(text);
      changed = masked !== text;
      return { ...header, value: Buffer.from(masked, "utf8") };
    });
    return changed ? writeFrame(writeHeaders(headers), frame.payload) : frame.raw;
  }

  /** An event that this side makes: what was held back. */
  #write(event: JsonObject): Buffer {
    if (this.#isInvoke) return writeEvent("chunk", { bytes: json(event).toString("base64") });
    const [type = ""] = Object.keys(event);
    return writeEvent(type, event[type]);
  }
}

/** A frame as Bedrock writes them. */
export function writeEvent(type: string, body: unknown): Buffer {
  return writeFrame(
    writeTextHeaders([
      [":event-type", type],
      [":content-type", "application/json"],
      [":message-type", "event"],
    ]),
    json(body),
  );
}

function parse(bytes: Buffer): JsonObject | null {
  try {
    const value: unknown = JSON.parse(bytes.toString("utf8"));
    return isObject(value) ? value : null;
  } catch {
    return null;
  }
}

function decode(text: string): Buffer {
  return Buffer.from(text, "base64");
}

function json(value: unknown): Buffer {
  return Buffer.from(writeJson(value), "utf8");
}
