/**
 * Masks a message where it stands: every value keeps its length, so that all lengths around it stay right. Text is
 * overwritten in the mask's style; numbers, enums and truth values become 0.
 */
import { isUtf8 } from "node:buffer";
import type { MaskStyle } from "../../core/verdict.ts";
import { applyStyle } from "../../mask/style.ts";
import type { JsonMasks } from "../http/json-mask.ts";
import { type PathState, pathEnter, pathMatches, pathStart } from "../http/json-path.ts";
import type { FieldType, GrpcSchema, MessageType } from "./descriptors.ts";
import { depthMax, fieldsOf, invalid, wireTypes } from "./protobuf.ts";
import { type Span, scalarJson, valuesOf } from "./scalars.ts";

type Masks = Pick<JsonMasks, "masker" | "paths" | "key">;

interface Place {
  readonly states: readonly PathState[];
  /** Set below a value that a path names. */
  readonly style: MaskStyle | null;
}

/** Overwrites in `bytes`; how many values. Throws a PeerError when the bytes are no such message. */
export function maskMessage(bytes: Buffer, type: MessageType, schema: GrpcSchema, masks: Masks): number {
  const walk = new Walk(schema, masks);
  walk.message(bytes, type, { states: masks.paths.map(() => pathStart), style: null }, 0);
  return walk.masked;
}

class Walk {
  masked = 0;
  readonly #schema: GrpcSchema;
  readonly #masks: Masks;

  constructor(schema: GrpcSchema, masks: Masks) {
    this.#schema = schema;
    this.#masks = masks;
  }

  message(bytes: Buffer, type: MessageType, place: Place, depth: number): void {
    if (depth > depthMax) throw invalid(`messages stand in each other more than ${depthMax} deep`);
    const counts = new Map<FieldType, number>();
    for (const field of fieldsOf(bytes)) {
      const known = type.fields.get(field.number);
      const spans = known === undefined ? null : valuesOf(bytes, field, known);
      if (known === undefined || spans === null) {
        // No path can name it; a detector finds in it what it finds in any bytes.
        if (field.wire === wireTypes.bytes) this.#detect(bytes, field);
        continue;
      }
      const own = this.#enter(place, known.name);
      for (const span of spans) {
        const index = counts.get(known) ?? 0;
        counts.set(known, index + 1);
        this.#value(bytes, span, known, own, index, depth);
      }
    }
  }

  #value(bytes: Buffer, span: Span, known: FieldType, own: Place, index: number, depth: number): void {
    const part = bytes.subarray(span.start, span.end);
    if (known.kind !== "message" && known.kind !== "group") {
      this.#scalar(bytes, span, known, known.repeated ? this.#enter(own, index) : own);
      return;
    }
    const type = this.#schema.message(known.typeName);
    if (type === null) throw invalid(`nothing describes ${known.typeName}`);
    if (type.isMapEntry) this.#entry(part, type, own, depth + 1);
    else this.message(part, type, known.repeated ? this.#enter(own, index) : own, depth + 1);
  }

  /** Of a map: the key is a step of the path, and masked only by detectors. */
  #entry(bytes: Buffer, type: MessageType, own: Place, depth: number): void {
    const fields = [...fieldsOf(bytes)];
    const [keyType, valueType] = [type.fields.get(1), type.fields.get(2)];
    if (keyType === undefined || valueType === undefined) throw invalid("a map has no key or no value");
    let key = "";
    for (const field of fields) {
      const span = field.number === 1 ? valuesOf(bytes, field, keyType)?.[0] : undefined;
      if (span !== undefined && keyType.kind !== "message" && keyType.kind !== "group" && keyType.kind !== "enum")
        key = String(scalarJson(bytes, span, keyType.kind));
    }
    const place = this.#enter(own, key);
    for (const field of fields) {
      const spans = valuesOf(bytes, field, field.number === 1 ? keyType : valueType);
      if (spans === null) continue;
      for (const span of spans) {
        if (field.number === 1) this.#scalar(bytes, span, keyType, { states: [], style: null });
        else this.#value(bytes, span, valueType, place, 0, depth);
      }
    }
  }

  #enter(parent: Place, key: string | number): Place {
    const { paths } = this.#masks;
    if (parent.style !== null || parent.states.length === 0) return parent;
    let style: MaskStyle | null = null;
    const states = parent.states.map((state, i) => {
      const path = paths[i];
      if (path === undefined || state === 0) return 0;
      const next = pathEnter(path.path, state, key);
      if (style === null && pathMatches(path.path, next)) style = path.with;
      return next;
    });
    return { states, style };
  }

  #scalar(bytes: Buffer, span: Span, { kind }: FieldType, { style }: Place): void {
    const { masker, key } = this.#masks;
    if (kind === "string" || kind === "bytes") {
      if (style === null) this.#detect(bytes, span);
      else if (span.end > span.start) {
        applyStyle(bytes.subarray(span.start, span.end), 0, span.end - span.start, style, key);
        this.masked += 1;
      }
      return;
    }
    if (kind === "message" || kind === "group") return;
    if (style === null) {
      if (masker === null || kind === "bool" || kind === "enum") return;
      const digits = Buffer.from(String(scalarJson(bytes, span, kind)), "latin1");
      if (masker.mask(digits, 0, digits.length) === 0) return;
    }
    zero(bytes, span, kind);
    this.masked += 1;
  }

  #detect(bytes: Buffer, { start, end }: Span): void {
    const { masker } = this.#masks;
    if (masker === null || start === end) return;
    const part = bytes.subarray(start, end);
    // An image is no text: what a detector finds in it is chance.
    if (!isUtf8(part)) return;
    this.masked += masker.mask(bytes, start, end);
  }
}

/** A varint of the same length that is 0: protocol buffers take one that is longer than it needs to be. */
function zero(bytes: Buffer, { start, end }: Span, kind: FieldType["kind"]): void {
  const isFixed = /^(?:double|float|s?fixed)/.test(kind);
  bytes.fill(isFixed ? 0 : 0x80, start, end);
  if (!isFixed) bytes[end - 1] = 0;
}
