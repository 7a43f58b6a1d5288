/**
 * Revision 2026-07-28 repeats parts of a message in HTTP headers (Streamable HTTP, "Request Metadata"). What stands
 * between client and server may go by them, so they have to say what the body says.
 */
import type { Headers } from "../http/message.ts";
import { type Message, valueAt } from "./message.ts";

const versionKey = "io.modelcontextprotocol/protocolVersion";
/** The first revision that requires the headers. Revisions are dates, and compare as text. */
const firstWithHeaders = "2026-07-28";
/** Methods for which `Mcp-Name` is required. */
const named: readonly string[] = ["tools/call", "resources/read", "prompts/get"];

/** True when a header is missing that the message's revision requires, stands twice, or says something else. */
export function headersDisagree(headers: Headers, body: Buffer, message: Message, name: string): boolean {
  const versions = headers.all("mcp-protocol-version");
  const methods = headers.all("mcp-method");
  const names = headers.all("mcp-name");
  if (versions.length > 1 || methods.length > 1 || names.length > 1) return true;
  const [version] = versions;
  const claimed = versionIn(body, message);
  if (claimed !== null && version !== undefined && claimed !== version) return true;
  const modern = [version, claimed].some((said) => said != null && /^\d{4}-/.test(said) && said >= firstWithHeaders);
  if (modern && message.kind === "request") {
    if (version === undefined || methods.length === 0) return true;
    if (named.includes(message.method) && names.length === 0) return true;
  }
  if (methods.length === 1 && methods[0] !== message.method) return true;
  if (names.length === 1 && decodeHeader(names[0] as string) !== name) return true;
  return parametersDisagree(headers, body, message);
}

/** A value that is not plain ASCII comes as `=?base64?…?=`; null when that cannot be decoded. */
export function decodeHeader(value: string): string | null {
  if (!value.startsWith("=?base64?") || !value.endsWith("?=")) return value;
  const text = value.slice(9, -2);
  const bytes = Buffer.from(text, "base64");
  return bytes.toString("base64").replace(/=+$/, "") === text.replace(/=+$/, "") ? bytes.toString("utf8") : null;
}

export function encodeHeader(value: string): string {
  const plain = /^[\x21-\x7e](?:[\x20-\x7e\t]*[\x21-\x7e])?$/.test(value) && !/^=\?base64\?.*\?=$/.test(value);
  return plain ? value : `=?base64?${Buffer.from(value, "utf8").toString("base64")}?=`;
}

/** `Mcp-Param-*` repeat arguments; which one, the tool's schema says. Here: one of the arguments has this value. */
function parametersDisagree({ fields }: Headers, body: Buffer, message: Message): boolean {
  let values: Set<string> | null = null;
  for (let at = 0; at < fields.length; at += 2) {
    if (!(fields[at] as string).toLowerCase().startsWith("mcp-param-")) continue;
    if (message.method !== "tools/call") return true;
    values ??= leaves(valueAt(body, message.inner.get("arguments")), new Set());
    const said = decodeHeader(fields[at + 1] as string);
    if (said === null) return true;
    if (!values.has(said) && !(said.trim() !== "" && values.has(String(Number(said))))) return true;
  }
  return false;
}

function leaves(value: unknown, into: Set<string>): Set<string> {
  if (typeof value === "object" && value !== null) for (const part of Object.values(value)) leaves(part, into);
  else if (value !== null && value !== undefined) into.add(String(value));
  return into;
}

function versionIn(body: Buffer, message: Message): string | null {
  const meta = valueAt(body, message.inner.get("_meta"));
  if (typeof meta !== "object" || meta === null) return null;
  const version = (meta as Record<string, unknown>)[versionKey];
  return typeof version === "string" ? version : null;
}
