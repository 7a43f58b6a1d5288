/**
 * The keys of `match`, compiled to checks. Each key has a subject (what it looks at) and patterns (what it wants).
 *
 * Some subjects are not certain: `salaries` without a schema may be `hr.salaries`, and a `*` may be any column. What
 * is not certain counts against the client: it matches for a rule that denies, holds, masks or limits, and does not
 * for one that allows; under `not` the other way round.
 */
import { compileGlob, type Glob } from "./glob.ts";
import { type Key, readWanted, requestKeys, type Wanted } from "./match-request.ts";
import { compileArguments, compileDetectors, compileKeywords, compileProtocol } from "./match-text.ts";
import type { Check, PolicyCase } from "./policy.ts";

const exactCase = (pattern: string): Glob => compileGlob(pattern);
/** Verbs are lower case already. */
const lowerCase = (pattern: string): Glob => compileGlob(pattern.toLowerCase());
const anyCase = (pattern: string): Glob => compileGlob(pattern, { ignoreCase: true });

const sender = { textual: false, ofRequest: false };
const textual = { textual: true, ofRequest: false };
const none: readonly string[] = [];

const keys: Readonly<Record<string, Key>> = {
  target: { ...sender, subject: ({ target }) => target.name, compile: exactCase },
  kind: { ...sender, subject: ({ operation }) => operation.kind, compile: exactCase },
  verb: { ...textual, subject: ({ operation }) => operation.verbs, compile: lowerCase },
  relation: { ...textual, subject: ({ operation }) => operation.relations, compile: compileName },
  column: { ...textual, subject: ({ operation }) => operation.columns, compile: compileColumn },
  function: { ...textual, subject: ({ operation }) => operation.functions, compile: compileName },
  trait: { ...textual, subject: ({ operation }) => operation.traits, compile: exactCase },
  writes: { ...textual, subject: ({ operation }) => String(operation.writes), compile: exactCase },
  user: { ...sender, subject: ({ operation }) => operation.user, compile: exactCase },
  database: { ...sender, subject: ({ operation }) => operation.database, compile: exactCase },
  groups: { ...sender, subject: ({ flow }) => flow.identity?.groups ?? none, compile: exactCase },
  identity: { ...sender, subject: ({ flow }) => flow.identity?.subject ?? "", compile: exactCase },
  // The executable, not `comm`: a process may call itself what it likes.
  process: { ...sender, subject: ({ flow }) => flow.process?.exe ?? "", compile: compileExecutable },
  uid: {
    ...sender,
    subject: ({ flow }) => (flow.process === null ? "" : String(flow.process.uid)),
    compile: exactCase,
  },
  cgroup: { ...sender, subject: ({ flow }) => flow.process?.cgroup ?? "", compile: exactCase },
  job: { ...sender, subject: jobOf, compile: exactCase },
  ...requestKeys,
};

/** Keys whose patterns compare as they stand. */
const exactKeys = new Set([
  ...["target", "kind", "trait", "user", "database", "groups", "identity", "uid", "cgroup", "job"],
  ...["provider", "stream"],
]);

interface Range {
  readonly over?: number;
  readonly under?: number;
}

/** `restrictive`: the rule takes something away from the client. `detectors`: names of those that the policy defines. */
export function compileCheck(
  key: string,
  wanted: Wanted,
  restrictive: boolean,
  detectors: readonly string[],
  complain: (path: readonly (string | number)[], message: string) => void,
): Check {
  switch (key) {
    case "bytes":
      return compileBytes(wanted as unknown as Range, restrictive);
    case "tokens":
      return compileTokens(wanted as unknown as Range);
    case "protocol":
      return compileProtocol(wanted, restrictive);
    case "argument":
      return compileArguments(wanted as unknown as Readonly<Record<string, Wanted>>, restrictive, complain);
    case "keyword":
      return compileKeywords(wanted, restrictive);
    case "detector":
      return compileDetectors(wanted, restrictive, detectors, complain);
    default:
      return compilePatterns(key, wanted, restrictive);
  }
}

function compilePatterns(key: string, wanted: Wanted, restrictive: boolean): Check {
  const { textual, ofRequest, subject, compile } = keys[key]!;
  const { how, patterns } = readWanted(wanted);
  const negated = how === "not";
  const matchesOne = anyOf(patterns, (pattern) => compile(pattern, restrictive !== negated), exactKeys.has(key));
  const test = (asked: PolicyCase): boolean => {
    const value = subject(asked);
    if (value === null) return false;
    if (typeof value === "string") return matchesOne(value) !== negated;
    if (how === "only") return value.length > 0 && value.every(matchesOne);
    for (let i = 0; i < value.length; i += 1) if (matchesOne(value[i]!)) return !negated;
    return negated;
  };
  const shown = `${how === "any" ? "" : `${how} `}${patterns.join(" | ")}`;
  return { key, wanted: shown, textual, ofRequest, cost: textual ? 1 : 0, subject, test };
}

/** Plain words are looked up at once. */
function anyOf(patterns: readonly string[], compile: (pattern: string) => Glob, exact: boolean): Glob {
  if (patterns.length === 1) return compile(patterns[0]!);
  if (exact && !patterns.some((pattern) => /[*?]/.test(pattern))) {
    const words = new Set(patterns);
    return (text) => words.has(text);
  }
  const globs = patterns.map(compile);
  return (text) => {
    for (const glob of globs) if (glob(text)) return true;
    return false;
  };
}

const isIn = (value: number, { over, under }: Range): boolean =>
  (over === undefined || value > over) && (under === undefined || value < under);

function rangeText({ over, under }: Range): string {
  const parts = [over === undefined ? "" : `over ${over}`, under === undefined ? "" : `under ${under}`];
  return parts.filter((part) => part !== "").join(" and ");
}

/** A length that is not known is over everything; for a rule that takes something away it may be under it too. */
function compileBytes(wanted: Range, restrictive: boolean): Check {
  return {
    ...{ key: "bytes", wanted: rangeText(wanted), ...textual, cost: 1 },
    subject: ({ operation }) => operation.bytes,
    test: ({ operation }) =>
      isIn(operation.bytes, wanted) || (restrictive && operation.bytes === Number.MAX_SAFE_INTEGER),
  };
}

function compileTokens(wanted: Range): Check {
  return {
    ...{ key: "tokens", wanted: rangeText(wanted), textual: true, ofRequest: true, cost: 1 },
    subject: ({ operation }) => operation.llm?.tokens ?? null,
    test: ({ operation }) => operation.llm !== undefined && isIn(operation.llm.tokens, wanted),
  };
}

/** `users` is any schema's users; `hr.salaries` is that one, and perhaps the `salaries` that says no schema. */
function compileName(pattern: string, uncertain: boolean): Glob {
  const parts = splitName(pattern);
  const last = anyCase(parts.last);
  if (parts.before === null) return (text) => last(lastOf(text));
  const before = anyCase(parts.before);
  // `hr.*` would otherwise be every table that is named without a schema.
  const guess = uncertain && !/^\*+$/.test(parts.last);
  return (text) => {
    const name = splitName(text);
    if (!last(name.last)) return false;
    if (name.before === null) return guess || /^\*+$/.test(parts.before as string);
    if (before(name.before)) return true;
    // `database.schema.table` against `schema.table`.
    return before(splitName(name.before).last);
  };
}

function compileColumn(pattern: string, uncertain: boolean): Glob {
  const glob = anyCase(lastOf(pattern));
  return (text) => (text === "*" && uncertain) || glob(text);
}

function compileExecutable(pattern: string): Glob {
  const glob = exactCase(pattern);
  return pattern.includes("/") ? glob : (text) => glob(text.slice(text.lastIndexOf("/") + 1));
}

function lastOf(name: string): string {
  if (name.includes('"')) return splitName(name).last;
  const dot = name.lastIndexOf(".");
  return dot === -1 ? name : name.slice(dot + 1);
}

/** The last part, and what stands before it. A part with a dot in it stands in double quotes, `""` is a quote. */
function splitName(name: string): { before: string | null; last: string } {
  let dot = name.lastIndexOf(".");
  if (name.endsWith('"')) {
    let quote = name.length - 2;
    while (quote >= 0 && !(name[quote] === '"' && name[quote - 1] !== '"')) quote -= name[quote] === '"' ? 2 : 1;
    dot = quote - 1;
  }
  const last = unquote(name.slice(dot + 1));
  return { before: dot <= 0 ? null : unquoteSingle(name.slice(0, dot)), last };
}

function unquoteSingle(text: string): string {
  return text.startsWith('"') && /^"(?:[^"]|"")*"$/.test(text) ? unquote(text) : text;
}

function unquote(part: string): string {
  return part.length >= 2 && part.startsWith('"') && part.endsWith('"')
    ? part.slice(1, -1).replaceAll('""', '"')
    : part;
}

function jobOf({ flow }: PolicyCase): readonly string[] {
  const job = flow.process?.job;
  return job === undefined ? none : [job.id, job.repository, job.workflow].filter((text) => text !== undefined);
}
