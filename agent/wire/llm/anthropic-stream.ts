/**
 * Events of a streamed Anthropic message, one at a time.
 * https://docs.anthropic.com/en/docs/build-with-claude/streaming
 *
 *     message_start (content_block_start content_block_delta* content_block_stop)* message_delta message_stop
 *     ping and error at any place; of the older /v1/complete: completion*
 *
 * Text of one block comes in pieces: each kind of piece of each block is a run of text by itself. What is held back of a
 * run leaves as one more delta before the block's stop.
 *
 * Thinking is masked like any text, although the block's signature (`signature_delta`, untouched) is made over what the
 * model really thought: a client that sends the block back in its next turn is then refused by the API. That is the
 * lesser harm; without a match the thinking stays byte for byte and the signature good.
 */
import {
  isObject,
  type JsonObject,
  limitRuns,
  maskLeaves,
  noteTool,
  type StreamRewriter,
  type TextRuns,
} from "./message-leaves.ts";
import { type Counts, countsOf, refillMap, restoreCounts } from "./stream-state.ts";

const types = /^(?:message_(?:start|delta|stop)|content_block_(?:start|delta|stop)|ping|error|completion)$/;

export function isAnthropicEvent(event: JsonObject): boolean {
  const { type, completion } = event;
  return typeof type === "string" ? types.test(type) : typeof completion === "string";
}

/** Members of a delta that are not text of the model. */
const deltaKeysLeft: ReadonlySet<string> = new Set(["type", "signature"]);

/** Which block, and which member of which delta. */
interface OpenRun {
  readonly index: unknown;
  readonly type: string;
  readonly key: string;
}

interface State {
  readonly counts: Counts;
  readonly open: ReadonlyMap<string, OpenRun>;
  readonly completion: JsonObject | null;
}

export class AnthropicStream implements StreamRewriter {
  inputTokens: number | null = null;
  outputTokens: number | null = null;
  readonly toolCalls: string[] = [];
  error: string | null = null;
  /** Runs that may hold something back. */
  readonly #open = new Map<string, OpenRun>();
  /** Of /v1/complete: the last event, what is left goes into one like it. */
  #completion: JsonObject | null = null;

  event(event: JsonObject, runs: TextRuns): JsonObject[] | null {
    // Of the oldest models on Bedrock the event says no type.
    switch (event["type"] ?? ("completion" in event ? "completion" : "")) {
      case "message_start":
        return this.#start(event, runs);
      case "content_block_start":
        return this.#blockStart(event, runs);
      case "content_block_delta":
        return this.#delta(event, runs);
      case "content_block_stop":
        return before(this.#close(runs, event["index"]), event, maskLeaves(event, runs));
      case "message_delta":
        this.#usage(event["usage"]);
        return before(this.#closeAll(runs), event, maskLeaves(event, runs));
      case "message_stop":
        return before(this.#closeAll(runs), event, maskLeaves(event, runs));
      case "completion":
        return this.#complete(event, runs);
      case "error": {
        const { error } = event;
        const rest = this.#closeAll(runs);
        const changed = maskLeaves(event, runs);
        this.error = isObject(error) ? String(error["message"] ?? error["type"] ?? "") : "";
        return before(rest, event, changed);
      }
      default:
        // An event of a later revision: its text is masked, though not over its borders.
        return maskLeaves(event, runs) ? [event] : null;
    }
  }

  save(): State {
    return { counts: countsOf(this), open: this.#open, completion: this.#completion };
  }

  restore({ counts, open, completion }: State): void {
    restoreCounts(this, counts);
    refillMap(this.#open, open);
    this.#completion = completion;
  }

  end(runs: TextRuns): JsonObject[] {
    const rest = this.#closeAll(runs);
    const last = this.#completion;
    if (last === null) return rest;
    const text = runs.close("completion");
    return text === "" ? rest : [...rest, { ...last, completion: text }];
  }

  #start(event: JsonObject, runs: TextRuns): JsonObject[] | null {
    const { message } = event;
    if (isObject(message)) this.#usage(message["usage"]);
    return maskLeaves(event, runs) ? [event] : null;
  }

  /** The block may begin with text in it; tool results of the server come whole. */
  #blockStart(event: JsonObject, runs: TextRuns): JsonObject[] | null {
    const { content_block: block, index } = event;
    if (!isObject(block)) return maskLeaves(event, runs) ? [event] : null;
    const { type, name } = block;
    if (type === "tool_use" || type === "server_tool_use" || type === "mcp_tool_use") noteTool(this.toolCalls, name);
    let changed = false;
    for (const [key, delta] of startsWith) {
      const text = block[key];
      if (typeof text !== "string" || text === "") continue;
      const out = this.#push(runs, index, delta, key, text);
      changed ||= out !== text;
      block[key] = out;
    }
    // What went into a run must not be masked a second time, nor be lost as a border.
    changed = maskLeaves(event, runs, (way) => way.length === 2 && startsWith.has(way[1] as string)) || changed;
    return changed ? [event] : null;
  }

  #delta(event: JsonObject, runs: TextRuns): JsonObject[] | null {
    const { delta, index } = event;
    if (!isObject(delta)) return maskLeaves(event, runs) ? [event] : null;
    let changed = false;
    for (const [key, text] of Object.entries(delta)) {
      if (typeof text !== "string" || deltaKeysLeft.has(key)) continue;
      const out = this.#push(runs, index, String(delta["type"]), key, text);
      changed ||= out !== text;
      delta[key] = out;
    }
    // A citation comes whole; so does whatever stands beside the delta.
    const ran = (way: readonly string[]): boolean => way.length === 2 && way[0] === "delta";
    changed = maskLeaves(event, runs, ran) || changed;
    return changed ? [event] : null;
  }

  #complete(event: JsonObject, runs: TextRuns): JsonObject[] | null {
    const { completion: text, stop_reason: reason } = event;
    if (typeof text !== "string") return maskLeaves(event, runs) ? [event] : null;
    let out = runs.push("completion", text, "text");
    this.#completion = event;
    if (reason !== null && reason !== undefined) {
      out += runs.close("completion");
      this.#completion = null;
    }
    event["completion"] = out;
    const ran = (way: readonly string[]): boolean => way.length === 1 && way[0] === "completion";
    return maskLeaves(event, runs, ran) || out !== text ? [event] : null;
  }

  #push(runs: TextRuns, index: unknown, type: string, key: string, text: string): string {
    const run = `${String(index)} ${type} ${key}`;
    if (!this.#open.has(run)) this.#open.set(run, { index, type, key });
    limitRuns(this.#open.size);
    return runs.push(run, text, key === "partial_json" ? "json" : "text");
  }

  /** The runs of one block end: what they held back, as deltas. */
  #close(runs: TextRuns, index: unknown): JsonObject[] {
    const rest: JsonObject[] = [];
    for (const [run, { index: of, type, key }] of this.#open) {
      if (of !== index) continue;
      this.#open.delete(run);
      const text = runs.close(run);
      if (text !== "") rest.push({ type: "content_block_delta", index: of, delta: { type, [key]: text } });
    }
    return rest;
  }

  #closeAll(runs: TextRuns): JsonObject[] {
    const indexes = new Set([...this.#open.values()].map(({ index }) => index));
    return [...indexes].flatMap((index) => this.#close(runs, index));
  }

  #usage(usage: unknown): void {
    const { input, output } = anthropicUsage(usage);
    // `message_delta` counts from the beginning and need not name the input again.
    this.inputTokens = input ?? this.inputTokens;
    this.outputTokens = output ?? this.outputTokens;
  }
}

/** Tokens read from a cache or written to it are input as well. */
export function anthropicUsage(usage: unknown): { input: number | null; output: number | null } {
  if (!isObject(usage)) return { input: null, output: null };
  const count = (key: string): number => (typeof usage[key] === "number" ? usage[key] : 0);
  return {
    input:
      typeof usage["input_tokens"] === "number"
        ? count("input_tokens") + count("cache_creation_input_tokens") + count("cache_read_input_tokens")
        : null,
    output: typeof usage["output_tokens"] === "number" ? count("output_tokens") : null,
  };
}

/** Members of a block that deltas go on with, and the delta's type. */
const startsWith: ReadonlyMap<string, string> = new Map([
  ["text", "text_delta"],
  ["thinking", "thinking_delta"],
]);

/** Null: nothing came before, and the event itself is as it was. */
function before(rest: JsonObject[], event: JsonObject, changed = false): JsonObject[] | null {
  return rest.length === 0 && !changed ? null : [...rest, event];
}
