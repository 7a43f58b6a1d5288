/** The walk over statement nodes: verb, targets, and what runs inside of it. */
import { describeBody } from "./bodies.ts";
import { Collector } from "./collect.ts";
import { copyOf } from "./copy.ts";
import { settingChangesMeaning } from "./functions.ts";
import type { TransactionControl } from "./statement-info.ts";
import { kindOfStatement } from "./statements.ts";
import { constantOf, type Fields, fieldsOf, listOf, only, stringOf, textOf, type Value } from "./tree.ts";
import { Walk } from "./walk.ts";
import { definitionWalk } from "./walk-definitions.ts";
import { isTrivialCondition, isUnlimited } from "./where.ts";

/** Walks one statement; `top` when its rows are what the client gets. */
export function walkStatement(walk: Walk, type: string, fields: Fields, top: boolean): void {
  const { found } = walk;
  if (type === "RawStmt" || type === "ReturnStmt") {
    walk.fields(fields);
    return;
  }
  const kind = kindOfStatement(type);
  if (kind === undefined) {
    found.traits.add("unknown-statement");
    found.verbs.add(type.replace(/Stmt$/, "").toLowerCase());
    found.writes = true;
    found.opaque = true;
    walk.fields(fields);
    return;
  }
  if (type === "TransactionStmt") {
    transaction(walk, fields);
    return;
  }
  const verb = exactVerb(type, fields) ?? kind.verb;
  found.verbs.add(verb);
  if (kind.writes && walk.executed) found.writes = true;
  for (const trait of kind.traits) if (walk.executed || trait === "explain") found.traits.add(trait);
  const special = specials[type];
  if (special !== undefined) {
    special(walk, fields, top);
    return;
  }
  if (definitionWalk(walk, type, fields)) return;
  walk.fields(fields);
}

function exactVerb(type: string, fields: Fields): string | null {
  if (type === "GrantStmt" || type === "GrantRoleStmt") return fields.is_grant === true ? "grant" : "revoke";
  if (type === "VacuumStmt") return fields.is_vacuumcmd === true ? "vacuum" : "analyze";
  if (type === "FetchStmt") return fields.ismove === true ? "move" : "fetch";
  if (type === "VariableSetStmt") return textOf(fields.kind).startsWith("VAR_RESET") ? "reset" : "set";
  return null;
}

type Special = (walk: Walk, fields: Fields, top: boolean) => void;

const specials: Readonly<Record<string, Special>> = {
  SelectStmt(walk, fields, top) {
    const { found } = walk;
    const into = fieldsOf(leftmost(fields).intoClause);
    if (into !== undefined) {
      for (const trait of ["select-into", "ddl"] as const) found.traits.add(trait);
      found.verbs.add("create");
      found.writes = true;
      target(walk, into.rel);
    } else if (top && walk.executed && isUnlimited(fields)) found.traits.add("no-limit");
    if (into === undefined) walk.select(fields, top);
    else walk.storing(() => walk.select(fields, false));
  },
  CreateTableAsStmt(walk, fields) {
    target(walk, fieldsOf(fields.into)?.rel);
    // Where a materialized view's columns come from is known of it when it is read.
    if (fields.objtype === "OBJECT_MATVIEW") walk.value(fields.query);
    else walk.storing(() => walk.value(fields.query));
  },
  InsertStmt(walk, fields, top) {
    const { found } = walk;
    walk.withClause(fields.withClause, () => {
      target(walk, fields.relation);
      walk.assignments(fields.cols);
      walk.storing(() => walk.value(fields.selectStmt));
      const conflict = fieldsOf(fields.onConflictClause);
      if (conflict !== undefined) {
        walk.blindly(conflict.infer, conflict.whereClause);
        if (conflict.action === "ONCONFLICT_UPDATE") source(walk, fields.relation);
        walk.assignments(conflict.targetList, true);
        if (conflict.action === "ONCONFLICT_UPDATE") {
          found.verbs.add("update");
          found.traits.add("upsert");
        }
      }
      walk.returning(fields.returningClause, top);
    });
  },
  UpdateStmt(walk, fields, top) {
    walk.withClause(fields.withClause, () => {
      target(walk, fields.relation);
      source(walk, fields.relation);
      walk.assignments(fields.targetList);
      walk.value(fields.fromClause);
      condition(walk, fields.whereClause);
      walk.returning(fields.returningClause, top);
    });
  },
  DeleteStmt(walk, fields, top) {
    walk.withClause(fields.withClause, () => {
      target(walk, fields.relation);
      source(walk, fields.relation);
      walk.value(fields.usingClause);
      condition(walk, fields.whereClause);
      walk.returning(fields.returningClause, top);
    });
  },
  MergeStmt(walk, fields, top) {
    walk.withClause(fields.withClause, () => {
      target(walk, fields.relation);
      source(walk, fields.relation);
      walk.value(fields.sourceRelation);
      walk.blindly(fields.joinCondition);
      for (const item of listOf(fields.mergeWhenClauses))
        mergeAction(walk, fields, only(item, "MergeWhenClause") ?? {});
      walk.returning(fields.returningClause, top);
    });
  },
  TruncateStmt: (walk, fields) => targets(walk, fields.relations),
  LockStmt: (walk, fields) => targets(walk, fields.relations),
  CopyStmt(walk, fields) {
    const { found } = walk;
    const inward = fields.is_from === true;
    if (fields.is_program === true) found.traits.add("copy-program");
    else if (fields.filename !== undefined)
      for (const trait of ["copy-file", "server-file"] as const) found.traits.add(trait);
    found.traits.add(inward ? "copy-in" : "copy-out");
    if (inward || fields.filename !== undefined) found.writes = true;
    target(walk, fields.relation);
    for (const name of listOf(fields.attlist)) found.columns.add(stringOf(name) ?? "");
    if (!inward && fields.relation !== undefined) {
      found.traits.add("no-limit");
      if (fields.attlist === undefined) found.columns.add("*");
    }
    const query = (): void => {
      for (const [type, query] of Object.entries(fieldsOf(fields.query) ?? {}))
        walkStatement(walk, type, fieldsOf(query) ?? {}, true);
    };
    if (!inward && fields.filename !== undefined)
      walk.storing(() => {
        source(walk, fields.relation);
        const names = listOf(fields.attlist).map((name) => stringOf(name) ?? "");
        for (const name of names.length > 0 || fields.relation === undefined ? names : [null]) walk.carried(name);
        query();
      });
    else query();
    walk.blindly(fields.whereClause);
    found.copy = copyOf(fields);
  },
  ExplainStmt(walk, fields) {
    const analyze = listOf(fields.options).some((item) => {
      const option = only(item, "DefElem");
      const value = constantOf(option?.arg)?.toLowerCase();
      return option?.defname === "analyze" && value !== "false" && value !== "off" && value !== "0";
    });
    if (analyze) walk.found.traits.add("explain-analyze");
    const before = walk.executed;
    walk.executed = before && analyze;
    // A plan shows no values.
    if (analyze) walk.unshown(fields.query);
    else walk.blindly(fields.query);
    walk.executed = before;
  },
  PrepareStmt(walk, fields) {
    const inner = innerStatement(walk, fields.query);
    walk.found.absorb(inner);
    walk.found.prepares.push({ name: textOf(fields.name), info: inner.finish() });
  },
  DeclareCursorStmt(walk, fields) {
    const inner = innerStatement(walk, fields.query);
    walk.found.absorb(inner);
    walk.found.declares.push({ name: textOf(fields.portalname), info: inner.finish() });
  },
  ExecuteStmt(walk, fields) {
    walk.found.executes.push(textOf(fields.name));
    walk.found.named = true;
    walk.carried(null);
    walk.value(fields.params);
  },
  FetchStmt(walk, fields) {
    walk.found.fetches.push(textOf(fields.portalname));
    if (fields.ismove !== true) walk.found.named = true;
  },
  ClosePortalStmt: (walk, fields) => void walk.found.closes.push(textOf(fields.portalname) || "*"),
  DeallocateStmt: (walk, fields) => void walk.found.deallocates.push(textOf(fields.name) || "*"),
  DiscardStmt(walk, fields) {
    const { found } = walk;
    if (fields.target === "DISCARD_PLANS" || fields.target === "DISCARD_SEQUENCES") return;
    if (fields.target === "DISCARD_TEMP") {
      found.writes = true;
      return;
    }
    found.deallocates.push("*");
    found.closes.push("*");
    found.sets.push({ name: "*", value: null, local: false });
    found.traits.add("set-meaning");
  },
  VariableSetStmt(walk, fields) {
    const { found } = walk;
    const name = fields.kind === "VAR_RESET_ALL" ? "*" : textOf(fields.name).toLowerCase();
    const values = listOf(fields.args).map(constantOf);
    const value =
      values.length === 0 || fields.kind === "VAR_SET_MULTI" ? null : values.map((part) => part ?? "").join(", ");
    if (settingChangesMeaning(name) || name === "session characteristics") found.traits.add("set-meaning");
    found.sets.push({ name, value, local: fields.is_local === true });
  },
  DoStmt(walk, fields) {
    describeBody(walk, fields.args, null);
    walk.found.opaque = true;
  },
  CallStmt(walk, fields) {
    walk.call(fieldsOf(fields.funccall) ?? {});
  },
};

function leftmost(select: Fields): Fields {
  let left = select;
  for (let next = fieldsOf(left.larg); next !== undefined; next = fieldsOf(left.larg)) left = next;
  return left;
}

export function target(walk: Walk, relation: Value): void {
  const fields = fieldsOf(relation);
  if (fields !== undefined) walk.relation(only(relation, "RangeVar") ?? fields, true);
}

function source(walk: Walk, relation: Value): void {
  const fields = fieldsOf(relation);
  if (fields !== undefined) walk.source(only(relation, "RangeVar") ?? fields);
}

function targets(walk: Walk, relations: Value): void {
  for (const relation of listOf(relations)) target(walk, relation);
}

function condition(walk: Walk, where: Value): void {
  if (walk.executed && isTrivialCondition(where)) {
    walk.found.traits.add("no-where");
    if (where !== undefined) walk.found.traits.add("trivial-where");
  }
  walk.blindly(where);
}

function mergeAction(walk: Walk, merge: Fields, clause: Fields): void {
  const command = textOf(clause.commandType);
  const verb =
    command === "CMD_DELETE"
      ? "delete"
      : command === "CMD_UPDATE"
        ? "update"
        : command === "CMD_INSERT"
          ? "insert"
          : null;
  if (verb !== null) walk.found.verbs.add(verb);
  const everyRow = clause.matchKind === "MERGE_WHEN_NOT_MATCHED_BY_SOURCE" || isTrivialCondition(merge.joinCondition);
  if (walk.executed && (verb === "delete" || verb === "update") && everyRow && isTrivialCondition(clause.condition))
    walk.found.traits.add("no-where");
  walk.blindly(clause.condition);
  walk.assignments(clause.targetList);
  walk.storing(() => walk.value(clause.values));
}

/** The statement of PREPARE or DECLARE, described for itself: it is what EXECUTE and FETCH run. */
function innerStatement(walk: Walk, query: Value): Collector {
  const inner = new Collector();
  inner.statements = 1;
  const innerWalk = new Walk(inner, walkStatement, walk.inner);
  for (const [type, fields] of Object.entries(fieldsOf(query) ?? {}))
    innerWalk.node(type, fieldsOf(fields) ?? {}, true);
  return inner;
}

const controls: Readonly<Record<string, readonly [TransactionControl, verb: string]>> = {
  TRANS_STMT_BEGIN: ["begin", "begin"],
  TRANS_STMT_START: ["begin", "begin"],
  TRANS_STMT_COMMIT: ["commit", "commit"],
  TRANS_STMT_ROLLBACK: ["rollback", "rollback"],
  TRANS_STMT_SAVEPOINT: ["savepoint", "savepoint"],
  TRANS_STMT_RELEASE: ["release", "release"],
  TRANS_STMT_ROLLBACK_TO: ["rollback-to", "rollback"],
  TRANS_STMT_PREPARE: ["prepare-transaction", "prepare"],
  TRANS_STMT_COMMIT_PREPARED: ["commit-prepared", "commit"],
  TRANS_STMT_ROLLBACK_PREPARED: ["rollback-prepared", "rollback"],
};

function transaction({ found }: Walk, fields: Fields): void {
  const control = controls[textOf(fields.kind)];
  if (control === undefined) {
    found.traits.add("unknown-statement");
    found.writes = true;
    return;
  }
  found.transaction = control[0];
  found.verbs.add(control[1]);
  if (control[0].includes("prepare")) {
    found.traits.add("two-phase");
    found.writes = true;
  }
}
