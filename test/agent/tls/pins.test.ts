import assert from "node:assert/strict";
import { appendFileSync, existsSync, mkdirSync, readFileSync, renameSync, statSync, writeFileSync } from "node:fs";
import { join } from "node:path";
import { test } from "node:test";
import { openPins } from "../../../agent/tls/pins.ts";
import { tempDir } from "./pki.ts";

test("a certificate is what it was first, after a restart, too", async (t) => {
  const dir = tempDir(t);
  let pins = await openPins(dir);
  assert.equal(pins.has("db:5432"), false);
  assert.equal(pins.check("db:5432", "aa"), null);
  assert.equal(pins.check("db:5432", "aa"), null);
  assert.deepEqual(pins.check("db:5432", "bb"), { changedFrom: "aa" });
  pins = await openPins(dir);
  assert.equal(pins.has("db:5432"), true);
  assert.deepEqual(pins.check("db:5432", "bb"), { changedFrom: "aa" });
});

test("a first sight adds one line, another sight none, and the file is for its owner alone", async (t) => {
  const dir = tempDir(t);
  const file = join(dir, "pins.jsonl");
  const pins = await openPins(dir);
  pins.check("a:443", "aa");
  const { ino, mode } = statSync(file);
  assert.equal(mode & 0o777, 0o600);
  const first = readFileSync(file, "utf8");
  pins.check("b:443", "bb");
  pins.check("a:443", "aa");
  pins.check("a:443", "cc");
  assert.equal(readFileSync(file, "utf8"), `${first}{"server":"b:443","sha256":"bb"}\n`);
  assert.equal(statSync(file).ino, ino);
});

test("the file of former versions is taken over", async (t) => {
  const dir = tempDir(t);
  const former = join(dir, "pins.json");
  writeFileSync(former, JSON.stringify({ "a:443": "aa", "__proto__:443": "bb" }, null, 1));
  const pins = await openPins(dir);
  assert.equal(existsSync(former), false);
  assert.deepEqual(pins.check("a:443", "xx"), { changedFrom: "aa" });
  pins.check("c:443", "cc");
  // As if the host had stopped before the former file was gone.
  writeFileSync(former, JSON.stringify({ "a:443": "old", "d:443": "dd" }));
  const again = await openPins(dir);
  for (const [server, known] of Object.entries({ "a:443": "aa", "__proto__:443": "bb", "c:443": "cc", "d:443": "dd" }))
    assert.deepEqual(again.check(server, "xx"), { changedFrom: known });
});

test("a line cut off by a crash is dropped, one that an editor left without its end is not", async (t) => {
  const dir = tempDir(t);
  const file = join(dir, "pins.jsonl");
  (await openPins(dir)).check("a:443", "aa");
  for (const cut of ['{"server":"b:443","sha', '{"server":"b:443"', "{"]) {
    appendFileSync(file, cut);
    const pins = await openPins(dir);
    assert.deepEqual([pins.has("a:443"), pins.has("b:443")], [true, false]);
  }
  const pins = await openPins(dir);
  pins.check("b:443", "bb");
  writeFileSync(file, readFileSync(file, "utf8").trimEnd());
  (await openPins(dir)).check("c:443", "cc");
  const again = await openPins(dir);
  assert.deepEqual(
    ["a:443", "b:443", "c:443"].map((server) => again.has(server)),
    [true, true, true],
  );
});

test("what is seen after somebody has edited the file is not lost", async (t) => {
  const dir = tempDir(t);
  const file = join(dir, "pins.jsonl");
  const pins = await openPins(dir);
  pins.check("a:443", "aa");
  pins.check("b:443", "bb");
  writeFileSync(`${file}~`, readFileSync(file, "utf8").split("\n").slice(1).join("\n"));
  renameSync(`${file}~`, file);
  pins.check("c:443", "cc");
  const again = await openPins(dir);
  assert.deepEqual(
    ["a:443", "b:443", "c:443"].map((server) => again.has(server)),
    [false, true, true],
  );
});

test("other damage refuses to open, it does not forget", async (t) => {
  for (const [name, text] of [
    ["pins.json", '{"db.example:5432": "ab'],
    ["pins.jsonl", 'garbage\n{"server":"a:443","sha256":"aa"}\n'],
    ["pins.jsonl", '{"server":"a:443"}\n'],
    ["pins.jsonl", '\n{"server":"a:443","sha256":"aa"}\n'],
  ] as const) {
    const dir = tempDir(t);
    writeFileSync(join(dir, name), text);
    await assert.rejects(openPins(dir), {
      code: "WEIR_CONFIG_INVALID",
      message: new RegExp(`${name.replace(".", "\\.")} cannot be read .*move it away`),
    });
    assert.equal(readFileSync(join(dir, name), "utf8"), text);
  }
});

test("what cannot be written down is not remembered", async (t) => {
  const dir = join(tempDir(t), "state");
  mkdirSync(dir);
  const pins = await openPins(dir);
  renameSync(dir, `${dir}-away`);
  assert.throws(() => pins.check("a:443", "aa"), { code: "ENOENT" });
  assert.equal(pins.has("a:443"), false);
  renameSync(`${dir}-away`, dir);
  assert.equal(pins.check("a:443", "bb"), null);
});
