/** The walk over statements that define, change or drop things. */
import { describeBody } from "./bodies.ts";
import { settingChangesMeaning } from "./functions.ts";
import {
  constantOf,
  type Fields,
  fieldsOf,
  joinName,
  listOf,
  namesOf,
  only,
  stringOf,
  textOf,
  type Value,
} from "./tree.ts";
import type { Walk } from "./walk.ts";

/** True when the node was walked here; false leaves it to the general walk. */
export function definitionWalk(walk: Walk, type: string, fields: Fields): boolean {
  const special = specials[type];
  if (special === undefined) return false;
  special(walk, fields);
  return true;
}

/** Kinds of DROP and COMMENT whose object is named like a relation. */
const relationKinds = /^OBJECT_(TABLE|VIEW|MATVIEW|INDEX|SEQUENCE|FOREIGN_TABLE|STATISTIC_EXT|TYPE|DOMAIN)$/;
/** Kinds named `relation, name`. */
const attachedKinds = /^OBJECT_(TRIGGER|RULE|POLICY|TABCONSTRAINT|COLUMN)$/;

const specials: Readonly<Record<string, (walk: Walk, fields: Fields) => void>> = {
  DropStmt(walk, fields) {
    if (fields.removeType === "OBJECT_POLICY") walk.found.traits.add("privilege");
    for (const item of listOf(fields.objects)) object(walk, textOf(fields.removeType), item);
  },
  CommentStmt: (walk, fields) => object(walk, textOf(fields.objtype), fields.object),
  SecLabelStmt: (walk, fields) => object(walk, textOf(fields.objtype), fields.object),
  RenameStmt(walk, fields) {
    walk.value(fields.relation);
    object(walk, textOf(fields.renameType), fields.object);
    if (fields.renameType === "OBJECT_COLUMN") walk.found.columns.add(textOf(fields.subname));
    // Under another name no mask knows it.
    if (fields.renameType === "OBJECT_COLUMN") walk.storing(() => walk.carried(textOf(fields.subname)));
    else if (fields.renameType === "OBJECT_TABLE") walk.storing(() => walk.carried(null));
  },
  AlterTableStmt(walk, fields) {
    const { found } = walk;
    walk.value(fields.relation);
    for (const item of listOf(fields.cmds)) {
      const command = only(item, "AlterTableCmd") ?? {};
      const kind = textOf(command.subtype);
      if (typeof command.name === "string" && /Column|NotNull|Statistics|Storage|Identity|Expression/.test(kind))
        found.columns.add(command.name);
      if (kind === "AT_DropColumn") {
        found.verbs.add("drop");
        found.traits.add("drop-column");
      }
      if (/RowSecurity|ChangeOwner/.test(kind)) found.traits.add("privilege");
      const column = only(command.def, "ColumnDef");
      if (typeof column?.colname === "string") found.columns.add(column.colname);
      // USING, GENERATED ALWAYS AS, DEFAULT: what they read of the table is stored in the column.
      const name = typeof command.name === "string" ? command.name : null;
      walk.storing(() => walk.value(command.def), name);
    }
  },
  AlterRoleSetStmt: setting,
  AlterDatabaseSetStmt: setting,
  AlterSystemStmt: setting,
  CreateFunctionStmt(walk, fields) {
    walk.found.functions.add(joinName(namesOf(fields.funcname)));
    walk.value(fields.parameters);
    // A body that runs later cannot show its values in this result.
    walk.blindly(fields.sql_body);
    describeBody(walk, fields.options, fields);
  },
  AlterFunctionStmt(walk, fields) {
    for (const item of listOf(fields.actions)) {
      const option = only(item, "DefElem");
      if (option?.defname === "security" && constantOf(option.arg) !== "false")
        walk.found.traits.add("security-definer");
    }
    object(walk, "OBJECT_FUNCTION", { ObjectWithArgs: fieldsOf(fields.func) ?? {} });
  },
  CreateTrigStmt(walk, fields) {
    walk.value(fields.relation);
    walk.value(fields.constrrel);
    walk.found.functions.add(joinName(namesOf(fields.funcname)));
    walk.blindly(fields.whenClause);
  },
  DropOwnedStmt: () => undefined,
  DropRoleStmt: () => undefined,
};

function setting(walk: Walk, fields: Fields): void {
  const set = fieldsOf(fields.setstmt) ?? {};
  if (set.kind === "VAR_RESET_ALL" || settingChangesMeaning(textOf(set.name).toLowerCase()))
    walk.found.traits.add("set-meaning");
}

function object(walk: Walk, kind: string, item: Value): void {
  const { found } = walk;
  const list = only(item, "List");
  const typeName = only(item, "TypeName");
  const withArgs = only(item, "ObjectWithArgs");
  const parts =
    list !== undefined
      ? namesOf(list.items)
      : typeName !== undefined
        ? namesOf(typeName.names)
        : [stringOf(item) ?? ""];
  if (withArgs !== undefined) found.functions.add(joinName(namesOf(withArgs.objname)));
  else if (kind === "OBJECT_SCHEMA") found.relations.add(`${joinName(parts)}.*`);
  else if (relationKinds.test(kind)) walk.addRelation(parts);
  else if (attachedKinds.test(kind) && parts.length > 1) walk.addRelation(parts.slice(0, -1));
}
