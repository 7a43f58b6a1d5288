/** Looks at replies that pass: tokens, called tools, errors, and the text where the record keeps it. */
import type { ReplySummary } from "../http/dialect.ts";
import { replyTextBytesMax } from "../http/dialect.ts";
import { jsonDepthMax } from "../http/json-scan.ts";
import { readEvent } from "../sse/event.ts";
import { SseParser } from "../sse/parser.ts";
import type { StreamBody } from "./api.ts";
import type { ReplyFacts } from "./message-facts.ts";
import { isObject, type StreamRewriter } from "./message-leaves.ts";
import { parseSafely, type ReplyTap } from "./reply.ts";
import type { ReplyRuns } from "./runs.ts";

/** A reply in one text is kept to be read at its end up to this; of a longer one the record has no tokens. */
export const tappedBytesMax = 1024 * 1024;

/** What an event that tells tokens, tools or errors has in it. The null of `"usage":null` stands in each chunk. */
const telling = ['"usage', '"tool', "_call", '"error', "_count"];

/** Any stream, through what would change it. */
export class StreamTap implements ReplyTap {
  readonly #body: StreamBody;
  readonly #runs: ReplyRuns;
  #stopped = false;

  constructor(body: StreamBody, runs: ReplyRuns) {
    this.#body = body;
    this.#runs = runs;
  }

  push(bytes: Buffer): void {
    this.#try(() => this.#body.push(bytes));
  }

  end(): void {
    this.#try(() => this.#body.end());
  }

  summary(): ReplySummary {
    const { inputTokens, outputTokens, toolCalls, error } = this.#body;
    return { text: this.#runs.text(), inputTokens, outputTokens, toolCalls, error };
  }

  /** What cannot be read passes all the same: nothing has to be changed in it. */
  #try(read: () => unknown): void {
    if (this.#stopped) return;
    try {
      read();
    } catch {
      this.#stopped = true;
    }
  }
}

/** What is looked at together; a token passes before anything is made of it. */
const sseBytes = 8 * 1024;

/** Server-sent events whose text nobody keeps: only those that tell something are parsed. */
export class SseTap implements ReplyTap {
  readonly #parser = new SseParser();
  #waiting: Buffer | null = null;
  #waitingBytes = 0;
  readonly #rewriter: StreamRewriter;
  readonly #runs: ReplyRuns;
  #stopped = false;

  constructor(rewriter: StreamRewriter, runs: ReplyRuns) {
    this.#rewriter = rewriter;
    this.#runs = runs;
  }

  push(bytes: Buffer): void {
    if (this.#stopped) return;
    if (this.#waitingBytes + bytes.length > sseBytes) this.#read();
    if (bytes.length > sseBytes) this.#parse(bytes);
    else {
      this.#waiting ??= Buffer.allocUnsafeSlow(sseBytes);
      this.#waiting.set(bytes, this.#waitingBytes);
      this.#waitingBytes += bytes.length;
    }
  }

  end(): void {
    this.#read();
  }

  summary(): ReplySummary {
    this.#read();
    const { inputTokens, outputTokens, toolCalls, error } = this.#rewriter;
    return { text: "", inputTokens, outputTokens, toolCalls, error };
  }

  #read(): void {
    if (this.#waiting === null || this.#waitingBytes === 0) return;
    const bytes = this.#waiting.subarray(0, this.#waitingBytes);
    this.#waitingBytes = 0;
    this.#parse(bytes);
  }

  #parse(bytes: Buffer): void {
    if (this.#stopped) return;
    try {
      for (const { raw } of this.#parser.push(bytes)) this.#event(raw);
    } catch {
      this.#stopped = true;
    }
  }

  #event(raw: Buffer): void {
    const text = raw.toString("latin1");
    if (!telling.some((word) => tells(text, word))) return;
    const { data } = readEvent(raw);
    const event = data?.startsWith("{") === true ? parseSafely(Buffer.from(data)) : null;
    if (isObject(event)) this.#rewriter.event(event, this.#runs);
  }
}

function tells(text: string, word: string): boolean {
  const at = text.indexOf(word);
  return at >= 0 && !text.startsWith('"usage":null', at);
}

/** A reply that comes whole. */
export class WholeTap implements ReplyTap {
  readonly #facts: (body: unknown) => ReplyFacts;
  readonly #keepsText: boolean;
  #parts: Buffer[] | null = [];
  #bytes = 0;
  #told: ReplyFacts | null = null;

  constructor(facts: (body: unknown) => ReplyFacts, keepsText: boolean) {
    this.#facts = facts;
    this.#keepsText = keepsText;
  }

  push(bytes: Buffer): void {
    if (this.#parts === null) return;
    this.#bytes += bytes.length;
    if (this.#bytes > tappedBytesMax) this.#parts = null;
    else this.#parts.push(Buffer.from(bytes));
  }

  end(): void {
    if (this.#parts === null || this.#bytes === 0) return;
    const whole = this.#parts.length === 1 ? (this.#parts[0] as Buffer) : Buffer.concat(this.#parts, this.#bytes);
    this.#parts = null;
    const body = parsed(whole);
    if (body !== undefined) this.#told = this.#facts(body);
  }

  summary(): ReplySummary {
    const { text = [], toolCalls = [], inputTokens = null, outputTokens = null, error = null } = this.#told ?? {};
    const kept = this.#keepsText ? text.join("\n").slice(0, replyTextBytesMax) : "";
    return { text: kept, inputTokens, outputTokens, toolCalls, error };
  }
}

/** Few brackets cannot nest too deep: the grammar is then not checked twice. */
function parsed(bytes: Buffer): unknown {
  let brackets = 0;
  for (const bracket of [0x5b, 0x7b])
    for (let at = bytes.indexOf(bracket); at >= 0 && brackets <= jsonDepthMax; at = bytes.indexOf(bracket, at + 1))
      brackets += 1;
  if (brackets > jsonDepthMax) return parseSafely(bytes);
  try {
    return JSON.parse(bytes.toString("utf8"));
  } catch {
    return undefined;
  }
}
