/** SQL text → verbs, relations, traits, writes. Each line is a statement and what must be found in it. */
import assert from "node:assert/strict";
import { before, test } from "node:test";
import { describeStatement, prepareDescriber } from "../../../../../agent/wire/postgres/describe/index.ts";
import { randomOf } from "../../../../support/random.ts";

before(prepareDescriber);

/** sql | verbs | relations | traits | writes (W) or not (r); lists by comma, `~` for a backslash of U&"" names. */
const table = `
select a from s.t limit 1 | select | s.t | | r
select * from t | select | t | no-limit | r
select count(*)+1 from t | select | t | | r
select a, count(*) from t group by a | select | t | no-limit | r
table t | select | t | no-limit | r
values (1) | select | | | r
select 1; select 2 | select | | multi-statement | r
with a as (select * from x), b as (with a as (select 1) select * from a) select * from a, b, s.c limit 1 | select | x,s.c | | r
with x as (select * from x) select * from x limit 1 | select | x | | r
with recursive x as (select 1 union all select * from x) select * from x limit 1 | select | | | r
with a as (select 1) select * from public.a limit 1 | select | public.a | | r
with t as (select 1) delete from t | delete,select | t | no-where | W
with d as (delete from orders returning *) select count(*) from d | select,delete | orders | no-where | W
select (with q as (select 1) select * from q) from q limit 1 | select | q | | r
insert into t(a) select b from u | insert,select | t,u | | W
insert into t values (1) on conflict (a) do update set b = 2 | insert,select,update | t | upsert | W
update t set a = 1 | update | t | no-where | W
update t set a = 1 where id = $1 | update | t | | W
delete from t where true | delete | t | no-where,trivial-where | W
delete from t where 1 = 1 or id = 2 | delete | t | no-where,trivial-where | W
delete from t where id = id | delete | t | no-where,trivial-where | W
delete from t where current of c | delete | t | | W
merge into t using s on true when matched then delete | merge,delete | t,s | no-where | W
merge into t using s on t.a = s.a when matched then update set b = 1 when not matched then insert values (1) | merge,update,insert | t,s | | W
truncate a, b.c | truncate | a,b.c | whole-table,no-where | W
drop table if exists a.b, c cascade | drop | a.b,c | ddl | W
drop schema s | drop | s.* | ddl | W
drop trigger x on s.t | drop | s.t | ddl | W
alter table t drop column c | alter,drop | t | ddl,drop-column | W
alter table t add column c int | alter | t | ddl | W
create table n as select * from o | create,select | n,o | ddl | W
select * into n from o | select,create | n,o | select-into,ddl | W
create view v as select * from t | create,select | v,t | ddl | W
create rule r as on insert to t do instead delete from u | create,delete | t,u | ddl,no-where | W
create function f() returns int language sql as 'delete from t; select 1' | create,delete,select | t | ddl,no-where | W
create function f() returns int begin atomic delete from t; select 1; end | create,delete,select | t | ddl,no-where | W
create function f() returns int language plpgsql security definer as 'begin drop table t; return 1; end' | create,drop,select | t | ddl,security-definer,procedural-body,dynamic-sql | W
grant select on t to x | grant | t | privilege,ddl | W
revoke select on t from x | revoke | t | privilege,ddl | W
create role x | create | | ddl,privilege | W
explain select a from t | explain,select | t | explain | r
explain delete from t | explain,delete | t | explain | r
explain analyze delete from t | explain,delete | t | explain,explain-analyze,no-where | W
explain (analyze off) delete from t | explain,delete | t | explain | r
explain (verbose, analyze 1) delete from t | explain,delete | t | explain,explain-analyze,no-where | W
prepare p as truncate t |  |  | unparsable | W
prepare p as delete from t | prepare,delete | t | prepare,no-where | W
execute p(1) | execute | | execute | W
declare c cursor for select a from t limit 2 | declare,select | t | cursor | r
fetch 3 from c | fetch | | cursor | r
move 3 from c | move | | cursor | r
do $$begin delete from t; end$$ | do,delete | t | do-block,procedural-body,no-where | W
do $$begin execute 'drop table t'; end$$ | do,drop,select,execute | t | do-block,procedural-body,dynamic-sql,ddl | W
do $$begin execute 'dr' || 'op table t'; end$$ | do,select,execute | | do-block,procedural-body,dynamic-sql | W
do $$begin for x in execute 'truncate t' loop null; end loop; end$$ | do,execute,truncate |  | do-block,procedural-body,dynamic-sql,whole-table | W
do language plperl 'drop everything' | do,drop | | do-block,procedural-body,dynamic-sql | W
copy t from stdin | copy | t | copy-in | W
copy t(a) to stdout | copy | t | copy-out,no-limit | r
copy (select a from t limit 1) to stdout | copy,select | t | copy-out | r
copy (delete from t returning *) to stdout | copy,delete | t | copy-out,no-where | W
copy t to program 'sh' | copy | t | copy-program,copy-out,no-limit | W
copy t to '/tmp/x' | copy | t | copy-file,server-file,copy-out,no-limit | W
set search_path = a | set | | set-meaning | r
set local work_mem = '1MB' | set | | | r
reset all | reset | | set-meaning | r
set role x | set | | set-meaning | r
set names 'latin1' | set | | set-meaning | r
select set_config('search_path', 'x', false) | select | | set-meaning | r
select set_config(a, 'x', false) | select | | set-meaning | W
alter role x set search_path = a | alter | | ddl,privilege,set-meaning | W
select f(1) | select | | unknown-function | W
select (information_schema._pg_expandarray(i.indkey)).n from pg_catalog.pg_index i limit 1 | select | pg_catalog.pg_index | | r
select _pg_expandarray(1), information_schema.f(1) | select | | unknown-function | W
select public.count(1) | select | | unknown-function | W
select pg_catalog.lower('A') | select | | | r
select nextval('s') | select | | | W
select pg_terminate_backend(1) | select | | admin-function | W
select pg_read_file('/etc/passwd') | select | | server-file | r
select lo_export(1, 'x') | select | | server-file,large-object,dynamic-sql | W
select query_to_xml('select * from c', true, true, '') | select | c | dynamic-sql | W
select dblink_exec('x', 'drop table t') | select,drop | t | dynamic-sql,remote,unknown-function,ddl | W
select a operator(public.+) b | select | | unknown-function | W
select a from t limit 1 for update | select | t | for-update | r
begin | begin | | | r
rollback to a | rollback | | | r
prepare transaction 'x' | prepare | | two-phase | W
discard all | discard | | set-meaning | r
/* a /* b */ */ drop /**/ table U&"~0063ustomers" | drop | customers | backslash,ddl | W
select 1; -- x' | select | | | r
START_REPLICATION SLOT a | | | unparsable,replication | W
selec | | | unparsable | W
-- nothing | | | empty | r
; | | | empty | r`;

for (const line of table.trim().split("\n")) {
  const [sql, verbs, relations, traits, writes] = line.split(/\s\|(?=\s|$)/).map((cell) => cell.trim());
  const text = sql!.replaceAll("~", "\\");
  test(text, () => {
    const info = describeStatement(text);
    const words = (list: readonly string[]) => [...list].sort().join(",");
    const wanted = (cell: string | undefined) => (cell ?? "").split(",").filter(Boolean).sort().join(",");
    assert.equal(words(info.verbs), wanted(verbs));
    assert.equal(words(info.relations), wanted(relations));
    assert.equal(words(info.traits), wanted(traits));
    assert.equal(info.writes, writes === "W");
    assert.ok(Object.isFrozen(info));
    assert.equal(describeStatement(text), info, "the same text gives the same object");
  });
}

test("names of prepared statements, cursors, transactions and settings", () => {
  const prepared = describeStatement("prepare p as delete from t").prepares[0]!;
  assert.equal(prepared.name, "p");
  assert.deepEqual(prepared.info.verbs, ["delete"]);
  assert.deepEqual(describeStatement("execute p; deallocate p; deallocate all").executes, ["p"]);
  assert.deepEqual(describeStatement("execute p; deallocate p; deallocate all").deallocates, ["p", "*"]);
  assert.equal(describeStatement("declare c cursor for select 1").declares[0]!.name, "c");
  assert.deepEqual(describeStatement("fetch c; close c; close all").closes, ["c", "*"]);
  assert.equal(describeStatement("begin; savepoint a; rollback to a").transaction, "rollback-to");
  assert.equal(describeStatement("select 1").transaction, null);
  assert.deepEqual(describeStatement("set local search_path = a, b").sets, [
    { name: "search_path", value: "a, b", local: true },
  ]);
});

test("NUL, replaced bytes and size", () => {
  assert.ok(describeStatement("select 1\0; drop table x").traits.includes("unparsable"));
  assert.ok(describeStatement("select '\ufffd'").traits.includes("invalid-text"));
  const large = describeStatement(`select '${"x".repeat(1024 * 1024)}'`);
  assert.deepEqual(large.traits, ["too-large"]);
  assert.equal(large.writes, true);
});

test("deep nesting breaks nothing for the next text", async () => {
  const deep: readonly ((n: number) => string)[] = [
    (n) => `select ${"(".repeat(n)}1${")".repeat(n)}`,
    (n) => `select ${"(select ".repeat(n)}1${")".repeat(n)}`,
    (n) => `select 1${"+1".repeat(n)}`,
    (n) => `select 1${" union select 1".repeat(n)}`,
    (n) => `select 1${"::int".repeat(n)}`,
  ];
  for (const n of [1_000, 5_000, 100_000])
    for (const [kind, make] of deep.entries()) {
      const info = describeStatement(make(n));
      assert.ok(info.traits.length === 0 || info.writes);
      const next = describeStatement(`delete from after_${n}_${kind}`);
      assert.deepEqual(next.relations, [`after_${n}_${kind}`]);
      await new Promise((resolve) => setTimeout(resolve, 1));
    }
});

test("mutated statements never throw and never pass as harmless text", () => {
  const seed = Number(process.env.WEIR_FUZZ_SEED ?? 20261121);
  const random = randomOf(seed);
  const statements = table
    .trim()
    .split("\n")
    .map((line) => line.split(/\s\|(?=\s|$)/)[0]!);
  const pieces = [
    "'",
    '"',
    "$$",
    "/*",
    "*/",
    "--",
    ";",
    "(",
    ")",
    "\0",
    "\ud800",
    "U&",
    "E'",
    "\\",
    "drop table z;",
    "\u00a0",
  ];
  for (let run = 0; run < 3000; run++) {
    let text = statements[random(statements.length)]!;
    for (let change = random(3) + 1; change > 0; change--) {
      const at = random(text.length + 1);
      const piece =
        random(2) === 0 ? pieces[random(pieces.length)]! : statements[random(statements.length)]!.slice(0, random(30));
      text = text.slice(0, at) + piece + text.slice(at + random(4));
    }
    try {
      const info = describeStatement(text);
      if (info.traits.includes("unparsable")) assert.ok(info.writes);
      else if (info.statements > 0) assert.ok(info.verbs.length > 0);
    } catch (error) {
      assert.fail(`seed ${seed}, run ${run}: ${JSON.stringify(text)}: ${error}`);
    }
  }
});

test("canary: the check above would see a text that passes as harmless", () => {
  const info = describeStatement("drop table z");
  assert.throws(() => assert.ok(!info.writes));
});
