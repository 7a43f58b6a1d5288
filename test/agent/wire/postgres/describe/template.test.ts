/** Texts of one template have one description, and no text passes as another. */
import assert from "node:assert/strict";
import { before, test } from "node:test";
import { describeStatement, prepareDescriber } from "../../../../../agent/wire/postgres/describe/index.ts";
import { templateOf } from "../../../../../agent/wire/postgres/describe/template.ts";

before(prepareDescriber);

test("an integer compared with a column does not make another template", () => {
  assert.equal(templateOf("SELECT a FROM t WHERE id = 17"), templateOf("SELECT a FROM t WHERE id = 4"));
  assert.equal(
    describeStatement("SELECT a FROM t WHERE id = 17"),
    describeStatement("SELECT a FROM t WHERE id = 18;".slice(0, -1)),
  );
  assert.equal(
    templateOf("UPDATE t SET n = n + 5 WHERE id = 4 AND b < 7"),
    "UPDATE t SET n = n + 5 WHERE id = \0 AND b < \0",
  );
});

test("a condition without a column keeps its numbers", () => {
  for (const sql of [
    "DELETE FROM t WHERE 1 = 1",
    "DELETE FROM t WHERE 1=2",
    "SELECT 1 WHERE 1e1 = 10",
    "SELECT a FROM t WHERE x = 1 + 1",
    "SELECT a FROM t LIMIT 5",
  ]) {
    assert.equal(templateOf(sql), null, sql);
  }
  describeStatement("DELETE FROM t WHERE id = 1");
  assert.ok(describeStatement("DELETE FROM t WHERE 1 = 1").traits.includes("no-where"));
  assert.ok(!describeStatement("DELETE FROM t WHERE id = 2").traits.includes("no-where"));
});

test("a text with quotes, comments, dollars, casts or beyond ASCII has no template", () => {
  for (const sql of [
    "SELECT 'x' WHERE a = 1",
    "SELECT a -- b = 1\n FROM t WHERE a = 1",
    "SELECT a /* */ WHERE b = 1",
    "SELECT $1 WHERE a = 1",
    'SELECT "a" WHERE a = 1',
    "SELECT é WHERE a = 1",
    "SELECT a::int WHERE a = 1",
    "DROP TABLE t; SELECT a WHERE a = 1",
  ]) {
    assert.equal(templateOf(sql), null, sql);
  }
});

test("every text of a template is described as it would be alone", () => {
  const shapes = [
    "SELECT a FROM t WHERE id = #",
    "DELETE FROM t WHERE id = # OR b = #",
    "UPDATE t SET a = #, b = #",
    "SELECT a FROM t WHERE id=#; DELETE FROM t",
    "SELECT count(a) FROM t JOIN u ON t.a = u.b WHERE u.c >= # ORDER BY 1 LIMIT 5",
    "DELETE FROM t WHERE id <> # RETURNING a",
  ];
  for (const shape of shapes) {
    const first = describeStatement(shape.replaceAll("#", "0"));
    for (const value of ["1", "7", "123456789"]) {
      const sql = shape.replaceAll("#", value);
      assert.equal(describeStatement(sql), first, sql);
      // White space makes another template with the same meaning, described on its own.
      const alone = describeStatement(` ${sql}`.slice(1).replace(" ", "  ".repeat(Number(value.length) + 1)));
      assert.deepEqual({ ...alone, flow: null }, { ...first, flow: null }, sql);
    }
  }
});
