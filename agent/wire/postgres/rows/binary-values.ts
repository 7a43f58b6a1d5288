/** Looks for detector matches in values of the binary format (PostgreSQL source: the types' send functions). */
import type { Masker } from "../../../mask/masker.ts";
import {
  arrayTypes,
  float8Type,
  int8Type,
  jsonbType,
  numericType,
  recordType,
  shortTypes,
  textTypes,
} from "./types.ts";

/** Arrays of records of arrays … deeper ones count as a match. */
const nestingMax = 8;
/** Elements of one value that are looked into; more count as a match. */
const elementsMax = 1_000_000;

/** True when the value holds a match, or when it cannot be read: the caller then writes NULL. */
export function binaryValueMatches(
  masker: Masker,
  type: number,
  bytes: Buffer,
  start: number,
  end: number,
  depth = 0,
): boolean {
  if (depth > nestingMax) return true;
  if (shortTypes.has(type)) return false;
  if (type === int8Type && end - start === 8) return masker.finds(bytes.readBigInt64BE(start).toString());
  if (type === float8Type && end - start === 8) return masker.finds(plainNumber(bytes.readDoubleBE(start)));
  if (type === numericType) return masker.finds(readNumeric(bytes, start, end));
  const bound = rangeBounds.get(type);
  if (bound !== undefined) return rangeMatches(masker, bound, bytes, start, end, depth);
  if (multirangeTypes.has(type)) return true;
  if (type === recordType || (type >= firstUserType && looksLikeRecord(bytes, start, end)))
    return recordMatches(masker, bytes, start, end, depth);
  if (arrayTypes.has(type) || looksLikeArray(bytes, start, end, type))
    return arrayMatches(masker, bytes, start, end, depth);
  if (type === jsonbType) return masker.finds(bytes.toString("latin1", start + 1, end));
  return masker.finds(bytes.toString("latin1", start, end));
}

/** As the digits that a person reads: 4.1e+15 is a card number too. */
export function plainNumber(value: number): string {
  return Number.isInteger(value) && Math.abs(value) < 1e21 ? BigInt(value).toString() : String(value);
}

/** numeric: Int16 digits, weight, sign, scale, then base-10000 digits. The digits as they would be read. */
function readNumeric(bytes: Buffer, start: number, end: number): string {
  if (end - start < 8) return "";
  const count = bytes.readUInt16BE(start);
  const weight = bytes.readInt16BE(start + 2);
  let text = "";
  for (let index = 0; index < Math.max(count, weight + 1) && start + 10 + index * 2 <= end + 2; index += 1) {
    const digit = index < count && start + 10 + index * 2 <= end ? bytes.readUInt16BE(start + 8 + index * 2) : 0;
    text += index === 0 ? String(digit) : String(digit).padStart(4, "0");
    if (index === weight) text += ".";
  }
  return text.replace(/\.0*$/, "");
}

/** record: Int32 count, then Int32 type, Int32 length and bytes of each. */
function recordMatches(masker: Masker, bytes: Buffer, start: number, end: number, depth: number): boolean {
  if (end - start < 4) return true;
  const count = bytes.readInt32BE(start);
  let at = start + 4;
  for (let index = 0; index < count; index += 1) {
    if (at + 8 > end) return true;
    const type = bytes.readInt32BE(at);
    const length = bytes.readInt32BE(at + 4);
    at += 8;
    if (length < 0) continue;
    if (at + length > end) return true;
    if (binaryValueMatches(masker, type, bytes, at, at + length, depth + 1)) return true;
    at += length;
  }
  return false;
}

/** array: Int32 dimensions, flags, element type; size and lower bound of each dimension; Int32 length and bytes of each element. */
function arrayMatches(masker: Masker, bytes: Buffer, start: number, end: number, depth: number): boolean {
  if (end - start < 12) return true;
  const dimensions = bytes.readInt32BE(start);
  if (dimensions === 0) return false;
  if (dimensions < 0 || dimensions > 6 || start + 12 + dimensions * 8 > end) return true;
  const element = bytes.readInt32BE(start + 8);
  let at = start + 12 + dimensions * 8;
  for (let seen = 0; at < end; seen += 1) {
    if (seen > elementsMax || at + 4 > end) return true;
    const length = bytes.readInt32BE(at);
    at += 4;
    if (length < 0) continue;
    if (at + length > end) return true;
    if (binaryValueMatches(masker, element, bytes, at, at + length, depth + 1)) return true;
    at += length;
  }
  return false;
}

/** Arrays of user types have object ids nobody knows: their head gives them away. */
function looksLikeArray(bytes: Buffer, start: number, end: number, type: number): boolean {
  if (textTypes.has(type) || end - start < 20) return false;
  const dimensions = bytes.readInt32BE(start);
  const flags = bytes.readInt32BE(start + 4);
  return dimensions >= 1 && dimensions <= 6 && (flags === 0 || flags === 1) && type >= 1000;
}

/** Object ids from here on are users' own types. */
const firstUserType = 16_384;
/** Range types with the type of their bounds; a multirange has no form worth reading, and becomes NULL. */
const rangeBounds: ReadonlyMap<number, number> = new Map([
  [3904, 23],
  [3906, 1700],
  [3908, 1114],
  [3910, 1184],
  [3912, 1082],
  [3926, 20],
]);
const multirangeTypes: ReadonlySet<number> = new Set([4532, 4536]);

/** range: a byte of flags, then Int32 length and bytes of each bound that it has. */
function rangeMatches(
  masker: Masker,
  bound: number,
  bytes: Buffer,
  start: number,
  end: number,
  depth: number,
): boolean {
  let at = start + 1;
  while (at + 4 <= end) {
    const length = bytes.readInt32BE(at);
    at += 4;
    if (length < 0 || at + length > end) return true;
    if (binaryValueMatches(masker, bound, bytes, at, at + length, depth + 1)) return true;
    at += length;
  }
  return false;
}

/** A named composite type is sent as a record; its parts fill it exactly. */
function looksLikeRecord(bytes: Buffer, start: number, end: number): boolean {
  if (end - start < 4) return false;
  const count = bytes.readInt32BE(start);
  if (count < 1 || count > 1_664) return false;
  let at = start + 4;
  for (let index = 0; index < count; index += 1) {
    if (at + 8 > end) return false;
    at += 8 + Math.max(0, bytes.readInt32BE(at + 4));
  }
  return at === end;
}
