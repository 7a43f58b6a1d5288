/**
 * The events of a stream, whatever API they are of: the shape of the first tells how to read them. A path or a model's
 * name would tell less: models of one maker are offered by others, an ARN tells nothing, and most offer an API that is
 * like OpenAI's beside their own.
 */
import { AnthropicStream, isAnthropicEvent } from "./anthropic-stream.ts";
import { ConverseStream, isConverseEvent, kindOf } from "./bedrock-events.ts";
import { isSonicEvent, SonicStream } from "./bedrock-sonic.ts";
import { GeminiStream, isGeminiChunk } from "./gemini-stream.ts";
import {
  isObject,
  type JsonObject,
  limitRuns,
  mapTexts,
  type StreamRewriter,
  type TextRuns,
} from "./message-leaves.ts";
import { refillMap } from "./stream-state.ts";

/** Added by Bedrock to the last chunk of every model. */
const metricsKey = "amazon-bedrock-invocationMetrics";

interface State {
  readonly inputTokens: number | null;
  readonly outputTokens: number | null;
  readonly reader: { readonly kind: ReaderKind; readonly state: unknown } | null;
}

/** Events of a stream whose shape the first of them tells. */
export class MessageStream implements StreamRewriter {
  #reader: StreamRewriter | null = null;
  #kind: ReaderKind = "unknown";
  #inputTokens: number | null = null;
  #outputTokens: number | null = null;

  get inputTokens(): number | null {
    return this.#inputTokens ?? this.#reader?.inputTokens ?? null;
  }

  get outputTokens(): number | null {
    return this.#outputTokens ?? this.#reader?.outputTokens ?? null;
  }

  get toolCalls(): readonly string[] {
    return this.#reader?.toolCalls ?? [];
  }

  get error(): string | null {
    return this.#reader?.error ?? null;
  }

  event(event: JsonObject, runs: TextRuns): JsonObject[] | null {
    const metrics = event[metricsKey];
    if (isObject(metrics)) {
      const { inputTokenCount: input, outputTokenCount: output } = metrics;
      if (typeof input === "number") this.#inputTokens = input;
      if (typeof output === "number") this.#outputTokens = output;
    }
    if (this.#reader === null) {
      this.#kind = kindOfStream(event);
      this.#reader = new readers[this.#kind]();
    }
    return this.#reader.event(event, runs);
  }

  end(runs: TextRuns): JsonObject[] {
    return this.#reader?.end(runs) ?? [];
  }

  save(): State {
    const reader = this.#reader === null ? null : { kind: this.#kind, state: this.#reader.save() };
    return { inputTokens: this.#inputTokens, outputTokens: this.#outputTokens, reader };
  }

  restore({ inputTokens, outputTokens, reader }: State): void {
    this.#inputTokens = inputTokens;
    this.#outputTokens = outputTokens;
    this.#kind = reader?.kind ?? "unknown";
    this.#reader = reader === null ? null : new readers[reader.kind]();
    this.#reader?.restore(reader?.state as never);
  }
}

/** A model whose events nobody here knows: each text is a run by its place in the event. */
class UnknownStream implements StreamRewriter {
  readonly inputTokens = null;
  readonly outputTokens = null;
  readonly toolCalls: string[] = [];
  readonly error = null;
  /** The last event that had a piece of the run: what is left goes into one like it. */
  readonly #open = new Map<string, { readonly way: readonly string[]; readonly like: JsonObject }>();

  save() {
    return this.#open;
  }

  restore(open: ReturnType<UnknownStream["save"]>): void {
    refillMap(this.#open, open);
  }

  event(event: JsonObject, runs: TextRuns): JsonObject[] | null {
    const like = withoutMetrics(event);
    const isLast = event[metricsKey] !== undefined;
    const changed = mapTexts(
      event,
      (text, way) => {
        const run = way.join(" ");
        this.#open.set(run, { way: [...way], like });
        const out = runs.push(run, text, kindOf(way));
        return isLast ? out + this.#closeRun(runs, run) : out;
      },
      (text) => runs.whole(text),
    );
    limitRuns(this.#open.size);
    const rest = isLast ? this.end(runs) : [];
    return rest.length === 0 && !changed ? null : [...rest, event];
  }

  end(runs: TextRuns): JsonObject[] {
    const rest: JsonObject[] = [];
    for (const [run, { way, like }] of this.#open) {
      const text = this.#closeRun(runs, run);
      if (text === "") continue;
      const event = structuredClone(like);
      // Names and numbers were masked where the event came.
      mapTexts(event, () => "", String);
      const holder = way.slice(0, -1).reduce<unknown>((node, key) => (isBranch(node) ? node[key] : null), event);
      if (isBranch(holder)) holder[way.at(-1) as string] = text;
      rest.push(event);
    }
    return rest;
  }

  #closeRun(runs: TextRuns, run: string): string {
    this.#open.delete(run);
    return runs.close(run);
  }
}

const readers = {
  sonic: SonicStream,
  anthropic: AnthropicStream,
  converse: ConverseStream,
  gemini: GeminiStream,
  unknown: UnknownStream,
} as const;

type ReaderKind = keyof typeof readers;

function kindOfStream(event: JsonObject): ReaderKind {
  if (isSonicEvent(event)) return "sonic";
  if (isAnthropicEvent(event)) return "anthropic";
  if (isConverseEvent(event)) return "converse";
  return isGeminiChunk(event) ? "gemini" : "unknown";
}

function isBranch(value: unknown): value is JsonObject {
  return typeof value === "object" && value !== null;
}

function withoutMetrics(event: JsonObject): JsonObject {
  const { [metricsKey]: _metrics, ...rest } = event;
  return rest;
}
