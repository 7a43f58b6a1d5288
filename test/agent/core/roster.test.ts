/** What comes and goes on a roster. */
import assert from "node:assert/strict";
import { test } from "node:test";
import { Roster } from "../../../agent/core/roster.ts";

test("each is taken off by what adding it gave, in whatever order, and once", () => {
  const roster = new Roster<string>();
  const first = roster.add("a");
  const second = roster.add("b");
  const third = roster.add("c");
  assert.deepEqual([roster.size, [...roster].sort()], [3, ["a", "b", "c"]]);
  first();
  assert.deepEqual([...roster].sort(), ["b", "c"]);
  first();
  third();
  assert.deepEqual([roster.size, [...roster]], [1, ["b"]]);
  roster.add("d");
  second();
  assert.deepEqual([...roster], ["d"]);
});

test("the same may be on it twice", () => {
  const roster = new Roster<string>();
  const leave = roster.add("a");
  roster.add("a");
  leave();
  assert.deepEqual([...roster], ["a"]);
});

test("who is taken off while all are gone through is still met, and nobody else is missed", () => {
  const roster = new Roster<number>();
  const leaves = Array.from({ length: 9 }, (_, at) => roster.add(at));
  const met: number[] = [];
  for (const one of roster) {
    met.push(one);
    for (const leave of leaves) leave();
  }
  assert.deepEqual(met, [0, 1, 2, 3, 4, 5, 6, 7, 8]);
  assert.equal(roster.size, 0);
});
