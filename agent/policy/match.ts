/**
 * The keys of `match`, compiled to checks. Each key has a subject (what it looks at) and patterns (what it wants).
 *
 * Some subjects are not certain: `salaries` without a schema may be `hr.salaries`, and a `*` may be any column. What
 * is not certain counts against the client: it matches for a rule that denies, holds, masks or limits, and does not
 * for one that allows; under `not` the other way round.
 */
import { compileGlob, type Glob } from "./glob.ts";
import type { Check, PolicyCase, Subject } from "./policy.ts";

type Patterns = string | number | readonly (string | number)[];

export type Wanted = Patterns | boolean | { readonly not: Patterns } | { readonly only: Patterns };

/** `any`: one element may do; `not`: none may match; `only`: there are some, and all match. */
export function readWanted(wanted: Wanted): { how: "any" | "not" | "only"; patterns: string[] } {
  if (typeof wanted === "object" && "not" in wanted) return { how: "not", patterns: [wanted.not].flat().map(String) };
  if (typeof wanted === "object" && "only" in wanted)
    return { how: "only", patterns: [wanted.only].flat().map(String) };
  return { how: "any", patterns: [wanted].flat().map(String) };
}

interface Key {
  readonly textual: boolean;
  readonly subject: (asked: PolicyCase) => Subject;
  readonly compile: (pattern: string, uncertain: boolean) => Glob;
}

const exactCase = (pattern: string): Glob => compileGlob(pattern);
/** Verbs are lower case already. */
const lowerCase = (pattern: string): Glob => compileGlob(pattern.toLowerCase());
const anyCase = (pattern: string): Glob => compileGlob(pattern, { ignoreCase: true });

const keys: Readonly<Record<string, Key>> = {
  target: { textual: false, subject: ({ target }) => target.name, compile: exactCase },
  protocol: { textual: false, subject: ({ operation }) => operation.protocol, compile: exactCase },
  kind: { textual: false, subject: ({ operation }) => operation.kind, compile: exactCase },
  verb: { textual: true, subject: ({ operation }) => operation.verbs, compile: lowerCase },
  relation: { textual: true, subject: ({ operation }) => operation.relations, compile: compileName },
  column: { textual: true, subject: ({ operation }) => operation.columns, compile: compileColumn },
  function: { textual: true, subject: ({ operation }) => operation.functions, compile: compileName },
  trait: { textual: true, subject: ({ operation }) => operation.traits, compile: exactCase },
  writes: { textual: true, subject: ({ operation }) => String(operation.writes), compile: exactCase },
  user: { textual: false, subject: ({ operation }) => operation.user, compile: exactCase },
  database: { textual: false, subject: ({ operation }) => operation.database, compile: exactCase },
  groups: { textual: false, subject: ({ flow }) => flow.identity?.groups ?? none, compile: exactCase },
  identity: { textual: false, subject: ({ flow }) => flow.identity?.subject ?? "", compile: exactCase },
  // The executable, not `comm`: a process may call itself what it likes.
  process: { textual: false, subject: ({ flow }) => flow.process?.exe ?? "", compile: compileExecutable },
  uid: {
    textual: false,
    subject: ({ flow }) => (flow.process === null ? "" : String(flow.process.uid)),
    compile: exactCase,
  },
  cgroup: { textual: false, subject: ({ flow }) => flow.process?.cgroup ?? "", compile: exactCase },
  job: { textual: false, subject: jobOf, compile: exactCase },
};

/** Keys whose patterns compare as they stand. */
const exactKeys = new Set([
  "target",
  "protocol",
  "kind",
  "trait",
  "user",
  "database",
  "groups",
  "identity",
  "uid",
  "cgroup",
  "job",
]);
const none: readonly string[] = [];

/** `restrictive`: the rule takes something away from the client. */
export function compileCheck(key: string, wanted: Wanted, restrictive: boolean): Check {
  if (key === "bytes") return compileBytes(wanted as unknown as { over?: number; under?: number });
  const { textual, subject, compile } = keys[key]!;
  const { how, patterns } = readWanted(wanted);
  const negated = how === "not";
  const matchesOne = anyOf(patterns, (pattern) => compile(pattern, restrictive !== negated), exactKeys.has(key));
  const test = (asked: PolicyCase): boolean => {
    const value = subject(asked);
    if (typeof value === "string") return matchesOne(value) !== negated;
    const elements = value as readonly string[];
    if (how === "only") return elements.length > 0 && elements.every(matchesOne);
    for (let i = 0; i < elements.length; i += 1) if (matchesOne(elements[i]!)) return !negated;
    return negated;
  };
  return { key, wanted: `${how === "any" ? "" : `${how} `}${patterns.join(" | ")}`, textual, subject, test };
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

function compileBytes({ over, under }: { over?: number; under?: number }): Check {
  const wanted = [over === undefined ? "" : `over ${over}`, under === undefined ? "" : `under ${under}`].filter(
    (t) => t !== "",
  );
  return {
    key: "bytes",
    wanted: wanted.join(" and "),
    textual: true,
    subject: ({ operation }) => operation.bytes,
    test: ({ operation }) =>
      (over === undefined || operation.bytes > over) && (under === undefined || operation.bytes < under),
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
