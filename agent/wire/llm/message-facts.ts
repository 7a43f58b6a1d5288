/** What the model APIs say about requests and replies, in words that are the same for all of them. */
import type { LlmFacts } from "../../core/operation.ts";

/** What a request's method and path tell. */
export interface Route {
  readonly api: LlmFacts["api"];
  readonly reads: "head" | "whole";
  /** Null: the body says. */
  readonly stream: boolean | null;
  /** Null: the body says. */
  readonly model: string | null;
  /** False: what it carries cannot be read here, so that it counts as not understood. */
  readonly readable?: boolean;
  /** False: a method of a provider's API that nobody here knows. */
  readonly known?: boolean;
}

/** What is asked by a method of an API that nobody here knows: a prompt, for all that can be told. */
export const unknownRoute: Route = { api: "other", reads: "whole", stream: null, model: null, known: false };

/** Servers take `//v1/messages/` for `/v1/messages`: so must the rules. */
export function tidyPath(path: string): string {
  const single = path.replace(/\/{2,}/g, "/");
  return single.length > 1 && single.endsWith("/") ? single.slice(0, -1) : single;
}

/** What a request's body tells. */
export interface RequestFacts {
  readonly model: string;
  readonly stream: boolean;
  readonly tools: readonly string[];
  readonly outputTokensMax: number | null;
  /** Each text the model is given, in order. */
  readonly prompt: readonly string[];
}

/** What a whole reply tells. */
export interface ReplyFacts {
  readonly text: readonly string[];
  readonly toolCalls: readonly string[];
  readonly inputTokens: number | null;
  readonly outputTokens: number | null;
  readonly error: string | null;
}
