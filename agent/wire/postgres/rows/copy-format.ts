/** How the lines of a COPY are written: its options, checked, and its fields found (PostgreSQL docs, COPY: File Formats). */
import type { CopyInfo } from "../describe/index.ts";

export interface LineFormat {
  readonly csv: boolean;
  readonly delimiter: number;
  readonly quote: number;
  readonly escaping: number;
  /** What stands for NULL. */
  readonly nullText: Buffer;
  readonly header: boolean;
  /** What hides a byte: no sign that means something to the format. */
  readonly filler: number;
}

/** Numbers of three for each field of a line: where it starts and ends, and 1 when it stood in quotes (left out). */
export type Fields = number[];

const backslash = 0x5c;
const lineFeed = 0x0a;
const carriageReturn = 0x0d;

const knownOptions: ReadonlySet<string> = new Set(
  "format delimiter null header quote escape force_quote encoding".split(" "),
);
const knownFormats: ReadonlySet<string> = new Set(["text", "csv", "binary"]);

/** The format of a text or CSV copy; a text says why it is not known for sure. */
export function lineFormatOf({ format, options }: CopyInfo, clientEncoding: string): LineFormat | string {
  const unknown = Object.keys(options).find((name) => !knownOptions.has(name));
  if (unknown !== undefined) return `Weir does not know the COPY option ${unknown}`;
  if (!knownFormats.has(options["format"] ?? "text")) return `Weir does not know the COPY format ${options["format"]}`;
  const csv = format === "csv";
  const encoding = options["encoding"] ?? clientEncoding;
  if (!isAsciiSafe(encoding)) return `signs of the format may be parts of characters in the encoding ${encoding}`;
  const delimiter = options["delimiter"] ?? (csv ? "," : "\t");
  const quote = options["quote"] ?? '"';
  const escaping = options["escape"] ?? quote;
  const signs = csv ? [delimiter, quote, escaping] : [delimiter];
  if (!signs.every(isSign) || (csv && delimiter === quote)) return "its delimiter, quote or escape is not a plain sign";
  const nullText = options["null"] ?? (csv ? "" : "\\N");
  if (!/^[\x20-\x7e]*$/.test(nullText)) return "its NULL text is not plain ASCII";
  return {
    csv,
    delimiter: delimiter.charCodeAt(0),
    quote: quote.charCodeAt(0),
    escaping: escaping.charCodeAt(0),
    nullText: Buffer.from(nullText, "latin1"),
    header: ["true", "on", "1"].includes((options["header"] ?? "").toLowerCase()),
    filler: ["*", "#", "x", "-"].find((sign) => !signs.includes(sign))?.charCodeAt(0) ?? 0x5f,
  };
}

/** One printable byte, or a tab. */
const isSign = (text: string): boolean => /^[\x20-\x7e\t]$/.test(text);

/** In these a byte below 128 is always the ASCII character; not so in SJIS, BIG5, GBK, GB18030, UHC and JOHAB. */
function isAsciiSafe(encoding: string): boolean {
  return /^(utf8|unicode|sqlascii|latin\d+|iso8859\d+|win\d+|windows\d+|koi8r?u?|euc(jp|cn|kr|tw|jis2004))$/.test(
    encoding.toLowerCase().replace(/[^a-z0-9]/g, ""),
  );
}

/**
 * Finds the fields of the line that begins at `from`; the index behind its end, or -1 when it does not end before `end`
 * or is not written as the server writes.
 */
export function findFields(bytes: Buffer, from: number, end: number, format: LineFormat, fields: Fields): number {
  fields.length = 0;
  return format.csv ? csvFields(bytes, from, end, format, fields) : textFields(bytes, from, end, format, fields);
}

function textFields(bytes: Buffer, from: number, end: number, { delimiter }: LineFormat, fields: Fields): number {
  let start = from;
  for (let at = from; at < end; at += 1) {
    const byte = bytes[at];
    if (byte === backslash) at += 1;
    else if (byte === delimiter || byte === lineFeed) {
      fields.push(start, at, 0);
      start = at + 1;
      if (byte === lineFeed) return start;
    }
  }
  return -1;
}

function csvFields(bytes: Buffer, from: number, end: number, format: LineFormat, fields: Fields): number {
  const { delimiter, quote } = format;
  let at = from;
  for (;;) {
    let start = at;
    let stop: number;
    const quoted = bytes[at] === quote && at < end;
    if (quoted) {
      start = at + 1;
      stop = quoteEnd(bytes, start, end, format);
      if (stop < 0) return -1;
      at = stop + 1;
    } else {
      while (at < end && bytes[at] !== delimiter && bytes[at] !== lineFeed) {
        if (bytes[at] === quote || bytes[at] === carriageReturn) return -1;
        at += 1;
      }
      stop = at;
    }
    if (at >= end || (bytes[at] !== delimiter && bytes[at] !== lineFeed)) return -1;
    fields.push(start, stop, quoted ? 1 : 0);
    at += 1;
    if (bytes[at - 1] === lineFeed) return at;
  }
}

function quoteEnd(bytes: Buffer, from: number, end: number, { quote, escaping }: LineFormat): number {
  for (let at = from; at < end; at += 1) {
    const byte = bytes[at];
    if (byte === escaping && at + 1 < end && (bytes[at + 1] === quote || bytes[at + 1] === escaping)) at += 1;
    else if (byte === quote) return at;
  }
  return -1;
}

/** True for a byte that a masked value may not hold: it would mean something else than itself. */
export function isSpecial(byte: number, { csv, delimiter, quote, escaping }: LineFormat): boolean {
  return (
    byte === delimiter ||
    byte === lineFeed ||
    byte === carriageReturn ||
    (csv ? byte === quote || byte === escaping : byte === backslash)
  );
}
