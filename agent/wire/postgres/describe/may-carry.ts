import type { BaseColumn, StatementInfo } from "./statement-info.ts";

/** Why a result column without an origin may hold a base column's value. */
export type CarryReason = "unknown-source" | "named" | "unnamed";

/**
 * Can a result column WITHOUT an origin (an expression, a cast, row_to_json, an aggregate) hold values of `column`?
 * Conservative: true when in doubt. A view counts as itself: ask for the view's column that depends on the base one.
 * `through` are the statements that EXECUTE or FETCH in this text run; without them such a text may carry anything.
 */
export function mayCarry(info: StatementInfo, column: BaseColumn, through?: readonly StatementInfo[]): boolean {
  return carryReason(info, column, through) !== null;
}

export function carryReason(
  info: StatementInfo,
  column: BaseColumn,
  through?: readonly StatementInfo[],
): CarryReason | null {
  const { flow } = info;
  if (flow.opaque) return "unknown-source";
  if (flow.named) {
    if (through === undefined) return "unknown-source";
    for (const other of through) {
      const reason = carryReason(other, column);
      if (reason !== null) return reason;
    }
  }
  if (!flow.tables.some(([schema, table]) => isTable(column, schema, table))) return null;
  if (flow.mentioned.has(column.column)) return "named";
  return flow.unnamed ? "unnamed" : null;
}

/** False when the text stores values and gives rows back (RETURNING): a column's origin then proves nothing. */
export const originProves = (info: StatementInfo): boolean => !info.flow.stores;

/** A table written without schema may be of any schema. */
function isTable(column: BaseColumn, schema: string | null, table: string): boolean {
  if (column.table !== null && column.table !== table) return false;
  return schema === null || column.schema === null || schema === column.schema;
}
