/** Which of a result's columns are masked whole, looked into, or make the result impossible. */
import type { MaskSpec } from "../../../core/verdict.ts";
import type { CatalogColumn, ColumnName } from "../../protocol.ts";
import type { ResultField } from "../backend-messages.ts";
import { type CopyInfo, mayCarry, originProves, type StatementInfo } from "../describe/index.ts";

export type ColumnFate =
  | { readonly kind: "open" }
  | { readonly kind: "whole"; readonly spec: MaskSpec }
  | { readonly kind: "deny"; readonly reason: string };

const open: ColumnFate = { kind: "open" };

export interface Pattern {
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
    // A row of a partition is a row of the table above it, and the other way round.
    const related = patterns.find((pattern) => origin.relatives?.some((name) => isBase(pattern, name)) === true);
    if (related !== undefined) return { kind: "whole", spec: related.spec };
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

/** The mask of a column, of one that it comes from, or of one whose rows it shares. */
export function maskedBehind(column: CatalogColumn, patterns: readonly Pattern[]): Pattern | undefined {
  return patterns.find(
    (pattern) =>
      isColumn(pattern, column.schema, column.table, column.column) ||
      [...(column.relatives ?? []), ...(column.dependsOn ?? [])].some((name) => isBase(pattern, name)),
  );
}

/** A COPY whose columns are not known, or not for sure: hidden whole, or denied, when it reads any table. */
export function unknownCopyFate(
  patterns: readonly Pattern[],
  statements: readonly StatementInfo[],
  why: string,
): ColumnFate {
  const [first] = patterns;
  const reads =
    statements.length === 0 || statements.some(({ flow }) => flow.opaque || flow.named || flow.tables.length > 0);
  return first === undefined || !reads ? open : derived(first, why);
}

/** The columns of a COPY, with what each is: of a table without a column list the computed ones are not sent. */
export function copiedFields(
  copy: CopyInfo,
  fields: readonly ResultField[],
  catalog: readonly CatalogColumn[] | null,
): readonly ResultField[] {
  if (copy.relation === null || copy.columns !== null) return fields;
  return fields.filter(
    ({ tableOid, attribute }) =>
      catalog?.some((one) => one.tableOid === tableOid && one.attribute === attribute && one.generated === true) !==
      true,
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

function isBase(pattern: Pattern, { schema, table, column }: ColumnName): boolean {
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
