import assert from "node:assert/strict";
import { mkdtempSync, readdirSync, readFileSync, readlinkSync, renameSync, rmSync } from "node:fs";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { type TestContext, test } from "node:test";
import { setTimeout as sleep } from "node:timers/promises";
import { openJournal } from "../../../agent/files/journal.ts";

interface Line {
  readonly n: number;
}

function tempFile(t: TestContext): string {
  const dir = mkdtempSync(join(tmpdir(), "weir-journal-"));
  t.after(() => rmSync(dir, { recursive: true }));
  return join(dir, "lines.jsonl");
}

function open(path: string) {
  return openJournal(path, (value) => value as Line, "Give up.");
}

function numbersIn(path: string): number[] {
  return open(path).lines.map(({ n }) => n);
}

test("lines written anew are all there, and the next one stands behind them", (t) => {
  const path = tempFile(t);
  const journal = open(path);
  journal.append({ n: -1 });
  const many = Array.from({ length: 20_000 }, (_, n) => ({ n }));
  journal.replace(many);
  journal.append({ n: many.length });
  assert.deepEqual(
    numbersIn(path),
    [...many, { n: many.length }].map(({ n }) => n),
  );
});

test("a file that was moved away gets nothing more", (t) => {
  const path = tempFile(t);
  const journal = open(path);
  journal.append({ n: 1 });
  renameSync(path, `${path}.old`);
  journal.append({ n: 2 });
  assert.deepEqual([numbersIn(`${path}.old`), numbersIn(path)], [[1], [2]]);
});

test("a file that was written anew, again and again, is not kept open", async (t) => {
  const path = tempFile(t);
  const journal = open(path);
  for (let n = 0; n < 50; n += 1) {
    journal.append({ n });
    if (n % 3 === 0) await sleep(1);
    journal.replace([{ n }]);
  }
  journal.append({ n: 50 });
  while (descriptorsOf(path) > 1) await sleep(5);
  assert.equal(readFileSync(path, "utf8"), '{"n":49}\n{"n":50}\n');
});

/** Of the file, and of those that stood in its place. */
function descriptorsOf(path: string): number {
  return readdirSync("/proc/self/fd").filter((fd) => {
    try {
      return readlinkSync(`/proc/self/fd/${fd}`).startsWith(path);
    } catch {
      return false;
    }
  }).length;
}
