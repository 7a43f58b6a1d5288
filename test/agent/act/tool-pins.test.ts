import assert from "node:assert/strict";
import { appendFileSync, mkdtempSync, readFileSync, rmSync, statSync, writeFileSync } from "node:fs";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { test } from "node:test";
import { openToolPins, pinTextBytesMax } from "../../../agent/act/tool-pins.ts";

function withDir(run: (dir: string, file: string) => void): void {
  const dir = mkdtempSync(join(tmpdir(), "weir-tool-pins-"));
  try {
    run(dir, join(dir, "tool-pins.jsonl"));
  } finally {
    rmSync(dir, { recursive: true, force: true });
  }
}

test("a change is told with the text before, over restarts, until it is accepted or undone", () => {
  withDir((dir) => {
    let pins = openToolPins(dir);
    assert.equal(pins.pinned("h/a"), null);
    assert.equal(pins.pin("h/a", "d1", "one"), null);
    assert.equal(pins.pin("h/a", "d1", "one"), null);
    assert.deepEqual(pins.pinned("h/a"), { changed: null });
    assert.deepEqual(pins.pin("h/a", "d2", "two"), { before: "one" });
    pins = openToolPins(dir);
    assert.deepEqual(pins.pinned("h/a"), { changed: { before: "one", now: "two" } });
    assert.deepEqual(pins.pin("h/a", "d3", "three"), { before: "one" });
    assert.deepEqual(pins.changes(), [{ name: "h/a", before: "one", now: "three" }]);
    assert.equal(pins.pin("h/a", "d1", "one"), null, "undone");
    assert.deepEqual(pins.changes(), []);
    pins.pin("h/a", "d2", "two");
    assert.equal(pins.accept("h/a"), true);
    assert.equal(pins.accept("h/a"), false);
    pins = openToolPins(dir);
    assert.equal(pins.pin("h/a", "d2", "two"), null);
    assert.deepEqual(pins.pin("h/a", "d1", "one"), { before: "two" });
    assert.equal(pins.forget("h/"), 1);
    assert.equal(openToolPins(dir).pinned("h/a"), null);
  });
});

test("the same sight again writes nothing, and the file is for its owner alone", () => {
  withDir((dir, file) => {
    const pins = openToolPins(dir);
    pins.pin("h/a", "d1", "one");
    pins.pin("h/a", "d2", "two");
    const { size, mode } = statSync(file);
    assert.equal(mode & 0o777, 0o600);
    for (let i = 0; i < 10; i += 1) pins.pin("h/a", "d2", "two");
    assert.equal(statSync(file).size, size);
  });
});

test("a line cut off by a crash is dropped, other damage is an error that says what to do", () => {
  withDir((dir, file) => {
    openToolPins(dir).pin("h/a", "d1", "one");
    appendFileSync(file, '{"e":"first","n":"h/b","d":"d');
    const pins = openToolPins(dir);
    assert.equal(pins.pinned("h/b"), null);
    assert.equal(pins.pin("h/b", "d1", "b"), null);
    assert.deepEqual(openToolPins(dir).pinned("h/b"), { changed: null });
    writeFileSync(file, `garbage\n${readFileSync(file, "utf8")}`);
    assert.throws(() => openToolPins(dir), { code: "WEIR_CONFIG_INVALID", message: /move it away/ });
    writeFileSync(file, '{"e":"first","n":"h/b"}\n');
    assert.throws(() => openToolPins(dir), { code: "WEIR_CONFIG_INVALID" });
  });
});

test("a tool that flaps does not grow the file for ever, and a long text is cut", () => {
  withDir((dir, file) => {
    const pins = openToolPins(dir);
    const text = "é".repeat(pinTextBytesMax);
    pins.pin("h/a", "d1", text);
    for (let i = 0; i < 300; i += 1) pins.pin("h/a", i % 2 === 0 ? "d2" : "d1", "x");
    assert.ok(readFileSync(file, "utf8").split("\n").length < 120);
    const again = openToolPins(dir);
    assert.deepEqual(again.pin("h/a", "d9", "y")?.before.length, pinTextBytesMax / 2 + 1);
    assert.ok(Buffer.byteLength(again.pin("h/a", "d9", "y")?.before ?? "") <= pinTextBytesMax + 3);
  });
});
