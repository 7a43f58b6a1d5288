/** Lines of a streamed reply of Ollama, one at a time; see ollama.ts. What is held back leaves before the last line. */
import { isObject, type JsonObject, maskLeaves, type TextRuns } from "./message-leaves.ts";
import { dropLogprobs, errorText, OpenRunsStream } from "./openai-parts.ts";

const messageTexts = ["content", "thinking"];
const ownTexts = ["response", "thinking"];

export class OllamaStream extends OpenRunsStream {
  event(event: JsonObject, runs: TextRuns): JsonObject[] | null {
    const { message, done, prompt_eval_count: input, eval_count: output } = event;
    if (typeof input === "number") this.inputTokens = input;
    if (typeof output === "number") this.outputTokens = output;
    let changed = dropLogprobs(event);
    const taken = new Set<string>();
    const pieces = new Map<string, { node: JsonObject; key: string }>();
    const push = (node: JsonObject, key: string, carry: (text: string) => JsonObject): void => {
      if (typeof node[key] !== "string" || node[key] === "") return;
      taken.add(node === event ? key : `message ${key}`);
      const run = `${node === event ? "" : "message "}${key}`;
      changed = this.open.push(runs, run, "", { node, key }, carry) || changed;
      pieces.set(run, { node, key });
    };
    const { created_at: created, model } = event;
    if (isObject(message)) {
      const role = message["role"] ?? "assistant";
      for (const key of messageTexts)
        push(message, key, (text) => ({
          model,
          created_at: created,
          message: { role, content: "", [key]: text },
          done: false,
        }));
      this.#noteTools(message);
    }
    for (const key of ownTexts)
      push(event, key, (text) => ({ model, created_at: created, response: "", [key]: text, done: false }));
    changed = this.#others(event, runs, taken) || changed;
    if ("error" in event) this.error = errorText(event["error"]);
    if (done !== true && !("error" in event)) return changed ? [event] : null;
    const closed = this.open.close(runs, null, pieces);
    return closed.rest.length === 0 && !closed.changed && !changed ? null : [...closed.rest, event];
  }

  /** Arguments of tools come whole, as objects. */
  #others(event: JsonObject, runs: TextRuns, taken: ReadonlySet<string>): boolean {
    const { message } = event;
    return maskLeaves(event, runs, (way, node) => {
      const key = way.at(-1) as string;
      if (key === "created_at") return true;
      return node === event ? taken.has(key) : node === message && taken.has(`message ${key}`);
    });
  }

  #noteTools({ tool_calls: calls }: JsonObject): void {
    for (const call of Array.isArray(calls) ? calls : []) {
      const called = isObject(call) ? call["function"] : null;
      if (isObject(called) && typeof called["name"] === "string") this.toolCalls.push(called["name"]);
    }
  }
}
