/**
 * One JSON-RPC 2.0 message of MCP, read from bytes without changing them: what it is, and where its parts stand.
 * What two parsers could read in two ways is not read at all: a member twice, or once more in other letters, which
 * parsers that fold case (Go's) take for the same.
 */
import { isUtf8 } from "node:buffer";
import { JsonScanner, jsonString, jsonTokensMax } from "../http/json-scan.ts";

export interface Span {
  readonly start: number;
  readonly end: number;
}

export interface Message {
  readonly kind: "request" | "notification" | "response" | "error";
  /** As written, a JSON string or number; null when there is none. */
  readonly id: string | null;
  /** Empty for responses. */
  readonly method: string;
  /** Of the message: `params`, `result`, `error`, … */
  readonly members: ReadonlyMap<string, Span>;
  /** Of its `params` or `result`. */
  readonly inner: ReadonlyMap<string, Span>;
}

export type Read =
  | { readonly is: "message"; readonly message: Message }
  /** Several in an array: a batch. The spans are its elements. */
  | { readonly is: "batch"; readonly elements: readonly Span[] }
  /** JSON without anything of JSON-RPC in it: some other request. */
  | { readonly is: "plain" }
  | { readonly is: "unreadable"; readonly trait: "unreadable-body" | "duplicate-keys"; readonly id: string | null };

const brace = 0x7b;
const envelope: readonly string[] = ["jsonrpc", "id", "method", "params", "result", "error"];
const inParams: readonly string[] = ["name", "uri", "arguments", "ref", "taskId", "inputResponses", "_meta"];

/** Longest message of a client; the SDKs' servers take as much. */
export const messageBytesMax = 4 * 1024 * 1024;
/** Brackets, keys and values in it: bounds the time that one may take. */
export const messageTokensMax = 200_000;
/** The same of an answer, texts in JSON included; a long one is read where it holds nothing else up. */
export const answerTokensMax = jsonTokensMax;

/** A client's: a member that stands twice is looked for at every depth. */
export function readRequest(bytes: Buffer): Read {
  return bytes.length > messageBytesMax ? unreadable("unreadable-body", null) : read(bytes, new Outline(bytes, true));
}

/** A server's: a member that stands twice is looked for in the envelope and in what it holds. */
export function readAnswer(bytes: Buffer): Read {
  return read(bytes, new Outline(bytes, false));
}

function read(bytes: Buffer, outline: Outline): Read {
  if (!isUtf8(bytes)) return unreadable("unreadable-body", null);
  const problem = outline.read();
  const id = outline.id();
  if (problem !== null) return unreadable(problem, id);
  if (outline.isArray) return { is: "batch", elements: outline.elements };
  if (!outline.isObject) return unreadable("unreadable-body", null);
  const { members } = outline;
  if (outline.folded) return unreadable("duplicate-keys", id);
  if (!envelope.some((name) => members.has(name))) return { is: "plain" };
  if (outline.value("jsonrpc") !== "2.0") return unreadable("unreadable-body", id);
  const has = (name: string): boolean => members.has(name);
  if (has("id") && id === null && !has("error")) return unreadable("unreadable-body", null);
  const method = has("method") ? outline.value("method") : "";
  if (typeof method !== "string" || (has("method") && method === "")) return unreadable("unreadable-body", id);
  const parts = Number(has("method")) + Number(has("result")) + Number(has("error"));
  const params = members.get("params");
  if (parts !== 1 || (params !== undefined && (!has("method") || bytes[params.start] !== brace)))
    return unreadable("unreadable-body", id);
  const kind = has("method") ? (has("id") ? "request" : "notification") : has("result") ? "response" : "error";
  if (kind === "response" && id === null) return unreadable("unreadable-body", null);
  return { is: "message", message: { kind, id, method, members, inner: outline.inner } };
}

/** The value at a span, made by JSON.parse; undefined when there is no span. */
export function valueAt(bytes: Buffer, span: Span | undefined): unknown {
  return span === undefined ? undefined : (JSON.parse(bytes.toString("utf8", span.start, span.end)) as unknown);
}

/** Places of the elements of an array that stands at a span. */
export function elementsOf(bytes: Buffer, { start, end }: Span): Span[] {
  const outline = new Outline(bytes.subarray(start, end), false);
  outline.read();
  return outline.elements.map((element) => ({ start: start + element.start, end: start + element.end }));
}

/** Places of the members of an object that stands at a span. */
export function membersOf(bytes: Buffer, { start, end }: Span): Map<string, Span> {
  const outline = new Outline(bytes.subarray(start, end), false);
  outline.read();
  const places = [...outline.members].map(([name, at]): [string, Span] => [
    name,
    { start: start + at.start, end: start + at.end },
  ]);
  return new Map(places);
}

/** Members looked through one by one; objects with more of them get a set. */
const fewNamesMax = 16;

function isSeen(names: string[][], many: Map<number, Set<string>>, depth: number, name: string): boolean {
  const few = names[depth] as string[];
  if (few.length < fewNamesMax) {
    if (few.includes(name)) return true;
    few.push(name);
    return false;
  }
  let set = many.get(depth);
  if (set === undefined) {
    set = new Set();
    many.set(depth, set);
  }
  if (set.has(name) || few.includes(name)) return true;
  set.add(name);
  return false;
}

/** Both ways, as some letters (U+017F, U+212A) fold in one direction only. */
function fold(name: string): string {
  return name.toUpperCase().toLowerCase();
}

function unreadable(trait: "unreadable-body" | "duplicate-keys", id: string | null): Read {
  return { is: "unreadable", trait, id };
}

class Outline {
  isObject = false;
  isArray = false;
  /** A member of the envelope or its params in other letters than its own. */
  folded = false;
  readonly members = new Map<string, Span>();
  readonly inner = new Map<string, Span>();
  readonly elements: Span[] = [];
  readonly #bytes: Buffer;
  readonly #deep: boolean;
  /** The member of the root that is open, and that of the value below it. */
  #outer = "";
  #key = "";
  #startOuter = 0;
  #startInner = 0;

  constructor(bytes: Buffer, deep: boolean) {
    this.#bytes = bytes;
    this.#deep = deep;
  }

  read(): "unreadable-body" | "duplicate-keys" | null {
    const scanner = new JsonScanner(this.#bytes, this.#deep ? messageTokensMax : answerTokensMax);
    /** Names seen in the object that is open at each depth. */
    const names: string[][] = [];
    const many = new Map<number, Set<string>>();
    let twice = false;
    for (let token = scanner.next(); token !== "end"; token = scanner.next()) {
      if (token === null) return "unreadable-body";
      const { depth } = scanner;
      if (token === "key") {
        if (!this.#deep && depth > 2) continue;
        const name = jsonString(this.#bytes, scanner.start, scanner.end, scanner.escaped);
        const isArgument = depth === 3 && this.#outer === "params" && this.#key === "arguments";
        twice ||= isSeen(names, many, depth, isArgument ? fold(name) : name);
        if (depth === 1) this.#outer = name;
        if (depth === 2) this.#key = name;
        if (depth <= 2) this.folded ||= this.#isFolded(name, depth);
        continue;
      }
      if (token === "{") {
        if (names[depth] === undefined) names[depth] = [];
        else names[depth].length = 0;
        many.get(depth)?.clear();
      }
      this.#place(token, scanner);
    }
    return twice ? "duplicate-keys" : null;
  }

  /** Notes where values of the first two levels begin and end. */
  #place(token: string, { depth, start, end }: JsonScanner): void {
    const opens = token === "{" || token === "[";
    const closes = token === "}" || token === "]";
    // A bracket belongs to the level that it stands in, not to the one it opens.
    const level = opens ? depth - 1 : depth;
    if (level === 0) {
      if (opens) {
        this.isObject = token === "{";
        this.isArray = token === "[";
      }
    } else if (level === 1) {
      if (opens) {
        this.#startOuter = start;
        // In an array there are no names: the last one seen is not this one's.
        this.#key = "";
      } else {
        const span = { start: closes ? this.#startOuter : start, end };
        if (this.isArray) this.elements.push(span);
        else this.members.set(this.#outer, span);
      }
    } else if (level === 2 && this.isObject && (this.#outer === "params" || this.#outer === "result")) {
      if (opens) this.#startInner = start;
      else this.inner.set(this.#key, { start: closes ? this.#startInner : start, end });
    }
  }

  #isFolded(name: string, depth: number): boolean {
    const known = depth === 1 ? envelope : this.#outer === "params" ? inParams : [];
    return !known.includes(name) && known.some((word) => fold(word) === fold(name));
  }

  /** A number or a string; null else. */
  id(): string | null {
    const span = this.members.get("id");
    if (span === undefined) return null;
    const text = this.#bytes.toString("utf8", span.start, span.end);
    return /^["0-9-]/.test(text) ? text : null;
  }

  value(name: string): unknown {
    return valueAt(this.#bytes, this.members.get(name));
  }
}
