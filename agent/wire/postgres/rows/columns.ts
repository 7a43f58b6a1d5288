/** Which of a result's columns are masked whole, looked into, or make the result impossible. */
import type { MaskSpec } from "../../../core/verdict.ts";
import type { CatalogColumn } from "../../protocol.ts";
import type { ResultField } from "../backend-messages.ts";
import { mayCarry, originProves, type StatementInfo } from "../describe/index.ts";

export type ColumnFate =
  | { readonly kind: "open" }
  | { readonly kind: "whole"; readonly spec: MaskSpec }
  | { readonly kind: "deny"; readonly reason: string };

const open: ColumnFate = { kind: "open" };

interface Pattern {
  readonly spec: MaskSpec;
  readonly schema: RegExp | null;
  readonly table: RegExp | null;
  readonly column: RegExp;
  readonly columnText: string;
  readonly tableText: string | null;
  readonly schemaText: string | null;
}

/** The column masks of a verdict, `schema.table.column` with `*` for any; what stands first in the policy wins. */
export function columnPatterns(masks: readonly MaskSpec[]): Pattern[] {
  return masks.flatMap((spec) => {
    if (spec.column === null) return [];
    const parts = spec.column.toLowerCase().split(".");
    const column = parts.pop() ?? "*";
    const table = parts.pop() ?? null;
    const schema = parts.pop() ?? null;
    return [
      {
        spec,
        schema: globOf(schema),
        table: globOf(table),
        column: globOf(column) ?? /^/,
        columnText: column,
        tableText: table,
        schemaText: schema,
      },
    ];
  });
}

export function fateOf(
  field: ResultField,
  patterns: readonly Pattern[],
  catalog: readonly CatalogColumn[] | null,
  statements: readonly StatementInfo[],
): ColumnFate {
  if (patterns.length === 0) return open;
  // The server's own ctid, xmin, tableoid and their like: nobody stores a value there.
  if (field.tableOid !== 0 && field.attribute < 0) return open;
  const origin =
    field.tableOid === 0 || field.attribute === 0
      ? undefined
      : catalog?.find((column) => column.tableOid === field.tableOid && column.attribute === field.attribute);
  if (origin !== undefined) {
    const named = patterns.find((pattern) => isColumn(pattern, origin.schema, origin.table, origin.column));
    if (named !== undefined) return { kind: "whole", spec: named.spec };
    const behind = patterns.find((pattern) => origin.dependsOn?.some((base) => isBase(pattern, base)) === true);
    if (behind !== undefined) return derived(behind, `column "${field.name}" comes from a view over it`);
    if (statements.every(originProves) && !statements.some(({ traits }) => traits.includes("statistics"))) return open;
  } else if (field.tableOid !== 0) {
    // The table is not in the catalog that Weir can see, so it may be the masked one.
    const unseen = patterns.find((pattern) => pattern.column.test(field.name.toLowerCase())) ?? patterns[0];
    return derived(unseen as Pattern, `the origin of column "${field.name}" could not be read`);
  }
  const carried = patterns.find(
    (pattern) => statements.length === 0 || statements.some((info) => carries(info, pattern, statements)),
  );
  return carried === undefined ? open : derived(carried, `column "${field.name}" is computed, and may hold it`);
}

/** Column masks over a COPY, which names no origins. `columns` are the parts of the list that was written. */
export function copyFates(
  patterns: readonly Pattern[],
  relation: readonly string[] | null,
  columns: readonly string[] | null,
  statements: readonly StatementInfo[],
): ColumnFate[] | ColumnFate {
  if (patterns.length === 0) return open;
  if (relation !== null && columns !== null) {
    const table = relation.at(-1) ?? "";
    const schema = relation.length > 1 ? (relation.at(-2) ?? null) : null;
    return columns.map((column) => {
      const named = patterns.find(
        (pattern) =>
          pattern.column.test(column.toLowerCase()) &&
          (pattern.table === null || pattern.table.test(table.toLowerCase())) &&
          (schema === null || pattern.schema === null || pattern.schema.test(schema.toLowerCase())),
      );
      return named === undefined ? open : ({ kind: "whole", spec: named.spec } as const);
    });
  }
  const carried = patterns.find((pattern) => {
    if (relation === null)
      return statements.length === 0 || statements.some((info) => carries(info, pattern, statements));
    return pattern.table === null || pattern.table.test((relation.at(-1) ?? "").toLowerCase());
  });
  if (carried === undefined) return open;
  return derived(
    carried,
    relation === null ? "the copied query may hold it" : "COPY without a column list copies it too; name the columns",
  );
}

/** `mask` hides the whole value, `detect` leaves it to the detectors. */
function derived(pattern: Pattern, why: string): ColumnFate {
  const { spec } = pattern;
  if (spec.derived === "mask") return { kind: "whole", spec };
  if (spec.derived === "detect") return open;
  return { kind: "deny", reason: `rule "${spec.rule}" masks ${spec.column}, and ${why}` };
}

function carries(info: StatementInfo, pattern: Pattern, through: readonly StatementInfo[]): boolean {
  const others = through.filter((other) => other !== info);
  const table = pattern.tableText === null || pattern.tableText.includes("*") ? null : pattern.tableText;
  const schema = pattern.schemaText === null || pattern.schemaText.includes("*") ? null : pattern.schemaText;
  const names = pattern.columnText.includes("*")
    ? info.columns.filter((column) => pattern.column.test(column.toLowerCase()))
    : [pattern.columnText];
  if (names.some((column) => mayCarry(info, { schema, table, column }, others))) return true;
  // A glob over names meets columns that flow without being named.
  return pattern.columnText.includes("*") && mayCarry(info, { schema, table, column: "*" }, others);
}

function isColumn(pattern: Pattern, schema: string, table: string, column: string): boolean {
  return (
    pattern.column.test(column.toLowerCase()) &&
    (pattern.table === null || pattern.table.test(table.toLowerCase())) &&
    (pattern.schema === null || pattern.schema.test(schema.toLowerCase()))
  );
}

function isBase(pattern: Pattern, base: string): boolean {
  const [schema = "*", table = "*", column = "*"] = base.split(".");
  const either = (glob: RegExp | null, name: string): boolean =>
    name === "*" || glob === null || glob.test(name.toLowerCase());
  return either(pattern.column, column) && either(pattern.table, table) && either(pattern.schema, schema);
}

/** Linear: `*` is the only special character, and a run of them is one. */
function globOf(text: string | null): RegExp | null {
  if (text === null || text === "*") return null;
  const escaped = text
    .replace(/\*+/g, "*")
    .replace(/[.+?^${}()|[\]\\]/g, "\\$&")
    .replaceAll("*", ".*");
  return new RegExp(`^${escaped}$`);
}
