/** Values of one field as protocol buffers write them: alone, or many packed in one. */
import type { FieldType, ScalarKind } from "./descriptors.ts";
import { type Field, readVarint, varintEnd, wireTypes } from "./protobuf.ts";

/** How each kind stands in the bytes. */
const wireOf: Readonly<Record<FieldType["kind"], number>> = {
  ...{ double: 1, fixed64: 1, sfixed64: 1, float: 5, fixed32: 5, sfixed32: 5 },
  ...{ string: 2, bytes: 2, message: 2, group: 3 },
  ...{ bool: 0, enum: 0, int32: 0, sint32: 0, uint32: 0, int64: 0, sint64: 0, uint64: 0 },
};

export interface Span {
  readonly start: number;
  readonly end: number;
}

/**
 * Where the values of a field stand; null: it is written as another kind than its descriptor says, so that a reader
 * takes it for a field that it does not know. Repeated numbers may be packed or not, whatever the descriptor says.
 */
export function valuesOf(bytes: Buffer, { wire, start, end }: Field, type: FieldType): Span[] | null {
  const own = wireOf[type.kind];
  if (wire === own) return [{ start, end }];
  if (wire !== wireTypes.bytes || !type.repeated || own === wireTypes.group) return null;
  const spans: Span[] = [];
  const size = own === wireTypes.fixed64 ? 8 : 4;
  for (let at = start; at < end; ) {
    const next = own === wireTypes.varint ? varintEnd(bytes, at, end) : Math.min(at + size, end);
    if (own !== wireTypes.varint && next - at < size) return null;
    spans.push({ start: at, end: next });
    at = next;
  }
  return spans;
}

/** As JSON has it, but whole numbers of 64 bits are numbers where these are exact. */
export function scalarJson(bytes: Buffer, { start, end }: Span, kind: ScalarKind): unknown {
  switch (kind) {
    case "string":
      return bytes.toString("utf8", start, end);
    case "bytes":
      return bytes.toString("base64", start, end);
    case "bool":
      return readVarint(bytes, start, end) !== 0n;
    case "double":
      return real(bytes.readDoubleLE(start));
    case "float":
      return real(bytes.readFloatLE(start));
    case "fixed32":
      return bytes.readUInt32LE(start);
    case "sfixed32":
      return bytes.readInt32LE(start);
    case "fixed64":
      return whole(bytes.readBigUInt64LE(start));
    case "sfixed64":
      return whole(bytes.readBigInt64LE(start));
    case "uint64":
      return whole(readVarint(bytes, start, end));
    case "int64":
      return whole(BigInt.asIntN(64, readVarint(bytes, start, end)));
    case "sint64": {
      const value = readVarint(bytes, start, end);
      return whole((value >> 1n) ^ -(value & 1n));
    }
    case "uint32":
      return Number(BigInt.asUintN(32, readVarint(bytes, start, end)));
    case "int32":
      return Number(BigInt.asIntN(32, readVarint(bytes, start, end)));
    case "sint32": {
      const value = BigInt.asUintN(32, readVarint(bytes, start, end));
      return Number(BigInt.asIntN(32, (value >> 1n) ^ -(value & 1n)));
    }
  }
}

/** What a scalar is that was left out. */
export function zeroOf(kind: ScalarKind): unknown {
  if (kind === "string" || kind === "bytes") return "";
  return kind === "bool" ? false : 0;
}

function real(value: number): number | string {
  if (Number.isFinite(value)) return value;
  return Number.isNaN(value) ? "NaN" : value > 0 ? "Infinity" : "-Infinity";
}

function whole(value: bigint): number | string {
  const number = Number(value);
  return Number.isSafeInteger(number) ? number : value.toString();
}
