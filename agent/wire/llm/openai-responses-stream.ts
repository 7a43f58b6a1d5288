/**
 * Events of a streamed response, one at a time. https://platform.openai.com/docs/api-reference/responses-streaming
 *
 *     response.created (output_item.added (content_part.added X.delta* X.done content_part.done)* output_item.done)*
 *     response.completed | incomplete | failed, or error
 *
 * X is `output_text`, `refusal`, `reasoning_text`, `reasoning_summary_text`, `function_call_arguments`,
 * `mcp_call_arguments`, `custom_tool_call_input`, `code_interpreter_call_code`, `audio.transcript` and what comes later:
 * the deltas of one X of one part are a run. What is held back leaves as one more delta before X.done; the events that
 * tell the same text once more are masked whole.
 */
import { isObject, type JsonObject, maskLeaves, type TextRuns } from "./message-leaves.ts";
import { dropLogprobs, eachPiece, errorText, nest, OpenRunsStream, openaiUsage } from "./openai-parts.ts";

/** Sound and pictures in base64. */
const bytesType = /(?:^|\.)(?:output_)?audio\.delta$|partial_image$/;
const bytesKeys: ReadonlySet<string> = new Set(["result", "partial_image_b64", "b64_json", "encrypted_content"]);
const lastType = /^response\.(?:completed|incomplete|failed|cancelled|done)$|^error$|^thread\.(?:message|run)\.\w+ed$/;
const toolType = /(?:^function|_tool|^mcp|^computer|^code_interpreter|_search|_shell|^image_generation|_patch)_call$/;

export function isResponsesEvent(event: JsonObject): boolean {
  return typeof event["type"] === "string" || /^thread\./.test(String(event["object"]));
}

export class ResponsesStream extends OpenRunsStream {
  readonly #realtime: boolean;

  /** `realtime`: many responses, side by side, and transcripts of what the user says beside them. */
  constructor(realtime = false) {
    super();
    this.#realtime = realtime;
  }

  event(event: JsonObject, runs: TextRuns): JsonObject[] | null {
    const type = String(event["type"] ?? event["object"]);
    if (type.endsWith(".delta")) return this.#delta(event, type, runs);
    const dropped = dropLogprobs(event);
    const rest = this.#ended(type, event, runs);
    this.#note(event);
    const changed = maskLeaves(event, runs, (way, node) => isBytes(way, node)) || dropped;
    if (type === "error" || type === "response.failed") this.error = errorOf(event);
    return rest.length === 0 && !changed ? null : [...rest, event];
  }

  #ended(type: string, event: JsonObject, runs: TextRuns): JsonObject[] {
    const base = baseOf(type, this.#realtime);
    if (this.#realtime && type === "response.done") {
      const { response } = event;
      return isObject(response) ? this.open.closeResponse(runs, response["id"]) : [];
    }
    // Parts and items end after each X of them; what is left of an X that said no end leaves at the very last.
    if (base !== null) return this.open.close(runs, ownerOf(base, event)).rest;
    return !this.#realtime && lastType.test(type) ? this.open.close(runs, null).rest : [];
  }

  #delta(event: JsonObject, type: string, runs: TextRuns): JsonObject[] | null {
    const { delta } = event;
    if (bytesType.test(type)) return null;
    const base = type.slice(0, -".delta".length);
    const owner = ownerOf(base, event);
    const like = { ...event };
    const hadLogprobs = dropLogprobs(event);
    if (typeof delta === "string") {
      if (delta === "") return hadLogprobs ? [event] : null;
      const carry = (text: string): JsonObject => ({ ...like, ...noLogprobs(like), delta: text });
      const place = { node: event, key: "delta", response: event["response_id"] };
      const changed = this.open.push(runs, `${owner} ${base}`, owner, place, carry);
      return changed || hadLogprobs ? [event] : null;
    }
    if (!isObject(delta)) return maskLeaves(event, runs) || hadLogprobs ? [event] : null;
    // Assistants: the delta is part of a message.
    let changed = hadLogprobs;
    eachPiece(delta, (node, key, way) => {
      const carry = (text: string): JsonObject => ({ ...like, delta: nest(way, text) });
      const run = `${owner} ${way.join(".")}`;
      changed = this.open.push(runs, run, owner, { node, key }, carry) || changed;
    });
    return changed ? [event] : null;
  }

  #note(event: JsonObject): void {
    const { item, response, type, usage } = event;
    const spent = openaiUsage(isObject(response) ? response["usage"] : usage);
    this.inputTokens = spent.input ?? this.inputTokens;
    this.outputTokens = spent.output ?? this.outputTokens;
    if (type !== "response.output_item.done" || !isObject(item)) return;
    const name = toolOf(item);
    if (name !== null) this.toolCalls.push(name);
  }
}

/** Null: the item is no call. Tools of OpenAI's own have no other name than their type. */
export function toolOf(item: JsonObject): string | null {
  const { type, name } = item;
  if (typeof type !== "string" || !toolType.test(type)) return null;
  return typeof name === "string" ? name : type.slice(0, -"_call".length);
}

/** Strings of a reply that are bytes. */
export function isBytes(way: readonly string[], node: JsonObject): boolean {
  const key = way.at(-1) as string;
  if (key === "result") return node["type"] === "image_generation_call";
  return bytesKeys.has(key) || key === "obfuscation";
}

/** Null: the event ends no X. What the user said ends in `completed`. */
function baseOf(type: string, realtime: boolean): string | null {
  if (type.endsWith(".done")) return type.slice(0, -".done".length);
  if (realtime && /_transcription\.(?:completed|failed)$/.test(type)) return type.slice(0, type.lastIndexOf("."));
  return null;
}

/** Which run: of which item, which part of it. */
function ownerOf(base: string, event: JsonObject): string {
  const { item_id: item, output_index: output, content_index: content, summary_index: summary, id } = event;
  return [base, item ?? id, output, content, summary].map((part) => String(part ?? "")).join(" ");
}

function noLogprobs(event: JsonObject): JsonObject {
  return Array.isArray(event["logprobs"]) ? { logprobs: [] } : {};
}

function errorOf({ error, response, message }: JsonObject): string {
  const said = isObject(response) ? response["error"] : (error ?? message);
  return errorText(said) ?? "";
}
