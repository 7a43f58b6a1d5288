/** Globs against a plain reference, and one that would stop a backtracking matcher. */
import assert from "node:assert/strict";
import { test } from "node:test";
import { compileGlob } from "../../../agent/policy/glob.ts";
import { randomOf } from "../../support/random.ts";

test("globs", () => {
  const table: [string, string, boolean][] = [
    ["a", "a", true],
    ["a", "A", false],
    ["a", "ab", false],
    ["", "", true],
    ["*", "", true],
    ["**", "anything", true],
    ["a*", "a", true],
    ["*a", "ba", true],
    ["*.ssn", "public.users.ssn", true],
    ["*.ssn", "ssn", false],
    ["a*b*c", "a__b__c", true],
    ["a*b*c", "a__c__b", false],
    ["ab*ba", "aba", false],
    ["a?c", "abc", true],
    ["a?c", "ac", false],
    ["?*?", "a", false],
    ["*a?b*", "xxaybzz", true],
    ["a.c", "abc", false],
    ["[a]", "[a]", true],
  ];
  for (const [pattern, text, wanted] of table) assert.equal(compileGlob(pattern)(text), wanted, `${pattern} ${text}`);
  assert.equal(compileGlob("Pg_*", { ignoreCase: true })("PG_class"), true);
  assert.equal(compileGlob("Users", { ignoreCase: true })("uSERS"), true);
});

test("seeded: the same answer as a regular expression", () => {
  const seed = Number(process.env.WEIR_SEED ?? 20_261_121);
  const next = randomOf(seed);
  const word = (alphabet: string, length: number): string =>
    Array.from({ length: next(length) }, () => alphabet[next(alphabet.length)]).join("");
  let matches = 0;
  for (let i = 0; i < 20_000; i += 1) {
    const pattern = word("ab*?", 8);
    const text = word("ab", 10);
    const reference = new RegExp(`^${pattern.replaceAll("*", ".*").replaceAll("?", ".")}$`, "s").test(text);
    assert.equal(compileGlob(pattern)(text), reference, `seed ${seed}: ${pattern} on ${text}`);
    if (reference) matches += 1;
  }
  // Canary: a generator that never matches would prove nothing.
  assert.ok(matches > 1_000 && matches < 19_000);
});

test("a hostile text costs no more than pattern times text", () => {
  const text = "a".repeat(50_000);
  assert.equal(compileGlob(`${"*a".repeat(40)}*b`)(text), false);
  assert.equal(compileGlob(`${"*a?".repeat(20)}*b`)(text), false);
});
