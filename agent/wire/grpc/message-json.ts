/**
 * A message as JSON, as protobuf.dev/programming-guides/json says, for rules: names in `json_name`'s form, enums by
 * name, bytes in base64. Scalars of proto3 that were left out have their zero; whole numbers of 64 bits are numbers
 * where these are exact.
 */
import type { FieldType, GrpcSchema, MessageType } from "./descriptors.ts";
import { depthMax, fieldsOf, invalid, readVarint } from "./protobuf.ts";
import { scalarJson, valuesOf, zeroOf } from "./scalars.ts";

/** Values of one message, at any depth. */
export const valuesMax = 100_000;

export interface MessageJson {
  readonly value: Readonly<Record<string, unknown>>;
  /** Fields that no descriptor names stand in it: the server may know them. */
  readonly hasUnknown: boolean;
}

/** Throws a PeerError when the bytes are no such message. */
export function messageJson(bytes: Buffer, type: MessageType, schema: GrpcSchema): MessageJson {
  const reader = new Reader(schema);
  const value = reader.message(bytes, type, 0);
  return { value, hasUnknown: reader.hasUnknown };
}

class Reader {
  hasUnknown = false;
  readonly #schema: GrpcSchema;
  #values = 0;

  constructor(schema: GrpcSchema) {
    this.#schema = schema;
  }

  message(bytes: Buffer, type: MessageType, depth: number): Record<string, unknown> {
    if (depth > depthMax) throw invalid(`messages stand in each other more than ${depthMax} deep`);
    const out: Record<string, unknown> = {};
    /** Parts of one message that came in pieces: readers join them (Protocol Buffers Encoding, "Last One Wins"). */
    const pieces = new Map<FieldType, Buffer[]>();
    for (const field of fieldsOf(bytes)) {
      const known = type.fields.get(field.number);
      const spans = known === undefined ? null : valuesOf(bytes, field, known);
      if (known === undefined || spans === null) {
        this.hasUnknown = true;
        continue;
      }
      for (const span of spans) {
        this.#count();
        const part = bytes.subarray(span.start, span.end);
        const inner = known.kind === "message" || known.kind === "group" ? this.#type(known) : null;
        if (inner?.isMapEntry === true) this.#entry(out, known, part, inner, depth);
        else if (inner !== null && !known.repeated) pieces.set(known, [...(pieces.get(known) ?? []), part]);
        else {
          const value = inner === null ? this.#scalar(part, known) : this.message(part, inner, depth + 1);
          if (!known.repeated) set(out, known.name, value);
          else if (Array.isArray(out[known.name])) (out[known.name] as unknown[]).push(value);
          else set(out, known.name, [value]);
        }
      }
    }
    for (const [known, parts] of pieces)
      set(out, known.name, this.message(joined(parts), this.#type(known), depth + 1));
    for (const known of type.fields.values()) {
      if (Object.hasOwn(out, known.name)) continue;
      if (known.repeated) set(out, known.name, this.#isMap(known) ? {} : []);
      else if (known.implicit) set(out, known.name, this.#zero(known));
    }
    return out;
  }

  /** A map is a repeated message of keys and values; of equal keys the last one counts. */
  #entry(out: Record<string, unknown>, { name }: FieldType, part: Buffer, type: MessageType, depth: number): void {
    const entry = this.message(part, type, depth + 1);
    const [keyType, valueType] = [type.fields.get(1), type.fields.get(2)];
    if (keyType === undefined || valueType === undefined) throw invalid("a map has no key or no value");
    if (!Object.hasOwn(out, name)) set(out, name, {});
    const key = String(entry[keyType.name] ?? this.#zero(keyType));
    const isMessage = valueType.kind === "message";
    const value = entry[valueType.name] ?? (isMessage ? {} : this.#zero(valueType));
    set(out[name] as Record<string, unknown>, key, value);
  }

  #scalar(part: Buffer, { kind, typeName }: FieldType): unknown {
    if (kind === "enum") {
      const number = Number(BigInt.asIntN(32, readVarint(part, 0, part.length)));
      return this.#schema.enumName(typeName, number) ?? number;
    }
    if (kind === "message" || kind === "group") throw invalid("a message stands for a value");
    return scalarJson(part, { start: 0, end: part.length }, kind);
  }

  #zero({ kind, typeName }: FieldType): unknown {
    if (kind === "enum") return this.#schema.enumName(typeName, 0) ?? 0;
    return kind === "message" || kind === "group" ? {} : zeroOf(kind);
  }

  #type({ typeName }: FieldType): MessageType {
    const type = this.#schema.message(typeName);
    if (type === null) throw invalid(`nothing describes ${typeName}`);
    return type;
  }

  #isMap(known: FieldType): boolean {
    return known.kind === "message" && this.#type(known).isMapEntry;
  }

  #count(): void {
    this.#values += 1;
    if (this.#values > valuesMax) throw invalid(`it has more than ${valuesMax} values`);
  }
}

function joined(parts: readonly Buffer[]): Buffer {
  return parts.length === 1 ? (parts[0] as Buffer) : Buffer.concat(parts);
}

/** A member of any name, `__proto__` too. */
function set(object: Record<string, unknown>, name: string, value: unknown): void {
  if (name === "__proto__")
    Object.defineProperty(object, name, { value, enumerable: true, configurable: true, writable: true });
  else object[name] = value;
}
