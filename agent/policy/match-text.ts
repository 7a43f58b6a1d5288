/** The keys of `match` that look into what is said: protocol, arguments, keywords, detectors. */
import type { Operation } from "../core/operation.ts";
import { compileGlob } from "./glob.ts";
import { readWanted, type Wanted } from "./match-request.ts";
import type { Check, PolicyCase } from "./policy.ts";
import { readDetectors } from "./transforms.ts";
import { familyOf } from "./words.ts";

/** Values looked at in one operation's arguments; with more, it counts against the client. */
const valuesMax = 10_000;
/** Levels of JSON that are walked. */
const depthMax = 64;

type Complain = (path: readonly (string | number)[], message: string) => void;

/**
 * An operation is of its protocol, and a language model's call of its provider too. What goes to a target of this
 * protocol and was not recognised as one of its operations may be one: that counts against the client.
 */
export function compileProtocol(wanted: Wanted, restrictive: boolean): Check {
  const { how, patterns } = readWanted(wanted);
  const negated = how === "not";
  const uncertain = restrictive !== negated;
  const words = new Set(patterns);
  const test = ({ operation, target }: PolicyCase): boolean => {
    let found = words.has(operation.protocol) || (operation.llm !== undefined && words.has(operation.llm.provider));
    if (!found && uncertain && operation.llm === undefined) {
      const isPlain = operation.protocol === "http";
      const family = familyOf(target.protocol);
      found =
        (isPlain && words.has(family)) || ((isPlain || operation.protocol === family) && words.has(target.protocol));
    }
    return found !== negated;
  };
  return {
    ...{ key: "protocol", wanted: shown(how, patterns), textual: false, ofRequest: false, cost: 0 },
    subject: ({ operation }) =>
      operation.llm === undefined ? operation.protocol : [operation.protocol, operation.llm.provider],
    test,
  };
}

/** A name; null is any. */
type Step = string | null;

interface WantedArgument {
  readonly steps: readonly Step[];
  readonly how: "any" | "not" | "only";
  matches(text: string): boolean;
}

/** Of MCP's `tools/call` and `prompts/get`; none given is the same as an empty map of them. */
export function compileArguments(
  wanted: Readonly<Record<string, Wanted>>,
  restrictive: boolean,
  complain: Complain,
): Check {
  const all = Object.entries(wanted).map(([path, value]): WantedArgument => {
    const steps = splitPath(path);
    if (steps === null) complain([path], 'expected a path like customer.id, items.*.sku or "a.key".inner.');
    const { how, patterns } = readWanted(value);
    const ignoreCase = restrictive !== (how === "not");
    const globs = patterns.map((pattern) => compileGlob(pattern, { ignoreCase }));
    return { steps: steps ?? [], how, matches: (text) => globs.some((glob) => glob(text)) };
  });
  const test = ({ operation: { mcp } }: PolicyCase): boolean => {
    if (mcp === undefined) return false;
    if (mcp.arguments === null && mcp.method !== "tools/call" && mcp.method !== "prompts/get") return false;
    return all.every(({ steps, how, matches }) => {
      const values = valuesAt(mcp.arguments, steps);
      if (values === null) return restrictive;
      if (how === "only") return values.length > 0 && values.every(matches);
      return values.some(matches) !== (how === "not");
    });
  };
  const text = Object.entries(wanted).map(([path, value]) => {
    const { how, patterns } = readWanted(value);
    return `${path}: ${shown(how, patterns)}`;
  });
  return {
    ...{ key: "argument", wanted: text.join(", "), textual: true, ofRequest: true, cost: 2 },
    subject: ({ operation: { mcp } }) =>
      mcp === undefined ? null : all.flatMap(({ steps }) => valuesAt(mcp.arguments, steps) ?? ["too many values"]),
    test,
  };
}

/** `a.*."b.c"` to its steps; null when it is none. */
function splitPath(path: string): Step[] | null {
  const steps: Step[] = [];
  const step = /("(?:[^"]|"")*"|[^."]+)(\.|$)/y;
  while (step.lastIndex < path.length) {
    const found = step.exec(path);
    if (found === null) return null;
    const word = found[1]!;
    steps.push(word === "*" ? null : word.startsWith('"') ? word.slice(1, -1).replaceAll('""', '"') : word);
    if (found[2] === "." && step.lastIndex === path.length) return null;
  }
  return steps.length === 0 ? null : steps;
}

/** Texts of the values at a path; null when there is too much. A name also looks into the elements of a list. */
function valuesAt(root: unknown, steps: readonly Step[]): string[] | null {
  const found: string[] = [];
  let visited = 0;
  const walk = (value: unknown, at: number, depth: number): boolean => {
    visited += 1;
    if (visited > valuesMax || depth > depthMax) return false;
    if (at === steps.length) {
      if (Array.isArray(value)) return value.every((element) => walk(element, at, depth + 1));
      const text = textOf(value);
      if (text !== null) found.push(text);
      return text !== null;
    }
    if (value === null || typeof value !== "object") return true;
    const name = steps[at]!;
    if (name === null) return Object.values(value).every((inner) => walk(inner, at + 1, depth + 1));
    if (Object.hasOwn(value, name) && !(Array.isArray(value) && name === "length"))
      return walk((value as Record<string, unknown>)[name], at + 1, depth + 1);
    return Array.isArray(value) ? value.every((element) => walk(element, at, depth + 1)) : true;
  };
  return walk(root, 0, 0) ? found : null;
}

function textOf(value: unknown): string | null {
  if (typeof value === "string") return value;
  try {
    return JSON.stringify(value) ?? "";
  } catch {
    // Nested deeper than the stack.
    return null;
  }
}

/** Letter case, compatibility forms (full width, ligatures) and characters of no width make no difference. */
export function compileKeywords(wanted: Wanted, restrictive: boolean): Check {
  const { how, patterns } = readWanted(wanted);
  const negated = how === "not";
  const words = patterns.map(fold);
  return {
    ...{ key: "keyword", wanted: shown(how, patterns), textual: true, ofRequest: false, cost: 3 },
    subject: ({ operation }) => {
      const texts = (textsOf(operation) ?? []).map(fold);
      return words.filter((word) => texts.some((text) => text.includes(word)));
    },
    test: ({ operation }) => {
      const texts = textsOf(operation);
      if (texts === null) return restrictive;
      const found = texts.some((text) => {
        const folded = fold(text);
        return words.some((word) => folded.includes(word));
      });
      return found !== negated;
    },
  };
}

function fold(text: string): string {
  const lower = text.toLowerCase();
  if (!/[^\0-\x7f]/.test(lower)) return lower;
  return lower
    .normalize("NFKC")
    .replace(/[\u00ad\u200b-\u200f\u2060\ufeff]/g, "")
    .toLowerCase();
}

export function compileDetectors(
  wanted: Wanted,
  restrictive: boolean,
  custom: readonly string[],
  complain: Complain,
): Check {
  const { how, patterns } = readWanted(wanted);
  const negated = how === "not";
  const inner = typeof wanted === "object" && "not" in wanted ? wanted.not : wanted;
  const read = readDetectors(Array.isArray(inner) ? patterns : patterns[0]!, custom, (message, path = []) =>
    complain(how === "not" ? ["not", ...path] : path, message),
  );
  const names = [...read.detectors, ...read.custom];
  return {
    ...{ key: "detector", wanted: shown(how, patterns), textual: true, ofRequest: false, cost: 4 },
    subject: ({ operation, finds }) =>
      names.filter((name) => finds !== undefined && (textsOf(operation) ?? []).some((text) => finds(name, text))),
    test: ({ operation, finds }) => {
      const texts = textsOf(operation);
      if (finds === undefined || texts === null) return restrictive;
      // Those that the policy defines may be about members' names, which stand beside their values only here.
      if (read.custom.length > 0) texts.push(...jsonOf(operation));
      for (const parameter of operation.parameters) if (parameter !== null) texts.push(parameter);
      return texts.some((text) => names.some((name) => finds(name, text))) !== negated;
    },
  };
}

/** What an operation says in words; null when it is too much to look at. */
function textsOf(operation: Operation): string[] | null {
  const { text, llm, traits } = operation;
  if (traits.includes("prompt-cut")) return null;
  const prompt = llm?.prompt ?? "";
  // The text of a model's call is mostly its prompt, cut: nothing is looked through twice.
  const texts = [text, prompt].filter((said) => said !== "");
  if (texts.length === 2 && prompt.startsWith(text)) texts.shift();
  for (const json of [operation.mcp?.arguments, operation.grpc?.message])
    if (json !== null && json !== undefined && !addStrings(json, texts, 0)) return null;
  return texts;
}

/** What is told in JSON, as one text; its depth is known to be bounded. */
function jsonOf({ mcp, grpc }: Operation): string[] {
  return [mcp?.arguments, grpc?.message].flatMap((json) =>
    json === null || typeof json !== "object" ? [] : [JSON.stringify(json)],
  );
}

function addStrings(value: unknown, texts: string[], depth: number): boolean {
  if (typeof value === "string" || typeof value === "number") {
    if (texts.length >= valuesMax) return false;
    texts.push(String(value));
    return true;
  }
  if (value === null || typeof value !== "object") return true;
  if (depth === depthMax) return false;
  return Object.entries(value).every(
    ([name, inner]) => (Array.isArray(value) || addStrings(name, texts, depth)) && addStrings(inner, texts, depth + 1),
  );
}

function shown(how: "any" | "not" | "only", patterns: readonly string[]): string {
  return `${how === "any" ? "" : `${how} `}${patterns.join(" | ")}`;
}
