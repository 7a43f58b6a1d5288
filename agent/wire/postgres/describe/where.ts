/** Questions about the shape of a statement: does its WHERE select anything, can its result be long. */
import { aggregateFunctions } from "./builtin-functions.ts";
import { type Fields, fieldsOf, listOf, namesOf, nodeOf, only, type Value } from "./tree.ts";

/**
 * True when the condition cannot tell one row from another: it names no column (`true`, `1=1`, `$1`), compares a
 * thing with itself, or has such an arm under OR. `DELETE … WHERE true` is a DELETE without WHERE in disguise.
 */
export function isTrivialCondition(condition: Value): boolean {
  const node = nodeOf(condition);
  if (node === null) return true;
  const [type, fields] = node;
  if (type === "CurrentOfExpr") return false;
  if (type === "BoolExpr") {
    const args = listOf(fields.args);
    if (fields.boolop === "OR_EXPR")
      return (
        args.some((arg) => isTrivialCondition(arg) && !mentions(arg, "ParamRef")) || args.every(isTrivialCondition)
      );
    return args.every(isTrivialCondition);
  }
  if (type === "A_Expr" && isReflexive(fields)) return true;
  if (type === "NullTest" && fields.nulltesttype === "IS_NOT_NULL" && mentions(fields.arg, "A_Const")) return true;
  return !mentions(condition, "ColumnRef");
}

function isReflexive(fields: Fields): boolean {
  if (fields.lexpr === undefined || fields.rexpr === undefined) return false;
  if (!["=", "<=", ">="].includes(namesOf(fields.name)[0] ?? "")) return false;
  return shape(fields.lexpr) === shape(fields.rexpr);
}

/** A tree as text without the places in the source. */
export const shape = (value: Value): string =>
  JSON.stringify(value, (key, item) =>
    key === "location" || key.endsWith("_location") || key.startsWith("rexpr_list_") ? undefined : item,
  );

function mentions(value: Value, type: string): boolean {
  if (Array.isArray(value)) return value.some((item) => mentions(item, type));
  const fields = fieldsOf(value);
  if (fields === undefined) return false;
  for (const key in fields) if (key === type || mentions(fields[key], type)) return true;
  return false;
}

/** True for a SELECT from a relation without LIMIT or FETCH, unless it is an aggregate with its one row. */
export function isUnlimited(select: Fields): boolean {
  const limit = select.limitCount;
  if (limit !== undefined && fieldsOf(only(limit, "A_Const"))?.isnull !== true) return false;
  const left = fieldsOf(select.larg);
  const right = fieldsOf(select.rarg);
  if (left !== undefined && right !== undefined) return isUnlimited(left) || isUnlimited(right);
  if (!listOf(select.fromClause).some(readsRelation)) return false;
  if (select.groupClause !== undefined) return true;
  return !listOf(select.targetList).some(hasAggregate);
}

function readsRelation(item: Value): boolean {
  const node = nodeOf(item);
  if (node === null) return false;
  const [type, fields] = node;
  if (type === "RangeVar") return true;
  if (type === "JoinExpr") return readsRelation(fields.larg) || readsRelation(fields.rarg);
  if (type === "RangeTableSample") return true;
  if (type !== "RangeSubselect") return false;
  const inner = only(fields.subquery, "SelectStmt");
  return inner !== undefined && isUnlimited(inner);
}

function hasAggregate(value: Value): boolean {
  if (Array.isArray(value)) return value.some(hasAggregate);
  const fields = fieldsOf(value);
  if (fields === undefined) return false;
  const call = fieldsOf(fields.FuncCall);
  if (call !== undefined && call.over === undefined) {
    const names = namesOf(call.funcname);
    if (aggregateFunctions.has(names[names.length - 1] ?? "")) return true;
  }
  for (const key in fields) if (key !== "SubLink" && hasAggregate(fields[key])) return true;
  return false;
}
