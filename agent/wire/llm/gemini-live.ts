/**
 * Gemini's Live API: JSON messages over a WebSocket, in text or binary frames.
 * https://ai.google.dev/api/live
 *
 *     client   = { setup } | { clientContent } | { realtimeInput } | { toolResponse }
 *     server   = { setupComplete | serverContent | toolCall | toolCallCancellation | …, usageMetadata? }
 *
 * The texts of a turn are runs, by kind: what the model says, what it thinks, transcripts of what it and the user said.
 * What a run holds back leaves as one more message before the one that ends the turn. There is no message for an error:
 * the server says it in the close frame, and so does Weir.
 */
import { closeFrame, opText, writeMessage } from "../websocket/messages.ts";
import type { RealtimeApi } from "./api.ts";
import { geminiRequest } from "./gemini-request.ts";
import type { RequestFacts } from "./message-facts.ts";
import {
  isObject,
  type JsonObject,
  maskLeaves,
  noteTool,
  type StreamRewriter,
  type TextRuns,
  textsOf,
} from "./message-leaves.ts";
import { type Counts, countsOf, refill } from "./stream-state.ts";

/** Of protobuf's JSON, which takes names in both ways of writing. */
const clientTypes: Readonly<Record<string, string>> = {
  setup: "setup",
  ...{ clientContent: "clientContent", client_content: "clientContent" },
  ...{ realtimeInput: "realtimeInput", realtime_input: "realtimeInput" },
  ...{ toolResponse: "toolResponse", tool_response: "toolResponse" },
};
const soundType = /^(?:audio|video|image)\//;
/** Of `realtimeInput`: signs of where speech begins and ends. */
const signs = /^(?:activityStart|activity_start|activityEnd|activity_end|audioStreamEnd|audio_stream_end)$/;

export const geminiLive: RealtimeApi = {
  refusalEnds: true,
  rewriter: () => new GeminiLiveStream(),
  asked(event) {
    const known = Object.keys(event).filter((key) => clientTypes[key] !== undefined);
    const type = [...new Set(known.map((key) => clientTypes[key]))].join(" ");
    const isSound = known.length === 1 && type === "realtimeInput" && isAllSound(event[known[0] as string]);
    const turn = event["clientContent"] ?? event["client_content"];
    const goesOn = isObject(turn) && (turn["turnComplete"] ?? turn["turn_complete"]) === false;
    return {
      // What else the message has may be the prompt of a later revision.
      type: known.length === Object.keys(event).length ? type : "",
      kind: isSound ? "sound" : "prompt",
      facts: requestFacts(event),
      answered: type === "toolResponse" || (type === "clientContent" && !goesOn),
    };
  },
  spent({ serverContent, toolCall, usageMetadata }) {
    const ends = isObject(toolCall) || (isObject(serverContent) && serverContent["turnComplete"] === true);
    if (!ends) return null;
    return liveUsage(usageMetadata);
  },
  refuse: ({ message }) => ended(message),
  farewell: ended,
};

function ended(message: string): Buffer {
  const error = { error: { code: 7, message, status: "PERMISSION_DENIED" } };
  return Buffer.concat([
    writeMessage(opText, Buffer.from(JSON.stringify(error), "utf8"), null),
    closeFrame(1008, message),
  ]);
}

/** Nothing in it but sound, pictures and signs of speech. */
function isAllSound(input: unknown): boolean {
  if (!isObject(input)) return false;
  return Object.entries(input).every(([key, value]) => {
    if (signs.test(key)) return true;
    const blobs = Array.isArray(value) ? value : [value];
    return blobs.every(
      (blob) => isObject(blob) && soundType.test(String(blob["mimeType"] ?? blob["mime_type"] ?? "")) && onlyBlob(blob),
    );
  });
}

function onlyBlob(blob: JsonObject): boolean {
  return Object.keys(blob).every((key) => key === "data" || key === "mimeType" || key === "mime_type");
}

function requestFacts(event: JsonObject): RequestFacts {
  const { setup } = event;
  const { tools, model, outputTokensMax, prompt } = geminiRequest(isObject(setup) ? setup : {});
  const { setup: _setup, ...rest } = event;
  return { model, stream: true, tools, outputTokensMax, prompt: [...prompt, ...textsOf(rest)] };
}

/** `responseTokenCount` where the other API has `candidatesTokenCount`. */
function liveUsage(usage: unknown): { inputTokens: number | null; outputTokens: number | null } {
  if (!isObject(usage)) return { inputTokens: null, outputTokens: null };
  const sum = (...keys: string[]): number | null =>
    keys.some((key) => typeof usage[key] === "number")
      ? keys.reduce((all, key) => all + (typeof usage[key] === "number" ? usage[key] : 0), 0)
      : null;
  return {
    inputTokens: sum("promptTokenCount", "toolUsePromptTokenCount"),
    outputTokens: sum("responseTokenCount", "thoughtsTokenCount"),
  };
}

type Run = "text" | "thought" | "input" | "output";

interface State {
  readonly counts: Counts;
  readonly open: ReadonlySet<Run>;
}

export class GeminiLiveStream implements StreamRewriter {
  readonly inputTokens = null;
  readonly outputTokens = null;
  readonly toolCalls: string[] = [];
  error: string | null = null;
  readonly #open = new Set<Run>();

  event(event: JsonObject, runs: TextRuns): JsonObject[] | null {
    const { serverContent: content, toolCall, error } = event;
    if (isObject(error)) this.error = String(error["message"] ?? error["status"] ?? "");
    const calls = isObject(toolCall) && Array.isArray(toolCall["functionCalls"]) ? toolCall["functionCalls"] : [];
    for (const call of calls) if (isObject(call)) noteTool(this.toolCalls, call["name"]);
    const taken = new Set<unknown>();
    let changed = isObject(content) && this.#content(content, runs, taken);
    changed = maskLeaves(event, runs, (_way, node) => taken.has(node)) || changed;
    const rest = isObject(content) ? this.#ended(content, runs) : isObject(toolCall) ? this.end(runs) : [];
    if (rest.length === 0) return changed ? [event] : null;
    // What the message itself tells of a run comes before what the run still held.
    if (!isObject(content)) return [...rest, event];
    const { turnComplete, generationComplete, interrupted, ...told } = content;
    const ends = Object.entries({ turnComplete, generationComplete, interrupted }).filter(
      ([, said]) => said !== undefined,
    );
    if (ends.length === 0) return [event, ...rest];
    const first = Object.keys(told).length === 0 ? [] : [{ serverContent: told }];
    return [...first, ...rest, { ...event, serverContent: Object.fromEntries(ends) }];
  }

  end(runs: TextRuns): JsonObject[] {
    return this.#close(runs, [...this.#open]);
  }

  save(): State {
    return { counts: countsOf(this), open: this.#open };
  }

  restore({ counts, open }: State): void {
    this.error = counts.error;
    refill(this.toolCalls, counts.toolCalls);
    this.#open.clear();
    for (const run of open) this.#open.add(run);
  }

  #content(content: JsonObject, runs: TextRuns, taken: Set<unknown>): boolean {
    let changed = false;
    const turn = content["modelTurn"];
    for (const part of isObject(turn) && Array.isArray(turn["parts"]) ? turn["parts"] : [])
      if (isObject(part))
        changed = this.#take(part, part["thought"] === true ? "thought" : "text", runs, taken) || changed;
    const { inputTranscription: input, outputTranscription: output } = content;
    if (isObject(input)) changed = this.#take(input, "input", runs, taken) || changed;
    if (isObject(output)) changed = this.#take(output, "output", runs, taken) || changed;
    return changed;
  }

  #take(node: JsonObject, run: Run, runs: TextRuns, taken: Set<unknown>): boolean {
    const { text } = node;
    if (typeof text !== "string") return false;
    taken.add(node);
    this.#open.add(run);
    const out = runs.push(run, text, "text");
    node["text"] = out;
    return out !== text;
  }

  #ended(content: JsonObject, runs: TextRuns): JsonObject[] {
    if ([content["turnComplete"], content["generationComplete"], content["interrupted"]].includes(true))
      return this.end(runs);
    const { inputTranscription: input, outputTranscription: output } = content;
    const finished: Run[] = [];
    if (isObject(input) && input["finished"] === true) finished.push("input");
    if (isObject(output) && output["finished"] === true) finished.push("output");
    return this.#close(runs, finished);
  }

  #close(runs: TextRuns, which: readonly Run[]): JsonObject[] {
    return which.flatMap((run) => {
      this.#open.delete(run);
      const text = runs.close(run);
      return text === "" ? [] : [{ serverContent: carrier(run, text) }];
    });
  }
}

function carrier(run: Run, text: string): JsonObject {
  if (run === "input") return { inputTranscription: { text } };
  if (run === "output") return { outputTranscription: { text } };
  return { modelTurn: { role: "model", parts: [run === "thought" ? { text, thought: true } : { text }] } };
}
