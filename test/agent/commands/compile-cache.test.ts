import assert from "node:assert/strict";
import { execFileSync } from "node:child_process";
import { chmodSync, existsSync, mkdtempSync, readdirSync, rmSync } from "node:fs";
import { tmpdir } from "node:os";
import { join, resolve } from "node:path";
import { after, before, test } from "node:test";

const module = resolve(import.meta.dirname, "../../../agent/commands/compile-cache.ts");
const skip = process.getuid?.() === 0 ? false : "needs root";
let dir: string;

before(() => {
  dir = mkdtempSync(join(tmpdir(), "weir-compile-"));
});
after(() => rmSync(dir, { recursive: true, force: true }));

/** A process that uses the cache as the command does, and loads a module afterwards. */
function start(...words: string[]): string {
  const code = `const { useCompileCache, keepCompiled } = await import(${JSON.stringify(module)});
    useCompileCache(${JSON.stringify(words)}, {});
    await import(${JSON.stringify(resolve(import.meta.dirname, "../../../agent/kernel/address.ts"))});
    keepCompiled();
    console.log((await import("node:module")).getCompileCacheDir() ?? "none");`;
  return execFileSync(process.execPath, ["--input-type=module", "-e", code], { encoding: "utf8" }).trim();
}

test("what is compiled is kept below the state directory, for root alone", { skip }, () => {
  chmodSync(dir, 0o711);
  for (const words of [["--state", dir], [`--state=${dir}`]]) assert.ok(start(...words).startsWith(dir));
  assert.notDeepEqual(readdirSync(join(dir, "compile-cache"), { recursive: true }), []);
});

test("where another may write, nothing is taken from and nothing is kept", { skip }, () => {
  rmSync(join(dir, "compile-cache"), { recursive: true, force: true });
  chmodSync(dir, 0o777);
  assert.equal(start("--state", dir), "none");
  assert.equal(existsSync(join(dir, "compile-cache")), false);
  assert.equal(start("--state", join(dir, "nowhere")), "none");
  assert.equal(existsSync(join(dir, "nowhere")), false);
});
