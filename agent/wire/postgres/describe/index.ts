/** The describe step of PostgreSQL: SQL text → StatementInfo. */
import { InfoCache } from "./cache.ts";
import { Collector } from "./collect.ts";
import { withQueryText } from "./copy.ts";
import { parseSql, prepareParser } from "./parser.ts";
import type { StatementInfo } from "./statement-info.ts";
import { templateOf } from "./template.ts";
import { type Fields, fieldsOf, listOf, type Tree } from "./tree.ts";
import { Walk } from "./walk.ts";
import { walkStatement } from "./walk-statements.ts";

export { copyProbe } from "./copy.ts";
export { mayCarry, originProves } from "./may-carry.ts";
export type * from "./statement-info.ts";

/** Bytes of a text that is still parsed: one of this size takes a quarter of a second and 200 MB for a moment. */
export const describeTextBytesMax = 1024 * 1024;
/** Texts within texts: a DO in a function body in a DO … */
const innerDepthMax = 4;

const cache = new InfoCache();
const templates = new InfoCache();

/** Loads the parser; once, before the first `describeStatement`. */
export const prepareDescriber = (): Promise<void> => prepareParser();

/**
 * Never throws: what cannot be parsed is an info with the trait `unparsable`. The same text gives the same object, as
 * do texts of one template (template.ts).
 */
export function describeStatement(sql: string): StatementInfo {
  const hit = cache.get(sql);
  if (hit !== undefined) return hit;
  const template = templateOf(sql);
  const alike = template === null ? undefined : templates.get(template);
  if (alike !== undefined) return alike;
  const found = new Collector();
  const lasting = describe(sql, found);
  const info = found.finish();
  if (!lasting) return info;
  if (template === null || info.traits.includes("unparsable")) cache.set(sql, info);
  else templates.set(template, info);
  return info;
}

/** False when the answer is not the text's own fault and must not be kept. */
function describe(sql: string, found: Collector): boolean {
  // A UTF-16 unit is at most three bytes of UTF-8.
  if (sql.length > describeTextBytesMax / 3 && Buffer.byteLength(sql) > describeTextBytesMax) {
    undecided(found, "the text is too large to be parsed");
    found.traits.add("too-large");
    return true;
  }
  if (sql.includes("\\")) found.traits.add("backslash");
  if (sql.includes("\0")) {
    // The server would read the text up to here only.
    found.traits.add("unparsable").add("invalid-text");
    undecided(found, "a NUL character in the text");
    return true;
  }
  if (sql.includes("\ufffd") || !sql.isWellFormed()) found.traits.add("invalid-text");
  return parse(sql, found, 0);
}

function parse(sql: string, found: Collector, depth: number): boolean {
  const parsed = isBlank(sql) ? emptyTree : parseSql(sql);
  if (parsed.tree === null) {
    found.traits.add("unparsable");
    if (replicationCommand.test(sql)) found.traits.add("replication");
    undecided(found, parsed.problem);
    return !parsed.transient;
  }
  const statements = listOf(parsed.tree.stmts);
  if (depth === 0) found.statements = statements.length;
  if (statements.length === 0) found.traits.add("empty");
  if (statements.length > 1) found.traits.add("multi-statement");
  try {
    for (const raw of statements) {
      statement(fieldsOf(raw) ?? {}, sql, found, depth);
      if (depth === 0) found.statementEnd();
    }
  } catch (error) {
    // Deeper than the stack: what was found so far stays, and the rest is undecided.
    found.traits.add("unparsable");
    undecided(found, error instanceof RangeError ? "nested too deeply" : "the parse tree was not understood");
  }
  return true;
}

const emptyTree: { readonly tree: Tree; readonly problem: null } = { tree: { stmts: [] }, problem: null };

/** libpg_query refuses the empty string; white space alone it takes. */
const isBlank = (sql: string) => sql === "";

const replicationCommand =
  /^\s*(IDENTIFY_SYSTEM|START_REPLICATION|(CREATE|DROP|READ|ALTER)_REPLICATION_SLOT|TIMELINE_HISTORY|BASE_BACKUP|UPLOAD_MANIFEST)\b/i;

function statement(raw: Fields, sql: string, found: Collector, depth: number): void {
  const walk = new Walk(found, walkStatement, (text, into) => describeInner(text, into, depth + 1));
  for (const [type, value] of Object.entries(fieldsOf(raw.stmt) ?? {})) {
    const fields = fieldsOf(value) ?? {};
    walk.node(type, fields, depth === 0);
    if (type === "CopyStmt" && found.copy !== null && fields.query !== undefined)
      found.copy = withQueryText(found.copy, sourceOf(raw, sql), fields);
  }
}

/** The statement's own text: places in the tree count bytes. */
function sourceOf(raw: Fields, sql: string): string {
  const start = typeof raw.stmt_location === "number" ? raw.stmt_location : 0;
  const length = typeof raw.stmt_len === "number" ? raw.stmt_len : undefined;
  if (start === 0 && length === undefined) return sql;
  const bytes = Buffer.from(sql);
  return bytes.toString("utf8", start, length === undefined ? bytes.length : start + length);
}

/** SQL in a string of the text: what it does counts, its session effects (prepared names, settings) do not. */
function describeInner(text: string, into: Collector, depth: number): void {
  const inner = new Collector();
  if (depth > innerDepthMax || text.length > describeTextBytesMax / 3) undecided(inner, null);
  else parse(text, inner, depth);
  if (inner.traits.delete("unparsable")) inner.traits.add("dynamic-sql");
  into.absorb(inner);
}

function undecided(found: Collector, problem: string | null): void {
  found.writes = true;
  found.opaque = true;
  found.problem = problem;
}
