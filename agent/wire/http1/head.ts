/** Request line, status line and fields of HTTP/1.1 (RFC 9112 §3-§6), read strictly. */
import { PeerError } from "../../errors.ts";
import { type BodyLength, Headers, type RequestHead, type ResponseHead } from "../http/message.ts";
import { prefaceLine } from "../http/preface.ts";

const fieldsMax = 256;
const targetCharactersMax = 32 * 1024;
const token = /^[!#$%&'*+.^_`|~0-9A-Za-z-]+$/;
/** obs-text is let through: it is what servers really send (RFC 9110 §5.5). */
// biome-ignore lint/suspicious/noControlCharactersInRegex: control characters are what it looks for
const control = /[\0-\x08\x0a-\x1f\x7f]/;

const noSuchHttp2 = "HTTP/2 begins a connection: in TLS it is agreed on by ALPN first; else use HTTP/1.1";

export function requestLine(text: string, raw: Buffer, scheme: "http" | "https"): RequestHead {
  const lines = headLines(text);
  const line = /^([!#$%&'*+.^_`|~0-9A-Za-z-]{1,64}) ([\x21-\x7e\x80-\xff]+) HTTP\/1\.([01])$/.exec(lines[0] as string);
  if (line === null && lines[0] === prefaceLine) throw new PeerError("WEIR_UNSUPPORTED", noSuchHttp2);
  if (line === null) throw invalid(lines[0] as string, "the request line is none of HTTP/1.1");
  const [, method, target, minor] = line as unknown as [string, string, string, string];
  if (target.length > targetCharactersMax)
    throw new PeerError("WEIR_FRAME_TOO_LARGE", `the request target is longer than ${targetCharactersMax} characters`);
  const headers = new Headers(fieldsOf(lines, 1));
  const version = minor === "1" ? "1.1" : "1.0";
  const body = lengthOf(headers, version) ?? { kind: "none" };
  return {
    method,
    target,
    scheme,
    authority: authorityOf(method, target, headers, version),
    headers,
    version,
    body,
    raw,
  };
}

export function statusLine(text: string, raw: Buffer, method: string): ResponseHead {
  const lines = headLines(text);
  const line = /^HTTP\/1\.([01]) ([1-9][0-9]{2})(?: ([\t\x20-\x7e\x80-\xff]*))?$/.exec(lines[0] as string);
  if (line === null) throw invalid(lines[0] as string, "the status line is none of HTTP/1.1");
  const headers = new Headers(fieldsOf(lines, 1));
  const version = line[1] === "1" ? "1.1" : "1.0";
  const status = Number(line[2]);
  const length = lengthOf(headers, version);
  // RFC 9112 §6.3, in its order.
  const bodiless =
    method === "HEAD" || status < 200 || status === 204 || status === 304 || (method === "CONNECT" && status < 300);
  const body: BodyLength = bodiless ? { kind: "none" } : (length ?? { kind: "close" });
  return { status, reason: line[3] ?? "", headers, version, body, raw };
}

/** Where one half of a line end stands alone, the line holds it, and is refused with what is read of it. */
export function headLines(text: string): string[] {
  return text.split("\r\n");
}

function invalid(line: string, problem: string): PeerError {
  const reason = /[\r\n]/.test(line) ? "a line ends without a carriage return and a line feed" : problem;
  return new PeerError("WEIR_FRAME_INVALID", reason);
}

/** `[name, value, …]` of the lines from `first` on. */
export function fieldsOf(lines: readonly string[], first: number): string[] {
  if (lines.length - first > fieldsMax)
    throw new PeerError("WEIR_FRAME_TOO_LARGE", `there are more than ${fieldsMax} fields`);
  const fields: string[] = [];
  for (let at = first; at < lines.length; at += 1) {
    const line = lines[at] as string;
    const colon = line.indexOf(":");
    const name = line.slice(0, Math.max(colon, 0));
    // A line that begins with white space (obs-fold), or white space before the colon, is no token: refused.
    if (!token.test(name)) throw invalid(line, "a field has no valid name");
    const value = trimmed(line, colon + 1);
    if (control.test(value)) throw invalid(line, `the field ${name} has control characters in it`);
    fields.push(name, value);
  }
  return fields;
}

/** Without the optional white space around a value (RFC 9110 §5.6.3). */
function trimmed(line: string, from: number): string {
  let start = from;
  let end = line.length;
  while (start < end && isBlank(line.charCodeAt(start))) start += 1;
  while (end > start && isBlank(line.charCodeAt(end - 1))) end -= 1;
  return line.slice(start, end);
}

function isBlank(code: number): boolean {
  return code === 0x20 || code === 0x09;
}

/** null: neither length nor coding is given. Both, or two lengths, are how requests are smuggled (RFC 9112 §6.3, §11.2). */
function lengthOf(headers: Headers, version: "1.0" | "1.1"): BodyLength | null {
  const lengths = headers.all("content-length");
  if (headers.has("transfer-encoding")) {
    const codings = headers.all("transfer-encoding");
    if (lengths.length > 0)
      throw new PeerError("WEIR_FRAME_INVALID", "both Content-Length and Transfer-Encoding are given");
    if (version === "1.0") throw new PeerError("WEIR_FRAME_INVALID", "HTTP/1.0 has no Transfer-Encoding");
    if (codings.length > 1 || (codings[0] as string).toLowerCase() !== "chunked")
      throw new PeerError("WEIR_FRAME_INVALID", "the only Transfer-Encoding let through is chunked");
    return { kind: "chunked" };
  }
  if (lengths.length === 0) return null;
  if (lengths.length > 1 || !/^[0-9]{1,15}$/.test(lengths[0] as string))
    throw new PeerError("WEIR_FRAME_INVALID", "Content-Length is not one number");
  return { kind: "length", bytes: Number(lengths[0]) };
}

/** RFC 9112 §3.2: exactly one Host, and it agrees with an absolute target. */
function authorityOf(method: string, target: string, headers: Headers, version: "1.0" | "1.1"): string {
  const hosts = headers.all("host");
  if (hosts.length > 1 || (hosts.length === 0 && version === "1.1"))
    throw new PeerError("WEIR_FRAME_INVALID", "there is not exactly one Host");
  const host = hosts[0] ?? "";
  if (host !== "" && !/^(?:[A-Za-z0-9._-]+|\[[0-9A-Fa-f:.]+\])(?::[0-9]{1,5})?$/.test(host))
    throw new PeerError("WEIR_FRAME_INVALID", "the Host is no name or address");
  if (method === "CONNECT") return target;
  if (target.startsWith("/") || (target === "*" && method === "OPTIONS")) return host;
  const absolute = /^https?:\/\/([^/?#]+)/i.exec(target);
  if (absolute === null) throw new PeerError("WEIR_FRAME_INVALID", "the request target is no path");
  if ((absolute[1] as string).toLowerCase() !== host.toLowerCase())
    throw new PeerError("WEIR_FRAME_INVALID", "the Host is not that of the request target");
  return host;
}
