/** The audit log behind a controller's store: no head is committed to Kafka that no checkpoint signs for. */
import assert from "node:assert/strict";
import { renameSync, writeFileSync } from "node:fs";
import { join } from "node:path";
import { test } from "node:test";
import { openAgentKey, signHead } from "../../../agent/record/heads.ts";
import type { Receipt } from "../../../agent/record/receipts.ts";
import { parseCheckpoint } from "../../../controller/audit/checkpoint.ts";
import { openConsumedAudit } from "../../../controller/audit/consumed.ts";
import { tempDir } from "../../agent/record/sample.ts";
import { MemorySink } from "../../support/memory-sink.ts";

test("a batch is stored when its heads are signed for, also after the disk was full", async (t) => {
  const dir = tempDir(t);
  const key = openAgentKey(dir);
  const head = (size: number, link = "ab") =>
    signHead({ agent: "a", size, link: link.repeat(32), timeMs: size, closed: false }, key);
  const [receipts, said]: [Receipt[], string[]] = [[], []];
  const audit = openConsumedAudit({
    stateDir: dir,
    sendReceipt: async (receipt) => void receipts.push(receipt),
    log: (_, message) => said.push(message),
  });
  const memory = new MemorySink();
  const sink = audit.sink(memory);
  await sink.store({ entries: [], heads: [head(1), head(2)], faults: [] });
  assert.equal(parseCheckpoint(audit.log.checkpoint ?? "").size, 2);
  // Something stands where the tiles go.
  const tiles = join(dir, "audit/tile");
  renameSync(tiles, `${tiles}.away`);
  writeFileSync(tiles, "");
  const batch = { entries: [], heads: [head(3)], faults: [] };
  await assert.rejects(sink.store(batch));
  await assert.rejects(sink.store(batch), "and again, although the head is known by now");
  assert.equal(audit.log.size, 2);
  renameSync(tiles, `${tiles}.file`);
  renameSync(`${tiles}.away`, tiles);
  await sink.store(batch);
  assert.equal(audit.log.size, 3);
  await sink.store({ entries: [], heads: [head(3, "cd")], faults: [] });
  assert.match(memory.faults.at(-1)?.sentence ?? "", /signed two different records of 3 entries/);
  assert.equal(audit.problem, memory.faults.at(-1)?.sentence);
  await audit.close();
  assert.deepEqual(
    receipts.map(({ agent, headSize }) => [agent, headSize]),
    [["a", 3]],
    "the newest alone",
  );
});
