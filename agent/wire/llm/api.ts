/**
 * What one provider's API has to say so that `dialect.ts` can decide, redact, mask and refuse its calls. An API knows
 * shapes; what is hidden and what comes back for a placeholder is in the `TextRuns` it is given.
 */

import type { LlmProvider } from "../../core/operation.ts";
import type { HoldingStream, Refusal } from "../http/dialect.ts";
import type { OwnResponse, RequestHead, ResponseHead } from "../http/message.ts";
import type { EventSigner } from "../http/sigv4.ts";
import type { ReplyFacts, RequestFacts, Route } from "./message-facts.ts";
import type { JsonObject, StreamRewriter, TextRuns } from "./message-leaves.ts";

/** A call, as far as its head tells; an API may put more into it, and gets it back with every question. */
export interface LlmApi<Call extends Route = Route> {
  readonly provider: LlmProvider;
  /** `path` is the target without its query, as sent. Null: no operation of this API, decided as plain HTTP. */
  route(head: RequestHead, path: string, query: string): Call | null;
  /** A request with a body that `route` does not know, to a server that has no other API. */
  readonly unknown: Call;
  /** Of a body that is a JSON object without doubled names. */
  request(body: JsonObject, call: Call): RequestFacts;
  /** Of a whole reply, or an error; masked already. Never throws. */
  reply(body: unknown, call: Call): ReplyFacts;
  refuse(refusal: Refusal, call: Call): OwnResponse;
  /** Asked only when the client wants a stream (`Route.stream`, or `RequestFacts.stream` where that is null). */
  holding(call: Call): HoldingStream | null;
  /** How this reply streams; null: it comes whole. */
  stream(head: ResponseHead, call: Call): LlmStream | null;
  /** Of a request that goes on while it is answered; null, or left out: this one comes first. */
  events?(call: Call): RequestEvents | null;
  /** Of calls whose `api` is `realtime`: what is said over the WebSocket; left out: it is not read. */
  readonly realtime?: RealtimeApi;
}

export interface Spent {
  readonly inputTokens: number | null;
  readonly outputTokens: number | null;
}

/** What an API says over a WebSocket, message by message: JSON objects both ways. */
export interface RealtimeApi {
  rewriter(): StreamRewriter;
  /** Of a client's message; one that cannot be read is empty. */
  asked(event: JsonObject): {
    /** Empty: it is none of this API. */
    readonly type: string;
    /** `idle`: it gives the model nothing, and passes. `sound`: one decision stands for all of a session's. */
    readonly kind: "idle" | "sound" | "prompt";
    readonly facts: RequestFacts;
    /** `spent` will tell what it cost. */
    readonly answered: boolean;
  };
  /** A message of the server's that tells what a response has cost. */
  spent(event: JsonObject): Spent | null;
  refuse(refusal: Refusal, event: JsonObject): Buffer;
  /** There is no message for a refusal but the last. */
  readonly refusalEnds: boolean;
  /** Tells why the connection ends. */
  farewell(message: string): Buffer;
}

/** One event of a request that goes on while it is answered. */
export interface RequestEvent {
  readonly type: string;
  readonly facts: RequestFacts;
  readonly traits: readonly string[];
  /** Its JSON; null: it has none that can be read. */
  readonly json: Buffer | null;
}

/** Throws a PeerError for what cannot be cut into events; nothing is pushed after that. */
export interface RequestEvents {
  /** The events that these bytes complete, as they came. */
  cut(bytes: Buffer): Buffer[];
  read(raw: Buffer): RequestEvent;
  /**
   * The event as it leaves, with this JSON in place of its own (null: none), signed anew. Without a signer what the client
   * has signed stays as it is, or is denied by a WeirError.
   */
  write(raw: Buffer, json: Buffer | null, signer: EventSigner | null): Buffer;
  /** After the last one of the client's. */
  end(signer: EventSigner | null): Buffer;
  readonly heldBytes: number;
  /** Bytes of the event at hand from its beginning on, as far as its head is there. */
  readonly neededBytes: number;
}

/** `sse` and `ndjson` are cut into events here; any other framing is the API's own. */
export type LlmStream =
  | { readonly framing: "sse" | "ndjson"; rewriter(): StreamRewriter }
  | { readonly framing: "own"; body(runs: TextRuns): StreamBody };

/** A streamed reply in bytes. Throws a PeerError for what cannot be read; nothing is pushed after that. */
export interface StreamBody extends Pick<StreamRewriter, "inputTokens" | "outputTokens" | "toolCalls" | "error"> {
  /** What may leave now: a frame that was not changed byte for byte. */
  push(bytes: Buffer): Buffer;
  end(): Buffer;
  readonly heldBytes: number;
  /** From now on a long part (an event, a frame) waits to be taken, and what comes behind it waits for `goOn`. */
  defer(): void;
  takeLarge(): Buffer | null;
  /** Such a part, where there is time for it. */
  part(raw: Buffer): Buffer;
  /** What it became leaves, and what waited behind it. */
  goOn(first: Buffer): Buffer;
  /** What it knows between two parts, as plain data: a body of the same stream elsewhere goes on from it. */
  save(): unknown;
  restore(state: never): void;
}

/** Type parameters of an API are its own matter: the dialect hands its calls back as they came. */
export function anyApi<Call extends Route>(api: LlmApi<Call>): LlmApi {
  return api as unknown as LlmApi;
}
