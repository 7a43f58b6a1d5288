/**
 * Lists of what a server offers: entries that the policy denies are left out, and each tool's definition is pinned.
 * A tool whose definition is not the one seen first may tell the model something else than what was looked at
 * (a "rug pull").
 */
import { createHash } from "node:crypto";
import type { HttpFacts } from "../../core/operation.ts";
import type { DialectContext } from "../http/dialect.ts";
import { describeBare, describeEntry } from "./describe.ts";
import { elementsOf, type Message, type Span, valueAt } from "./message.ts";
import { diffLines } from "./tool-diff.ts";

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
  /** Under which what the server tells the model is pinned; no tool has such a name. */
  readonly instructionsPin: string;
  /** Of the request: rules on its host and path hold for what it lists, too. */
  readonly http: HttpFacts;
}

/** What a tool says of itself to the model and the client. */
const pinnedMembers = ["name", "title", "description", "inputSchema", "outputSchema", "annotations"] as const;

/** True when the result is a list of tools, resources or prompts, whatever was asked for. */
export function isList({ kind, inner }: Message): boolean {
  return kind === "response" && lists.some(({ member }) => inner.has(member));
}

/** The message without the entries that are denied; the same buffer when none is. */
export function filterLists(bytes: Buffer, message: Message, listed: ListContext): Buffer {
  const { context, pinName, http } = listed;
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
      const verdict = context.would({ ...describeEntry(list.method, name, changed ? ["tool-changed"] : []), http });
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

/** What a server says of itself in its first answer (`initialize`, `server/discover`). */
export function hasInstructions({ kind, inner }: Message): boolean {
  const isFirst = inner.has("protocolVersion") || inner.has("supportedVersions");
  return kind === "response" && isFirst && inner.has("instructions");
}

/**
 * A server's `instructions` go into the model's prompt as its tools' descriptions do. When they are not the ones seen
 * first, and the policy does not allow that, they are taken out; the same buffer when nothing changed.
 */
export function checkInstructions(
  bytes: Buffer,
  message: Message,
  { context, instructionsPin, http }: ListContext,
): Buffer {
  const span = message.inner.get("instructions") as Span;
  const said = valueAt(bytes, span);
  if (typeof said !== "string") return bytes;
  const digest = createHash("sha256").update(said).digest("hex");
  const changed = context.pin(instructionsPin, digest, said);
  if (changed === null) return bytes;
  const bare = describeBare("initialize");
  const text = `${bare.text}\n${diffLines(changed.before, said)}`;
  const verdict = context.would({ ...bare, text, traits: [instructionsTrait], http });
  if (verdict.action === "allow") return bytes;
  const told = `Weir took the server's instructions out: they are not the ones seen first (rule "${verdict.rule}").`;
  return Buffer.concat([bytes.subarray(0, span.start), Buffer.from(JSON.stringify(told)), bytes.subarray(span.end)]);
}

/** Also on each call of a server whose instructions are not the ones seen first. */
export const instructionsTrait = "instructions-changed";

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
