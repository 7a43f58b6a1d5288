/**
 * Amazon Nova Sonic's events, which both sides send in one call of `invoke-with-bidirectional-stream`.
 * https://docs.aws.amazon.com/nova/latest/userguide/input-events.html, output-events.html
 *
 *     { event: { sessionStart | promptStart | contentStart | textInput | audioInput | toolResult | … } }
 *     { event: { completionStart | contentStart | textOutput | audioOutput | toolUse | contentEnd | usageEvent | … } }
 *
 * The texts of one content are a run; what it holds back leaves as one more event before the content's end.
 */
import type { RequestFacts } from "./message-facts.ts";
import {
  isObject,
  type JsonObject,
  limitRuns,
  maskLeaves,
  noteTool,
  type StreamRewriter,
  type TextRuns,
  textsOf,
} from "./message-leaves.ts";
import { type Counts, countsOf, refill, refillMap } from "./stream-state.ts";

export function isSonicEvent(event: JsonObject): boolean {
  return isObject(event["event"]) && Object.keys(event).length === 1;
}

const base64 = /^[A-Za-z0-9+/]*={0,2}$/;
/** Strings that both sides compare. */
const names: ReadonlySet<string> = new Set(["promptName", "contentName", "completionId", "sessionId", "contentId"]);

interface State {
  readonly counts: Counts;
  readonly open: ReadonlyMap<string, JsonObject>;
}

export class SonicStream implements StreamRewriter {
  inputTokens: number | null = null;
  outputTokens: number | null = null;
  readonly toolCalls: string[] = [];
  readonly error = null;
  /** By content, the last event that had a piece of it. */
  readonly #open = new Map<string, JsonObject>();

  event(event: JsonObject, runs: TextRuns): JsonObject[] | null {
    const { event: inner } = event;
    if (!isObject(inner)) return maskLeaves(event, runs) ? [event] : null;
    const { textOutput: text, toolUse: tool, usageEvent: usage, contentEnd, audioOutput: audio } = inner;
    if (isObject(tool)) noteTool(this.toolCalls, tool["toolName"]);
    if (isObject(usage)) {
      const { totalInputTokens: input, totalOutputTokens: output } = usage;
      if (typeof input === "number") this.inputTokens = input;
      if (typeof output === "number") this.outputTokens = output;
    }
    const taken = isObject(text) && typeof text["content"] === "string" ? text : null;
    const sound = isObject(audio) && base64.test(String(audio["content"])) ? audio : null;
    const changed = maskLeaves(
      event,
      runs,
      (way, node) =>
        names.has(way.at(-1) as string) || (way.at(-1) === "content" && (node === taken || node === sound)),
    );
    if (taken !== null) return this.#push(event, taken, runs) || changed ? [event] : null;
    const rest = isObject(contentEnd)
      ? this.#close(runs, contentOf(contentEnd))
      : "completionEnd" in inner
        ? this.end(runs)
        : [];
    return rest.length === 0 && !changed ? null : [...rest, event];
  }

  end(runs: TextRuns): JsonObject[] {
    return [...this.#open.keys()].flatMap((run) => this.#close(runs, run));
  }

  save(): State {
    return { counts: countsOf(this), open: this.#open };
  }

  restore({ counts, open }: State): void {
    this.inputTokens = counts.inputTokens;
    this.outputTokens = counts.outputTokens;
    refill(this.toolCalls, counts.toolCalls);
    refillMap(this.#open, open);
  }

  #push(event: JsonObject, text: JsonObject, runs: TextRuns): boolean {
    const run = contentOf(text);
    const content = text["content"] as string;
    this.#open.set(run, structuredClone(event));
    limitRuns(this.#open.size);
    text["content"] = runs.push(run, content, "text");
    return text["content"] !== content;
  }

  #close(runs: TextRuns, run: string): JsonObject[] {
    const like = this.#open.get(run);
    this.#open.delete(run);
    const rest = runs.close(run);
    if (like === undefined || rest === "") return [];
    ((like["event"] as JsonObject)["textOutput"] as JsonObject)["content"] = rest;
    return [like];
  }
}

function contentOf({ contentId, contentName, promptName }: JsonObject): string {
  return `content ${String(contentId ?? contentName ?? promptName ?? "")}`;
}

/** What one event of the client's gives the model. `isSound`: nothing of it is text. */
export function sonicRequest(event: JsonObject): { type: string; facts: RequestFacts; isSound: boolean } {
  const inner = isObject(event["event"]) ? event["event"] : {};
  const [type = ""] = isSonicEvent(event) && Object.keys(inner).length === 1 ? Object.keys(inner) : [];
  const body = inner[type];
  const isSound = type === "audioInput" && isObject(body) && base64.test(String(body["content"]));
  const tools: string[] = [];
  const prompt: string[] = [];
  const told = isObject(body) ? Object.entries(body).filter(([key]) => !names.has(key)) : [];
  for (const [key, value] of told) {
    const list = key === "toolConfiguration" && isObject(value) ? value["tools"] : null;
    for (const tool of Array.isArray(list) ? list : []) {
      const spec = isObject(tool) ? tool["toolSpec"] : null;
      if (isObject(spec) && typeof spec["name"] === "string") tools.push(spec["name"]);
    }
    // Nothing but these is settings: what a later revision adds is text.
    if (!/(?:Configuration|^interactive|^type|^role)$/.test(key) || list !== null) {
      if (!isSound) textsOf({ [key]: value }, prompt);
    }
  }
  const most = isObject(body) && isObject(body["inferenceConfiguration"]) ? body["inferenceConfiguration"] : {};
  const { maxTokens } = most;
  return {
    type,
    isSound,
    facts: {
      model: "",
      stream: true,
      tools,
      outputTokensMax: typeof maxTokens === "number" ? maxTokens : null,
      prompt,
    },
  };
}
