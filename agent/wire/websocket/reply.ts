/**
 * What a server sends over a WebSocket (RFC 6455 §5), masked in place. A mask is as long as what it hides, so frames
 * keep their heads; a value that is cut over the frames of one message is found all the same.
 */
import { WeirError } from "../../errors.ts";
import { type BodyMasker, createBodyMasker } from "../../mask/body-masker.ts";
import { maskerOf } from "../../mask/masker.ts";
import type { MaskPlan } from "../../mask/plan.ts";
import { JsonNumbers } from "../http/body-mask.ts";
import type { ReplyReader, ReplySummary } from "../http/dialect.ts";
import { controlBytesMax, FrameCutter } from "../http/frame-cutter.ts";
import { maskControl } from "./control.ts";

const opText = 1;
const opBinary = 2;
const opContinuation = 0;
const opClose = 8;
const opPong = 10;
/** Frames and control frames that wait behind a value whose end is not known; a server has no reason for as many. */
export const waitingHeadsMax = 4096;

/** A frame's head, or a control frame, that leaves when so many bytes of the message have. */
interface WaitingHead {
  readonly offset: number;
  readonly bytes: Buffer;
}

export class WebSocketReply implements ReplyReader {
  readonly preservesLength = true;
  readonly #plan: MaskPlan;
  #masked = 0;
  #masker: BodyMasker | null = null;
  #numbers: JsonNumbers | null = null;
  readonly #frames = new FrameCutter({
    begin: (head, length) => this.#begin(head, length),
    payload: (bytes) => this.#payload(bytes),
    end: () => this.#frameEnd(),
  });
  #final = false;
  /** Of the frame at hand: its bytes are of the message, or pass. */
  #inMessage = false;
  /** A control frame, until it is whole: it must not stand inside of a frame whose end is held back. */
  #control: Buffer[] = [];
  #closed = false;
  #waiting: WaitingHead[] = [];
  #taken = 0;
  #given = 0;
  /** What leaves of what was pushed last. */
  #out: Buffer[] = [];

  constructor(plan: MaskPlan) {
    this.#plan = plan;
  }

  get masked(): number {
    return this.#masked + (this.#masker?.masked ?? 0);
  }

  get heldBytes(): number {
    const control = this.#control.reduce((sum, bytes) => sum + bytes.length, 0);
    return (this.#masker?.held ?? 0) + this.#frames.heldBytes + control;
  }

  push(bytes: Buffer): Buffer {
    this.#out = [];
    this.#frames.push(bytes);
    return Buffer.concat(this.#out);
  }

  #begin(head: Buffer, length: number): void {
    const first = head[0] as number;
    const op = first & 0x0f;
    const isData = op <= opBinary;
    // What two clients could understand differently is not passed.
    if (this.#closed) throw broken("frames follow a close frame");
    if (!isData && (op < opClose || op > opPong)) throw broken(`a frame has the unknown opcode ${op}`);
    if (!isData && (first & 0x80) === 0) throw broken("a control frame is cut");
    if (isData && op !== opContinuation && this.#masker !== null) throw broken("a message begins inside of another");
    if (this.#waiting.length >= waitingHeadsMax)
      throw new WeirError(
        "WEIR_LIMIT_REACHED",
        `More than ${waitingHeadsMax} WebSocket frames wait for a value's end.`,
      );
    this.#closed = op === opClose;
    this.#inMessage = op === opText || op === opBinary || op === opContinuation;
    this.#final = this.#inMessage && (first & 0x80) !== 0;
    if (op === opText || op === opBinary) {
      this.#masker = createBodyMasker(this.#plan);
      this.#numbers = null;
      this.#taken = 0;
      this.#given = 0;
    }
    if (this.#inMessage && this.#masker === null) throw broken("a message goes on that never began");
    if (this.#inMessage) this.#waiting.push({ offset: this.#taken, bytes: head });
    else if (length > controlBytesMax) throw broken("a control frame is too long");
    else this.#control.push(head);
    this.#flushHeads();
  }

  #payload(bytes: Buffer): void {
    if (!this.#inMessage) {
      this.#control.push(bytes);
      return;
    }
    if (this.#taken === 0 && (bytes[0] === 0x7b || bytes[0] === 0x5b)) this.#numbers = new JsonNumbers();
    this.#taken += bytes.length;
    this.#numbers?.note(bytes);
    this.#give(this.#masker?.push(bytes) ?? bytes);
  }

  #frameEnd(): void {
    if (!this.#inMessage) {
      const came = Buffer.concat(this.#control);
      const whole = maskControl(came, maskerOf(this.#plan));
      if (whole !== came) this.#masked += 1;
      this.#control = [];
      if (this.#masker === null) this.#out.push(whole);
      else this.#waiting.push({ offset: this.#taken, bytes: whole });
      this.#flushHeads();
      return;
    }
    if (!this.#final) return;
    const masker = this.#masker as BodyMasker;
    this.#give(masker.end());
    this.#masked += masker.masked;
    this.#masker = null;
    this.#final = false;
  }

  /** Heads stand between the bytes where they stood. */
  #give(masked: Buffer): void {
    const bytes = this.#numbers?.keep(masked) ?? masked;
    let at = 0;
    while (at < bytes.length) {
      this.#flushHeads();
      const next = this.#waiting[0]?.offset ?? Number.POSITIVE_INFINITY;
      const size = Math.min(bytes.length - at, next - this.#given);
      this.#out.push(bytes.subarray(at, at + size));
      at += size;
      this.#given += size;
    }
    this.#flushHeads();
  }

  #flushHeads(): void {
    while (this.#waiting.length > 0 && (this.#waiting[0] as WaitingHead).offset <= this.#given)
      this.#out.push((this.#waiting.shift() as WaitingHead).bytes);
  }

  end(): Buffer {
    this.#out = [];
    if (this.#masker !== null) this.#give(this.#masker.end());
    return Buffer.concat(this.#out);
  }

  summary(): ReplySummary {
    return { text: "", inputTokens: null, outputTokens: null, toolCalls: [], error: null };
  }
}

function broken(what: string): WeirError {
  return new WeirError("WEIR_FRAME_INVALID", `The WebSocket cannot be read: ${what}.`);
}
