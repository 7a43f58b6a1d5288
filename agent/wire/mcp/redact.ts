/** What a rule takes out of a message before it leaves: values in a call's arguments and in a client's answers. */
import { maskJson, type TextMasker } from "../http/json-mask.ts";
import type { RequestHead } from "../http/message.ts";
import { decodeHeader, encodeHeader } from "./headers.ts";
import type { Message, Span } from "./message.ts";

export interface Redaction {
  readonly masker: TextMasker;
  readonly message: Message;
  readonly head: RequestHead;
  readonly key: Buffer;
}

/** The same buffer when nothing is taken out. */
export function redactBody(body: Buffer, { masker, message, head, key }: Redaction): Buffer {
  let out = body;
  for (const span of payloads(message)) {
    const masked = maskJson(body.subarray(span.start, span.end), { masker, paths: [], key });
    if (masked === null || masked.masked === 0) continue;
    out = Buffer.concat([out.subarray(0, span.start), masked.bytes, out.subarray(span.end)]);
  }
  if (out !== body) redactHeaders(head, masker);
  return out;
}

/** From the last to the first, so that the places of the others stay right. */
function payloads({ kind, inner, members }: Message): Span[] {
  const spans =
    kind === "response"
      ? [members.get("result")]
      : kind === "error"
        ? [members.get("error")]
        : [
            inner.get("arguments"),
            inner.get("inputResponses"),
            inner.get("argument"),
            inner.get("message"),
            inner.get("reason"),
          ];
  return spans.filter((span) => span !== undefined).sort((a, b) => b.start - a.start);
}

/** `Mcp-Param-*` repeat arguments, and have to go on doing so. */
function redactHeaders({ headers }: RequestHead, masker: TextMasker): void {
  for (let at = 0; at < headers.fields.length; at += 2) {
    const name = (headers.fields[at] as string).toLowerCase();
    if (!name.startsWith("mcp-param-")) continue;
    const value = decodeHeader(headers.fields[at + 1] as string);
    if (value === null) continue;
    const bytes = Buffer.from(value, "utf8");
    if (masker.mask(bytes, 0, bytes.length) > 0) headers.set(name, encodeHeader(bytes.toString("utf8")));
  }
}
