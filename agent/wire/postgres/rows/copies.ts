/** Whether what a text reads and stores is a masked column. */
import type { MaskSpec } from "../../../core/verdict.ts";
import type { CatalogColumn } from "../../protocol.ts";
import type { StorageFlow } from "../describe/index.ts";
import { columnPatterns, maskedBehind, type Pattern } from "./columns.ts";

/** The mask of a column that is stored elsewhere. `catalog` has the columns of all sources; null: they could not be read. */
export function copiedMask(
  copies: readonly StorageFlow[],
  masks: readonly MaskSpec[],
  catalog: readonly CatalogColumn[] | null,
): MaskSpec | null {
  const patterns = columnPatterns(masks);
  if (catalog === null) return patterns[0]?.spec ?? null;
  for (const copy of copies) {
    const found = patternOf(copy, patterns, catalog);
    if (found !== undefined) return found.spec;
  }
  return null;
}

function patternOf(
  { values, unnamed, sources }: StorageFlow,
  patterns: readonly Pattern[],
  catalog: readonly CatalogColumn[],
): Pattern | undefined {
  for (const [schema, table] of sources) {
    const columns = catalog.filter((column) => column.table === table && column.schema === (schema ?? column.schema));
    for (const column of columns) {
      const masked = unnamed || values.has(column.column) ? maskedBehind(column, patterns) : undefined;
      if (masked !== undefined) return masked;
    }
    // A table that the catalog's connection cannot see yet was made in the open transaction: it is known by its name alone.
    const named =
      columns.length > 0 ? undefined : patterns.find((pattern) => isNamed(pattern, schema, table, values, unnamed));
    if (named !== undefined) return named;
  }
  return undefined;
}

function isNamed(
  pattern: Pattern,
  schema: string | null,
  table: string,
  values: ReadonlySet<string>,
  unnamed: boolean,
): boolean {
  if (pattern.table !== null && !pattern.table.test(table.toLowerCase())) return false;
  if (schema !== null && pattern.schema !== null && !pattern.schema.test(schema.toLowerCase())) return false;
  return (unnamed && pattern.table !== null) || [...values].some((name) => pattern.column.test(name.toLowerCase()));
}
