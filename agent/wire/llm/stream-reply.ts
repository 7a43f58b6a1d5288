/** A streamed reply that is changed on its way: cut into events, each through its API's rewriter, and written again. */
import { WeirError } from "../../errors.ts";
import { maskJson, type PathMask } from "../http/json-mask.ts";
import { largeBodyBytesMin } from "../http/large-body.ts";
import { readEvent, withData, withOthers, writeEvent } from "../sse/event.ts";
import { type SseBlock, SseParser } from "../sse/parser.ts";
import { parseEvent } from "./body.ts";
import { isObject, type JsonObject, type StreamRewriter, type TextRuns } from "./message-leaves.ts";
import { NdjsonSplitter } from "./ndjson.ts";
import { PartsBody } from "./parts-body.ts";

export interface EventContext {
  readonly rewriter: StreamRewriter;
  readonly runs: TextRuns;
  /** Paths of masks; they begin at each event. */
  readonly paths: readonly PathMask[];
  readonly key: Buffer;
}

const opensObject = /^[ \t\r\n]*\{/;

/** An event nests at most as deep as it is half long: a shorter one needs no look before it is parsed. */
const shallowCharactersMax = 400;

export abstract class EventBody<Part> extends PartsBody<Part> {
  readonly context: EventContext;

  constructor(context: EventContext) {
    super(context.rewriter);
    this.context = context;
  }

  /** An event as it came. */
  protected note(_event: JsonObject): void {}

  /** What leaves in place of a JSON text: null as it is, else each event, and whether it is the one that came. */
  protected changeText(text: string): { event: JsonObject; text: string; own: boolean }[] | null {
    const event = parse(text);
    if (event === null) {
      const masked = this.#wholeText(text);
      return masked === text ? null : [{ event: {}, text: masked, own: true }];
    }
    this.note(event);
    const events = this.rewriter.event(event, this.context.runs);
    if (events === null) {
      const masked = this.#paths(text);
      return masked === text ? null : [{ event, text: masked, own: true }];
    }
    return events.map((one) => ({ event: one, text: this.#paths(JSON.stringify(one)), own: one === event }));
  }

  /** What is no object of the API's. A string of JSON is looked through as what it says. */
  #wholeText(text: string): string {
    const { runs } = this.context;
    const said = text.trimStart().startsWith('"') ? parseString(text) : null;
    if (said === null) return runs.whole(text);
    const masked = runs.whole(said);
    return masked === said ? text : JSON.stringify(masked);
  }

  protected rest(): { event: JsonObject; text: string }[] {
    return this.rewriter.end(this.context.runs).map((event) => ({ event, text: this.#paths(JSON.stringify(event)) }));
  }

  #paths(text: string): string {
    const { paths, key } = this.context;
    if (paths.length === 0) return text;
    const masked = maskJson(Buffer.from(text, "utf8"), { masker: null, paths, key });
    if (masked === null) throw new WeirError("WEIR_MASK_IMPOSSIBLE", "an event of the stream cannot be masked");
    return masked.masked === 0 ? text : masked.bytes.toString("utf8");
  }
}

export class SseBody extends EventBody<SseBlock> {
  readonly #parser = new SseParser();

  protected override get cutBytes(): number {
    return this.#parser.heldBytes;
  }

  protected override cut(bytes: Buffer): SseBlock[] {
    return this.#parser.push(bytes);
  }

  protected override raw({ raw }: SseBlock): Buffer {
    return raw;
  }

  protected override partOf(raw: Buffer): SseBlock {
    return { raw, isEvent: true };
  }

  save() {
    return { named: this.#named, rewriter: this.rewriter.save() };
  }

  restore({ named, rewriter }: ReturnType<SseBody["save"]>): void {
    this.#named = named;
    this.rewriter.restore(rewriter as never);
  }

  end(): Buffer {
    const last = this.#parser.end();
    // What is long and never ended is dispatched by no client, and would take its time here.
    const out = last === null || last.raw.length > largeBodyBytesMin ? [] : [this.change(last)];
    for (const { event, text } of this.rest()) out.push(writeEvent(nameOf(event, this.#named), text));
    return joined(out);
  }

  /** The stream gives its events names. */
  #named = false;

  /** A comment, an id, or another field beside the data. */
  #line(line: Buffer): Buffer {
    const text = line.toString("utf8");
    if (plainName.test(text)) return line;
    const masked = this.context.runs.whole(text);
    return masked === text ? line : Buffer.from(masked, "utf8");
  }

  protected override change({ raw }: SseBlock): Buffer {
    const { name, data } = readEvent(raw);
    if (data === null) {
      if (raw.length <= 2) return raw;
      const text = raw.toString("utf8");
      const masked = this.context.runs.whole(text);
      return masked === text ? raw : Buffer.from(masked, "utf8");
    }
    if (name !== "") this.#named = true;
    const told = withOthers(raw, (line) => this.#line(line));
    if (data === "[DONE]") {
      const rest = this.rest().map(({ event, text }) => writeEvent(nameOf(event, this.#named), text));
      return joined([...rest, told]);
    }
    const events = this.changeText(data);
    if (events === null) return told;
    return joined(
      events.map(({ event, text, own }) => (own ? withData(told, text) : writeEvent(nameOf(event, name !== ""), text))),
    );
  }
}

/** Names of an API's events. */
const plainName = /^event: ?[A-Za-z_.]{1,64}[\r\n]*$/;

export class NdjsonBody extends EventBody<Buffer> {
  readonly #splitter = new NdjsonSplitter();

  protected override get cutBytes(): number {
    return this.#splitter.heldBytes;
  }

  protected override cut(bytes: Buffer): Buffer[] {
    return this.#splitter.push(bytes);
  }

  protected override raw(line: Buffer): Buffer {
    return line;
  }

  protected override partOf(raw: Buffer): Buffer {
    return raw;
  }

  save() {
    return { rewriter: this.rewriter.save() };
  }

  restore({ rewriter }: ReturnType<NdjsonBody["save"]>): void {
    this.rewriter.restore(rewriter as never);
  }

  end(): Buffer {
    const last = this.#splitter.end();
    const out = last === null ? [] : [this.change(last)];
    for (const { text } of this.rest()) out.push(Buffer.from(`${text}\n`, "utf8"));
    return joined(out);
  }

  protected override change(raw: Buffer): Buffer {
    const text = raw.toString("utf8");
    const trimmed = text.trim();
    if (trimmed === "") return raw;
    const events = this.changeText(trimmed);
    return events === null ? raw : Buffer.from(events.map((one) => `${one.text}\n`).join(""), "utf8");
  }
}

function parseString(text: string): string | null {
  try {
    return String(JSON.parse(text));
  } catch {
    return null;
  }
}

function parse(text: string): JsonObject | null {
  if (!opensObject.test(text)) return null;
  try {
    const value = text.length <= shallowCharactersMax ? (JSON.parse(text) as unknown) : parseEvent(Buffer.from(text));
    return isObject(value) ? value : null;
  } catch (error) {
    if (error instanceof WeirError) throw error;
    return null;
  }
}

function nameOf({ type }: JsonObject, named: boolean): string {
  return named && typeof type === "string" ? type : "";
}

function joined(parts: Buffer[]): Buffer {
  return parts.length === 1 ? (parts[0] as Buffer) : Buffer.concat(parts);
}
