/** Heads turn over: two files bound them, whoever follows them misses nothing, and the record goes on to verify. */
import assert from "node:assert/strict";
import { linkSync, readFileSync, rmSync, statSync } from "node:fs";
import { join } from "node:path";
import { test } from "node:test";
import { type Head, openAgentKey, readHeads, readLastHead, signHead } from "../../../agent/record/heads.ts";
import { HeadsFile, type HeadsPlace, headsStart, readHeadLines } from "../../../agent/record/heads-file.ts";
import { openRecorder } from "../../../agent/record/recorder.ts";
import { verifyLog } from "../../../agent/record/verify.ts";
import { startEmbeddedAudit } from "../../../controller/audit/embedded.ts";
import { verifyState } from "../../../controller/audit/verify-state.ts";
import { flow, operation, tempDir } from "./sample.ts";

const bytesMax = 2_000;
const runs = 20;

function writer(dir: string): { file: HeadsFile; write(count: number): void } {
  const key = openAgentKey(dir);
  const file = new HeadsFile(dir, bytesMax);
  let size = 0;
  return {
    file,
    write(count) {
      for (let at = 0; at < count; at += 1) {
        size += 1;
        file.append(signHead({ agent: "a", size, link: "00".repeat(32), timeMs: size, closed: false }, key));
      }
    },
  };
}

function follower(dir: string, start: HeadsPlace = headsStart) {
  const seen: number[] = [];
  let place = start;
  return {
    seen,
    look() {
      for (let lines = readHeadLines(dir, place); lines.length > 0; lines = readHeadLines(dir, place)) {
        seen.push(...lines.map(({ line }) => (JSON.parse(line) as Head).size));
        place = lines.at(-1)?.next as HeadsPlace;
      }
      return place;
    },
  };
}

const sizes = (heads: readonly Head[]): number[] => heads.map(({ size }) => size);
const upTo = (count: number): number[] => Array.from({ length: count }, (_, at) => at + 1);

test("two files bound them, the last head is always there, and they only grow", (t) => {
  const dir = tempDir(t);
  const { file, write } = writer(dir);
  for (let at = 1; at <= 60; at += 1) {
    write(1);
    assert.equal(readLastHead(join(dir, "heads.jsonl"))?.size, at);
    for (const name of ["heads.jsonl", "heads.1.jsonl"])
      assert.ok((statSync(join(dir, name), { throwIfNoEntry: false })?.size ?? 0) <= bytesMax + 300, name);
    const kept = sizes(readHeads(dir));
    assert.deepEqual(
      kept,
      [...kept].sort((a, b) => a - b),
    );
  }
  assert.ok(sizes(readHeads(dir))[0] !== 1);
  file.close();
});

test("who follows them sees each, over every turn, and goes on from a kept place", (t) => {
  const dir = tempDir(t);
  const { file, write } = writer(dir);
  const keeping = follower(dir);
  let kept = headsStart;
  const seen: number[] = [];
  for (let at = 0; at < 40; at += 1) {
    write(2);
    keeping.look();
    // A follower that is new each time, as after a restart.
    const again = follower(dir, kept);
    kept = again.look();
    seen.push(...again.seen);
  }
  assert.deepEqual([...new Set(keeping.seen)], upTo(80));
  assert.deepEqual([...new Set(seen)], upTo(80));
  // A head is at the end of one file and the beginning of the next, and nowhere else twice.
  assert.ok(seen.length <= 80 + 80 / 4, String(seen.length));
  // Asleep over many turns: what is left is all it can have.
  const late = follower(dir, kept);
  write(100);
  late.look();
  assert.deepEqual([...new Set(late.seen)], [...new Set(sizes(readHeads(dir)))]);
  assert.equal(late.seen.at(-1), 180);
  file.close();
});

test("a place of a version before, without a file, is of the file that is there", (t) => {
  const dir = tempDir(t);
  const { file, write } = writer(dir);
  write(3);
  const offset = readFileSync(join(dir, "heads.jsonl")).indexOf(10) + 1;
  const before = follower(dir, { file: null, offset });
  before.look();
  assert.deepEqual(before.seen, [2, 3]);
  file.close();
});

test("killed in the middle of a turn, when both names are one file: nothing is seen without end, and it verifies", (t) => {
  const dir = tempDir(t);
  const { file, write } = writer(dir);
  write(3);
  linkSync(join(dir, "heads.jsonl"), join(dir, "heads.1.jsonl"));
  assert.deepEqual(sizes(readHeads(dir)), [1, 2, 3]);
  const follow = follower(dir);
  follow.look();
  assert.deepEqual(follow.seen, [1, 2, 3]);
  write(10);
  follow.look();
  assert.deepEqual([...new Set(follow.seen)], upTo(13));
  assert.equal(readLastHead(join(dir, "heads.jsonl"))?.size, 13);
  file.close();
});

test("an agent whose heads turned over many times verifies, with its audit log, and without the earlier file", async (t) => {
  const dir = tempDir(t);
  for (let run = 0; run < runs; run += 1) {
    const recorder = await openRecorder({ stateDir: dir, headsBytes: bytesMax });
    const session = `s${run}`;
    recorder.append(session, { type: "session-start", flow: flow(session), target: "app", protocol: "postgres" });
    recorder.append(session, operation(1, "SELECT 1"));
    await recorder.close();
    const audit = startEmbeddedAudit({ stateDir: dir });
    await audit.close();
    assert.equal(audit.problem, null);
    assert.equal(audit.log?.size, run + 1);
  }
  assert.ok(new Set(sizes(readHeads(dir))).size < runs);
  const { ok, unsigned, firstBad, audit } = verifyState(dir);
  assert.deepEqual([ok, unsigned, firstBad, audit?.size], [true, 0, null, runs]);
  rmSync(join(dir, "heads.1.jsonl"));
  assert.equal(verifyLog(dir).ok, true);
});
