/**
 * What a client of Bedrock sends while it is answered: event stream frames, each perhaps signed, which is a frame around
 * the frame ("Signature calculations for event streams", IAM User Guide).
 */
import { isUtf8 } from "node:buffer";
import { WeirError } from "../../errors.ts";
import { signedByClient } from "../http/refusals.ts";
import type { EventSigner } from "../http/sigv4.ts";
import type { RequestEvent, RequestEvents } from "./api.ts";
import { sonicRequest } from "./bedrock-sonic.ts";
import { readBody } from "./body.ts";
import {
  type EventFrame,
  type EventHeader,
  EventStreamReader,
  headerText,
  withPayload,
  writeFrame,
  writeHeaders,
} from "./eventstream.ts";
import { isObject } from "./message-leaves.ts";

export class BedrockEventsIn implements RequestEvents {
  readonly #frames = new EventStreamReader();
  /** The last one of a signed stream is empty. */
  #isEnded = false;

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
    return readFrame(frameOf(raw));
  }

  write(raw: Buffer, json: Buffer | null, signer: EventSigner | null): Buffer {
    const frame = frameOf(raw);
    const isSigned = isSignedFrame(frame);
    if (isSigned && signer === null) {
      if (json === null) return raw;
      throw new WeirError("WEIR_DENIED", signedByClient);
    }
    let inner = isSigned ? frame.payload : raw;
    if (json !== null) {
      const event = frameOf(inner);
      const { value } = readBody(event.payload);
      inner = withPayload(event, Buffer.from(JSON.stringify({ ...value, bytes: json.toString("base64") }), "utf8"));
    }
    if (signer === null) return inner;
    if (inner.length === 0) this.#isEnded = true;
    return signedFrame(inner, signer);
  }

  end(signer: EventSigner | null): Buffer {
    const isDue = signer !== null && !this.#isEnded;
    return isDue ? signedFrame(Buffer.alloc(0), signer) : Buffer.alloc(0);
  }
}

function frameOf(raw: Buffer): EventFrame {
  return new EventStreamReader().push(raw)[0] as EventFrame;
}

function isSignedFrame({ headers }: EventFrame): boolean {
  return headers.some(({ name }) => name === ":chunk-signature");
}

function signedFrame(payload: Buffer, signer: EventSigner): Buffer {
  const { timeMs, signature } = signer.sign(payload, (at) => writeHeaders([dateHeader(at)]));
  return writeFrame(
    writeHeaders([dateHeader(timeMs), { name: ":chunk-signature", type: 6, value: signature }]),
    payload,
  );
}

function dateHeader(timeMs: number): EventHeader {
  const value = Buffer.alloc(8);
  value.writeBigInt64BE(BigInt(timeMs));
  return { name: ":date", type: 8, value };
}

const nothing = { model: "", stream: true, tools: [], outputTokensMax: null, prompt: [] };

function readFrame(frame: EventFrame): RequestEvent {
  let inner = frame;
  if (isSignedFrame(frame)) {
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
