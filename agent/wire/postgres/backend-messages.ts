/** Decoders and writers of what a server sends (PostgreSQL docs §55.7, §55.8). */
import { PeerError } from "../../errors.ts";
import { headerBytes } from "./framer.ts";
import { stringEnd } from "./frontend-messages.ts";

export const backend = {
  parseComplete: 0x31, // 1
  bindComplete: 0x32, // 2
  closeComplete: 0x33, // 3
  notification: 0x41, // A
  commandComplete: 0x43, // C
  dataRow: 0x44, // D
  error: 0x45, // E
  copyIn: 0x47, // G
  copyOut: 0x48, // H
  emptyQuery: 0x49, // I
  keyData: 0x4b, // K
  notice: 0x4e, // N
  authentication: 0x52, // R
  parameterStatus: 0x53, // S
  rowDescription: 0x54, // T
  functionResult: 0x56, // V
  copyBoth: 0x57, // W
  ready: 0x5a, // Z
  copyDone: 0x63, // c
  copyData: 0x64, // d
  noData: 0x6e, // n
  portalSuspended: 0x73, // s
  parameterDescription: 0x74, // t
  negotiateVersion: 0x76, // v
} as const;

export interface ResultField {
  readonly name: string;
  /** 0 when the column is no plain column of a table. */
  readonly tableOid: number;
  readonly attribute: number;
  readonly typeOid: number;
  readonly typeModifier: number;
  readonly format: number;
}

/** RowDescription: Int16 count, each String name, Int32 table, Int16 attribute, Int32 type, Int16 size, Int32 modifier, Int16 format. */
export function readRowDescription(bytes: Buffer, start: number, end: number): ResultField[] {
  const count = bytes.readUInt16BE(start + headerBytes);
  const fields: ResultField[] = [];
  let at = start + headerBytes + 2;
  for (let index = 0; index < count; index += 1) {
    const nameEnd = stringEnd(bytes, at, end);
    if (nameEnd + 19 > end) throw new PeerError("WEIR_FRAME_INVALID", "a RowDescription is cut short");
    fields.push({
      name: bytes.toString("utf8", at, nameEnd),
      tableOid: bytes.readUInt32BE(nameEnd + 1),
      attribute: bytes.readInt16BE(nameEnd + 5),
      typeOid: bytes.readUInt32BE(nameEnd + 7),
      typeModifier: bytes.readInt32BE(nameEnd + 13),
      format: bytes.readInt16BE(nameEnd + 17),
    });
    at = nameEnd + 19;
  }
  if (at !== end) throw new PeerError("WEIR_FRAME_INVALID", "a RowDescription has the wrong length");
  return fields;
}

/** CommandComplete: String tag. */
export function readTag(bytes: Buffer, start: number, end: number): string {
  return bytes.toString("latin1", start + headerBytes, stringEnd(bytes, start + headerBytes, end));
}

/** ParameterStatus: String name, String value. */
export function readParameterStatus(bytes: Buffer, start: number, end: number): { name: string; value: string } {
  const nameEnd = stringEnd(bytes, start + headerBytes, end);
  const valueEnd = stringEnd(bytes, nameEnd + 1, end);
  return {
    name: bytes.toString("latin1", start + headerBytes, nameEnd),
    value: bytes.toString("latin1", nameEnd + 1, valueEnd),
  };
}

/** ErrorResponse and NoticeResponse: pairs of Byte1 field and String value, ended by a zero byte. */
export function readErrorFields(bytes: Buffer, start: number, end: number): Map<string, string> {
  const fields = new Map<string, string>();
  let at = start + headerBytes;
  while (at < end && bytes[at] !== 0) {
    const to = stringEnd(bytes, at + 1, end);
    fields.set(String.fromCharCode(bytes[at] as number), bytes.toString("utf8", at + 1, to));
    at = to + 1;
  }
  return fields;
}

/** CopyInResponse, CopyOutResponse, CopyBothResponse: Int8 format, Int16 count, Int16 formats. */
export function readCopyResponse(bytes: Buffer, start: number, end: number): { format: number; formats: number[] } {
  if (end - start < headerBytes + 3) throw new PeerError("WEIR_FRAME_INVALID", "a copy response is cut short");
  const count = bytes.readUInt16BE(start + headerBytes + 1);
  if (end - start !== headerBytes + 3 + count * 2)
    throw new PeerError("WEIR_FRAME_INVALID", "a copy response has the wrong length");
  const formats: number[] = [];
  for (let index = 0; index < count; index += 1) formats.push(bytes.readUInt16BE(start + headerBytes + 3 + index * 2));
  return { format: bytes[start + headerBytes] as number, formats };
}

export interface ErrorText {
  readonly severity: "ERROR" | "FATAL" | "NOTICE";
  /** SQLSTATE. */
  readonly code: string;
  readonly message: string;
  readonly detail?: string;
  readonly hint?: string;
}

export function errorResponse(text: ErrorText): Buffer {
  return textFields(backend.error, text);
}

export function noticeResponse(text: ErrorText): Buffer {
  return textFields(backend.notice, text);
}

function textFields(type: number, text: ErrorText): Buffer {
  const body = [`S${text.severity}`, `V${text.severity}`, `C${text.code}`, `M${clean(text.message)}`];
  if (text.detail !== undefined) body.push(`D${clean(text.detail)}`);
  if (text.hint !== undefined) body.push(`H${clean(text.hint)}`);
  return message(type, Buffer.from(`${body.join("\0")}\0\0`));
}

/** A zero byte would end the field early and let a policy's text forge another field. */
function clean(text: string): string {
  return text.replaceAll("\0", "");
}

/** ReadyForQuery: Byte1 transaction state: 'I' idle, 'T' in a block, 'E' in a failed block. */
export function readyForQuery(state: number): Buffer {
  return Buffer.from([backend.ready, 0, 0, 0, 5, state]);
}

export function message(type: number, body: Buffer): Buffer {
  const bytes = Buffer.allocUnsafe(headerBytes + body.length);
  bytes[0] = type;
  bytes.writeInt32BE(4 + body.length, 1);
  body.copy(bytes, headerBytes);
  return bytes;
}
