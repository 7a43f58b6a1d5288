/**
 * Code that stands in a string: DO blocks and function bodies. SQL is parsed as it is; PL/pgSQL is parsed by its own
 * parser and each statement in it as SQL. What is run by EXECUTE cannot be known: words that look like verbs count.
 */
import { parseProcedure, parseSql } from "./parser.ts";
import { constantOf, type Fields, fieldsOf, listOf, only, stringOf, textOf, type Value } from "./tree.ts";
import type { Walk } from "./walk.ts";

/** Statements looked at in one body; more make it dynamic. */
const bodyStatementsMax = 500;
/** Bytes of a body; longer ones are scanned for words only. */
const bodyLengthMax = 128 * 1024;

/** `options` are those of DO or CREATE FUNCTION; `definition` is the whole CREATE FUNCTION, null for DO. */
export function describeBody(walk: Walk, options: Value, definition: Fields | null): void {
  const { found } = walk;
  let language = definition === null ? "plpgsql" : "sql";
  const texts: string[] = [];
  for (const item of listOf(options)) {
    const option = only(item, "DefElem") ?? {};
    const name = textOf(option.defname);
    if (name === "language") language = (stringOf(option.arg) ?? "").toLowerCase();
    else if (name === "security" && constantOf(option.arg) !== "false") found.traits.add("security-definer");
    else if (name === "as") {
      const list = only(option.arg, "List");
      texts.push(
        ...(list === undefined ? [stringOf(option.arg) ?? ""] : listOf(list.items).map((part) => stringOf(part) ?? "")),
      );
    }
  }
  if (texts.length === 0) return;
  const body = texts.join("\n");
  if (language === "sql") {
    walk.inner(body, found);
    return;
  }
  found.traits.add("procedural-body");
  if (definition !== null) found.traits.add("dynamic-sql");
  if (language !== "plpgsql" || body.length > bodyLengthMax || !procedure(walk, body, definition)) {
    found.traits.add("dynamic-sql");
    scanWords(walk, body);
  } else if (found.traits.has("dynamic-sql")) scanWords(walk, body);
}

/** False when the body could not be parsed. */
function procedure(walk: Walk, body: string, definition: Fields | null): boolean {
  let tag = "$weir$";
  for (let n = 0; body.includes(tag); n++) tag = `$weir${n}$`;
  const returns = definition === null ? ["void"] : ["void", "SETOF record", "int", "trigger"];
  for (const type of returns) {
    const parsed = parseProcedure(`CREATE FUNCTION f() RETURNS ${type} LANGUAGE plpgsql AS ${tag}${body}${tag}`);
    if (parsed.tree === null) continue;
    const budget = { left: bodyStatementsMax };
    expressions(walk, parsed.tree, budget);
    if (budget.left <= 0) walk.found.traits.add("dynamic-sql");
    return true;
  }
  return false;
}

/** PLpgSQL_expr.parseMode: 0 a statement, 2 an expression, 3 and up an assignment. */
function expressions(walk: Walk, value: Value, budget: { left: number }): void {
  if (typeof value !== "object" || value === null || budget.left <= 0) return;
  if (Array.isArray(value)) {
    for (const item of value) expressions(walk, item, budget);
    return;
  }
  for (const key in value) {
    if (key === "PLpgSQL_stmt_dynexecute" || key === "PLpgSQL_stmt_dynfors" || key === "dynquery") {
      walk.found.traits.add("dynamic-sql");
      const fields = fieldsOf(value[key]);
      const text = constantText(textOf(only(fields?.query ?? fields, "PLpgSQL_expr")?.query));
      if (text !== null) walk.inner(text, walk.found);
    }
    const expression = key === "PLpgSQL_expr" ? only(value, key) : undefined;
    if (expression === undefined) {
      expressions(walk, value[key], budget);
      continue;
    }
    budget.left--;
    const query = textOf(expression.query);
    const mode = expression.parseMode;
    const sql =
      mode === undefined || mode === 0
        ? query
        : mode === 2
          ? `SELECT ${query}`
          : `SELECT ${query.replace(/^[^=]*?:?=/, "")}`;
    walk.inner(sql, walk.found);
  }
}

/** The string when the expression is a string constant. */
function constantText(expression: string): string | null {
  const parsed = parseSql(`SELECT ${expression}`);
  const statement = only(fieldsOf(listOf(parsed.tree?.stmts)[0])?.stmt, "SelectStmt");
  return constantOf(only(listOf(statement?.targetList)[0], "ResTarget")?.val);
}

const verbWords =
  /\b(drop|truncate|delete|update|insert|merge|alter|create|grant|revoke|copy|execute|call|vacuum|reindex|import)\b/gi;

function scanWords(walk: Walk, body: string): void {
  const { found } = walk;
  for (const match of body.matchAll(verbWords)) found.verbs.add(match[0].toLowerCase());
  if (/\b(delete\s+from|update)\b/i.test(body) && !/\bwhere\b/i.test(body)) found.traits.add("no-where");
  if (/\btruncate\b/i.test(body)) found.traits.add("whole-table");
  found.writes = true;
  found.opaque = true;
}
