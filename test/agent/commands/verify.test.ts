/** `weir verify`: each way to tamper with a record, an audit log or an export has a sentence and an exit code of its own. */
import assert from "node:assert/strict";
import { cpSync, readFileSync, rmSync, writeFileSync } from "node:fs";
import { join } from "node:path";
import { Writable } from "node:stream";
import { type TestContext, test } from "node:test";
import { run as exportRun } from "../../../agent/commands/export.ts";
import { run as verify } from "../../../agent/commands/verify.ts";
import { decodeEntry } from "../../../agent/record/chain.ts";
import { openAgentKey, readHeads, signHead } from "../../../agent/record/heads.ts";
import { readReceipts } from "../../../agent/record/receipts.ts";
import { cosign, parseCheckpoint, withSignature } from "../../../controller/audit/checkpoint.ts";
import { startEmbeddedAudit } from "../../../controller/audit/embedded.ts";
import { openOwnKey, witnessKeyFiles } from "../../../controller/audit/keys.ts";
import { openAuditLog } from "../../../controller/audit/log.ts";
import { cosignatureKeyType } from "../../../controller/audit/note.ts";
import { bundleOf, entriesOf } from "../../../controller/audit/tiles.ts";
import { onlySegment, payloadsOf, sampleLog, sessionA, sessionEnd, tempDir, writePayloads } from "../record/sample.ts";

async function out(run: typeof verify, dir: string, ...args: string[]): Promise<{ code: number; text: string }> {
  let text = "";
  const stdout = new Writable({
    write(piece, _, done) {
      text += String(piece);
      done();
    },
  });
  const code = await run(args, { stdout, stderr: stdout, env: {}, stateDir: dir });
  return { code, text };
}

/** A record with its audit log beside it. */
async function logged(t: TestContext): Promise<{ dir: string; path: string }> {
  const dir = tempDir(t);
  const path = await sampleLog(dir);
  await startEmbeddedAudit({ stateDir: dir }).close();
  return { dir, path };
}

test("a record, tampered with in every way: code and sentence", async (t) => {
  const { dir, path } = await logged(t);
  assert.deepEqual((await out(verify, dir)).text.split("\n").length, 3, "a line for the record, one for the audit log");
  const payloads = payloadsOf(path);
  const altered = Buffer.from(payloads[5] as Buffer);
  altered.write("nobod", altered.indexOf("users"));
  const ways: [string, () => void, number, RegExp][] = [
    ["altered", () => writePayloads(path, payloads.with(5, altered)), 10, /^BROKEN: altered\. .*altered/],
    ["gap", () => writePayloads(path, payloads.toSpliced(5, 1)), 11, /^BROKEN: gap\. .*1 entries are missing/],
    [
      "reordered",
      () => writePayloads(path, payloads.with(5, payloads[7] as Buffer).with(7, payloads[5] as Buffer)),
      12,
      /^BROKEN: reordered\. .*does not belong/,
    ],
    ["truncated", () => writePayloads(path, payloads.slice(0, 9)), 13, /^BROKEN: truncated\. .*3 entries are cut off/],
    [
      "removed session",
      () =>
        writePayloads(
          path,
          payloads.filter((payload) => decodeEntry(payload).session !== sessionA),
        ),
      14,
      /^BROKEN: removed-session\. .*a session was removed/,
    ],
    [
      "damaged",
      () => writeFileSync(path, readFileSync(path).fill(0, 300, 310)),
      17,
      /^BROKEN: damaged\. .*checksum is wrong/,
    ],
  ];
  for (const [name, tamper, code, sentence] of ways) {
    writePayloads(path, payloads);
    assert.equal((await out(verify, dir)).code, 0);
    tamper();
    const told = await out(verify, dir);
    assert.equal(told.code, code, `${name}: ${told.text}`);
    assert.match(told.text, sentence, name);
  }
  writePayloads(path, payloads);
  const other = await logged(t);
  const wrong = await out(verify, dir, "--key", join(other.dir, "agent-key.pub.pem"));
  assert.deepEqual([wrong.code, /^BROKEN: wrong-key/.test(wrong.text)], [15, true]);
});

test("who cuts the heads with the record is convicted by the audit log", async (t) => {
  const { dir, path } = await logged(t);
  writePayloads(path, payloadsOf(path).slice(0, 6));
  rmSync(join(dir, "heads.jsonl"));
  const { code, text } = await out(verify, dir);
  assert.equal(code, 13);
  assert.match(text, /6 entries are cut off its end/);
});

test("split view: the agent signed one record here, another elsewhere", async (t) => {
  const { dir } = await logged(t);
  const [head] = readHeads(dir);
  const elsewhere = tempDir(t);
  const log = openAuditLog({ stateDir: elsewhere });
  const { signature: _, ...rest } = head as NonNullable<typeof head>;
  log.addHead(signHead({ ...rest, link: "cd".repeat(32) }, openAgentKey(dir)));
  await log.close();
  const { code, text } = await out(verify, dir, "--log", dir, "--log", join(elsewhere, "audit"));
  assert.equal(code, 16);
  assert.match(text, /^BROKEN: split-view\. The agent signed two different records of 12 entries/);
});

test("an audit log, tampered with in every way: code and sentence", async (t) => {
  const { dir } = await logged(t);
  for (let at = 0; at < 3; at += 1) {
    await sampleLog(dir, (recorder) => recorder.append("agent", { type: "notice", text: `${at}` }));
    await startEmbeddedAudit({ stateDir: dir }).close();
  }
  const audit = join(dir, "audit");
  const kept = tempDir(t);
  cpSync(audit, kept, { recursive: true });
  const size = parseCheckpoint(readFileSync(join(audit, "checkpoint"))).size;
  const bundle = join(audit, `tile/entries/000.p/${size}`);
  const hashes = join(audit, `tile/0/000.p/${size}`);
  const entries = entriesOf(readFileSync(bundle)) ?? [];
  assert.equal(entries.length, 4);
  const last = entries.length - 1;
  const write = (leaves: Buffer[]) => writeFileSync(bundle, bundleOf(leaves));
  const swapped = entries.with(1, entries[2] as Buffer).with(2, entries[1] as Buffer);
  const ways: [string, () => void, number, RegExp][] = [
    ["altered leaf", () => write(entries.with(2, Buffer.from("{}"))), 10, /Leaf 2 .* is not the one/],
    ["altered hash", () => writeFileSync(hashes, readFileSync(hashes).fill(1, 0, 32)), 10, /Leaf 0/],
    ["removed leaf", () => write(entries.toSpliced(1, 1)), 11, /Leaf 1 .* is missing/],
    ["swapped leaves", () => write(swapped), 12, /stands where another belongs/],
    ["cut leaf", () => write(entries.slice(0, last)), 13, /ends at leaf 3, and it has signed for 4/],
    ["no checkpoint", () => rmSync(join(audit, "checkpoint")), 13, /no checkpoint/],
    ["no tile", () => rmSync(hashes), 11, /is missing/],
    ["nonsense", () => writeFileSync(join(audit, "checkpoint"), "nonsense"), 17, /cannot be read/],
  ];
  for (const [name, tamper, code, sentence] of ways) {
    tamper();
    const told = await out(verify, dir);
    assert.equal(told.code, code, `${name}: ${told.text}`);
    assert.match(told.text, sentence, name);
    rmSync(audit, { recursive: true });
    cpSync(kept, audit, { recursive: true });
    assert.equal((await out(verify, dir)).code, 0);
  }
  const other = await logged(t);
  assert.equal((await out(verify, dir, "--key", join(other.dir, "audit/log-key.vkey"))).code, 15);
});

test("a log put back to an earlier state, or to another one, is convicted by receipts and by kept checkpoints", async (t) => {
  const { dir } = await logged(t);
  const backup = tempDir(t);
  cpSync(join(dir, "audit"), backup, { recursive: true });
  await sampleLog(dir);
  await startEmbeddedAudit({ stateDir: dir }).close();
  const kept = join(tempDir(t), "checkpoint");
  cpSync(join(dir, "audit/checkpoint"), kept);
  assert.equal(readReceipts(dir, "own").length, 2);
  assert.equal((await out(verify, dir, "--checkpoint", kept)).code, 0);
  // Back to the first leaf: the receipt over two convicts it, and so does the checkpoint.
  rmSync(join(dir, "audit"), { recursive: true });
  cpSync(backup, join(dir, "audit"), { recursive: true });
  const back = await out(verify, dir);
  assert.deepEqual([back.code, /signed for 2 leaves .*, and shows 1 here/.test(back.text)], [13, true]);
  rmSync(join(dir, "receipts.jsonl"));
  assert.equal((await out(verify, dir)).code, 0, "without receipts nothing here knows better");
  assert.equal((await out(verify, dir, "--checkpoint", kept)).code, 13);
  // Two leaves again, but others.
  const log = openAuditLog({ stateDir: dir });
  const [head] = readHeads(dir);
  log.addHead({ ...(head as NonNullable<typeof head>), agent: "another" });
  await log.close();
  const forked = await out(verify, dir, "--checkpoint", kept);
  assert.equal(forked.code, 16);
  assert.match(forked.text, /split-view.*two faces/);
});

test("a witness that was asked for has to have cosigned", async (t) => {
  const { dir } = await logged(t);
  const own = openOwnKey(tempDir(t), witnessKeyFiles, () => "w.example/1", cosignatureKeyType);
  const vkey = join(tempDir(t), "w.vkey");
  cpSync(join(dir, "audit/log-key.vkey"), vkey);
  const { formatVerifier } = await import("../../../controller/audit/note.ts");
  const key = formatVerifier(own.verifier);
  const alone = await out(verify, dir, "--key", key);
  assert.deepEqual([alone.code, /cosigned no checkpoint/.test(alone.text)], [15, true]);
  const checkpoint = parseCheckpoint(readFileSync(join(dir, "audit/checkpoint")));
  const note = withSignature(checkpoint.note, cosign(checkpoint, "w.example/1", own.key, 1_800_000_000));
  writeFileSync(join(dir, "audit/checkpoint.witnessed"), note);
  const good = await out(verify, dir, "--key", key, "--key", vkey);
  assert.deepEqual([good.code, /last at 2027-01-15T08:00:00/.test(good.text)], [0, true], good.text);
});

for (const format of ["jsonl", "ocsf"]) {
  test(`an export as ${format}, tampered with in every way: code and sentence`, async (t) => {
    const { dir } = await logged(t);
    const key = join(dir, "agent-key.pub.pem");
    const file = join(tempDir(t), "export");
    const { text } = await out(exportRun, dir, "--format", format);
    const lines = text.trimEnd().split("\n");
    assert.equal(lines.length, 13);
    const tail = lines.slice(-2);
    const ofA = (line: string) => line.includes(sessionA);
    const ways: [string, string[], number, RegExp][] = [
      ["whole", lines, 0, /^OK: 12 lines of 2 sessions, sealed by agent/],
      ["altered", lines.with(5, (lines[5] as string).replace("users", "nobody")), 10, /altered/],
      ["altered at the end", lines.with(11, (lines[11] as string).replace("stop", "Stop")), 10, /altered/],
      ["gap", lines.toSpliced(5, 1), 11, /1 entries are missing/],
      ["no beginning", lines.slice(3), 11, /its beginning is missing/],
      ["reordered", lines.with(5, lines[6] as string).with(6, lines[5] as string), 12, /does not belong/],
      ["doubled", lines.toSpliced(5, 0, lines[4] as string), 12, /behind entry/],
      ["truncated", lines.slice(0, 8), 13, /without its seal/],
      ["truncated before the seal", [...lines.slice(0, 8), ...tail.slice(1)], 13, /4 entries are cut off/],
      ["removed session", lines.filter((line) => !ofA(line)), 14, /a session was removed/],
      ["behind the seal", [...lines, lines[11] as string], 10, /behind the seal/],
      ["damaged", lines.with(5, (lines[5] as string).slice(0, 40)), 17, /cannot be read/],
      ["empty", [], 1, /nothing/],
    ];
    for (const [name, content, code, sentence] of ways) {
      writeFileSync(file, content.map((line) => `${line}\n`).join(""));
      const told = await out(verify, dir, "--export", file, "--key", key);
      assert.equal(told.code, code, `${name}: ${told.text}`);
      assert.match(told.text, sentence, name);
    }
    writeFileSync(file, text);
    const other = await logged(t);
    const wrong = await out(verify, dir, "--export", file, "--key", join(other.dir, "agent-key.pub.pem"));
    assert.deepEqual([wrong.code, /not signed by this key/.test(wrong.text)], [15, true]);
  });
}

test("an export since a time is whole by itself", async (t) => {
  const dir = tempDir(t);
  await sampleLog(dir);
  await sampleLog(dir, (recorder) => recorder.append("late", sessionEnd));
  const file = join(tempDir(t), "export");
  for (const format of ["jsonl", "ocsf"]) {
    const { text } = await out(exportRun, dir, "--format", format, "--since", "2026-01-01T00:00:00Z");
    writeFileSync(file, text);
    const told = await out(verify, dir, "--export", file);
    assert.equal(told.code, 0, told.text);
  }
  assert.ok(onlySegment(dir));
});
