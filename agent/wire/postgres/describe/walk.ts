/** The walk over expressions, FROM items and queries. Statements of other kinds are in walk-statements.ts. */
import { wholeRowFunctions } from "./builtin-functions.ts";
import type { Collector } from "./collect.ts";
import { keepsArguments, meaningOfFunction, operatorIsBuiltin, settingChangesMeaning } from "./functions.ts";
import {
  constantOf,
  type Fields,
  fieldsOf,
  joinName,
  listOf,
  namesOf,
  nodeOf,
  only,
  stringOf,
  textOf,
  type Value,
} from "./tree.ts";

/** Names of CTEs that can be seen here, from the inside out. */
interface Scope {
  readonly names: Set<string>;
  readonly outer: Scope | null;
}

/** What runs a statement node: set by walk-statements.ts, which imports this file. */
export type StatementWalk = (walk: Walk, type: string, fields: Fields, top: boolean) => void;

/** Relations that hold samples or copies of other relations' values. */
const valueStores = /^pg_(statistic|stats)(_|$)|^pg_largeobject$|^pg_toast_\d/;

export class Walk {
  /** Above zero where no value can reach the result: WHERE, ON, ORDER BY, EXISTS … */
  #blind = 0;
  /** The same for what is stored: below EXPLAIN ANALYZE values do get there. */
  #hidden = 0;
  /** Above zero where a value that is read is stored. */
  #stored = 0;
  /** The column that is assigned. */
  #assigned: string | null = null;
  #inConflict = false;
  /** False below a plain EXPLAIN. */
  executed = true;
  #scope: Scope | null = null;
  readonly found: Collector;
  readonly #statement: StatementWalk;
  /** Describes SQL that stands in a string. */
  readonly inner: (text: string, found: Collector) => void;

  constructor(found: Collector, statement: StatementWalk, inner: (text: string, found: Collector) => void) {
    this.found = found;
    this.#statement = statement;
    this.inner = inner;
  }

  value(value: Value): void {
    if (typeof value !== "object" || value === null) return;
    if (Array.isArray(value)) for (const item of value) this.value(item);
    else this.fields(value);
  }

  fields(fields: Fields): void {
    if (typeof fields.relname === "string") {
      this.relation(fields, false);
      return;
    }
    for (const key in fields) {
      const value = fields[key];
      if (typeof value !== "object" || value === null) continue;
      const first = key.charCodeAt(0);
      if (first >= 65 && first <= 90) this.node(key, fieldsOf(value) ?? {}, false);
      else this.value(value);
    }
  }

  /** Walks where values do not reach the result. */
  blindly(...values: Value[]): void {
    this.#hidden++;
    this.unshown(...values);
    this.#hidden--;
  }

  /** Walks what runs, and gives no value back. */
  unshown(...values: Value[]): void {
    this.#blind++;
    for (const value of values) this.value(value);
    this.#blind--;
  }

  /** Walks where values are stored; `column`: in this column of the table that is at hand. */
  storing(body: () => void, column: string | null = null): void {
    const assigned = this.#assigned;
    this.#assigned = column;
    this.#stored++;
    body();
    this.#stored--;
    this.#assigned = assigned;
  }

  /** Values reach where they go from here. */
  carried(name: string | null): void {
    const { found } = this;
    if (this.#hidden > 0) return;
    if (name !== null && name === this.#assigned) {
      found.kept.add(name);
      return;
    }
    if (name === null) found.star = true;
    else found.values.add(name);
    if (this.#stored > 0) found.copies = true;
  }

  node(type: string, fields: Fields, top: boolean): void {
    switch (type) {
      case "A_Const":
      case "ParamRef":
      case "String":
      case "Integer":
      case "TypeName":
      case "CurrentOfExpr":
        return;
      case "ColumnRef":
        this.#columnRef(fields, false);
        return;
      case "A_Star":
        if (this.#blind === 0) this.found.unnamed = true;
        this.carried(null);
        this.found.columns.add("*");
        return;
      case "A_Indirection":
        for (const step of listOf(fields.indirection)) {
          const name = stringOf(step);
          if (name !== null) this.#mention(name);
        }
        this.fields(fields);
        return;
      case "FuncCall":
        this.call(fields);
        return;
      case "A_Expr":
        this.#operator(namesOf(fields.name));
        this.#operands(fields);
        return;
      case "SubLink":
        this.#subLink(fields);
        return;
      case "RangeVar":
        this.relation(fields, false);
        return;
      case "JoinExpr":
        this.#alias(fields.alias, true);
        this.#alias(fields.join_using_alias, false);
        for (const name of namesOf(fields.usingClause)) this.found.columns.add(name);
        this.value(fields.larg);
        this.value(fields.rarg);
        this.blindly(fields.quals);
        return;
      case "RangeFunction":
      case "RangeSubselect":
      case "RangeTableFunc":
      case "JsonTable":
        this.#alias(fields.alias, false);
        this.fields(fields);
        return;
      case "LockingClause":
        this.found.traits.add("for-update");
        return;
      default:
        if (type.endsWith("Stmt")) this.#statement(this, type, fields, top);
        else this.fields(fields);
    }
  }

  #operands(fields: Fields): void {
    // `name` holds the operator, not columns.
    this.value(fields.lexpr);
    this.value(fields.rexpr);
  }

  #operator(parts: readonly string[]): void {
    if (parts.length === 0 || operatorIsBuiltin(parts)) return;
    // The parser spells the tests it makes itself (IN, BETWEEN, LIKE …) in words or with a builtin's name.
    if (parts.length === 1 && /^[A-Z ]+$/.test(parts[0]!)) return;
    this.found.functions.add(`operator(${joinName(parts)})`);
    this.#unknown();
  }

  #unknown(): void {
    this.found.traits.add("unknown-function");
    if (this.executed) this.found.writes = true;
    if (this.#blind === 0) this.found.opaque = true;
  }

  #mention(name: string): void {
    this.found.columns.add(name);
    this.carried(name);
    if (this.#blind === 0) this.found.mentioned.add(name);
  }

  #columnRef(fields: Fields, bare: boolean): void {
    const parts = listOf(fields.fields);
    const last = parts[parts.length - 1];
    if (only(last, "A_Star") !== undefined) {
      this.found.columns.add("*");
      this.carried(null);
      if (!bare && this.#blind === 0) this.found.unnamed = true;
      return;
    }
    const name = stringOf(last) ?? "";
    this.found.columns.add(name);
    // EXCLUDED is the row that the text brings, not one that it reads.
    if (!(this.#inConflict && parts.length === 2 && stringOf(parts[0]) === "excluded")) this.carried(name);
    if (this.#blind > 0) return;
    if (parts.length > 1 && wholeRowFunctions.has(name)) {
      // `c.row_to_json` is row_to_json(c).
      this.found.functions.add(name);
      this.found.unnamed = true;
    }
    if (!bare) this.found.mentioned.add(name);
    else if (parts.length === 1) this.found.bare.add(name);
  }

  #subLink(fields: Fields): void {
    const kind = fields.subLinkType;
    // EXISTS, IN, ANY, ALL give a truth value.
    if (kind === "EXISTS_SUBLINK" || kind === undefined || kind === "ANY_SUBLINK" || kind === "ALL_SUBLINK")
      this.blindly(fields.testexpr, fields.subselect);
    else this.fields(fields);
    this.#operator(namesOf(fields.operName));
  }

  call(fields: Fields): void {
    let parts = namesOf(fields.funcname);
    if (fields.funcformat === "COERCE_SQL_SYNTAX" && parts.length === 2 && parts[0] === "pg_catalog")
      parts = parts.slice(1);
    const name = joinName(parts);
    this.found.functions.add(name);
    const meaning = meaningOfFunction(parts);
    for (const trait of meaning.traits) this.found.traits.add(trait);
    if (meaning.writes && this.executed) this.found.writes = true;
    if (meaning.opaque && this.#blind === 0) this.found.opaque = true;
    const args = listOf(fields.args);
    if (parts[parts.length - 1] === "set_config") this.#setConfig(args);
    if (meaning.traits.includes("dynamic-sql"))
      for (const arg of args) {
        const text = constantOf(arg);
        if (text?.includes(" ") === true) this.inner(text, this.found);
      }
    if (keepsArguments(parts[parts.length - 1] ?? "") && this.executed) this.#kept(fields.args);
    else this.value(fields.args);
    // Whatever the text in it reads.
    if (meaning.traits.includes("dynamic-sql")) this.carried(null);
    if (fields.agg_within_group === true) this.value(fields.agg_order);
    else this.blindly(fields.agg_order);
    this.blindly(fields.agg_filter, fields.over);
  }

  /** Wherever the function stands, also in a condition. */
  #kept(args: Value): void {
    const hidden = this.#hidden;
    this.#hidden = 0;
    this.found.keeps = true;
    this.storing(() => this.value(args));
    this.#hidden = hidden;
  }

  #setConfig(args: readonly Value[]): void {
    const name = constantOf(args[0])?.toLowerCase() ?? null;
    if (name === null || settingChangesMeaning(name)) this.found.traits.add("set-meaning");
    if (name === null) this.found.writes = true;
    else this.found.sets.push({ name, value: constantOf(args[1]), local: constantOf(args[2]) === "true" });
  }

  #alias(alias: Value, renames: boolean): void {
    const fields = fieldsOf(alias);
    if (fields === undefined) return;
    this.found.rowNames.add(textOf(fields.aliasname));
    if (renames && fields.colnames !== undefined) this.carried(null);
    if (renames && fields.colnames !== undefined && this.#blind === 0) this.found.unnamed = true;
  }

  /** A relation read, or `target` of a statement: a target is never a CTE. */
  relation(fields: Fields, target: boolean): void {
    const name = textOf(fields.relname);
    const schema = typeof fields.schemaname === "string" ? fields.schemaname : null;
    const catalog = typeof fields.catalogname === "string" ? fields.catalogname : null;
    this.#alias(fields.alias, true);
    this.found.rowNames.add(name);
    if (!target && schema === null && this.#isCte(name)) return;
    if (!target) this.source(fields);
    this.addRelation(catalog === null ? (schema === null ? [name] : [schema, name]) : [catalog, schema ?? "", name]);
    if (valueStores.test(name)) {
      this.found.traits.add("statistics");
      this.found.opaque = true;
    }
  }

  /** A relation whose values are read. */
  source(fields: Fields): void {
    const schema = typeof fields.schemaname === "string" ? fields.schemaname : null;
    const { sources, conditions } = this.found;
    (this.#hidden > 0 ? conditions : sources).push([schema, textOf(fields.relname)]);
  }

  addRelation(parts: readonly string[]): void {
    this.found.relations.add(joinName(parts));
    if (this.#blind === 0) this.found.tables.push([parts[parts.length - 2] ?? null, parts[parts.length - 1] ?? ""]);
  }

  #isCte(name: string): boolean {
    for (let scope = this.#scope; scope !== null; scope = scope.outer) if (scope.names.has(name)) return true;
    return false;
  }

  /** Runs `body` with the CTEs of a WITH clause in sight. */
  withClause(clause: Value, body: () => void): void {
    const fields = fieldsOf(clause);
    if (fields === undefined) {
      body();
      return;
    }
    const outer = this.#scope;
    const scope: Scope = { names: new Set(), outer };
    this.#scope = scope;
    const ctes = listOf(fields.ctes).map((item) => only(item, "CommonTableExpr") ?? {});
    if (fields.recursive === true) for (const cte of ctes) scope.names.add(textOf(cte.ctename));
    for (const cte of ctes) {
      this.value(cte.ctequery);
      this.blindly(cte.cycle_clause);
      scope.names.add(textOf(cte.ctename));
      this.found.rowNames.add(textOf(cte.ctename));
    }
    body();
    this.#scope = outer;
  }

  /** `top`: its columns are the result's, and those that are a plain column come with their origin. */
  select(fields: Fields, top: boolean): void {
    this.withClause(fields.withClause, () => {
      this.value(fields.valuesLists);
      const left = fieldsOf(fields.larg);
      const right = fieldsOf(fields.rarg);
      // The columns of a UNION have no origin.
      if (left !== undefined) this.select(left, false);
      if (right !== undefined) this.select(right, false);
      const from = listOf(fields.fromClause);
      this.value(fields.fromClause);
      this.results(fields.targetList, top && !from.some(mergesColumns));
      this.blindly(fields.whereClause, fields.groupClause, fields.havingClause, fields.windowClause);
      this.blindly(fields.distinctClause, fields.sortClause, fields.limitCount, fields.limitOffset);
      this.value(fields.lockingClause);
    });
  }

  /** A select list or RETURNING; `originals`: plain columns and stars carry their origin. */
  results(list: Value, originals: boolean): void {
    for (const item of listOf(list)) {
      const target = only(item, "ResTarget");
      const reference = target === undefined ? undefined : only(target.val, "ColumnRef");
      if (reference !== undefined) this.#columnRef(reference, originals);
      else if (target !== undefined) this.value(target.val);
      else this.value(item);
    }
  }

  returning(clause: Value, top: boolean): void {
    const fields = fieldsOf(clause);
    if (fields === undefined) return;
    this.found.stores = true;
    for (const name of ["old", "new"]) this.found.rowNames.add(name);
    for (const option of listOf(fields.options)) {
      const name = only(option, "ReturningOption")?.value;
      if (typeof name === "string") this.found.rowNames.add(name);
    }
    this.results(fields.exprs, top);
  }

  /** `SET a = …` and column lists: the names of the targets and the values. */
  assignments(list: Value, conflict = false): void {
    const inConflict = this.#inConflict;
    this.#inConflict = conflict;
    for (const item of listOf(list)) {
      const target = only(item, "ResTarget");
      if (target === undefined) continue;
      if (typeof target.name === "string") this.found.columns.add(target.name);
      this.storing(() => this.value(target.val), typeof target.name === "string" ? target.name : null);
      this.value(target.indirection);
    }
    this.#inConflict = inConflict;
  }
}

/** USING and NATURAL make columns that belong to neither side. */
function mergesColumns(item: Value): boolean {
  const node = nodeOf(item);
  if (node === null || node[0] !== "JoinExpr") return false;
  const [, fields] = node;
  return (
    fields.isNatural === true ||
    fields.usingClause !== undefined ||
    mergesColumns(fields.larg) ||
    mergesColumns(fields.rarg)
  );
}
