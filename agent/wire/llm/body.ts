/**
 * Bodies in JSON: read without risk, and changed in single strings so that all the rest stays byte for byte (numbers
 * beyond 2^53, spaces, the order of members).
 */
import { isUtf8 } from "node:buffer";
import { PeerError } from "../../errors.ts";
import { type JsonProblem, JsonScanner, jsonString, jsonTokensMax } from "../http/json-scan.ts";
import { isHandle, isObject, type JsonObject } from "./message-leaves.ts";

export type BodyProblem = "unreadable-body" | "duplicate-keys";

export interface BodyRead {
  /** Null: no JSON object, or one that is not to be read. */
  readonly value: JsonObject | null;
  readonly problem: BodyProblem | null;
}

/** Of these a server that folds case (Go's parser) would read `Model` as well. */
const folded: ReadonlySet<string> = new Set(["model", "messages", "prompt", "input", "stream", "tools", "system"]);

export function readBody(bytes: Buffer): BodyRead {
  if (!isUtf8(bytes)) return unreadable;
  const problem = checkJson(bytes);
  if (problem !== null) return { value: null, problem };
  const value: unknown = JSON.parse(bytes.toString("utf8"));
  return isObject(value) ? { value, problem: null } : unreadable;
}

/** Depth, grammar and doubled names, before any value is made of it. */
function checkJson(bytes: Buffer): BodyProblem | null {
  const scanner = new JsonScanner(bytes);
  const names: Set<string>[] = [];
  let twice = false;
  for (let token = scanner.next(); token !== "end"; token = scanner.next()) {
    if (token === null) return "unreadable-body";
    const { depth } = scanner;
    if (token === "{") names[depth]?.clear();
    if (token !== "key") continue;
    const name = jsonString(bytes, scanner.start, scanner.end, scanner.escaped);
    names[depth] ??= new Set();
    const seen = names[depth] as Set<string>;
    twice ||= seen.has(name) || (depth === 1 && !folded.has(name) && folded.has(name.toLowerCase()));
    seen.add(name);
  }
  return twice ? "duplicate-keys" : null;
}

/** Depth and grammar alone: whether JSON.parse may have it. */
export function parseJson(bytes: Buffer): unknown {
  return problemOf(bytes) === null ? JSON.parse(bytes.toString("utf8")) : undefined;
}

/**
 * One event of a stream. Throws a PeerError where a client may read what is not read here: looked through as a text, a
 * value that is written with escapes would pass.
 */
export function parseEvent(bytes: Buffer): unknown {
  const problem = problemOf(bytes);
  if (problem === "too-deep" || problem === "too-long") {
    const what = problem === "too-deep" ? "is nested too deep" : `has more than ${jsonTokensMax} values`;
    throw new PeerError("WEIR_LIMIT_REACHED", `an event of the stream ${what}`);
  }
  return problem === null ? JSON.parse(bytes.toString("utf8")) : undefined;
}

function problemOf(bytes: Buffer): JsonProblem | null {
  const scanner = new JsonScanner(bytes);
  for (let token = scanner.next(); token !== "end"; token = scanner.next()) if (token === null) return scanner.problem;
  return null;
}

export interface BodyEditor {
  /** What stands in place of a text; the same text: nothing changes. `name`: of the tool's own member that it is in. */
  text(text: string, name: string | null): string;
  /** True: a number of a tool's own becomes 0. */
  hidesNumber(text: string, name: string): boolean;
}

/** A string that is JSON may hold a string that is JSON: this often. */
const nestedMax = 3;
const opensJson = /^[ \t\r\n]*[{[]/;
/** Bytes in base64 are no text. */
export const dataUrl = /^data:[^,]{0,200};base64,/;

/** Strings below these names are a tool's own, whatever they are called. */
const freeNames: ReadonlySet<string> = new Set(["input", "args", "arguments", "json", "response", "parameters"]);

/** The same buffer when nothing was changed, or when it is no JSON. */
export function editBody(bytes: Buffer, editor: BodyEditor): Buffer {
  return edit(bytes, editor, 0, false) ?? bytes;
}

/** Null: no JSON. */
function edit(bytes: Buffer, editor: BodyEditor, nested: number, inTool: boolean): Buffer | null {
  const scanner = new JsonScanner(bytes);
  const levels: { readonly name: string; readonly free: boolean; readonly isObject: boolean }[] = [];
  const parts: Buffer[] = [];
  let from = 0;
  let key = "";
  const replace = (start: number, end: number, text: string): void => {
    parts.push(bytes.subarray(from, start), Buffer.from(text, "utf8"));
    from = end;
  };
  for (let token = scanner.next(); token !== "end"; token = scanner.next()) {
    if (token === null) return null;
    const { start, end, escaped } = scanner;
    const level = levels.at(-1);
    const name = level?.isObject === false ? level.name : key;
    // At the top `input` is the prompt itself.
    const opensTool = level?.isObject === true && levels.length > 1 && freeNames.has(key);
    const free = inTool || level?.free === true || opensTool;
    if (token === "{" || token === "[") levels.push({ name, free, isObject: token === "{" });
    else if (token === "}" || token === "]") levels.pop();
    else if (token === "key") {
      key = jsonString(bytes, start, end, escaped);
      // Names are the API's own but for those of a tool's values.
      if (level?.free !== true && !inTool) continue;
      const out = editor.text(key, null);
      if (out !== key) replace(start, end, JSON.stringify(out));
    } else if (token === "number") {
      if (free && editor.hidesNumber(bytes.toString("latin1", start, end), name)) replace(start, end, "0");
    } else if (token === "string") {
      const text = jsonString(bytes, start, end, escaped);
      if (!free && isHandle(name, text)) continue;
      if (dataUrl.test(text)) continue;
      const out = editString(text, free ? name : null, editor, nested);
      if (out !== text) replace(start, end, JSON.stringify(out));
    }
  }
  if (parts.length === 0) return bytes;
  parts.push(bytes.subarray(from));
  return Buffer.concat(parts);
}

/** Names inside of it are no longer the API's own. */
function editString(text: string, name: string | null, editor: BodyEditor, nested: number): string {
  if (nested < nestedMax && opensJson.test(text)) {
    const inner = Buffer.from(text, "utf8");
    const out = edit(inner, editor, nested + 1, true);
    if (out !== null) return out === inner ? text : out.toString("utf8");
  }
  return editor.text(text, name);
}

const unreadable: BodyRead = { value: null, problem: "unreadable-body" };
