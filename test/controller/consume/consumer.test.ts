/** Controllers on a real broker: two in one group, one of them leaves; poison between the entries; a store that is away. */
import assert from "node:assert/strict";
import { join } from "node:path";
import { after, before, test } from "node:test";
import { createTopics } from "../../../agent/kafka/admin.ts";
import { topics } from "../../../agent/kafka/topics.ts";
import { openTransport } from "../../../agent/kafka/transport.ts";
import { startPublishThread } from "../../../agent/publish/thread.ts";
import { openRecorder } from "../../../agent/record/recorder.ts";
import { startConsumer } from "../../../controller/consume/consumer.ts";
import type { CheckedBatch } from "../../../controller/consume/sink.ts";
import { operation, payloadsOf, sessionEnd, tempDir } from "../../agent/record/sample.ts";
import { startKafka, type TestKafka } from "../../support/kafka.ts";
import { readTopic } from "../../support/kafka-read.ts";
import { MemorySink } from "../../support/memory-sink.ts";
import { until } from "../../support/until.ts";

/** A store that several controllers share, as a database is; away while it is told so. */
class SharedSink extends MemorySink {
  away = false;
  override async store(batch: CheckedBatch): Promise<void> {
    if (this.away) throw new Error("the store is away");
    await super.store(batch);
  }
  get entries(): number {
    return [...this.sessions.values()].reduce((sum, list) => sum + list.length, 0);
  }
}

let kafka: TestKafka;
before(async () => {
  kafka = await startKafka();
  await createTopics(kafka.settings, { partitions: 4, replicas: 1 });
});
after(() => kafka?.stop());

test("a rebalance, poison and a store that is away lose and double nothing", async (t) => {
  const dir = tempDir(t);
  const sink = new SharedSink();
  const recorder = await openRecorder({ stateDir: dir });
  const thread = startPublishThread({ stateDir: dir, kafka: kafka.settings }, () => {});
  const first = await startConsumer({ kafka: kafka.settings, sink });
  const poison = await openTransport(kafka.settings);
  let recorded = 0;
  const record = (session: string, count: number): void => {
    for (let at = 0; at < count; at += 1) recorder.append(session, operation(at, `SELECT ${at}`));
    recorder.append(session, sessionEnd);
    recorder.flush();
    recorded += count + 1;
  };
  for (let session = 0; session < 8; session += 1) record(`early-${session}`, 300);
  await until(() => sink.entries === recorded);

  const second = await startConsumer({ kafka: kafka.settings, sink });
  for (let session = 0; session < 8; session += 1) {
    record(`middle-${session}`, 300);
    await poison.send([{ topic: topics.sessions, key: `poison-${session}`, value: Buffer.from(`poison ${session}`) }]);
  }
  await until(() => second.status().stored + second.status().deadLetters > 0 || sink.entries === recorded);
  sink.away = true;
  for (let session = 0; session < 8; session += 1) record(`late-${session}`, 300);
  await until(() => first.status().state === "waiting" || second.status().state === "waiting");
  sink.away = false;
  await first.close();
  await until(() => sink.entries === recorded);
  await recorder.close();
  await thread.close(10_000);
  await until(() => sink.agents.get(recorder.agentId)?.signed === recorded);
  await second.close();
  await poison.close();

  assert.equal(first.status().state, "stopped");
  assert.deepEqual(new Set(sink.faults.map(({ kind }) => kind)), new Set(["unreadable"]));
  const stored = new Set([...sink.sessions.values()].flat().map(({ payload }) => payload.toString("latin1")));
  const spooled = payloadsOf(join(dir, "spool", "00000001.seg"));
  assert.deepEqual(stored, new Set(spooled.map((payload) => payload.toString("latin1"))));
  const letters = await readTopic(kafka.settings, topics.deadLetters);
  const texts = new Set(letters.map(({ value }) => String(value)));
  assert.deepEqual(texts, new Set(Array.from({ length: 8 }, (_, session) => `poison ${session}`)));
  for (const { key, headers } of letters) {
    assert.match(key, /^poison-\d$/);
    assert.equal(headers["weir-topic"], topics.sessions);
    assert.match(headers["weir-sentence"] ?? "", /does not say its schema/);
  }
});
