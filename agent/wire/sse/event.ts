/** One server-sent event: what a client reads of it, and the same event with other data. */

export interface SseEvent {
  /** `event:`; empty when there is none. */
  readonly name: string;
  /** Of several lines joined by line ends; null when it has none, and is not dispatched. */
  readonly data: string | null;
}

const plainHead = Buffer.from("data: ");

export function readEvent(raw: Buffer): SseEvent {
  if (isPlain(raw)) return { name: "", data: raw.toString("utf8", plainHead.length, raw.length - 2) };
  let name = "";
  let data: string | null = null;
  for (const line of linesOf(raw)) {
    const { field, value } = fieldOf(line);
    if (field === "data") data = data === null ? value : `${data}\n${value}`;
    else if (field === "event") name = value;
  }
  return { name, data };
}

/** By far the most common event has one line of data and nothing else. */
function isPlain(raw: Buffer): boolean {
  if (!raw.subarray(0, plainHead.length).equals(plainHead)) return false;
  const end = raw.indexOf(0x0a);
  return end === raw.length - 2 && raw[end + 1] === 0x0a && raw.indexOf(0x0d) < 0;
}

/** The event with other data, where its data stood; comments and other fields stay in their order. */
export function withData(raw: Buffer, data: string): Buffer {
  const end = lineEndOf(raw);
  const out: string[] = [];
  let written = false;
  for (const line of linesOf(raw)) {
    if (fieldOf(line).field !== "data") out.push(line);
    else if (!written) {
      written = true;
      out.push(dataLines(data, end));
    }
  }
  return Buffer.from(`${out.join(end)}${end}${end}`, "utf8");
}

/** The event with its other lines changed: comments, names, ids, and fields that no client knows. */
export function withOthers(raw: Buffer, change: (line: Buffer) => Buffer): Buffer {
  if (isPlain(raw)) return raw;
  const lines = rawLinesOf(raw);
  const out = lines.map((line) => (isData(line) || line.length <= lineEndBytesMax ? line : change(line)));
  return out.every((line, i) => line === lines[i]) ? raw : Buffer.concat(out);
}

const lineEndBytesMax = 2;

/** Lines with their ends. */
function rawLinesOf(raw: Buffer): Buffer[] {
  const hasCr = raw.includes(0x0d);
  const lines: Buffer[] = [];
  for (let from = 0; from < raw.length; ) {
    let end = raw.indexOf(0x0a, from) + 1;
    if (end === 0) end = raw.length;
    const cr = hasCr ? raw.subarray(from, end).indexOf(0x0d) : -1;
    if (cr >= 0 && from + cr + 1 < end && raw[from + cr + 1] !== 0x0a) end = from + cr + 1;
    lines.push(raw.subarray(from, end));
    from = end;
  }
  return lines;
}

function isData(line: Buffer): boolean {
  return /^(?:\xef\xbb\xbf)?data[:\r\n]/.test(line.toString("latin1", 0, 8));
}

/** A new event. */
export function writeEvent(name: string, data: string, end = "\n"): Buffer {
  return Buffer.from(`${name === "" ? "" : `event: ${name}${end}`}${dataLines(data, end)}${end}${end}`, "utf8");
}

/** The line end that the event itself uses. */
export function lineEndOf(raw: Buffer): string {
  const carriage = raw.indexOf(0x0d);
  if (carriage < 0) return "\n";
  return raw[carriage + 1] === 0x0a ? "\r\n" : "\r";
}

function dataLines(data: string, end: string): string {
  return data
    .split(/\r\n|\r|\n/)
    .map((line) => `data: ${line}`)
    .join(end);
}

/** Lines with something in them; a byte order mark before the first is none of its characters. */
function linesOf(raw: Buffer): string[] {
  return raw
    .toString("utf8")
    .replace(/^\ufeff/, "")
    .split(/\r\n|\r|\n/)
    .filter((line) => line !== "");
}

/** `: …` is a comment, whose field is empty. */
function fieldOf(line: string): { field: string; value: string } {
  const colon = line.indexOf(":");
  if (colon < 0) return { field: line, value: "" };
  return { field: line.slice(0, colon), value: line.slice(line[colon + 1] === " " ? colon + 2 : colon + 1) };
}
