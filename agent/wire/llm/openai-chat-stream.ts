/**
 * Chunks of a streamed chat completion, and of the older text completion.
 * https://platform.openai.com/docs/api-reference/chat-streaming
 *
 *     chunk  = { id, object, choices: [{ index, delta | text, finish_reason }], usage? }
 *     delta  = { role?, content?, refusal?, reasoning_content?, tool_calls?: [{ index, function: { name?, arguments? } }] }
 *
 * Each text of each choice is a run, also those that other servers (vLLM, OpenRouter, Mistral) have added. What is held
 * back leaves before the choice's `finish_reason`.
 */
import { isObject, type JsonObject, maskLeaves, type TextRuns } from "./message-leaves.ts";
import { dropLogprobs, eachPiece, errorText, nest, OpenRunsStream, openaiUsage } from "./openai-parts.ts";

/** Members that are no text of the model, or are read by themselves. */
const chunkKeys: ReadonlySet<string> = new Set([
  ...["id", "object", "created", "model", "choices", "usage", "system_fingerprint", "service_tier", "obfuscation"],
]);
const choiceKeys: ReadonlySet<string> = new Set(["index", "delta", "text", "finish_reason", "logprobs"]);

export function isChatChunk(event: JsonObject): boolean {
  return Array.isArray(event["choices"]);
}

export class ChatStream extends OpenRunsStream {
  event(event: JsonObject, runs: TextRuns): JsonObject[] | null {
    const { choices, usage } = event;
    if (isObject(usage)) this.#usage(usage);
    let changed = maskOthers(event, chunkKeys, runs);
    if ("error" in event) this.error = errorText(event["error"]);
    const rest: JsonObject[] = [];
    if (Array.isArray(choices)) {
      for (const [place, choice] of choices.entries()) {
        if (isObject(choice) && this.#choice(event, choice, place, runs, rest)) changed = true;
      }
    }
    return rest.length === 0 && !changed ? null : [...rest, event];
  }

  #choice(event: JsonObject, choice: JsonObject, place: number, runs: TextRuns, rest: JsonObject[]): boolean {
    const { delta, finish_reason: reason } = choice;
    const index = typeof choice["index"] === "number" ? choice["index"] : place;
    const owner = String(index);
    const pieces = new Map<string, { node: JsonObject; key: string }>();
    let changed = dropLogprobs(choice);
    changed = maskOthers(choice, choiceKeys, runs) || changed;
    const push = (node: JsonObject, key: string, way: readonly (string | number)[], member: string): void => {
      const run = `${owner} ${member} ${way.join(".")}`;
      const carry = (text: string): JsonObject => chunkWith(event, index, member, way, text);
      changed = this.open.push(runs, run, owner, { node, key }, carry) || changed;
      pieces.set(run, { node, key });
    };
    if (typeof choice["text"] === "string" && choice["text"] !== "") push(choice, "text", [], "text");
    if (isObject(delta)) {
      this.#noteTools(delta);
      eachPiece(delta, (node, key, way) => push(node, key, way, "delta"));
    }
    if (reason !== null && reason !== undefined) {
      const closed = this.open.close(runs, owner, pieces);
      rest.push(...closed.rest);
      changed ||= closed.changed;
    }
    return changed;
  }

  #noteTools(delta: JsonObject): void {
    const { tool_calls: calls, function_call: legacy } = delta;
    for (const call of Array.isArray(calls) ? calls : []) {
      const called = isObject(call) ? (call["function"] ?? call["custom"]) : null;
      if (isObject(called) && typeof called["name"] === "string" && called["name"] !== "")
        this.toolCalls.push(called["name"]);
    }
    if (isObject(legacy) && typeof legacy["name"] === "string") this.toolCalls.push(legacy["name"]);
  }

  #usage(usage: JsonObject): void {
    const { input, output } = openaiUsage(usage);
    this.inputTokens = input ?? this.inputTokens;
    this.outputTokens = output ?? this.outputTokens;
  }
}

/** A chunk like the last one, with this text alone. */
function chunkWith(
  { usage, ...event }: JsonObject,
  index: number,
  member: string,
  way: readonly (string | number)[],
  text: string,
): JsonObject {
  const value = nest(way, text);
  return { ...event, choices: [{ index, [member]: value, logprobs: null, finish_reason: null }] };
}

/** What a server adds beside the texts comes whole. */
function maskOthers(node: JsonObject, known: ReadonlySet<string>, runs: TextRuns): boolean {
  let changed = false;
  for (const key of Object.keys(node)) {
    const value = node[key];
    if (known.has(key) || value === null || typeof value === "number" || typeof value === "boolean") continue;
    const holder: JsonObject = { [key]: value };
    if (!maskLeaves(holder, runs)) continue;
    node[key] = holder[key];
    changed = true;
  }
  return changed;
}
