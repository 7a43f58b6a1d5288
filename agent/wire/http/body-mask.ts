/** Masks in bodies of text: as they stream by, in as many bytes as they had; by JSON path, when they are whole. */
import type { Verdict } from "../../core/verdict.ts";
import { WeirError } from "../../errors.ts";
import { type BodyMasker, createBodyMasker } from "../../mask/body-masker.ts";
import { maskerOf } from "../../mask/masker.ts";
import type { MaskPlan } from "../../mask/plan.ts";
import type { ReplyReader, ReplySummary } from "./dialect.ts";
import { readingEscapes } from "./escaped-text.ts";
import { type JsonMasks, maskJson } from "./json-mask.ts";
import { asBuffer, type LargeReply, largeBodyBytesMin } from "./large-body.ts";
import { type Masking, plansOf } from "./mask-plans.ts";
import { formType, isText } from "./media-type.ts";

/** A body of JSON that is masked by path is read whole up to this. */
const wholeBodyBytesMax = 32 * 1024 * 1024;

/** `type`: the media type; null: nothing of such a body is masked. */
export function bodyReader(type: string, verdict: Verdict, masking: Masking): ReplyReader | null {
  const { reply, paths } = plansOf(verdict, masking);
  const json = /json/.test(type);
  // JSON as such looks like source code: what judges whole texts is asked about each of its strings.
  if (json && (paths.length > 0 || reply?.judgesWhole === true))
    return new WholeJson({ masker: reply === null ? null : maskerOf(reply), paths, key: masking.maskKey });
  return reply === null || !(type === "" || isText(type)) ? null : new StreamedBody(reply, type);
}

/** Makes the redactions in a request's body of text on its way; null: there are none to be made. Throws a WeirError. */
export function bodyRedactor(type: string, coding: string, verdict: Verdict, masking: Masking): ReplyReader | null {
  const { request } = plansOf(verdict, masking);
  if (request === null || !(type === "" || isText(type))) return null;
  if (coding !== "")
    throw new WeirError(
      "WEIR_MASK_IMPOSSIBLE",
      `The request's body has to be redacted, and cannot be: it is encoded as ${coding}.`,
    );
  return new StreamedBody(request, type);
}

const noSummary: ReplySummary = { text: "", inputTokens: null, outputTokens: null, toolCalls: [], error: null };

class StreamedBody implements ReplyReader {
  readonly preservesLength = true;
  readonly #masker: BodyMasker;
  readonly #json: JsonNumbers | null;

  constructor(plan: MaskPlan, type: string) {
    // JSON is read by many servers whatever type it has.
    const masker = readingEscapes(createBodyMasker(plan), "json");
    this.#masker = type === formType ? readingEscapes(masker, "form") : masker;
    this.#json = /json/.test(type) ? new JsonNumbers() : null;
  }

  get masked(): number {
    return this.#masker.masked;
  }

  get heldBytes(): number {
    return this.#masker.held;
  }

  push(bytes: Buffer): Buffer {
    this.#json?.note(bytes);
    const masked = this.#masker.push(bytes);
    return this.#json?.keep(masked) ?? masked;
  }

  end(): Buffer {
    const masked = this.#masker.end();
    return this.#json?.keep(masked) ?? masked;
  }

  summary(): ReplySummary {
    return noSummary;
  }
}

/** A star that was not there, outside of a string, stands where a digit of a number was: numbers stay numbers. */
export class JsonNumbers {
  /** Where stars stood before anything was masked; a mask is as long as what it hides. */
  #stars: number[] = [];
  #noted = 0;
  #kept = 0;
  #inString = false;
  #escaped = false;
  #before = 0x20;

  /** What is about to be masked. */
  note(bytes: Buffer): void {
    for (let at = bytes.indexOf(0x2a); at >= 0; at = bytes.indexOf(0x2a, at + 1)) this.#stars.push(this.#noted + at);
    this.#noted += bytes.length;
  }

  keep(bytes: Buffer): Buffer {
    const stars = new Set(this.#stars);
    for (let at = 0; at < bytes.length; at += 1) {
      const byte = bytes[at] as number;
      if (this.#escaped) this.#escaped = false;
      else if (byte === 0x22) this.#inString = !this.#inString;
      else if (byte === 0x5c) this.#escaped = this.#inString;
      else if (byte === 0x2a && !this.#inString && !stars.has(this.#kept + at))
        bytes[at] = isDigit(this.#before) ? 0x30 : 0x31;
      this.#before = bytes[at] as number;
    }
    this.#kept += bytes.length;
    this.#stars = this.#stars.filter((at) => at >= this.#kept);
    return bytes;
  }
}

function isDigit(byte: number): boolean {
  return byte >= 0x30 && byte <= 0x39;
}

class WholeJson implements ReplyReader {
  readonly preservesLength = false;
  readonly isWhole = true;
  masked = 0;
  heldBytes = 0;
  readonly #masks: JsonMasks;
  #parts: Buffer[] = [];
  #isWorked = false;

  constructor(masks: JsonMasks) {
    this.#masks = masks;
  }

  push(bytes: Buffer): Buffer {
    this.heldBytes += bytes.length;
    if (this.heldBytes > wholeBodyBytesMax)
      throw new WeirError("WEIR_MASK_IMPOSSIBLE", `The response is longer than ${wholeBodyBytesMax} bytes of JSON.`);
    this.#parts.push(bytes);
    return Buffer.alloc(0);
  }

  takeLarge(atEnd: boolean): Buffer | null {
    return atEnd && this.heldBytes > largeBodyBytesMin ? this.#take() : null;
  }

  worked({ body, masked }: LargeReply): Buffer {
    this.masked = masked;
    this.#isWorked = true;
    return asBuffer(body);
  }

  #take(): Buffer {
    const body = Buffer.concat(this.#parts, this.heldBytes);
    this.#parts = [];
    this.heldBytes = 0;
    return body;
  }

  end(): Buffer {
    if (this.#isWorked) return Buffer.alloc(0);
    const body = this.#take();
    const result = maskJson(body, this.#masks);
    if (result === null) throw new WeirError("WEIR_MASK_IMPOSSIBLE", "The response says it is JSON and is not.");
    this.masked = result.masked;
    return result.bytes;
  }

  summary(): ReplySummary {
    return noSummary;
  }
}
