/**
 * The texts in a parsed message of a model's API: every string, but for those that only name something. Whatever a later
 * revision of an API adds is text until it is known not to be.
 */
import { PeerError } from "../../errors.ts";
import { readEscapes } from "../http/json-scan.ts";

export type JsonObject = Record<string, unknown>;

/** What pieces of text go through: each run by its own name, held back while a match is still possible. */
export interface TextRuns {
  push(run: string, piece: string, kind: TextKind): string;
  /** Nothing more comes of this run: what was held back. */
  close(run: string): string;
  /** A text that came whole. */
  whole(text: string): string;
}

/** `json`: pieces of the source text of a JSON value, arguments of a tool mostly. */
export type TextKind = "text" | "json";

/** Reads the events of one stream, and changes them. */
export interface StreamRewriter {
  /** What goes in place of the event, which may be changed itself; null: it passes as it came. */
  event(event: JsonObject, runs: TextRuns): JsonObject[] | null;
  /** The stream is over: what was still held back, as events. */
  end(runs: TextRuns): JsonObject[];
  /** What it knows between two events, as plain data: a rewriter of the same stream elsewhere goes on from it. */
  save(): unknown;
  restore(state: never): void;
  readonly inputTokens: number | null;
  readonly outputTokens: number | null;
  readonly toolCalls: readonly string[];
  readonly error: string | null;
}

/** Strings below these names are a tool's own, whatever they are called. */
const freeKeys: ReadonlySet<string> = new Set(["input", "args", "arguments", "json", "response", "parameters"]);

/** Names of strings that are no text: what both sides compare, what is signed or encrypted. */
const handleKeys: ReadonlySet<string> = new Set([
  ...["type", "role", "id", "model", "status", "object", "format", "mimeType", "media_type", "contentType"],
  ...["signature", "thoughtSignature", "thought_signature", "p", "modelVersion", "encrypted_content"],
  ...["encrypted_index", "redactedContent", "finishReason", "finish_reason", "stop_reason", "stopReason"],
  ...["completionReason", "event_type", "service_tier", "latency"],
]);
const handleEnding = /(?:_id|Id)$/;

/** Runs of one stream that are open at a time; a reply of a real model has some dozens. */
export const openRunsMax = 4096;

export function limitRuns(open: number): void {
  if (open > openRunsMax) throw new PeerError("WEIR_LIMIT_REACHED", `a reply has more than ${openRunsMax} open parts`);
}

/** Names of called tools that are kept of one reply. */
const toolCallsMax = 1000;

export function noteTool(toolCalls: string[], name: unknown): void {
  if (typeof name === "string" && name !== "" && toolCalls.length < toolCallsMax) toolCalls.push(name);
}

/** Throws a PeerError where the nesting is deeper than can be written. */
export function writeJson(value: unknown): string {
  try {
    return JSON.stringify(value);
  } catch (cause) {
    throw new PeerError("WEIR_LIMIT_REACHED", "an event of the reply is nested too deep", { cause });
  }
}

export function isObject(value: unknown): value is JsonObject {
  return typeof value === "object" && value !== null && !Array.isArray(value);
}

/** Below these names are bytes in base64, but a document's plain text as well. */
const blobKeys: ReadonlySet<string> = new Set(["data", "bytes"]);
/** What is shorter is looked at like any text: a card number is base64 too. */
const blobCharactersMin = 256;
const base64 = /^[A-Za-z0-9+/_-]+={0,2}$/;

/** True when a string of this name is no text; `text` is the string, where it is known. */
export function isHandle(key: string, text?: string): boolean {
  if (!blobKeys.has(key)) return handleKeys.has(key) || handleEnding.test(key);
  return text === undefined || (text.length >= blobCharactersMin && base64.test(text));
}

/** `way`: the keys down to the text, of lists the index; `node`: what it stands in. */
export type TextVisitor = (text: string, way: readonly string[], node: JsonObject) => string;

/**
 * Calls `visit` for each text, in order; what it gives back stands in the text's place. Of a tool's own values also the
 * numbers and the names of members are looked at, by `whole`; a number that is no longer one becomes 0. True: something
 * changed.
 */
export function mapTexts(root: unknown, visit: TextVisitor, whole: (text: string) => string): boolean {
  let changed = false;
  // Not recursive: depth is the peer's choice.
  const open: Level[] = [];
  const way: string[] = [];
  enter(open, root, false);
  for (let level = open.at(-1); level !== undefined; level = open.at(-1)) {
    const { node, keys, free } = level;
    const isList = Array.isArray(node);
    if (level.at >= keys.length) {
      if (free && !isList) changed = rename(node, keys, (key) => whole(key)) || changed;
      open.pop();
      way.pop();
      continue;
    }
    const key = keys[level.at] as string;
    level.at += 1;
    const value = node[key];
    way.push(key);
    if (enter(open, value, free || (!isList && freeKeys.has(key)))) continue;
    // Of a list of strings the list's name counts.
    const name = isList ? (way.at(-2) ?? "") : key;
    if (
      typeof value === "string" ? value !== "" && (free || !isHandle(name, value)) : free && typeof value === "number"
    ) {
      const text = String(value);
      const out = typeof value === "number" ? whole(text) : visit(text, way, node);
      if (out !== text) {
        put(node, key, typeof value === "number" ? 0 : out);
        changed = true;
      }
    }
    way.pop();
  }
  return changed;
}

/** Masks each text that came whole; `skips` says which are none of these. */
export function maskLeaves(
  root: unknown,
  runs: TextRuns,
  skips?: (way: readonly string[], node: JsonObject) => boolean,
): boolean {
  const whole = (text: string): string => runs.whole(text);
  return mapTexts(root, (text, way, node) => (skips?.(way, node) === true ? text : whole(text)), whole);
}

/** Every text below it, in order, put at the end of `texts`; a string that stands alone is one. */
export function textsOf(root: unknown, texts: string[] = []): string[] {
  const take = (text: string): string => {
    // Arguments of a tool are JSON of their own, which models often write in ASCII.
    texts.push(/^\s*[{[]/.test(text) ? readEscapes(text) : text);
    return text;
  };
  mapTexts([root], take, take);
  return texts;
}

interface Level {
  readonly node: JsonObject;
  readonly keys: readonly string[];
  readonly free: boolean;
  at: number;
}

function enter(open: Level[], value: unknown, free: boolean): boolean {
  if (typeof value !== "object" || value === null) return false;
  open.push({ node: value as JsonObject, keys: Object.keys(value), free, at: 0 });
  return true;
}

/** Members keep their order, whatever becomes of their names. */
function rename(node: JsonObject, keys: readonly string[], visit: (key: string) => string): boolean {
  const names = keys.map((key) => visit(key));
  if (names.every((name, i) => name === keys[i])) return false;
  const values = keys.map((key) => node[key]);
  for (const key of keys) delete node[key];
  for (const [i, name] of names.entries()) put(node, name, values[i]);
  return true;
}

/** An assignment to `__proto__` would be none. */
function put(node: JsonObject, key: string, value: unknown): void {
  if (key !== "__proto__") node[key] = value;
  else Object.defineProperty(node, key, { value, enumerable: true, configurable: true, writable: true });
}
