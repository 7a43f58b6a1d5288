/** An agent at rest does not keep what its start has left behind. */
import assert from "node:assert/strict";
import { execFile } from "node:child_process";
import { resolve } from "node:path";
import { test } from "node:test";
import { promisify } from "node:util";

const commands = resolve(import.meta.dirname, "../../../agent/commands");

test("one collection gives tens of megabytes back, and leaves no gc() behind", async () => {
  const script = `
    await import(${JSON.stringify(`${commands}/up.ts`)});
    const before = process.memoryUsage.rss();
    const { dropStartGarbage } = await import(${JSON.stringify(`${commands}/start-garbage.ts`)});
    dropStartGarbage();
    console.log(JSON.stringify({ before, after: process.memoryUsage.rss(), gc: typeof globalThis.gc }));
  `;
  const args = ["--liftoff-only", "--input-type=module", "-e", script];
  const { stdout } = await promisify(execFile)(process.execPath, args);
  const { before, after, gc } = JSON.parse(stdout) as { before: number; after: number; gc: string };
  assert.ok(before - after > 20_000_000, `${before} bytes before, ${after} after`);
  assert.equal(gc, "undefined");
});
