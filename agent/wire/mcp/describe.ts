/** A client's message as an operation. */
import type { McpFacts } from "../../core/operation.ts";
import type { Described } from "../http/dialect.ts";
import type { Headers } from "../http/message.ts";
import { headersDisagree } from "./headers.ts";
import { type Message, type Read, type Span, valueAt } from "./message.ts";
import { answerMethod, isKnown, isWriting, nameMember } from "./methods.ts";
import { diffLines } from "./tool-diff.ts";

/** Text of a call kept for rules and record. */
export const callTextBytesMax = 64 * 1024;

/** What is known of a tool from the lists that passed: null when it was in none. */
export interface KnownTool {
  /** Its definition at first sight and now; null: it is the same still. */
  readonly changed: { readonly before: string; readonly now: string } | null;
}

export interface DescribeContext {
  readonly headers: Headers;
  readonly tool: (name: string) => KnownTool | null;
  /** The same of what the server says of itself. */
  readonly instructions: KnownTool | null;
}

/** Null: no JSON-RPC at all, a plain request. */
export function describeBody(body: Buffer, read: Read, context: DescribeContext): Described | null {
  switch (read.is) {
    case "plain":
      return null;
    case "unreadable":
      return facts("", "", null, {
        text: cut(body.toString("utf8", 0, textStartBytes)),
        traits: [read.trait],
        writes: true,
      });
    case "batch":
      return facts("batch", "", null, {
        text: `batch of ${read.elements.length} messages`,
        traits: ["batch", "unreadable-body"],
        writes: true,
      });
    case "message":
      return describeMessage(body, read.message, context);
  }
}

/** A request without a message: the stream that a client listens on, the end of its session. */
export function describeBare(method: string): Described {
  return facts(method, "", null, { text: method, traits: [], writes: false });
}

/** As the call of this tool (the reading of this resource, …) would look: for lists that leave out what is denied. */
export function describeEntry(method: string, name: string, traits: readonly string[]): Described {
  return facts(method, name, null, { text: `${method} ${name}`, traits, writes: isWriting(method) });
}

/** Of a body that cannot be read, the record keeps its beginning. */
const textStartBytes = 1024;

function describeMessage(body: Buffer, message: Message, context: DescribeContext): Described {
  const { headers, tool, instructions } = context;
  const { kind } = message;
  if (kind === "response" || kind === "error") {
    const answer = valueAt(body, message.members.get(kind === "response" ? "result" : "error"));
    return facts(answerMethod, "", answer, {
      text: cut(`${answerMethod} ${textAt(body, message.members.get(kind === "response" ? "result" : "error"))}`),
      traits: headersDisagree(headers, body, message, "") ? ["header-mismatch"] : [],
      writes: false,
    });
  }
  const { method } = message;
  const name = nameOf(body, message);
  const traits: string[] = [];
  if (name === null) traits.push("unreadable-body");
  if (!isKnown(method)) traits.push("unknown-method");
  if (headersDisagree(headers, body, message, name ?? "")) traits.push("header-mismatch");
  const given = valueAt(body, message.inner.get("arguments")) ?? null;
  let text = method;
  if (name !== null && name !== "") text += ` ${name}`;
  if (given !== null) text += ` ${textAt(body, message.inner.get("arguments"))}`;
  text = cut(text);
  if (method === "tools/call" && name !== null) {
    const known = tool(name);
    if (known === null) traits.push("unknown-tool");
    else if (known.changed !== null) {
      traits.push("tool-changed");
      text = cut(`${text}\n${diffLines(known.changed.before, known.changed.now)}`);
    }
  }
  if (method === "tools/call" && instructions?.changed != null) {
    traits.push("instructions-changed");
    text = cut(`${text}\n${diffLines(instructions.changed.before, instructions.changed.now)}`);
  }
  return facts(method, name ?? "", given, { text, traits, writes: isWriting(method) });
}

/** As it was sent; the rest of what is too long is cut before anything is made of it. */
function textAt(body: Buffer, span: Span | undefined): string {
  if (span === undefined) return "";
  return body.toString("utf8", span.start, Math.min(span.end, span.start + callTextBytesMax));
}

/** Empty when the method has none; null when it has to have one, and has not. */
function nameOf(body: Buffer, message: Message): string | null {
  const member = nameMember(message.method);
  if (member === null) return "";
  const value = valueAt(body, message.inner.get(member));
  if (typeof value === "string") return value;
  if (member !== "ref" || typeof value !== "object" || value === null) return null;
  const { name, uri } = value as { name?: unknown; uri?: unknown };
  return typeof name === "string" ? name : typeof uri === "string" ? uri : null;
}

function facts(
  method: string,
  name: string,
  given: McpFacts["arguments"],
  rest: Pick<Described, "text" | "traits" | "writes">,
): Described {
  return {
    protocol: "mcp",
    verbs: method === "" ? [] : [method.toLowerCase()],
    mcp: { method, name, arguments: given },
    ...rest,
  };
}

function cut(text: string): string {
  if (text.length * 3 <= callTextBytesMax || Buffer.byteLength(text) <= callTextBytesMax) return text;
  return Buffer.from(text, "utf8")
    .toString("utf8", 0, callTextBytesMax)
    .replace(/\ufffd$/, "");
}
