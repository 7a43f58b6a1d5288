/**
 * Avro by hand for the two entries that every query writes, `Operation` and `Result`: what a statement and a verdict
 * always say is encoded once and copied. The bytes are those of `entryType` (a test holds it).
 * Avro 1.11 specification, binary encoding: zigzag varints, length-prefixed UTF-8, arrays in blocks, unions by index.
 */

import type { Operation } from "../core/operation.ts";
import type { EntryBody } from "../core/record.ts";
import type { Verdict } from "../core/verdict.ts";
import { detailsOf, recordedBytes } from "./details.ts";

/** What the description of a statement says, encoded; by the identity of its verbs, and gone when they go. */
interface KnownStatement {
  readonly operation: Operation;
  readonly bytes: Buffer;
}

const statements = new WeakMap<readonly string[], KnownStatement>();
const verdicts = new WeakMap<Verdict, Buffer>();

const actions = ["unknown", "allow", "deny", "hold"];
const modes = ["unknown", "enforce", "report", "open"];
/** Longest varint of a safe integer. */
const longBytesMax = 8;

/** Bytes that `writeOperation` needs at most. */
export function operationBytesMax(body: Extract<EntryBody, { type: "operation" }>): number {
  let bytes =
    (body.operation.text.length + body.operation.kind.length) * 3 +
    statementBytes(body.operation).length +
    verdictBytes(body.verdict).length +
    10 * longBytesMax;
  bytes += (body.approvalId?.length ?? 0) * 3;
  bytes += (body.operation.protocol.length + detailsOf(body.operation).length) * 3;
  for (const parameter of body.operation.parameters) bytes += (parameter?.length ?? 0) * 3 + longBytesMax + 1;
  return bytes;
}

export function writeOperation(out: Buffer, start: number, body: Extract<EntryBody, { type: "operation" }>): number {
  const { operation, verdict } = body;
  let at = writeLong(out, start, body.operationId);
  at = writeString(out, at, operation.kind);
  at = writeString(out, at, operation.text);
  at = copy(out, at, statementBytes(operation));
  const { parameters } = operation;
  if (parameters.length > 0) {
    at = writeLong(out, at, parameters.length);
    for (const parameter of parameters) at = writeOptional(out, at, parameter);
  }
  out[at++] = 0;
  at = writeSize(out, at, recordedBytes(operation));
  at = copy(out, at, verdictBytes(verdict));
  at = writeOptional(out, at, body.approvalId);
  at = writeString(out, at, operation.protocol);
  return writeString(out, at, detailsOf(operation));
}

/** -1 is a size that is not known; `writeLong` has no negatives. */
function writeSize(out: Buffer, at: number, size: number): number {
  if (size !== -1) return writeLong(out, at, size);
  out[at] = 1;
  return at + 1;
}

/** Bytes that `writeResult` needs at most; only for results without an error. */
export function resultBytesMax(body: Extract<EntryBody, { type: "result" }>): number {
  return (body.tag.length + (body.details?.length ?? 0)) * 3 + 7 * longBytesMax + 9;
}

export function writeResult(out: Buffer, start: number, body: Extract<EntryBody, { type: "result" }>): number {
  let at = writeLong(out, start, body.operationId);
  at = writeString(out, at, body.tag);
  at = writeLong(out, at, body.rows);
  at = writeLong(out, at, body.bytes);
  at = writeLong(out, at, body.masked);
  at = out.writeDoubleLE(body.durationMs, at);
  out[at++] = 0;
  return writeString(out, at, body.details ?? "");
}

export function writeLong(out: Buffer, start: number, value: number): number {
  let at = start;
  // Zigzag of a value that is never negative is its double; beyond 2^31 in two halves.
  let low = value * 2;
  while (low >= 0x8000_0000) {
    out[at++] = (low % 0x80) | 0x80;
    low = Math.floor(low / 0x80);
  }
  while (low >= 0x80) {
    out[at++] = (low & 0x7f) | 0x80;
    low >>>= 7;
  }
  out[at++] = low;
  return at;
}

export function writeString(out: Buffer, start: number, text: string): number {
  const { length } = text;
  // One byte a character is the rule; the prefix has to be known before.
  const bytes = length < 64 && isAscii(text) ? length : Buffer.byteLength(text);
  const at = writeLong(out, start, bytes);
  return at + out.write(text, at, "utf8");
}

function isAscii(text: string): boolean {
  for (let at = 0; at < text.length; at += 1) if (text.charCodeAt(at) > 0x7f) return false;
  return true;
}

function writeOptional(out: Buffer, at: number, text: string | null): number {
  if (text === null) {
    out[at] = 0;
    return at + 1;
  }
  out[at] = 2;
  return writeString(out, at + 1, text);
}

function copy(out: Buffer, at: number, bytes: Buffer): number {
  out.set(bytes, at);
  return at + bytes.length;
}

function statementBytes(operation: Operation): Buffer {
  const known = statements.get(operation.verbs);
  if (known !== undefined && (known.operation === operation || sameStatement(known.operation, operation)))
    return known.bytes;
  const bytes = encode(() => {
    writer.string(operation.user);
    writer.string(operation.database);
    writer.strings(operation.verbs);
    writer.strings(operation.relations);
    writer.strings(operation.columns);
    writer.strings(operation.functions);
    writer.byte(operation.writes ? 1 : 0);
    writer.strings(operation.traits);
  });
  statements.set(operation.verbs, { operation, bytes });
  return bytes;
}

function sameStatement(a: Operation, b: Operation): boolean {
  return (
    a.user === b.user &&
    a.database === b.database &&
    a.relations === b.relations &&
    a.columns === b.columns &&
    a.functions === b.functions &&
    a.writes === b.writes &&
    a.traits === b.traits
  );
}

function verdictBytes(verdict: Verdict): Buffer {
  const known = verdicts.get(verdict);
  if (known !== undefined) return known;
  const bytes = encode(() => {
    writer.byte(actions.indexOf(verdict.action) * 2);
    writer.string(verdict.rule);
    writer.string(verdict.reason);
    writer.byte(modes.indexOf(verdict.mode) * 2);
    writer.byte(verdict.wouldBe === null ? 0 : 2);
    if (verdict.wouldBe !== null) writer.byte(actions.indexOf(verdict.wouldBe) * 2);
    writer.string(verdict.policy);
  });
  verdicts.set(verdict, bytes);
  return bytes;
}

/** A scratch that grows until what is written fits. */
class Writer {
  bytes = Buffer.allocUnsafeSlow(4096);
  at = 0;

  byte(value: number): void {
    this.#room(1);
    this.bytes[this.at] = value;
    this.at += 1;
  }

  string(text: string): void {
    this.#room(text.length * 3 + longBytesMax);
    this.at = writeString(this.bytes, this.at, text);
  }

  strings(list: readonly string[]): void {
    if (list.length > 0) {
      this.#room(longBytesMax);
      this.at = writeLong(this.bytes, this.at, list.length);
      for (const item of list) this.string(item);
    }
    this.byte(0);
  }

  #room(bytes: number): void {
    if (this.at + bytes <= this.bytes.length) return;
    const larger = Buffer.allocUnsafeSlow((this.at + bytes) * 2);
    larger.set(this.bytes.subarray(0, this.at));
    this.bytes = larger;
  }
}

const writer = new Writer();

function encode(write: () => void): Buffer {
  writer.at = 0;
  write();
  return Buffer.from(writer.bytes.subarray(0, writer.at));
}
