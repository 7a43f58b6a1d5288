/** The recorder among kills, full disks and second agents. */
import assert from "node:assert/strict";
import { execFileSync, spawn } from "node:child_process";
import { once } from "node:events";
import {
  cpSync,
  existsSync,
  mkdirSync,
  mkdtempSync,
  readFileSync,
  rmdirSync,
  statSync,
  truncateSync,
  writeFileSync,
} from "node:fs";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { test } from "node:test";
import type { WeirError } from "../../../agent/errors.ts";
import { readEntries } from "../../../agent/record/read.ts";
import { endingsBytesMax, openRecorder } from "../../../agent/record/recorder.ts";
import { verifyLog } from "../../../agent/record/verify.ts";
import {
  fill,
  flow,
  onlySegment,
  operation,
  payloadsOf,
  result,
  sampleLog,
  sessionA,
  sessionB,
  sessionEnd,
  tempDir,
} from "./sample.ts";

const code = (wanted: string) => (error: unknown) => (error as WeirError).code === wanted;
const recorderModule = join(import.meta.dirname, "../../../agent/record/recorder.ts");
const sampleModule = join(import.meta.dirname, "sample.ts");

/** A process that appends and flushes until it is killed; it says how many entries are flushed. */
function writer(dir: string) {
  const program = `
    import { writeSync } from "node:fs";
    import { openRecorder } from ${JSON.stringify(recorderModule)};
    import { flow, operation } from ${JSON.stringify(sampleModule)};
    const recorder = await openRecorder({ stateDir: process.argv[1] });
    recorder.append("s1", { type: "session-start", flow: flow("s1"), target: "app", protocol: "postgres" });
    recorder.append("s2", { type: "session-start", flow: flow("s2"), target: "app", protocol: "postgres" });
    for (let at = 1; ; at += 1) {
      recorder.append(at % 2 ? "s1" : "s2", operation(at, "SELECT " + "x".repeat(at % 3000)));
      recorder.flush();
      writeSync(1, at + "\\n");
      if (at % 50 === 0) await new Promise((done) => setImmediate(done));
    }`;
  return spawn(process.execPath, ["--input-type=module", "-e", program, dir], { stdio: ["ignore", "pipe", "inherit"] });
}

test("killed while it writes: what was flushed is there, the next start tells of the interruption", async (t) => {
  const dir = tempDir(t);
  for (const [round, killAfter] of [20, 300, 1].entries()) {
    const child = writer(dir);
    let said = "";
    child.stdout.on("data", (piece) => {
      said += piece;
      if (said.split("\n").length > killAfter) child.kill("SIGKILL");
    });
    await once(child, "close");
    const flushed = Number(said.trimEnd().split("\n").at(-1));
    const recorder = await openRecorder({ stateDir: dir });
    await recorder.close();
    const { ok, interruptions, unsigned, firstBad } = verifyLog(dir);
    assert.deepEqual([ok, interruptions, unsigned, firstBad], [true, round + 1, 0, null]);
    const texts = [...readEntries(dir)].filter((entry) => entry.type === "Operation");
    assert.ok(
      texts.some((entry) => entry.fields["operationId"] === flushed),
      `operation ${flushed} was flushed and is gone`,
    );
    const ends = [...readEntries(dir)].filter((entry) => entry.type === "SessionEnd");
    assert.equal(ends.length, 2 * (round + 1));
    assert.match(String(ends[0]?.fields["reason"]), /interrupted/);
  }
});

test("torn at every byte of the last frame: the rest is kept, the cut is told, the chain is green", async (t) => {
  const template = tempDir(t);
  // Killed, so without a head of an orderly end: the last head that is there signs for less.
  const recorder = await openRecorder({ stateDir: template });
  fill(recorder);
  recorder.append("agent", { type: "notice", text: "the last one" });
  recorder.flush();
  const work = tempDir(t);
  const copy = (to: string) => {
    mkdirSync(to);
    cpSync(join(template, "spool"), join(to, "spool"), { recursive: true });
    cpSync(join(template, "agent-key.pem"), join(to, "agent-key.pem"));
  };
  copy(join(work, "whole"));
  await recorder.close();
  const payloads = payloadsOf(onlySegment(join(work, "whole")));
  const end = payloads.reduce((sum, payload) => sum + 8 + payload.length, 0);
  const lastFrame = 8 + (payloads.at(-1)?.length ?? 0);
  for (let torn = 1; torn <= lastFrame; torn += 1) {
    const dir = join(work, String(torn));
    copy(dir);
    truncateSync(onlySegment(dir), end - torn);
    await (await openRecorder({ stateDir: dir })).close();
    const { ok, entries, interruptions } = verifyLog(dir);
    assert.deepEqual([ok, entries, interruptions], [true, 12 + 1, 1], `torn by ${torn} bytes`);
    const told = [...readEntries(dir)].at(-1);
    assert.equal(told?.fields["event"], "recovered");
    if (torn < lastFrame) assert.doesNotMatch(String(told?.fields["detail"]), / 0 bytes/);
  }
});

test("an unfinished line of heads is cut, and the record goes on", async (t) => {
  const dir = tempDir(t);
  await sampleLog(dir);
  const heads = join(dir, "heads.jsonl");
  writeFileSync(heads, `${readFileSync(heads, "utf8")}{"agent":"vm-1","size":9`);
  assert.equal(verifyLog(dir).ok, true);
  await sampleLog(dir);
  assert.equal(verifyLog(dir).ok, true);
  assert.equal(verifyLog(dir).unsigned, 0);
});

test("a byte altered in the middle stops the start: nothing behind it is cut away", async (t) => {
  const dir = tempDir(t);
  const path = await sampleLog(dir);
  const bytes = readFileSync(path);
  bytes[100] = (bytes[100] as number) ^ 1;
  writeFileSync(path, bytes);
  await assert.rejects(openRecorder({ stateDir: dir }), code("WEIR_SPOOL_CORRUPT"));
  assert.deepEqual(readFileSync(path), bytes);
  assert.equal(existsSync(join(dir, "lock")), false);
});

test("a full disk: WEIR_SPOOL_WRITE at once and from then on; after it the record verifies and goes on", async (t) => {
  if (process.getuid?.() !== 0) return t.skip("mounting needs root");
  const dir = mkdtempSync(join(tmpdir(), "weir-full-"));
  t.after(() => {
    execFileSync("umount", [dir]);
    rmdirSync(dir);
  });
  execFileSync("mount", ["-t", "tmpfs", "-o", "size=1m", "weir-test", dir]);
  // A first run that fits; what it flushed has to outlive the full disk.
  let recorder = await openRecorder({ stateDir: dir });
  recorder.append("agent", { type: "agent", event: "start", detail: "" });
  recorder.flush();
  await recorder.synced();
  let flushed = 0;
  let failure: unknown = null;
  for (let at = 0; at < 10_000 && failure === null; at += 1) {
    try {
      recorder.append(sessionA, operation(at, "x".repeat(5_000)));
      recorder.flush();
      flushed = at;
    } catch (error) {
      failure = error;
    }
  }
  assert.ok(code("WEIR_SPOOL_WRITE")(failure), String(failure));
  assert.match((failure as Error).message, /ENOSPC|no space/);
  assert.throws(() => recorder.append("agent", { type: "notice", text: "x" }), code("WEIR_SPOOL_WRITE"));
  assert.throws(() => recorder.flush(), code("WEIR_SPOOL_WRITE"));
  await assert.rejects(recorder.synced(), code("WEIR_SPOOL_WRITE"));
  await recorder.close();
  assert.equal(verifyLog(dir).ok, true);
  execFileSync("mount", ["-o", "remount,size=4m", dir]);
  recorder = await openRecorder({ stateDir: dir });
  await recorder.close();
  const { ok, interruptions } = verifyLog(dir);
  assert.deepEqual([ok, interruptions], [true, 1]);
  const operations = [...readEntries(dir)].filter((entry) => entry.type === "Operation");
  assert.equal(operations.at(-1)?.fields["operationId"], flushed);
});

test("a full record takes nothing new: what goes on ends in order, and what was turned away leaves no trace", async (t) => {
  const dir = tempDir(t);
  const recorder = await openRecorder({ stateDir: dir });
  const start = (id: string) =>
    ({ type: "session-start", flow: flow(id), target: "app", protocol: "postgres" }) as const;
  const refused = { type: "refused", code: "WEIR_DENIED", reason: "udp", flow: null } as const;
  recorder.append(sessionA, start(sessionA));
  recorder.append(sessionA, operation(1, "SELECT 1"));
  assert.deepEqual(recorder.limit("It is full."), { operations: 0, connections: 0 });
  assert.equal(recorder.status().full, "It is full.");
  assert.throws(() => recorder.append(sessionA, operation(2, "SELECT 2")), code("WEIR_SPOOL_FULL"));
  assert.throws(() => recorder.append(sessionB, start(sessionB)), code("WEIR_SPOOL_FULL"));
  recorder.append(sessionB, { type: "notice", text: "of a session that has not begun" });
  recorder.append("agent", refused);
  recorder.append(sessionA, result(1, 3));
  recorder.append("agent", { type: "notice", text: "the agent goes on" });
  assert.deepEqual(recorder.limit(null), { operations: 1, connections: 2 });
  assert.equal(recorder.status().full, null);
  // It lingers until its client has read why.
  recorder.append(sessionB, operation(1, "SELECT 'turned away'"));
  recorder.append(sessionB, sessionEnd);
  recorder.append(sessionA, operation(3, "SELECT 3"));
  recorder.append(sessionA, sessionEnd);
  recorder.append(sessionB, start(sessionB));
  recorder.append("agent", refused);
  await recorder.close();
  assert.equal(verifyLog(dir).ok, true);
  assert.deepEqual(
    [...readEntries(dir)].map(({ session, type }) => `${session.slice(-1)} ${type}`),
    [
      ...["a SessionStart", "a Operation", "a Result", "t Notice", "a Operation", "a SessionEnd", "b SessionStart"],
      "t Refused",
    ],
  );
});

test("a full record has an end for what goes on, too", async (t) => {
  const recorder = await openRecorder({ stateDir: tempDir(t) });
  recorder.append(sessionA, { type: "session-start", flow: flow(sessionA), target: "app", protocol: "postgres" });
  recorder.limit("It is full.");
  const notice = { type: "notice", text: "x".repeat(1024 * 1024) } as const;
  let taken = 0;
  assert.throws(() => {
    for (; ; taken += 1) {
      recorder.append(sessionA, notice);
      recorder.flush();
    }
  }, code("WEIR_SPOOL_FULL"));
  assert.ok(taken * notice.text.length <= endingsBytesMax && taken >= 60, String(taken));
  await recorder.close();
});

test("a second agent on a state directory is refused, in another process and in this one", async (t) => {
  const dir = tempDir(t);
  const child = writer(dir);
  await once(child.stdout, "data");
  await assert.rejects(openRecorder({ stateDir: dir }), (error: WeirError) => {
    assert.equal(error.code, "WEIR_STATE_LOCKED");
    assert.match(error.message, new RegExp(`pid ${child.pid}`));
    return true;
  });
  child.stdout.resume();
  child.kill("SIGKILL");
  await once(child, "close");
  const recorder = await openRecorder({ stateDir: dir });
  await assert.rejects(openRecorder({ stateDir: dir }), code("WEIR_STATE_LOCKED"));
  await recorder.close();
  assert.equal(existsSync(join(dir, "lock")), false);
});

test("a lock of a dead process, or of one that has its number now, is taken over", async (t) => {
  const dir = tempDir(t);
  const child = spawn("sleep", ["0"]);
  await once(child, "close");
  for (const stale of [String(child.pid), "", "1 0", "garbage"]) {
    writeFileSync(join(dir, "lock"), stale);
    await (await openRecorder({ stateDir: dir })).close();
  }
});

test("files are their owner's only; the public key and the directory may be looked at", async (t) => {
  const dir = join(tempDir(t), "state");
  const segment = await sampleLog(dir);
  assert.equal(statSync(segment).mode & 0o077, 0);
  assert.equal(statSync(join(dir, "agent-key.pem")).mode & 0o077, 0);
  assert.equal(statSync(join(dir, "heads.jsonl")).mode & 0o077, 0);
  assert.equal(statSync(join(dir, "agent-key.pub.pem")).mode & 0o777, 0o644);
});

test("odd texts come back as they were", async (t) => {
  const dir = tempDir(t);
  const texts = ["", "ö 漢字 🎉", "\u0000\u001b[31m", "x".repeat(200_000)];
  await sampleLog(dir, (recorder) => {
    recorder.append("odd", {
      type: "session-start",
      flow: { ...flow("odd"), process: null },
      target: "",
      protocol: "",
    });
    for (const [at, text] of texts.entries())
      recorder.append("odd", operation(at, text, {}, { parameters: [text, null], relations: [text] }));
  });
  const read = [...readEntries(dir)].filter((entry) => entry.session === "odd" && entry.type === "Operation");
  assert.deepEqual(
    read.map((entry) => entry.fields["text"]),
    texts,
  );
  assert.deepEqual(
    read.map((entry) => (entry.fields["parameters"] as string[])[0]),
    texts,
  );
  assert.equal(verifyLog(dir).ok, true);
});

test("a closed record takes nothing more: its descriptors may be another file's by then", async (t) => {
  const recorder = await openRecorder({ stateDir: tempDir(t) });
  await recorder.close();
  assert.throws(() => recorder.append("agent", { type: "notice", text: "late" }), /The record is closed/);
  await recorder.close();
});
