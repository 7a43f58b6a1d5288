/** COPY: what it says, and the SELECT that has the same columns. */
import { parseSql } from "./parser.ts";
import type { CopyInfo, StatementInfo } from "./statement-info.ts";
import { constantOf, type Fields, fieldsOf, joinName, listOf, namesOf, only, textOf } from "./tree.ts";
import { shape } from "./where.ts";

/** The query's text is not in the tree: `withQueryText` adds it. */
export function copyOf(fields: Fields): CopyInfo {
  const options: Record<string, string> = Object.create(null);
  for (const item of listOf(fields.options)) {
    const option = only(item, "DefElem") ?? {};
    const list = only(option.arg, "List");
    const value = list === undefined ? constantOf(option.arg) : namesOf(list.items).join(",");
    options[textOf(option.defname).toLowerCase()] = value ?? (only(option.arg, "A_Star") === undefined ? "true" : "*");
  }
  const relation = fieldsOf(fields.relation);
  const parts = relation === undefined ? null : relationParts(relation);
  const columns = fields.attlist === undefined ? null : Object.freeze(namesOf(fields.attlist));
  const format = options.format?.toLowerCase();
  return Object.freeze({
    direction: fields.is_from === true ? "in" : "out",
    stdio: fields.filename === undefined && fields.is_program !== true,
    format: format === "csv" || format === "binary" ? format : "text",
    relation: parts === null ? null : joinName(parts),
    relationParts: parts,
    columns,
    query: null,
    options: Object.freeze(options),
  });
}

const relationParts = (relation: Fields): readonly string[] =>
  Object.freeze(
    [relation.catalogname, relation.schemaname, relation.relname].filter(
      (part): part is string => typeof part === "string",
    ),
  );

/** Cuts the query out of `COPY (query) TO …` and checks that it parses to the very query of the statement. */
export function withQueryText(copy: CopyInfo, statement: string, node: Fields): CopyInfo {
  const start = skipBlank(statement, skipBlank(statement, 0) + 4);
  if (statement[start] !== "(") return copy;
  let depth = 0;
  for (let at = start; at < statement.length; at = skipToken(statement, at)) {
    if (statement[at] === "(") depth++;
    else if (statement[at] === ")" && --depth === 0) {
      const query = statement.slice(start + 1, at);
      const parsed = parseSql(query);
      const statements = listOf(parsed.tree?.stmts);
      const same = statements.length === 1 && shape(fieldsOf(statements[0])?.stmt) === shape(node.query);
      return same ? Object.freeze({ ...copy, query }) : copy;
    }
  }
  return copy;
}

/** The index after white space and comments. */
function skipBlank(text: string, from: number): number {
  let at = from;
  while (at < text.length) {
    if (/\s/.test(text[at]!)) at++;
    else if (text.startsWith("--", at) || text.startsWith("/*", at)) at = skipToken(text, at);
    else return at;
  }
  return at;
}

/** The index after the comment, string, quoted name or single character that starts at `at`. */
function skipToken(text: string, at: number): number {
  const first = text[at];
  const end = (index: number, length: number) => (index < 0 ? text.length : index + length);
  if (text.startsWith("--", at)) return end(text.indexOf("\n", at), 1);
  if (text.startsWith("/*", at)) return skipComment(text, at);
  if (first === '"') return end(text.indexOf('"', at + 1), 1);
  if (first === "'") return skipString(text, at, /[eE]$/.test(text.slice(Math.max(0, at - 1), at)));
  if (first === "$") {
    const tag = /^\$([A-Za-z_\u0080-\uffff][\w\u0080-\uffff]*)?\$/.exec(text.slice(at, at + 80))?.[0];
    if (tag !== undefined) return end(text.indexOf(tag, at + tag.length), tag.length);
  }
  return at + 1;
}

function skipComment(text: string, from: number): number {
  let depth = 0;
  for (let at = from; at < text.length; at++) {
    if (text.startsWith("/*", at)) {
      depth++;
      at++;
    } else if (text.startsWith("*/", at)) {
      at++;
      if (--depth === 0) return at + 1;
    }
  }
  return text.length;
}

function skipString(text: string, from: number, escapes: boolean): number {
  for (let at = from + 1; at < text.length; at++) {
    if (escapes && text[at] === "\\") at++;
    else if (text[at] === "'") return at + 1;
  }
  return text.length;
}

const quoted = (name: string) => `"${name.replaceAll('"', '""')}"`;

/**
 * A SELECT with the columns that this COPY … TO STDOUT sends, for the server to describe; null when there is none.
 * `COPY table TO` without a column list leaves generated columns out, so the caller compares the number of columns.
 */
export function copyProbe(info: StatementInfo): string | null {
  const { copy } = info;
  if (copy === null || copy.direction !== "out") return null;
  if (copy.query !== null) return copy.query;
  if (copy.relationParts === null) return null;
  const columns = copy.columns === null ? "*" : copy.columns.map(quoted).join(", ");
  return `SELECT ${columns} FROM ${copy.relationParts.map(quoted).join(".")}`;
}
