/**
 * What a client of Bedrock sends while it is answered: event stream frames, each perhaps signed, which is a frame around
 * the frame ("Signature calculations for event streams", IAM User Guide).
 */
import { isUtf8 } from "node:buffer";
import type { RequestEvent, RequestEvents } from "./api.ts";
import { sonicRequest } from "./bedrock-sonic.ts";
import { readBody } from "./body.ts";
import { type EventFrame, EventStreamReader, headerText } from "./eventstream.ts";
import { isObject } from "./message-leaves.ts";

export class BedrockEventsIn implements RequestEvents {
  readonly #frames = new EventStreamReader();

  get heldBytes(): number {
    return this.#frames.heldBytes;
  }

  get neededBytes(): number {
    return this.#frames.neededBytes;
  }

  cut(bytes: Buffer): Buffer[] {
    return this.#frames.push(bytes).map((frame) => Buffer.from(frame.raw));
  }

  read(raw: Buffer): RequestEvent {
    return readFrame(new EventStreamReader().push(raw)[0] as EventFrame);
  }
}

const nothing = { model: "", stream: true, tools: [], outputTokensMax: null, prompt: [] };

function readFrame(frame: EventFrame): RequestEvent {
  let inner = frame;
  if (frame.headers.some(({ name }) => name === ":chunk-signature")) {
    // An empty one is the end.
    if (frame.payload.length === 0) return { type: "end", json: null, facts: nothing, traits: [] };
    const reader = new EventStreamReader();
    const frames = reader.push(frame.payload);
    if (frames.length !== 1 || reader.heldBytes > 0) return unreadable;
    inner = frames[0] as EventFrame;
  }
  if (headerText(inner, ":event-type") !== "chunk" || !isUtf8(inner.payload)) return unreadable;
  const outer = readBody(inner.payload);
  if (!isObject(outer.value) || typeof outer.value["bytes"] !== "string") return unreadable;
  const json = Buffer.from(outer.value["bytes"], "base64");
  const { value, problem } = readBody(json);
  if (value === null) return { ...unreadable, traits: [problem ?? "unreadable-body"] };
  const { type, facts, isSound } = sonicRequest(value);
  const traits = type === "" ? ["unreadable-body"] : isSound ? ["body-unread"] : [];
  return { type, json, facts, traits };
}

const unreadable: RequestEvent = { type: "", json: null, facts: nothing, traits: ["unreadable-body"] };
