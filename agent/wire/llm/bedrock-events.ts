/**
 * Converse's events. The chunks of `invoke-with-response-stream` have the model's own shape: message-stream.ts.
 * https://docs.aws.amazon.com/bedrock/latest/APIReference/API_runtime_ConverseStream.html
 */
import {
  isObject,
  type JsonObject,
  limitRuns,
  mapTexts,
  maskLeaves,
  noteTool,
  type StreamRewriter,
  type TextKind,
  type TextRuns,
} from "./message-leaves.ts";
import { type Counts, countsOf, refillMap, restoreCounts } from "./stream-state.ts";

const types = /^(?:message(?:Start|Stop)|contentBlock(?:Start|Delta|Stop)|metadata)$/;

export function isConverseEvent(event: JsonObject): boolean {
  const [key = ""] = Object.keys(event);
  return types.test(key);
}

interface OpenRun {
  readonly index: unknown;
  readonly way: readonly string[];
}

interface State {
  readonly counts: Counts;
  readonly open: ReadonlyMap<string, OpenRun>;
}

/** Events as `{ contentBlockDelta: … }`: of Converse, and of Amazon's Nova models. */
export class ConverseStream implements StreamRewriter {
  inputTokens: number | null = null;
  outputTokens: number | null = null;
  readonly toolCalls: string[] = [];
  error: string | null = null;
  readonly #open = new Map<string, OpenRun>();

  event(event: JsonObject, runs: TextRuns): JsonObject[] | null {
    const [type = ""] = Object.keys(event);
    const body = event[type];
    if (!isObject(body)) return maskLeaves(event, runs) ? [event] : null;
    switch (type) {
      case "contentBlockStart":
        this.#noteTool(body["start"]);
        break;
      case "contentBlockDelta":
        return this.#delta(event, body, runs);
      case "contentBlockStop":
        return before(this.#close(runs, body["contentBlockIndex"]), event, maskLeaves(event, runs));
      case "messageStop":
      case "metadata": {
        const rest = this.end(runs);
        this.#usage(body["usage"]);
        return before(rest, event, maskLeaves(event, runs));
      }
    }
    return maskLeaves(event, runs) ? [event] : null;
  }

  end(runs: TextRuns): JsonObject[] {
    const indexes = new Set([...this.#open.values()].map(({ index }) => index));
    return [...indexes].flatMap((index) => this.#close(runs, index));
  }

  save(): State {
    return { counts: countsOf(this), open: this.#open };
  }

  restore({ counts, open }: State): void {
    restoreCounts(this, counts);
    refillMap(this.#open, open);
  }

  /** `delta` is one of text, toolUse.input, reasoningContent.text, or what later revisions add: every text is a run. */
  #delta(event: JsonObject, body: JsonObject, runs: TextRuns): JsonObject[] | null {
    const { delta, contentBlockIndex: index } = body;
    if (!isObject(delta)) return maskLeaves(event, runs) ? [event] : null;
    // A citation comes whole.
    if ("citation" in delta) return maskLeaves(event, runs) ? [event] : null;
    const changed = mapTexts(
      delta,
      (text, way) => {
        const run = `${String(index)} ${way.join(".")}`;
        if (!this.#open.has(run)) this.#open.set(run, { index, way: [...way] });
        return runs.push(run, text, kindOf(way));
      },
      (text) => runs.whole(text),
    );
    limitRuns(this.#open.size);
    const ran = (way: readonly string[]): boolean => way[0] === "contentBlockDelta" && way[1] === "delta";
    return maskLeaves(event, runs, ran) || changed ? [event] : null;
  }

  #close(runs: TextRuns, index: unknown): JsonObject[] {
    const rest: JsonObject[] = [];
    for (const [run, { index: of, way }] of this.#open) {
      if (of !== index) continue;
      this.#open.delete(run);
      const text = runs.close(run);
      if (text === "") continue;
      const delta = way.reduceRight<unknown>((inner, key) => (/^\d+$/.test(key) ? [inner] : { [key]: inner }), text);
      rest.push({ contentBlockDelta: { delta, contentBlockIndex: of } });
    }
    return rest;
  }

  #noteTool(start: unknown): void {
    const tool = isObject(start) ? start["toolUse"] : null;
    if (isObject(tool)) noteTool(this.toolCalls, tool["name"]);
  }

  #usage(usage: unknown): void {
    const { input, output } = converseUsage(usage);
    this.inputTokens = input ?? this.inputTokens;
    this.outputTokens = output ?? this.outputTokens;
  }
}

export function converseUsage(usage: unknown): { input: number | null; output: number | null } {
  if (!isObject(usage)) return { input: null, output: null };
  const count = (key: string): number => (typeof usage[key] === "number" ? usage[key] : 0);
  return {
    input:
      typeof usage["inputTokens"] === "number"
        ? count("inputTokens") + count("cacheReadInputTokens") + count("cacheWriteInputTokens")
        : null,
    output: typeof usage["outputTokens"] === "number" ? count("outputTokens") : null,
  };
}

/** Arguments of a tool come as source text of JSON. */
export function kindOf(way: readonly string[]): TextKind {
  const last = way.at(-1);
  return last === "input" || last === "arguments" ? "json" : "text";
}

function before(rest: JsonObject[], event: JsonObject, changed = false): JsonObject[] | null {
  return rest.length === 0 && !changed ? null : [...rest, event];
}
