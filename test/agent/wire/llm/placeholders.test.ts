import assert from "node:assert/strict";
import { test } from "node:test";
import { Placeholders, placeholdersMax, Restorer } from "../../../../agent/wire/llm/placeholders.ts";

test("one value has one name, and another value another", () => {
  const names = new Placeholders();
  assert.equal(names.nameFor("email", "a@b.c"), "<EMAIL_1>");
  assert.equal(names.nameFor("email", "a@b.c"), "<EMAIL_1>");
  assert.equal(names.nameFor("email", "d@e.f"), "<EMAIL_2>");
  assert.equal(names.nameFor("private-key", "x"), "<PRIVATE_KEY_1>");
  assert.equal(names.valueOf("<EMAIL_2>"), "d@e.f");
  assert.equal(names.valueOf("<EMAIL_3>"), null);
});

test("a name that the client wrote itself is given to no value", () => {
  const names = new Placeholders();
  names.reserve("keep <EMAIL_1> and <EMAIL_3>");
  assert.equal(names.nameFor("email", "a"), "<EMAIL_2>");
  assert.equal(names.nameFor("email", "b"), "<EMAIL_4>");
  assert.equal(names.restore("<EMAIL_1> <EMAIL_2>"), "<EMAIL_1> a");
});

test("values above the limit get no name", () => {
  const names = new Placeholders();
  for (let at = 0; at < placeholdersMax; at += 1) names.nameFor("n", String(at));
  assert.equal(names.nameFor("n", "one more"), null);
  assert.equal(names.nameFor("n", "7"), "<N_8>");
});

test("a text in pieces is restored as the whole one, and nothing is held that cannot become a name", () => {
  const names = new Placeholders();
  names.nameFor("email", "ada@example.com");
  for (let at = 0; at < 11; at += 1) names.nameFor("iban", `iban ${at}`);
  const text = "a < b <EMAIL_1>, <EMAIL_1 > <IBAN_1> <IBAN_11> <IBAN_12> <<EMAIL_1>> <EMAIL_";
  const whole = names.restore(text);
  assert.match(whole, /ada@example\.com/);
  for (let first = 0; first <= text.length; first += 1) {
    for (const second of [first, Math.min(first + 1, text.length), Math.min(first + 3, text.length)]) {
      const restorer = new Restorer(names);
      const parts = [text.slice(0, first), text.slice(first, second), text.slice(second)];
      assert.equal(parts.map((part) => restorer.push(part)).join("") + restorer.end(), whole);
    }
  }
  const restorer = new Restorer(names);
  assert.equal(restorer.push("1 < 2"), "1 < 2");
  assert.equal(restorer.push("<EX"), "<EX");
  assert.equal(restorer.push("<E"), "");
  assert.equal(restorer.held, 2);
});

test("a value is written as its place wants it", () => {
  const names = new Placeholders();
  names.nameFor("private-key", 'line\n"two"');
  const inJson = (value: string): string => JSON.stringify(value).slice(1, -1);
  assert.deepEqual(JSON.parse(`{"k":"${names.restore("<PRIVATE_KEY_1>", inJson)}"}`), { k: 'line\n"two"' });
});
