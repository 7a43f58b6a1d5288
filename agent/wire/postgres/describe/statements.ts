/** Statement nodes: their verb, whether they write, and what else they are. Anything else is an unknown statement. */
import type { Trait } from "./statement-info.ts";

export interface StatementKind {
  readonly verb: string;
  readonly writes: boolean;
  readonly traits: readonly Trait[];
}

const table = new Map<string, StatementKind>();
const add = (verb: string, writes: boolean, traits: readonly Trait[], nodes: string) => {
  for (const node of nodes.split(/\s+/)) table.set(`${node}Stmt`, { verb, writes, traits });
};

add("select", false, [], "Select");
add("insert", true, [], "Insert");
add("update", true, [], "Update");
add("delete", true, [], "Delete");
add("merge", true, [], "Merge");
add("truncate", true, ["whole-table", "no-where"], "Truncate");
add("drop", true, ["ddl"], "Drop DropTableSpace Dropdb DropUserMapping");
add("drop", true, ["ddl", "replication"], "DropSubscription");
add("drop", true, ["ddl", "privilege"], "DropRole DropOwned");
add("reassign", true, ["ddl", "privilege"], "ReassignOwned");
add(
  "create",
  true,
  ["ddl"],
  `CreateSchema Create CreateTableSpace CreateExtension CreateForeignTable CreateAm CreateTrig CreateEventTrig
   CreatePLang CreateSeq Define CreateDomain CreateOpClass CreateOpFamily Index CreateStats CreateFunction Rule
   CompositeType CreateEnum CreateRange View Createdb CreateTableAs CreateConversion CreateCast CreateTransform`,
);
add("create", true, ["ddl", "remote"], "CreateFdw CreateForeignServer CreateUserMapping");
add("create", true, ["ddl", "privilege"], "CreateRole CreatePolicy");
add("create", true, ["ddl", "replication"], "CreatePublication CreateSubscription");
add(
  "alter",
  true,
  ["ddl"],
  `AlterTable ReplicaIdentity AlterCollation AlterDomain AlterTableSpaceOptions AlterTableMoveAll AlterExtension
   AlterExtensionContents AlterEventTrig AlterSeq AlterOpFamily AlterStats AlterFunction Rename AlterObjectDepends
   AlterObjectSchema AlterOperator AlterType AlterEnum AlterDatabase AlterDatabaseRefreshColl AlterTSDictionary
   AlterTSConfiguration`,
);
add("alter", true, ["ddl", "remote"], "AlterFdw AlterForeignServer AlterUserMapping");
add("alter", true, ["ddl", "privilege"], "AlterRole AlterRoleSet AlterPolicy AlterOwner AlterDefaultPrivileges");
add("alter", true, ["ddl", "set-meaning"], "AlterDatabaseSet");
add("alter", true, ["ddl", "system-setting"], "AlterSystem");
add("alter", true, ["ddl", "replication"], "AlterPublication AlterSubscription");
add("import", true, ["ddl", "remote"], "ImportForeignSchema");
add("comment", true, ["ddl"], "Comment");
add("security-label", true, ["ddl", "privilege"], "SecLabel");
add("refresh", true, ["ddl"], "RefreshMatView");
add("grant", true, ["privilege", "ddl"], "Grant GrantRole");
add("copy", false, [], "Copy");
add("set", false, [], "VariableSet ConstraintsSet");
add("show", false, [], "VariableShow");
add("declare", false, ["cursor"], "DeclareCursor");
add("close", false, ["cursor"], "ClosePortal");
add("fetch", false, ["cursor"], "Fetch");
add("prepare", false, ["prepare"], "Prepare");
add("execute", true, ["execute"], "Execute");
add("deallocate", false, [], "Deallocate");
add("do", true, ["do-block"], "Do");
add("call", true, [], "Call");
add("notify", true, [], "Notify");
add("listen", false, [], "Listen");
add("unlisten", false, [], "Unlisten");
add("load", true, ["load-library"], "Load");
add("cluster", true, [], "Cluster");
add("vacuum", true, [], "Vacuum");
add("reindex", true, [], "Reindex");
add("checkpoint", true, [], "CheckPoint");
add("discard", false, [], "Discard");
add("lock", false, [], "Lock");
add("explain", false, ["explain"], "Explain");
add("begin", false, [], "Transaction");

export const kindOfStatement = (node: string): StatementKind | undefined => table.get(node);
