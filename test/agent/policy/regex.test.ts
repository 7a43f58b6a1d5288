/** Which regular expressions a detector may use, and how long their matches are. */
import assert from "node:assert/strict";
import { test } from "node:test";
import { readRegex } from "../../../agent/policy/regex.ts";

const infinite = Number.POSITIVE_INFINITY;

test("lengths of what matches", () => {
  const table: [string, number, number][] = [
    ["abc", 3, 3],
    ["PRJ-[0-9]{6}", 10, 10],
    [String.raw`\bPRJ-\d{1,6}\b`, 5, 10],
    ["a|bcd|", 0, 3],
    ["(?:ab){2,3}c?", 4, 7],
    ["(?P<name>x)(?<other>y)(z)", 3, 3],
    ["(?i)abc", 3, 3],
    ["(?i:a)(?s-i:b)", 2, 2],
    ["a+", 1, infinite],
    ["a{2,}", 2, infinite],
    ["(?:a*){0}b", 1, 1],
    ["(^|$)*a", 1, 1],
    ["[]a-z]x", 2, 2],
    ["[^]]", 1, 2],
    [String.raw`[\d\-\]a]`, 1, 1],
    ["[[:alpha:][:^digit:]]", 1, 2],
    [String.raw`\.\*\x41\x{1F600}`, 4, 6],
    [String.raw`\p{Greek}\PL`, 2, 4],
    ["a{,3}", 5, 5],
    ["a{x}", 4, 4],
    ["😀", 2, 2],
    [".", 1, 2],
    ["", 0, 0],
  ];
  for (const [text, shortest, longest] of table) {
    const read = readRegex(text);
    assert.ok(!("error" in read), `${text}: ${"error" in read ? read.error : ""}`);
    assert.deepEqual([read.shortest, read.longest], [shortest, longest], text);
  }
});

test("what is refused, and where", () => {
  const table: [string, string, number][] = [
    [String.raw`(a)\1`, "back-references are not to be had in a linear engine", 3],
    [String.raw`(?P<x>a)\k<x>`, "back-references are not to be had in a linear engine", 8],
    ["a(?=b)", "look-around is not to be had in a linear engine", 1],
    ["(?<!a)b", "look-around is not to be had in a linear engine", 0],
    ["(?>a)", "atomic groups are not to be had", 0],
    ["a++", "possessive repeats are not to be had", 2],
    ["a**", "a repeat of a repeat needs a group", 2],
    ["a{2}{3}", "a repeat of a repeat needs a group", 4],
    ["(?(1)a)", "conditions are not to be had", 0],
    ["(?#x)", "expected a group like ( ), (?: ), (?i: ) or (?P<name> )", 0],
    ["(a", "this group is not closed", 0],
    ["a)", "this bracket closes nothing", 1],
    ["[a", "this class is not closed", 0],
    ["[z-a]", "the range ends before it begins", 2],
    [String.raw`[\d-z]`, "a range is between two characters", 3],
    ["*a", "there is nothing to repeat", 0],
    ["a{3,2}", "the repeat ends before it begins", 1],
    ["a{1001}", "a repeat goes to 1000", 1],
    ["(a{100}){100}", "more than 1000 repeats, nested ones multiplied", 8],
    [String.raw`\Z`, String.raw`\Z is not known`, 0],
    [String.raw`\u0041`, String.raw`\u is not known`, 0],
    ["a\\", "the backslash escapes nothing", 1],
    [`${"(".repeat(40)}a${")".repeat(40)}`, "groups nest deeper than 32", 32],
  ];
  for (const [text, error, offset] of table) assert.deepEqual(readRegex(text), { error, offset }, text);
});

test("V8 takes what is let through, but for RE2's own syntax, and finds no longer match", () => {
  const sample = "PRJ-123456 aaaa bcd ABC x-9 abab ]]".repeat(3);
  for (const text of [
    "PRJ-[0-9]{6}",
    "(?:ab){1,2}",
    "a|bcd",
    "[]x][]]",
    String.raw`\w{1,4}-\d?`,
    "[^a-z]{2}",
    "a{1,3}?b",
  ]) {
    const read = readRegex(text);
    assert.ok(!("error" in read), text);
    const expression = new RegExp(text.replace("[]", "[\\]"), "g");
    for (const [match] of sample.matchAll(expression))
      assert.ok(match.length >= read.shortest && match.length <= read.longest, `${text}: ${match}`);
  }
});
