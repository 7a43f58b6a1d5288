/** What one can do to a finished record, tried exhaustively: each is found, and named. */
import assert from "node:assert/strict";
import { cpSync, readFileSync, rmSync, writeFileSync } from "node:fs";
import { join } from "node:path";
import { test } from "node:test";
import { decodeEntry } from "../../../agent/record/chain.ts";
import { readEntries } from "../../../agent/record/read.ts";
import { openRecorder } from "../../../agent/record/recorder.ts";
import { verifyLog } from "../../../agent/record/verify.ts";
import { onlySegment, payloadsOf, sampleLog, sessionA, sessionB, tempDir, writePayloads } from "./sample.ts";

test("a good record is green, and reads back in order", async (t) => {
  const dir = tempDir(t);
  await sampleLog(dir);
  const { ok, entries, sessions, interruptions, unsigned, firstBad } = verifyLog(dir);
  assert.deepEqual([ok, entries, sessions, interruptions, unsigned, firstBad], [true, 12, 2, 0, 0, null]);
  const read = [...readEntries(dir)];
  assert.deepEqual(
    read.map((entry) => entry.agentSeq),
    [0, 1, 2, 3, 4, 5, 6, 7, 8, 9, 10, 11],
  );
  const statement = read[5]?.fields;
  assert.equal(statement?.["text"], "SELECT name FROM users");
  assert.deepEqual(statement?.["parameters"], ["x", null]);
  assert.deepEqual([read[6]?.fields["action"], read[6]?.fields["wouldBe"]], ["deny", null]);
});

test("every byte, flipped, is found", async (t) => {
  const dir = tempDir(t);
  const path = await sampleLog(dir);
  const whole = readFileSync(path);
  const used = payloadsOf(path).reduce((sum, payload) => sum + 8 + payload.length, 0);
  for (let at = 0; at < used; at += 1) {
    for (const bit of [0x01, 0x80]) {
      const bytes = Buffer.from(whole);
      bytes[at] = (bytes[at] as number) ^ bit;
      writeFileSync(path, bytes);
      const { firstBad } = verifyLog(dir);
      assert.ok(firstBad !== null, `byte ${at} ^ ${bit} was not found`);
    }
  }
  writeFileSync(path, whole);
  assert.equal(verifyLog(dir).ok, true);
});

test("every byte of every entry, flipped with its checksum made right, is found by the chain", async (t) => {
  const dir = tempDir(t);
  const path = await sampleLog(dir);
  const payloads = payloadsOf(path);
  for (const [index, payload] of payloads.entries()) {
    for (let at = 0; at < payload.length; at += 1) {
      const altered = Buffer.from(payload);
      altered[at] = (altered[at] as number) ^ 0x01;
      writePayloads(path, payloads.with(index, altered));
      const { firstBad } = verifyLog(dir);
      assert.ok(firstBad !== null, `entry ${index} byte ${at} was not found`);
      // The first bad place is this entry, or the next, which does not follow from it.
      assert.ok((firstBad.agentSeq ?? -1) <= index + 1 || firstBad.fault === "gap", JSON.stringify(firstBad));
    }
  }
});

test("each entry removed, each pair swapped, each one doubled is found and named", async (t) => {
  const dir = tempDir(t);
  const path = await sampleLog(dir);
  const payloads = payloadsOf(path);
  const last = payloads.length - 1;
  for (let at = 0; at <= last; at += 1) {
    writePayloads(path, payloads.toSpliced(at, 1));
    const removed = verifyLog(dir).firstBad;
    assert.equal(removed?.fault, at === last ? "truncated" : "gap");
    assert.match(removed?.sentence ?? "", /1 entries/);

    writePayloads(path, payloads.toSpliced(at, 0, payloads[at] as Buffer));
    assert.equal(verifyLog(dir).firstBad?.fault, "reordered");

    for (let other = at + 1; other <= last; other += 1) {
      writePayloads(path, payloads.with(at, payloads[other] as Buffer).with(other, payloads[at] as Buffer));
      assert.match(verifyLog(dir).firstBad?.fault ?? "", /^(gap|reordered)$/);
    }
  }
});

test("a tail cut at any entry is found, with the number of missing entries", async (t) => {
  const dir = tempDir(t);
  const path = await sampleLog(dir);
  const payloads = payloadsOf(path);
  for (let keep = 0; keep < payloads.length; keep += 1) {
    writePayloads(path, payloads.slice(0, keep));
    const { firstBad } = verifyLog(dir);
    assert.equal(firstBad?.fault, "truncated");
    assert.match(firstBad?.sentence ?? "", new RegExp(`${payloads.length - keep} entries are cut off`));
  }
  rmSync(path);
  assert.equal(verifyLog(dir).firstBad?.fault, "truncated");
});

test("a whole session removed is found", async (t) => {
  const dir = tempDir(t);
  const path = await sampleLog(dir);
  for (const session of [sessionA, sessionB]) {
    const payloads = payloadsOf(path);
    writePayloads(
      path,
      payloads.filter((payload) => decodeEntry(payload).session !== session),
    );
    const { firstBad } = verifyLog(dir);
    assert.equal(firstBad?.fault, "removed-session");
    assert.match(firstBad?.sentence ?? "", /5 entries are missing, and every other session is whole/);
    // Of a session that is still there an entry more is missing: then it is no removed session.
    writePayloads(path, payloads.filter((payload) => decodeEntry(payload).session !== session).toSpliced(3, 1));
    assert.equal(verifyLog(dir).firstBad?.fault, "gap");
    writePayloads(path, payloads);
  }
});

test("every byte of the signed heads, flipped, is found", async (t) => {
  const dir = tempDir(t);
  await sampleLog(dir);
  const path = join(dir, "heads.jsonl");
  const whole = readFileSync(path);
  for (let at = 0; at < whole.length; at += 1) {
    const bytes = Buffer.from(whole);
    bytes[at] = (bytes[at] as number) ^ 0x01;
    writeFileSync(path, bytes);
    const { ok, unsigned, entries } = verifyLog(dir);
    // The last line without its end is a line that was being written; then nothing is signed for, and that is said.
    assert.ok(!ok || unsigned === entries, `byte ${at} was not found`);
  }
});

test("another key than the agent's does not pass", async (t) => {
  const dir = tempDir(t);
  const other = tempDir(t);
  await sampleLog(dir);
  await sampleLog(other);
  const { firstBad } = verifyLog(dir, join(other, "agent-key.pub.pem"));
  assert.equal(firstBad?.fault, "wrong-key");
  // A whole record of another agent put in place: its own key says yes, the key that was kept says no.
  cpSync(join(other, "spool"), join(dir, "spool"), { recursive: true });
  assert.equal(verifyLog(dir).ok, false);
});

test("a record that was cut, and then written on by a restarted agent, is still found", async (t) => {
  const dir = tempDir(t);
  const path = await sampleLog(dir);
  writePayloads(path, payloadsOf(path).slice(0, 4));
  try {
    const recorder = await openRecorder({ stateDir: dir });
    recorder.append("agent", { type: "agent", event: "start", detail: "" });
    await recorder.close();
  } catch {
    // Refusing to start is as good.
  }
  const { ok, firstBad } = verifyLog(dir);
  assert.equal(ok, false);
  assert.match(firstBad?.fault ?? "", /truncated|altered/);
});

test("nothing at all is not green", (t) => {
  const dir = tempDir(t);
  assert.throws(() => verifyLog(dir));
});

test("two runs of the agent make one chain", async (t) => {
  const dir = tempDir(t);
  await sampleLog(dir);
  await sampleLog(dir);
  assert.equal(onlySegment(dir).length > 0, true);
  const { ok, entries, interruptions } = verifyLog(dir);
  assert.deepEqual([ok, entries, interruptions], [true, 24, 0]);
});
