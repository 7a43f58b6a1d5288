/**
 * Chunks of a streamed Gemini reply, one at a time; each has the shape of a whole reply.
 * https://ai.google.dev/api/generate-content#v1beta.GenerateContentResponse
 *
 *     chunk     = { candidates: [{ index, content: { parts: [part…] }, finishReason? }], usageMetadata? }
 *     part      = { text, thought? } | { functionCall: { name, args | partialArgs, willContinue? } } | …
 *
 * The text of one candidate is one run, its thoughts another, whatever parts of other kinds stand between, as clients
 * join them. What is held back leaves with the chunk that has the candidate's `finishReason`. Thoughts are masked too,
 * although `thoughtSignature` is made over them: see anthropic-stream.ts.
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
import {
  type Carry,
  type CarryState,
  type Counts,
  carryOf,
  countsOf,
  restoreCounts,
  saveCarry,
} from "./stream-state.ts";

export function isGeminiChunk(event: JsonObject): boolean {
  return "candidates" in event || "usageMetadata" in event || "promptFeedback" in event;
}

interface State {
  readonly counts: Counts;
  readonly calls: number;
  readonly open: ReadonlyMap<string, { readonly candidate: number; readonly part: CarryState }>;
}

export class GeminiStream implements StreamRewriter {
  inputTokens: number | null = null;
  outputTokens: number | null = null;
  readonly toolCalls: string[] = [];
  error: string | null = null;
  #calls = 0;
  /** Runs that may hold something back, with the part that carries what is left. */
  readonly #open = new Map<string, { readonly candidate: number; readonly part: Carry }>();

  event(event: JsonObject, runs: TextRuns): JsonObject[] | null {
    const usage = geminiUsage(event["usageMetadata"]);
    this.inputTokens = usage.input ?? this.inputTokens;
    this.outputTokens = usage.output ?? this.outputTokens;
    const { candidates, error } = event;
    if (isObject(error)) this.error = String(error["message"] ?? error["status"] ?? "");
    let changed = false;
    const taken = new Set<unknown>();
    if (Array.isArray(candidates)) {
      for (const candidate of candidates) {
        if (isObject(candidate) && this.#candidate(candidate, runs, taken)) changed = true;
      }
    }
    changed = maskLeaves(event, runs, (_way, node) => taken.has(node)) || changed;
    return changed ? [event] : null;
  }

  end(runs: TextRuns): JsonObject[] {
    const indexes = new Set([...this.#open.values()].map(({ candidate }) => candidate));
    return [...indexes].flatMap((index) => {
      const parts = this.#close(runs, index);
      return parts.length === 0 ? [] : [{ candidates: [{ content: { parts, role: "model" }, index }] }];
    });
  }

  save(): State {
    const open = [...this.#open].map(
      ([run, { candidate, part }]) => [run, { candidate, part: saveCarry(part) }] as const,
    );
    return { counts: countsOf(this), calls: this.#calls, open: new Map(open) };
  }

  restore({ counts, calls, open }: State): void {
    restoreCounts(this, counts);
    this.#calls = calls;
    this.#open.clear();
    for (const [run, { candidate, part }] of open) this.#open.set(run, { candidate, part: carryOf(part) });
  }

  /** `taken`: the objects whose texts went into runs. */
  #candidate(candidate: JsonObject, runs: TextRuns, taken: Set<unknown>): boolean {
    const index = typeof candidate["index"] === "number" ? candidate["index"] : 0;
    let changed = false;
    const content = isObject(candidate["content"]) ? candidate["content"] : null;
    const parts = Array.isArray(content?.["parts"]) ? content["parts"] : null;
    for (const part of parts ?? []) {
      if (isObject(part) && this.#part(part, index, runs, taken)) changed = true;
    }
    if (typeof candidate["finishReason"] !== "string") return changed;
    const rest = this.#close(runs, index);
    for (const part of rest) taken.add(part);
    if (rest.length === 0) return changed;
    if (parts !== null) parts.push(...rest);
    else candidate["content"] = { ...content, parts: rest, role: "model" };
    return true;
  }

  #part(part: JsonObject, index: number, runs: TextRuns, taken: Set<unknown>): boolean {
    const { text, functionCall: call } = part;
    if (typeof text === "string") {
      const thought = part["thought"] === true;
      taken.add(part);
      return this.#take(part, "text", text, runs, index, thought ? "thought" : "text", (rest) =>
        thought ? { text: rest, thought } : { text: rest },
      );
    }
    if (!isObject(call)) return false;
    if (typeof call["name"] === "string" && call["name"] !== "") {
      this.#calls += 1;
      noteTool(this.toolCalls, call["name"]);
    }
    const { partialArgs } = call;
    if (!Array.isArray(partialArgs)) return false;
    let changed = false;
    for (const partial of partialArgs) {
      if (!isObject(partial) || typeof partial["stringValue"] !== "string") continue;
      taken.add(partial);
      const { jsonPath, stringValue } = partial;
      const run = `call ${this.#calls} ${String(jsonPath)}`;
      if (this.#take(partial, "stringValue", stringValue, runs, index, run, (rest) => argument(jsonPath, rest))) {
        changed = true;
      }
      if (partial["willContinue"] !== true) {
        // This argument is whole: nothing of it may wait for the call's end.
        const rest = runs.close(`${index} ${run}`);
        this.#open.delete(`${index} ${run}`);
        if (rest !== "") {
          partial["stringValue"] = `${String(partial["stringValue"])}${rest}`;
          changed = true;
        }
      }
    }
    return changed;
  }

  #take(
    node: JsonObject,
    key: string,
    text: string,
    runs: TextRuns,
    candidate: number,
    name: string,
    part: Carry,
  ): boolean {
    const run = `${candidate} ${name}`;
    this.#open.set(run, { candidate, part });
    limitRuns(this.#open.size);
    const out = runs.push(run, text, "text");
    node[key] = out;
    return out !== text;
  }

  /** What the runs of a candidate held back, as parts. */
  #close(runs: TextRuns, index: number): JsonObject[] {
    const parts: JsonObject[] = [];
    for (const [run, { candidate, part }] of this.#open) {
      if (candidate !== index) continue;
      this.#open.delete(run);
      const text = runs.close(run);
      if (text !== "") parts.push(part(text));
    }
    return parts;
  }
}

/** `totalTokenCount` counts thoughts and tools, which are no part of `candidatesTokenCount`. */
export function geminiUsage(usage: unknown): { input: number | null; output: number | null } {
  if (!isObject(usage)) return { input: null, output: null };
  const count = (key: string): number => (typeof usage[key] === "number" ? usage[key] : 0);
  return {
    input:
      typeof usage["promptTokenCount"] === "number"
        ? count("promptTokenCount") + count("toolUsePromptTokenCount")
        : null,
    output:
      typeof usage["candidatesTokenCount"] === "number" || typeof usage["thoughtsTokenCount"] === "number"
        ? count("candidatesTokenCount") + count("thoughtsTokenCount")
        : null,
  };
}

function argument(jsonPath: unknown, text: string): JsonObject {
  return { functionCall: { partialArgs: [{ jsonPath, stringValue: text }], willContinue: true } };
}
