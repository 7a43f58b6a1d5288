/** Can a result column without origin hold customers.ssn? */
import assert from "node:assert/strict";
import { before, test } from "node:test";
import {
  copyProbe,
  describeStatement,
  mayCarry,
  originProves,
  prepareDescriber,
} from "../../../../../agent/wire/postgres/describe/index.ts";

before(prepareDescriber);

const ssn = { schema: "public", table: "customers", column: "ssn" };

const never = `
select count(*) from customers
select count(*) from customers where ssn = 'x'
select upper(name), ssn from customers
select *, 1 from customers
select c.*, now() from customers c order by ssn
select max(ssn) from other
select max(ssn) from archive.customers
select exists (select * from customers where ssn = $1)
select name from customers group by name having max(ssn) > 'x'
select row_number() over (order by ssn) from customers
select name, count(*) from customers c join orders o on o.ssn = c.ssn group by 1
with q as (select name from customers) select count(*) from q
explain select max(ssn) from customers
insert into customers(ssn) values ($1) returning id + 1
select lo_create(1), lo_open(1, 2)
select 1`;

const maybe = `
select count(ssn) from customers
select max(ssn) from customers
select max(c.ssn) from public.customers c
select row_to_json(c) from customers c
select row_to_json(customers) from customers
select to_jsonb(c) ->> 'ssn' from customers c
select c.row_to_json from customers c
select (c).ssn from customers c
select c from customers c
select c::text from customers c
select (c.*)::text from customers c
select row(c.*) from customers c
select ssn || '' from customers
select ssn::varchar(20) from customers
select max(b) from customers c(a, b)
with q(a, b) as (select * from customers) select max(b) from q
with q as (select * from customers) select upper(ssn) from q
with q as (select ssn as x from customers) select upper(x) from q
select * from customers union select * from customers
select ssn from customers union all select 'x'
select upper(ssn) from customers natural join orders
select * from customers full join orders using (ssn)
select ssn from customers full join orders using (ssn)
select upper(x) from orders, lateral (select customers.* from customers) l(x)
select (select ssn from customers limit 1)
select array(select ssn from customers)
select lo_get(1)
select loread(1, 2)
select lo_from_bytea(0, ssn::bytea) from customers
select upper(x) from (select ssn from customers) s(x)
select upper(x) from (values ((select ssn from customers limit 1))) v(x)
select json_object('a': ssn) from customers
select json_arrayagg(ssn) from customers
select xmlelement(name a, ssn) from customers
select percentile_disc(0.5) within group (order by ssn) from customers
select string_agg(ssn, ',') from customers
select case when true then ssn end from customers
select lag(ssn) over () from customers
update customers set name = 'x' returning upper(ssn)
delete from customers returning row_to_json(customers)
insert into notes(t) select ssn from customers returning t
with d as (delete from customers returning *) select max(ssn) from d
update customers set a = 1 returning old
select my_function(1)
select query_to_xml('select 1', true, true, '')
execute p
fetch all from c
selec`;

for (const text of never.trim().split("\n"))
  test(`no: ${text}`, () => assert.equal(mayCarry(describeStatement(text), ssn), false));
for (const text of maybe.trim().split("\n"))
  test(`may: ${text}`, () => assert.equal(mayCarry(describeStatement(text), ssn), true));

test("EXECUTE carries what the statement behind it does", () => {
  const info = describeStatement("execute p");
  assert.equal(mayCarry(info, ssn, [describeStatement("select count(*) from customers")]), false);
  assert.equal(mayCarry(info, ssn, [describeStatement("select max(ssn) from customers")]), true);
});

test("an origin proves nothing when the text stores and returns", () => {
  assert.equal(originProves(describeStatement("insert into notes(t) select ssn from customers returning t")), false);
  assert.equal(originProves(describeStatement("select ssn from customers")), true);
});

test("COPY TO has a probe with the same columns", () => {
  const probe = (text: string) => copyProbe(describeStatement(text));
  assert.equal(probe("copy t to stdout"), 'SELECT * FROM "t"');
  assert.equal(probe('copy s."T""x"(a, "B") to stdout'), 'SELECT "a", "B" FROM "s"."T""x"');
  assert.equal(probe("copy t from stdin"), null);
  assert.equal(probe("select 1"), null);
  assert.equal(
    probe("select 'é'; /* ( */ copy /* ) -- */ (select ')', $a$)$a$, E'\\')' from \"t)\" -- )\n) to stdout"),
    "select ')', $a$)$a$, E'\\')' from \"t)\" -- )\n",
  );
  const copy = describeStatement("copy s.t(a) to stdout with (format csv, header, delimiter ';')").copy!;
  assert.equal(copy.format, "csv");
  assert.deepEqual({ ...copy.options }, { format: "csv", header: "true", delimiter: ";" });
  assert.equal(describeStatement("copy t to stdout with binary").copy!.format, "binary");
});

/** `values | sources` of each statement that stores what it reads; `*`: without a name. */
function stored(text: string): string[] {
  return describeStatement(text)
    .storage.filter(({ copies }) => copies)
    .map(
      ({ values, unnamed, sources }) =>
        `${[...values, ...(unnamed ? ["*"] : [])].join(" ")} | ${sources.map((parts) => parts.filter((part) => part !== null).join(".")).join(" ")}`,
    );
}

test("what a text stores of what it reads", () => {
  for (const [text, ...expected] of [
    ["create table x as select a, upper(b) from s.t where c = 1", "a b | s.t"],
    ["create materialized view x as select a from t"],
    ["select t.* into x from t", "* | t"],
    ["insert into x (a) select b from t returning c", "b c | t"],
    ["insert into x (a) values ($1)"],
    ["insert into x values (1) on conflict (a) do update set a = excluded.a, b = excluded.b"],
    ["insert into x values (1) on conflict (a) do update set a = x.b", "b | x"],
    ["with q as (select a from t) insert into x select * from q", "a * | t"],
    ["update t set a = upper(a) where b = 1"],
    ["update t set a = b", "b | t"],
    ["update t set a = u.a from u", "a | t u"],
    ["update t set a = 5"],
    ["delete from t where a = (select b from u)"],
    ["explain insert into x select a from t"],
    ["explain analyze insert into x select a from t", "a | t"],
    ["select a from t; insert into x select b from u; insert into x select c from v", "b | u", "c | v"],
    ["merge into t using u on t.a = u.a when matched then update set b = u.c", "c | t u"],
    ["prepare p as insert into x select a from t", "a | t"],
    ["select a from t where exists (select b from u)"],
    ["select set_config('x.y', a, false) from t", "a | t"],
    ["explain analyze insert into x select b from t as u(a, b)", "b * | t"],
    ["alter table t rename a to b", "a | t"],
    ["alter table t rename to u", "* | t"],
    ["alter table t alter a type text using b::text", "b | t"],
    ["alter table t alter a type text using upper(a)"],
    ["alter table t add c text generated always as (upper(a)) stored", "a | t"],
    ["alter table t add c text default 'x'"],
    ["alter table t rename constraint a to b"],
    ["copy t (a) to '/tmp/x'", "a | t"],
    ["copy t to program 'cat'", "* | t"],
    ["copy (select a from t) to '/tmp/x'", "a | t"],
    ["copy t to stdout"],
    ["select 1 from t where lo_from_bytea(0, b) is null", "b | t"],
    ["select exists (select pg_notify('x', c) from u)", "c | u"],
    ["select set_config('x.y', 'z', false), a from t"],
    ["insert into x select query_to_xml('select a from t', true, true, '')", "a * | t"],
  ] as const)
    assert.deepEqual(stored(text), expected, text);
});
