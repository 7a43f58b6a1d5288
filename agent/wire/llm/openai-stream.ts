/** A stream of OpenAI's APIs, or of what is like them: each event tells of which one it is. */
import { type JsonObject, maskLeaves, type StreamRewriter, type TextRuns } from "./message-leaves.ts";
import { ChatStream, isChatChunk } from "./openai-chat-stream.ts";
import { errorText } from "./openai-parts.ts";
import { isResponsesEvent, ResponsesStream } from "./openai-responses-stream.ts";

interface State {
  readonly error: string | null;
  readonly reader: { readonly isChat: boolean; readonly state: unknown } | null;
}

export class OpenAiStream implements StreamRewriter {
  #reader: StreamRewriter | null = null;
  #error: string | null = null;

  get inputTokens(): number | null {
    return this.#reader?.inputTokens ?? null;
  }

  get outputTokens(): number | null {
    return this.#reader?.outputTokens ?? null;
  }

  get toolCalls(): readonly string[] {
    return this.#reader?.toolCalls ?? [];
  }

  get error(): string | null {
    return this.#error ?? this.#reader?.error ?? null;
  }

  event(event: JsonObject, runs: TextRuns): JsonObject[] | null {
    if (this.#reader === null) {
      if (isChatChunk(event)) this.#reader = new ChatStream();
      else if (isResponsesEvent(event)) this.#reader = new ResponsesStream();
      else {
        const changed = maskLeaves(event, runs);
        if ("error" in event) this.#error = errorText(event["error"]);
        return changed ? [event] : null;
      }
    }
    return this.#reader.event(event, runs);
  }

  end(runs: TextRuns): JsonObject[] {
    return this.#reader?.end(runs) ?? [];
  }

  save(): State {
    const reader = this.#reader;
    const saved = reader === null ? null : { isChat: reader instanceof ChatStream, state: reader.save() };
    return { error: this.#error, reader: saved };
  }

  restore({ error, reader }: State): void {
    this.#error = error;
    this.#reader = reader === null ? null : reader.isChat ? new ChatStream() : new ResponsesStream();
    this.#reader?.restore(reader?.state as never);
  }
}
