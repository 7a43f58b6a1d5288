/** The reply of a call as the exchange reads it: changed on its way, or only looked at while its bytes pass. */
import { type Refusal, type ReplyReader, type ReplySummary, replyTextBytesMax } from "../http/dialect.ts";
import { maskJson } from "../http/json-mask.ts";
import { asBuffer, type LargeReply, largeBodyBytesMin } from "../http/large-body.ts";
import type { StreamBody } from "./api.ts";
import { dataUrl, editBody, parseJson } from "./body.ts";
import type { ReplyMasks } from "./masking.ts";
import type { ReplyFacts } from "./message-facts.ts";
import { isHandle } from "./message-leaves.ts";
import { dropLogprobs } from "./openai-parts.ts";
import type { Placeholders } from "./placeholders.ts";
import type { ReplyRuns, RunsState } from "./runs.ts";

/** A reply that is masked and comes in one text is held up to this. */
export const replyBytesMax = 32 * 1024 * 1024;

const empty = Buffer.alloc(0);

export interface StreamReplyOptions {
  readonly body: StreamBody;
  readonly runs: ReplyRuns;
  /** The API's error inside of a stream that has begun. */
  readonly tell: (refusal: Refusal) => Buffer;
}

interface StreamState {
  readonly body: unknown;
  readonly runs: RunsState;
  readonly broken: string | null;
}

/** A stream that is changed. */
export class StreamReply implements ReplyReader {
  readonly preservesLength = false;
  readonly #options: StreamReplyOptions;
  /** What cannot be read ends the reply: the rest of it cannot be masked. */
  #broken: string | null = null;

  constructor(options: StreamReplyOptions) {
    this.#options = options;
  }

  get masked(): number {
    return this.#options.runs.masked;
  }

  get over(): boolean {
    return this.#broken !== null;
  }

  get heldBytes(): number {
    return this.#options.body.heldBytes + this.#options.runs.held;
  }

  push(bytes: Buffer): Buffer {
    return this.#try(() => this.#options.body.push(bytes));
  }

  end(): Buffer {
    return this.#try(() => this.#options.body.end());
  }

  defer(): void {
    this.#options.body.defer();
  }

  takeLarge(): Buffer | null {
    return this.#broken === null ? this.#options.body.takeLarge() : null;
  }

  save(): StreamState {
    const { body, runs } = this.#options;
    return { body: body.save(), runs: runs.save(), broken: this.#broken };
  }

  restore(state: unknown): void {
    const { body, runs, broken } = state as StreamState;
    this.#options.body.restore(body as never);
    this.#options.runs.restore(runs);
    this.#broken = broken;
  }

  part(raw: Buffer): Buffer {
    return this.#try(() => this.#options.body.part(raw));
  }

  worked({ body, stream }: LargeReply): Buffer {
    this.restore(stream);
    const first = asBuffer(body);
    return this.#broken === null ? this.#try(() => this.#options.body.goOn(first)) : first;
  }

  failed(code: string, message: string): Buffer {
    this.#broken = message;
    return this.#options.tell(failed(code, message));
  }

  summary(): ReplySummary {
    const { body, runs } = this.#options;
    const { inputTokens, outputTokens, toolCalls } = body;
    return { text: runs.text(), inputTokens, outputTokens, toolCalls, error: this.#broken ?? body.error };
  }

  #try(read: () => Buffer): Buffer {
    if (this.#broken !== null) return empty;
    try {
      return read();
    } catch (error) {
      this.#broken = error instanceof Error ? error.message : "";
      return this.#options.tell(failed("WEIR_MASK_IMPOSSIBLE", this.#broken));
    }
  }
}

export interface WholeReplyOptions {
  readonly masks: ReplyMasks | null;
  /** The server says that it is JSON: what cannot be read as such is not passed. */
  readonly isJson: boolean;
  readonly names: Placeholders | null;
  readonly facts: (body: unknown) => ReplyFacts;
  readonly tell: (refusal: Refusal) => Buffer;
}

/** A reply in one text that is changed: held until it is whole. */
export class WholeReply implements ReplyReader {
  readonly preservesLength = false;
  readonly isWhole = true;
  masked = 0;
  readonly #options: WholeReplyOptions;
  #parts: Buffer[] = [];
  #bytes = 0;
  #facts: ReplyFacts | null = null;
  /** Of a reply that was worked on elsewhere. */
  #told: ReplySummary | null = null;
  #text = "";
  #broken: string | null = null;

  constructor(options: WholeReplyOptions) {
    this.#options = options;
  }

  get heldBytes(): number {
    return this.#bytes;
  }

  get over(): boolean {
    return this.#broken !== null;
  }

  push(bytes: Buffer): Buffer {
    if (this.#broken !== null) return empty;
    this.#parts.push(Buffer.from(bytes));
    this.#bytes += bytes.length;
    if (this.#bytes <= replyBytesMax) return empty;
    this.#parts = [];
    this.#bytes = 0;
    this.#broken = `the reply is longer than ${replyBytesMax} bytes, and has to be masked`;
    return this.#options.tell(failed("WEIR_FRAME_TOO_LARGE", this.#broken));
  }

  takeLarge(atEnd: boolean): Buffer | null {
    return atEnd && this.#bytes > largeBodyBytesMin ? this.#take() : null;
  }

  worked({ body, masked, summary }: LargeReply): Buffer {
    this.masked = masked;
    this.#told = summary;
    return asBuffer(body);
  }

  #take(): Buffer {
    const whole = Buffer.concat(this.#parts, this.#bytes);
    this.#parts = [];
    this.#bytes = 0;
    return whole;
  }

  end(): Buffer {
    const whole = this.#take();
    if (this.#broken !== null || whole.length === 0) return empty;
    const { names } = this.#options;
    const masked = this.#mask(whole);
    return names === null || names.size === 0 ? masked : restoreBody(masked, names);
  }

  summary(): ReplySummary {
    if (this.#told !== null) return this.#told;
    const { toolCalls = [], inputTokens = null, outputTokens = null, error = null } = this.#facts ?? {};
    const text = this.#facts === null ? this.#text : this.#facts.text.join("\n");
    const cut = text.slice(0, replyTextBytesMax);
    return { text: cut, inputTokens, outputTokens, toolCalls, error: this.#broken ?? error };
  }

  #mask(whole: Buffer): Buffer {
    const { masks, facts } = this.#options;
    let bytes = whole;
    let value = parseSafely(bytes);
    if (value === undefined) return this.#maskText(bytes, masks);
    if (masks !== null) {
      if (masks.plan !== null && dropLogprobs(value)) bytes = Buffer.from(JSON.stringify(value), "utf8");
      const { masker, paths, key } = masks;
      const masked = maskJson(bytes, { masker, paths, key, spares });
      if (masked === null) return this.#maskText(bytes, masks);
      this.masked += masked.masked;
      if (masked.bytes !== bytes) value = parseSafely(masked.bytes);
      bytes = masked.bytes;
    }
    this.#facts = facts(value);
    return bytes;
  }

  /** No JSON: lines of JSON, or a text of some kind. */
  #maskText(bytes: Buffer, masks: ReplyMasks | null): Buffer {
    if (masks === null) return bytes;
    if (this.#options.isJson) {
      this.#broken = "the reply is no JSON that can be read safely, and has to be masked";
      return this.#options.tell(failed("WEIR_MASK_IMPOSSIBLE", this.#broken));
    }
    const { masker, paths, key } = masks;
    const lines: Buffer[] = [];
    for (let from = 0; from < bytes.length; ) {
      const found = bytes.indexOf(0x0a, from);
      const end = found < 0 ? bytes.length : found + 1;
      const line = bytes.subarray(from, end);
      const masked = line[0] === brace ? maskJson(line, { masker, paths, key, spares }) : null;
      if (masked === null) break;
      this.masked += masked.masked;
      lines.push(masked.bytes);
      from = end;
    }
    // A value may stand over lines: what is not all lines of JSON is one text.
    const isLines = lines.reduce((sum, line) => sum + line.length, 0) === bytes.length;
    const out = isLines ? Buffer.concat(lines) : Buffer.from(bytes);
    if (!isLines) this.masked = masker?.mask(out, 0, out.length) ?? 0;
    this.#text = out.toString("utf8", 0, replyTextBytesMax);
    return out;
  }
}

/** A reply whose bytes pass as they are, at once. */
export class ObservedReply implements ReplyReader {
  readonly preservesLength = true;
  readonly masked = 0;
  readonly heldBytes = 0;
  readonly #tap: ReplyTap;

  constructor(tap: ReplyTap) {
    this.#tap = tap;
  }

  push(bytes: Buffer): Buffer {
    this.#tap.push(bytes);
    return bytes;
  }

  end(): Buffer {
    this.#tap.end();
    return empty;
  }

  summary(): ReplySummary {
    return this.#tap.summary();
  }
}

export interface ReplyTap {
  push(bytes: Buffer): void;
  end(): void;
  summary(): ReplySummary;
}

export function restoreBody(bytes: Buffer, names: Placeholders): Buffer {
  return editBody(bytes, { text: (text) => names.restore(text), hidesNumber: () => false });
}

/** Names and numbers that are the API's own, and bytes in base64. */
function spares(way: readonly string[], bytes: Buffer, start: number, end: number, named: boolean): boolean {
  if (named) return false;
  // The first two are the body and its own member.
  for (let at = 2; at < way.length - 1; at += 1) if (freeNames.has(way[at] as string)) return false;
  if (bytes[start - 1] !== quote) return true;
  const last = way.at(-1) as string;
  const name = last === "*" ? (way.at(-2) ?? "") : last;
  if (bytesNames.has(name)) return end - start >= blobBytesMin;
  const isShort = end - start < 1024;
  if (isHandle(name, isShort ? bytes.toString("latin1", start, end) : undefined)) return true;
  return end - start > 16 && dataUrl.test(bytes.toString("latin1", start, Math.min(end, start + 256)));
}

const quote = 0x22;
const brace = 0x7b;
const blobBytesMin = 256;
const bytesNames: ReadonlySet<string> = new Set(["b64_json", "result", "embedding"]);
const freeNames: ReadonlySet<string> = new Set(["input", "args", "arguments", "json", "response", "parameters"]);

export function parseSafely(bytes: Buffer): unknown {
  try {
    return parseJson(bytes);
  } catch {
    return undefined;
  }
}

function failed(code: string, reason: string): Refusal {
  const message = `Weir: ${reason} (${code})`;
  return { kind: "failed", code, message, rule: "", approvalId: null, retryAfterSeconds: null };
}
