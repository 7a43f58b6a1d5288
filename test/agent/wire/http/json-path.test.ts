import assert from "node:assert/strict";
import { test } from "node:test";
import { wrongWithJsonPath } from "../../../../agent/policy/json-path.ts";
import {
  compileJsonPath,
  type PathState,
  pathEnter,
  pathMatches,
  pathStart,
} from "../../../../agent/wire/http/json-path.ts";

/** Normalised ways of everything that the path names, in the order of the text. */
function named(text: string, value: unknown): string[] {
  const path = compileJsonPath(text);
  if ("problem" in path) throw new Error(path.problem);
  const found: string[] = [];
  const visit = (at: unknown, state: PathState, way: string): void => {
    if (pathMatches(path, state)) found.push(way);
    if (Array.isArray(at)) for (const [i, part] of at.entries()) visit(part, pathEnter(path, state, i), `${way}/${i}`);
    else if (typeof at === "object" && at !== null)
      for (const [key, part] of Object.entries(at)) visit(part, pathEnter(path, state, key), `${way}/${key}`);
  };
  visit(value, pathStart, "");
  return found;
}

const book = {
  store: {
    book: [
      { title: "a", price: 1 },
      { title: "b", price: 2, isbn: "x" },
    ],
    bicycle: { price: 3 },
  },
  "odd key": { "0": "zero", "*": "star", "o'b": 1, 'q"q': 2 },
};

test("names, indexes, stars, lists and descendants", () => {
  assert.deepEqual(named("$.store.book[*].price", book), ["/store/book/0/price", "/store/book/1/price"]);
  assert.deepEqual(named("$.store.book[1].isbn", book), ["/store/book/1/isbn"]);
  assert.deepEqual(named("$..price", book), ["/store/book/0/price", "/store/book/1/price", "/store/bicycle/price"]);
  assert.deepEqual(named("$.store.*", book), ["/store/book", "/store/bicycle"]);
  assert.deepEqual(named("$.store..price", book).length, 3);
  assert.deepEqual(named("$..book[0,1]['title','price']", book).length, 4);
  assert.deepEqual(named("$['store'][\"bicycle\"]", book), ["/store/bicycle"]);
  assert.deepEqual(named("$..[*]", { a: [1] }), ["/a", "/a/0"]);
  assert.deepEqual(named("$..*", { a: [1] }), ["/a", "/a/0"]);
  assert.deepEqual(named("$..a..b", { a: { a: { b: 1 }, b: 2 } }), ["/a/a/b", "/a/b"]);
});

test("an index is no name, and quotes make any name one", () => {
  assert.deepEqual(named("$['odd key'][0]", book), []);
  assert.deepEqual(named("$['odd key']['0']", book), ["/odd key/0"]);
  assert.deepEqual(named("$['odd key']['*']", book), ["/odd key/*"]);
  assert.deepEqual(named("$['odd key']['o\\'b']", book), ["/odd key/o'b"]);
  assert.deepEqual(named("$['odd key']['q\"q']", book), ['/odd key/q"q']);
  assert.deepEqual(named('$["odd key"]["q\\"q"]', book), ['/odd key/q"q']);
  assert.deepEqual(named("$.größe", { größe: 1 }), ["/größe"]);
  assert.deepEqual(named('$["\\u0061"]', { a: 1 }), ["/a"]);
  assert.deepEqual(named("$.__proto__", { a: 1 }), []);
});

test("what cannot be followed is refused with a sentence", () => {
  for (const text of [
    "",
    "a",
    "$",
    "$.",
    "$..",
    "$[",
    "$[]",
    "$[-1]",
    "$[0:2]",
    "$[?@.a]",
    "$.a b",
    "$['a]",
    "$['\\q']",
    "$[01]",
    "$.1",
    "$x",
  ]) {
    const path = compileJsonPath(text);
    assert.ok("problem" in path && path.problem.length > 5, text);
  }
  assert.ok("problem" in compileJsonPath(`$${".a".repeat(31)}`));
  assert.ok("segments" in compileJsonPath(`$${".a".repeat(30)}`));
});

test("whatever a policy may say is followed", () => {
  const quoted = [`['x y','z']`, `["q\\"'\\\\"]`, `['it\\'s "']`, `["\\'"]`, `['\n\t']`, `[0 , 'a']`, `['']`];
  const parts = [".a", "..b_1", ".*", "..*", "[0]", "[ * ]", "..[12]", ".\ud83d\ude00", ...quoted];
  let seed = 3;
  const next = (below: number): number => {
    seed = (seed * 1103515245 + 12345) % 2147483648;
    return seed % below;
  };
  let good = 0;
  for (let round = 0; round < 3000; round += 1) {
    let path = `$${Array.from({ length: 1 + next(4) }, () => parts[next(parts.length)]).join("")}`;
    if (next(3) === 0) path = `${path.slice(0, next(path.length))}${path.slice(next(path.length))}`;
    if (wrongWithJsonPath(path) !== null) continue;
    good += 1;
    assert.ok("segments" in compileJsonPath(path), JSON.stringify(path));
  }
  assert.ok(good > 1000);
});
