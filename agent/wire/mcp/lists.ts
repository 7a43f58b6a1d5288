/**
 * Lists of what a server offers: entries that the policy denies are left out, and each tool's definition is pinned.
 * A tool whose definition is not the one seen first may tell the model something else than what was looked at
 * (a "rug pull").
 */
import { createHash } from "node:crypto";
import type { DialectContext } from "../http/dialect.ts";
import { describeEntry } from "./describe.ts";
import { elementsOf, type Message, type Span, valueAt } from "./message.ts";

/** Which member of a result is a list of what, and the operation that each entry stands for. */
const lists = [
  { member: "tools", name: "name", method: "tools/call" },
  { member: "resources", name: "uri", method: "resources/read" },
  { member: "resourceTemplates", name: "uriTemplate", method: "resources/read" },
  { member: "prompts", name: "name", method: "prompts/get" },
] as const;

export interface ListContext {
  readonly context: Pick<DialectContext, "would" | "pin">;
  /** Under which a tool is pinned. */
  readonly pinName: (tool: string) => string;
}

/** What a tool says of itself to the model and the client. */
const pinnedMembers = ["name", "title", "description", "inputSchema", "outputSchema", "annotations"] as const;

/** True when the result is a list of tools, resources or prompts, whatever was asked for. */
export function isList({ kind, inner }: Message): boolean {
  return kind === "response" && lists.some(({ member }) => inner.has(member));
}

/** The message without the entries that are denied; the same buffer when none is. */
export function filterLists(bytes: Buffer, message: Message, { context, pinName }: ListContext): Buffer {
  let out = bytes;
  // From the last to the first, so that the places of the others stay right.
  const present = lists
    .map((list) => ({ list, span: message.inner.get(list.member) }))
    .filter((entry) => entry.span !== undefined)
    .sort((a, b) => (b.span as Span).start - (a.span as Span).start);
  for (const { list, span } of present) {
    const entries = valueAt(bytes, span);
    if (!Array.isArray(entries)) continue;
    const kept = entries.map((entry: unknown) => {
      const name = (entry as Record<string, unknown> | null)?.[list.name];
      if (typeof name !== "string") return true;
      const changed = list.member === "tools" && pinTool(entry as Record<string, unknown>, pinName(name), context);
      const verdict = context.would(describeEntry(list.method, name, changed ? ["tool-changed"] : []));
      return verdict.action !== "deny";
    });
    if (kept.every(Boolean)) continue;
    const { start, end } = span as Span;
    const spans = elementsOf(bytes, span as Span).filter((_, i) => kept[i] === true);
    const parts = spans.flatMap((part, i) => [...(i === 0 ? [] : [comma]), bytes.subarray(part.start, part.end)]);
    out = Buffer.concat([out.subarray(0, start + 1), ...parts, out.subarray(end - 1)]);
  }
  return out;
}

const comma = Buffer.from(",");

/** True when the tool was seen before with another definition. */
function pinTool(tool: Record<string, unknown>, name: string, context: ListContext["context"]): boolean {
  const definition = sorted(Object.fromEntries(pinnedMembers.map((member) => [member, tool[member]])));
  const digest = createHash("sha256").update(JSON.stringify(definition)).digest("hex");
  return context.pin(name, digest, readable(definition as Record<string, unknown>)) !== null;
}

/** Line ends of the description are kept, so that a change shows as a line of it. */
function readable({ description, ...rest }: Record<string, unknown>): string {
  const text = typeof description === "string" ? `${description}\n` : "";
  return `${text}${JSON.stringify(rest, null, 1)}`;
}

/** Members in the order of their names: two texts of one value become the same text. */
function sorted(value: unknown): unknown {
  if (Array.isArray(value)) return value.map(sorted);
  if (typeof value !== "object" || value === null) return value;
  const entries = Object.entries(value).map(([key, part]) => [key, sorted(part)] as const);
  // A null prototype: a member named __proto__ is a member like any other.
  const out = Object.create(null) as Record<string, unknown>;
  for (const [key, part] of entries.sort(([a], [b]) => (a < b ? -1 : a > b ? 1 : 0))) out[key] = part;
  return out;
}
