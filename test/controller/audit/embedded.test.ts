/** From the agent's signed heads to leaves, checkpoints and receipts; killed, restarted, forked. */
import assert from "node:assert/strict";
import { createPublicKey } from "node:crypto";
import { appendFileSync, existsSync, readdirSync, readFileSync, rmSync, writeFileSync } from "node:fs";
import { join } from "node:path";
import { test } from "node:test";
import { headIsSigned, openAgentKey, readHeads, signHead } from "../../../agent/record/heads.ts";
import { leafOf, readReceipts } from "../../../agent/record/receipts.ts";
import { checkpointIsSigned, parseCheckpoint } from "../../../controller/audit/checkpoint.ts";
import { startEmbeddedAudit } from "../../../controller/audit/embedded.ts";
import { readFrom } from "../../../controller/audit/files.ts";
import { HeadIntake } from "../../../controller/audit/intake.ts";
import { type AuditLog, openAuditLog } from "../../../controller/audit/log.ts";
import { entriesOf, readTile, tileHashes } from "../../../controller/audit/tiles.ts";
import { inclusionHolds, leafHash, rootOf } from "../../../controller/audit/tree.ts";
import { verifyState } from "../../../controller/audit/verify-state.ts";
import { sampleLog, tempDir } from "../../agent/record/sample.ts";

const later = 1_790_000_100_000;

function headAt(stateDir: string, size: number, link = "ab".repeat(32), closed = false, agent = "a") {
  return signHead({ agent, size, link, timeMs: later + size, closed }, openAgentKey(stateDir));
}

test("heads become leaves, a checkpoint signs for them, the agent gets a receipt that holds", async (t) => {
  const dir = tempDir(t);
  await sampleLog(dir);
  const audit = startEmbeddedAudit({ stateDir: dir });
  await audit.close();
  const heads = readHeads(dir);
  assert.equal(audit.log?.size, heads.length);
  const checkpoint = parseCheckpoint(readFileSync(join(dir, "audit/checkpoint")));
  assert.ok(checkpointIsSigned(checkpoint, (audit.log as AuditLog).verifier));
  const read = readFrom(join(dir, "audit"));
  assert.deepEqual(rootOf(tileHashes(read, checkpoint.size), checkpoint.size), checkpoint.root);
  const leaves = entriesOf(readTile(read, "entries", 0, checkpoint.size)) ?? [];
  assert.deepEqual(leaves, heads.map(leafOf));
  const receipt = readReceipts(dir, "own").at(-1);
  assert.equal(receipt?.headSize, 12);
  const signed = parseCheckpoint(receipt?.checkpoint ?? "");
  const leaf = leafHash(leafOf(heads.at(-1) as (typeof heads)[0]));
  assert.equal(receipt?.leaf, leaf.toString("base64"));
  const proof = receipt?.proof.map((hash) => Buffer.from(hash, "base64")) ?? [];
  assert.ok(inclusionHolds(leaf, receipt?.index ?? -1, signed.size, proof, signed.root));
});

test("what is there is not added again: after a restart, and when the cursor is lost", async (t) => {
  const dir = tempDir(t);
  await sampleLog(dir);
  const run = async (): Promise<number | undefined> => {
    const audit = startEmbeddedAudit({ stateDir: dir });
    await audit.close();
    assert.equal(audit.problem, null);
    return audit.log?.size;
  };
  const size = await run();
  assert.equal(await run(), size);
  rmSync(join(dir, "audit/heads-cursor.json"));
  assert.equal(await run(), size);
  await sampleLog(dir);
  assert.equal(await run(), readHeads(dir).length);
});

test("a line that the agent did not sign is no leaf, and is told", async (t) => {
  const dir = tempDir(t);
  await sampleLog(dir);
  const [head] = readHeads(dir);
  appendFileSync(join(dir, "heads.jsonl"), `${JSON.stringify({ ...head, size: 99 })}\nnonsense\n`);
  const said: string[] = [];
  const audit = startEmbeddedAudit({ stateDir: dir, log: (_, message) => said.push(message) });
  await audit.close();
  assert.equal(audit.log?.size, 1);
  assert.match(said.join("\n"), /2 lines of heads\.jsonl are not signed/);
});

test("a fork that the agent signed for is told, and both sides of it stand in the log", async (t) => {
  const dir = tempDir(t);
  openAgentKey(dir);
  const log = openAuditLog({ stateDir: dir, everyMs: 1 });
  const intake = new HeadIntake(log);
  const one = headAt(dir, 5);
  assert.deepEqual(intake.take([headAt(dir, 3), one]).faults, []);
  assert.equal(intake.take([one]).added, 0, "the same head once more");
  const other = headAt(dir, 5, "cd".repeat(32));
  const taken = intake.take([other]);
  assert.deepEqual([taken.added, taken.faults[0]?.kind], [1, "fork"]);
  const shrunk = signHead({ ...headAt(dir, 2), timeMs: later * 2 }, openAgentKey(dir));
  assert.equal(intake.take([shrunk]).faults[0]?.kind, "shrunk");
  assert.equal(intake.take([headAt(dir, 6), headAt(dir, 1, undefined, false, "b")]).added, 2);
  const receipts = await intake.take([headAt(dir, 7)]).receipts();
  assert.deepEqual([receipts[0]?.headSize, receipts[0]?.index], [7, 6]);
  await log.close();
  const again = openAuditLog({ stateDir: dir });
  assert.equal(new HeadIntake(again).take([headAt(dir, 7), headAt(dir, 1, undefined, false, "b")]).added, 0);
  await again.close();
});

test("killed between tiles and checkpoint: the next start takes up what was signed for", async (t) => {
  const dir = tempDir(t);
  const key = openAgentKey(dir);
  const head = (size: number) =>
    signHead({ agent: "a", size, link: "ab".repeat(32), timeMs: later, closed: false }, key);
  const log = openAuditLog({ stateDir: dir, everyMs: 1 });
  for (let size = 1; size <= 600; size += 1) log.addHead(head(size));
  await log.flush();
  const signed = readFileSync(join(dir, "audit/checkpoint"));
  for (let size = 601; size <= 900; size += 1) log.addHead(head(size));
  await log.close();
  // As if the checkpoint over the last 300 had not been written any more.
  writeFileSync(join(dir, "audit/checkpoint"), signed);
  const again = openAuditLog({ stateDir: dir, everyMs: 1 });
  assert.equal(again.size, 600);
  assert.equal(again.lastHeadOf("a")?.size, 600);
  for (let size = 601; size <= 1_000; size += 1) again.addHead(head(size));
  await again.close();
  const checkpoint = parseCheckpoint(readFileSync(join(dir, "audit/checkpoint")));
  const read = readFrom(join(dir, "audit"));
  assert.deepEqual(rootOf(tileHashes(read, 1_000), 1_000), checkpoint.root);
  assert.ok(headIsSigned(again.lastHeadOf("a") as ReturnType<typeof head>, createPublicKey(key)));
  assert.deepEqual(readdirSync(join(dir, "audit/tile/0")).sort(), ["000", "001", "002", "003.p"]);
});

test("the page's check is of the record and of the audit log", async (t) => {
  const dir = tempDir(t);
  await sampleLog(dir);
  assert.deepEqual([verifyState(dir).ok, verifyState(dir).audit], [true, null]);
  await startEmbeddedAudit({ stateDir: dir }).close();
  const { ok, audit } = verifyState(dir);
  assert.deepEqual([ok, audit?.size, audit?.receipts], [true, 1, 1]);
  writeFileSync(join(dir, "audit/tile/0/000.p/1"), Buffer.alloc(32, 1));
  const broken = verifyState(dir);
  assert.deepEqual([broken.ok, broken.firstBad?.fault], [false, "altered"]);
  assert.match(broken.firstBad?.sentence ?? "", /Leaf 0 of the audit log/);
});

test("a log whose tiles or checkpoint were changed is not written on", async (t) => {
  const dir = tempDir(t);
  await sampleLog(dir);
  await startEmbeddedAudit({ stateDir: dir }).close();
  const entries = join(dir, "audit/tile/0/000.p/1");
  assert.ok(existsSync(entries));
  const bytes = readFileSync(entries);
  writeFileSync(entries, Buffer.alloc(32, 1));
  assert.throws(() => openAuditLog({ stateDir: dir }), { code: "WEIR_CHAIN_BROKEN" });
  // The agent is not held up by it: it records on, and says so.
  const said: string[] = [];
  const audit = startEmbeddedAudit({ stateDir: dir, log: (_, message) => said.push(message) });
  await audit.close();
  assert.deepEqual([audit.log, audit.problem === null], [null, false]);
  assert.match(said.join(), /tiles are not what was signed for/);
  writeFileSync(entries, bytes);
  await openAuditLog({ stateDir: dir }).close();
  rmSync(join(dir, "audit/log-key.pem"));
  assert.throws(() => openAuditLog({ stateDir: dir }), { code: "WEIR_CHAIN_BROKEN" });
});
