/** Decoders of what a client sends (PostgreSQL docs §55.7). Each gets one whole message, header included. */
import { PeerError } from "../../errors.ts";
import { headerBytes } from "./framer.ts";
import { parameterBytesMax, parametersMax } from "./limits.ts";

export const frontend = {
  bind: 0x42, // B
  close: 0x43, // C
  describe: 0x44, // D
  execute: 0x45, // E
  functionCall: 0x46, // F
  flush: 0x48, // H
  parse: 0x50, // P
  query: 0x51, // Q
  sync: 0x53, // S
  terminate: 0x58, // X
  copyDone: 0x63, // c
  copyData: 0x64, // d
  copyFail: 0x66, // f
  password: 0x70, // p
} as const;

/** Index of the zero byte that ends the String at `from`. */
export function stringEnd(bytes: Buffer, from: number, end: number): number {
  const at = bytes.indexOf(0, from);
  if (at < 0 || at >= end) throw new PeerError("WEIR_FRAME_INVALID", "a string of a message has no end");
  return at;
}

/** Query: String query. */
export function readQuery(bytes: Buffer, start: number, end: number): { from: number; to: number } {
  const from = start + headerBytes;
  const to = stringEnd(bytes, from, end);
  if (to !== end - 1) throw new PeerError("WEIR_FRAME_INVALID", "bytes after the text of a Query");
  return { from, to };
}

/** Parse: String statement, String query, Int16 count, Int32 type ids. */
export function readParse(bytes: Buffer, start: number, end: number): { name: string; from: number; to: number } {
  const nameEnd = stringEnd(bytes, start + headerBytes, end);
  const from = nameEnd + 1;
  const to = stringEnd(bytes, from, end);
  if (to + 3 > end) throw new PeerError("WEIR_FRAME_INVALID", "a Parse is cut short");
  const types = bytes.readUInt16BE(to + 1);
  if (to + 3 + types * 4 !== end) throw new PeerError("WEIR_FRAME_INVALID", "a Parse has the wrong length");
  return { name: nameText(bytes, start + headerBytes, nameEnd), from, to };
}

export interface BindMessage {
  readonly portal: string;
  readonly statement: string;
  readonly parameters: readonly (string | null)[];
  /** Result format codes as sent: none (all text), one for all, or one each; null when the end was not read. */
  readonly resultFormats: readonly number[] | null;
}

/** Stands for a parameter that comes after the beginning of a message too long to be read whole. */
const notRead = "(not read)";
const none: readonly never[] = Object.freeze([]);
const allText: readonly number[] = Object.freeze([0]);
const allBinary: readonly number[] = Object.freeze([1]);

/**
 * Bind: String portal, String statement, Int16 count of parameter formats, Int16 formats, Int16 count of parameters,
 * each Int32 length (-1 NULL) and bytes, Int16 count of result formats, Int16 formats.
 */
export function readBind(bytes: Buffer, start: number, end: number, beginningOnly = false): BindMessage {
  const portalEnd = stringEnd(bytes, start + headerBytes, end);
  const statementEnd = stringEnd(bytes, portalEnd + 1, end);
  let at = statementEnd + 1;
  if (at + 2 > end) cut();
  const formats = bytes.readUInt16BE(at);
  const formatsAt = at + 2;
  at = formatsAt + formats * 2;
  if (at + 2 > end) cut();
  const count = bytes.readUInt16BE(at);
  at += 2;
  if (formats > 1 && formats !== count) throw new PeerError("WEIR_FRAME_INVALID", "a Bind has the wrong format count");
  const parameters: (string | null)[] = count === 0 ? (none as never[]) : [];
  for (let index = 0; index < count; index += 1) {
    if (beginningOnly && at + 4 > end) {
      if (index < parametersMax) parameters.push(notRead);
      at = end;
      continue;
    }
    if (at + 4 > end) cut();
    const length = bytes.readInt32BE(at);
    at += 4;
    if (length < -1 || (length > 0 && at + length > end && !beginningOnly)) cut();
    if (index < parametersMax) {
      if (length === -1) parameters.push(null);
      else if (at + Math.min(length, parameterBytesMax) > end) parameters.push(notRead);
      else {
        const format = formats === 0 ? 0 : bytes.readUInt16BE(formatsAt + (formats === 1 ? 0 : index * 2));
        const to = at + Math.min(length, parameterBytesMax);
        parameters.push(format === 0 ? bytes.toString("utf8", at, to) : `\\x${bytes.toString("hex", at, to)}`);
      }
    }
    if (length > 0) at += length;
  }
  const names = {
    portal: nameText(bytes, start + headerBytes, portalEnd),
    statement: nameText(bytes, portalEnd + 1, statementEnd),
    parameters,
  };
  if (beginningOnly) return { ...names, resultFormats: null };
  if (at + 2 > end) cut();
  const results = bytes.readUInt16BE(at);
  at += 2;
  if (at + results * 2 !== end) throw new PeerError("WEIR_FRAME_INVALID", "a Bind has the wrong length");
  let resultFormats: readonly number[] = none;
  if (results === 1) resultFormats = bytes.readUInt16BE(at) === 1 ? allBinary : allText;
  else if (results > 1) {
    const list: number[] = [];
    for (let index = 0; index < results; index += 1) list.push(bytes.readUInt16BE(at + index * 2));
    resultFormats = list;
  }
  return { ...names, resultFormats };
}

/** Describe and Close: Byte1 'S' or 'P', String name. */
export function readTarget(bytes: Buffer, start: number, end: number): { portal: boolean; name: string } {
  const kind = bytes[start + headerBytes];
  if (end - start < headerBytes + 2 || (kind !== 0x53 && kind !== 0x50))
    throw new PeerError("WEIR_FRAME_INVALID", "a Describe or Close names neither a statement nor a portal");
  const from = start + headerBytes + 1;
  const to = stringEnd(bytes, from, end);
  if (to !== end - 1) throw new PeerError("WEIR_FRAME_INVALID", "bytes after a Describe or Close");
  return { portal: kind === 0x50, name: nameText(bytes, from, to) };
}

/** Execute: String portal, Int32 row limit (0: none). */
export function readExecute(bytes: Buffer, start: number, end: number): { portal: string; rows: number } {
  const to = stringEnd(bytes, start + headerBytes, end);
  if (to + 5 !== end) throw new PeerError("WEIR_FRAME_INVALID", "an Execute has the wrong length");
  return { portal: nameText(bytes, start + headerBytes, to), rows: bytes.readInt32BE(to + 1) };
}

/** FunctionCall: Int32 object id of the function, then its arguments. */
/** Int32 function; then formats and values of its arguments; Int16 format of the result. */
export function readFunctionCall(bytes: Buffer, start: number, end: number): { oid: number; resultFormat: number } {
  if (end - start < headerBytes + 4 + 2) cut();
  return { oid: bytes.readUInt32BE(start + headerBytes), resultFormat: bytes.readInt16BE(end - 2) };
}

/** A name by its bytes: two names that differ in any byte stay two. The empty name is the usual one. */
function nameText(bytes: Buffer, from: number, to: number): string {
  return from === to ? "" : bytes.toString("latin1", from, to);
}

function cut(): never {
  throw new PeerError("WEIR_FRAME_INVALID", "a message is shorter than what it announces");
}
