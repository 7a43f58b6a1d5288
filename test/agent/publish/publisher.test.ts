/** The publisher over a spool that grows, turns over, is torn and is moved away; Kafka is a list that can refuse. */
import assert from "node:assert/strict";
import { appendFileSync, readFileSync, renameSync, rmSync, statSync, truncateSync, writeFileSync } from "node:fs";
import { join } from "node:path";
import { type TestContext, test } from "node:test";
import type { WeirError } from "../../../agent/errors.ts";
import { topics } from "../../../agent/kafka/topics.ts";
import type { OutMessage, Transport } from "../../../agent/kafka/transport.ts";
import { CursorFile, cursorFile } from "../../../agent/publish/cursor.ts";
import { batchBytesMax, openPublisher, type Publisher, queueBytesMax } from "../../../agent/publish/publisher.ts";
import { startSpoolLimit, waitingBytes } from "../../../agent/publish/spool-limit.ts";
import { readEntries } from "../../../agent/record/read.ts";
import { openRecorder } from "../../../agent/record/recorder.ts";
import { segmentPath, segmentsOf, writeFrame } from "../../../agent/record/segment.ts";
import { verifyLog } from "../../../agent/record/verify.ts";
import { until } from "../../support/until.ts";
import { fill, flow, onlySegment, operation, payloadsOf, result, sampleLog, tempDir } from "../record/sample.ts";

class ListTransport implements Transport {
  readonly name = "kafkajs";
  readonly messages: OutMessage[] = [];
  readonly batches: (readonly OutMessage[])[] = [];
  /** Rejects while it answers an error; with `true` after it has taken the batch, as when the answer is lost. */
  refuse: (batch: readonly OutMessage[]) => { error: Error; taken?: boolean } | null = () => null;
  async connect(): Promise<void> {}
  async close(): Promise<void> {}
  async send(batch: readonly OutMessage[]): Promise<void> {
    this.batches.push(batch);
    await new Promise((resolve) => setImmediate(resolve));
    const refusal = this.refuse(batch);
    if (refusal === null || refusal.taken) this.messages.push(...batch);
    if (refusal !== null) throw refusal.error;
  }
  /** Payloads without their framing. */
  payloads(topic: string = topics.sessions): Buffer[] {
    return this.messages
      .filter((message) => message.topic === topic)
      .map(({ value }) => (value as Buffer).subarray(10));
  }
}

function publish(t: TestContext, stateDir: string): { transport: ListTransport; publisher: Publisher; logs: string[] } {
  const transport = new ListTransport();
  const logs: string[] = [];
  const publisher = openPublisher({ stateDir, transport, log: (_, message) => void logs.push(message) });
  t.after(() => publisher.close());
  return { transport, publisher, logs };
}

test("entries go to their topics, with the agent and its heads among the checkpoints", async (t) => {
  const dir = tempDir(t);
  const path = await sampleLog(dir);
  const { transport, publisher } = publish(t, dir);
  await publisher.close(5_000);
  assert.deepEqual(transport.payloads(), payloadsOf(path));
  const agent = transport.messages[0];
  assert.equal(agent?.topic, topics.checkpoints);
  const introduction = JSON.parse(String(agent?.value)) as Record<string, string>;
  assert.equal(introduction["publicKey"], readFileSync(join(dir, "agent-key.pub.pem"), "utf8"));
  assert.equal(agent?.key, introduction["agent"]);
  const heads = transport.messages.filter(({ headers }) => headers?.["weir-kind"] === "head");
  assert.equal(heads.map(({ value }) => `${value}\n`).join(""), readFileSync(join(dir, "heads.jsonl"), "utf8"));
  // The one denied operation; its twelve neighbours are no verdict that a person would want to hear of.
  assert.equal(transport.payloads(topics.verdicts).length, 1);
  const keys = new Set(transport.messages.filter(({ topic }) => topic === topics.sessions).map(({ key }) => key));
  assert.deepEqual(keys.size, 3);
  assert.ok(keys.has(introduction["agent"] as string) && !keys.has("agent"));
  assert.equal(publisher.status().state, "stopped");
});

test("a spool that grows and turns over is followed to its end", async (t) => {
  const dir = tempDir(t);
  const recorder = await openRecorder({ stateDir: dir });
  const { transport, publisher } = publish(t, dir);
  const large = "x".repeat(1_000_000);
  for (let at = 0; at < 80; at += 1) {
    recorder.append("s", operation(at, large));
    recorder.append("s", result(at, 1));
    recorder.flush();
    if (at % 10 === 0) await new Promise((resolve) => setTimeout(resolve, 5));
  }
  await recorder.close();
  assert.equal(segmentsOf(join(dir, "spool")).length, 2);
  await publisher.close(20_000);
  assert.deepEqual(transport.payloads(), segmentsOf(join(dir, "spool")).flatMap(payloadsOf));
  // What is sent as read and as framed, and the next one.
  const longest = Math.max(
    ...transport.batches.map((batch) => batch.reduce((bytes, { value }) => bytes + (value?.length ?? 0), 0)),
  );
  assert.ok(longest > batchBytesMax / 2 && 3 * longest <= queueBytesMax, `${longest} bytes`);
});

test("the identical batch comes again until it is acknowledged, and the cursor waits for it", async (t) => {
  const dir = tempDir(t);
  const path = await sampleLog(dir);
  const { transport, publisher, logs } = publish(t, dir);
  transport.refuse = () => ({ error: new Error("no broker"), taken: transport.batches.length === 2 });
  await until(() => transport.batches.length === 3);
  assert.deepEqual(transport.batches[1], transport.batches[0]);
  assert.equal(publisher.status().state, "behind");
  assert.equal(publisher.status().behind, payloadsOf(path).length);
  assert.throws(() => statSync(join(dir, cursorFile)));
  transport.refuse = () => null;
  await until(() => publisher.status().state === "publishing" && publisher.status().behind === 0);
  assert.deepEqual(transport.batches.at(-1), transport.batches[0]);
  assert.deepEqual(logs, ["publish: Entries wait in the spool: no broker", "publish: Kafka takes entries again."]);
});

test("a publisher that starts again goes on where Kafka had acknowledged", async (t) => {
  const dir = tempDir(t);
  await sampleLog(dir);
  await publish(t, dir).publisher.close(5_000);
  const before = payloadsOf(onlySegment(dir)).length;
  const recorder = await openRecorder({ stateDir: dir });
  fill(recorder);
  await recorder.close();
  const { transport, publisher } = publish(t, dir);
  await publisher.close(5_000);
  assert.deepEqual(transport.payloads(), payloadsOf(onlySegment(dir)).slice(before));
});

test("a cursor that does not fit the spool publishes all of it again", async (t) => {
  const dir = tempDir(t);
  await sampleLog(dir);
  await publish(t, dir).publisher.close(5_000);
  const cursor = JSON.parse(readFileSync(join(dir, cursorFile), "utf8")) as Record<string, number>;
  for (const wrong of [
    { ...cursor, segment: 7 },
    { ...cursor, offset: 11 },
    { ...cursor, link: "00" },
    { offset: -1 },
    "?",
  ]) {
    writeFileSync(join(dir, cursorFile), JSON.stringify(wrong));
    const { transport, publisher } = publish(t, dir);
    await publisher.close(5_000);
    assert.deepEqual(transport.payloads(), payloadsOf(onlySegment(dir)), JSON.stringify(wrong));
  }
});

test("a torn tail is not published, and what the recorder writes in its place is", async (t) => {
  const dir = tempDir(t);
  const path = await sampleLog(dir);
  const whole = payloadsOf(path).length;
  const torn = Buffer.alloc(8 + 500);
  writeFrame(torn, 0, Buffer.alloc(500, 7));
  appendFileSync(path, torn.subarray(0, 300));
  const { transport, publisher } = publish(t, dir);
  await until(() => transport.payloads().length === whole);
  const recorder = await openRecorder({ stateDir: dir });
  recorder.append("later", operation(1, "SELECT 2"));
  await recorder.close();
  await publisher.close(5_000);
  assert.deepEqual(transport.payloads(), payloadsOf(path));
  assert.ok(transport.payloads().length > whole);
});

test("a segment that is damaged in the middle stops the publisher loudly, and nothing is skipped", async (t) => {
  const dir = tempDir(t);
  const path = await sampleLog(dir);
  const good = payloadsOf(path);
  const end = statSync(path).size;
  truncateSync(path, end - 5);
  writeFileSync(segmentPath(join(dir, "spool"), 2), "");
  const { transport, publisher } = publish(t, dir);
  await until(() => publisher.status().problem !== null);
  assert.match(String(publisher.status().problem), /cannot be read at byte \d+.*weir verify/);
  assert.deepEqual(transport.payloads(), good.slice(0, -1));
});

test("room at the end of a segment that was never used stops nothing", async (t) => {
  const dir = tempDir(t);
  const path = await sampleLog(dir);
  const good = payloadsOf(path);
  appendFileSync(path, Buffer.alloc(200_000));
  const { transport, publisher } = publish(t, dir);
  await until(() => transport.payloads().length === good.length);
  const frame = Buffer.alloc(8 + (good[1] as Buffer).length);
  writeFrame(frame, 0, good[1] as Buffer);
  writeFileSync(segmentPath(join(dir, "spool"), 2), frame);
  await until(() => transport.payloads().length === good.length + 1);
  assert.equal(publisher.status().problem, null);
});

test("an entry that cannot be read goes out for its reader to put aside; nothing waits behind it", async (t) => {
  const dir = tempDir(t);
  const path = await sampleLog(dir);
  const frames = payloadsOf(path);
  frames.splice(3, 0, Buffer.from("no entry at all, with a good checksum"));
  writeFileSync(
    path,
    Buffer.concat(
      frames.map((payload) => {
        const frame = Buffer.alloc(8 + payload.length);
        writeFrame(frame, 0, payload);
        return frame;
      }),
    ),
  );
  const { transport, publisher } = publish(t, dir);
  await publisher.close(5_000);
  assert.deepEqual(transport.payloads(), frames);
  assert.equal(transport.messages.filter(({ key }) => key === "unreadable").length, 1);
});

test("a batch that is too large for a broker goes out in halves", async (t) => {
  const dir = tempDir(t);
  const path = await sampleLog(dir);
  const { transport, publisher } = publish(t, dir);
  const tooLarge = new Error("…", { cause: Object.assign(new Error("…"), { type: "MESSAGE_TOO_LARGE" }) });
  transport.refuse = (batch) => (batch.length > 3 ? { error: tooLarge } : null);
  await publisher.close(5_000);
  assert.deepEqual(transport.payloads(), payloadsOf(path));
});

test("a state directory that was moved away and begun anew is published from its start", async (t) => {
  const dir = tempDir(t);
  await sampleLog(dir);
  await publish(t, dir).publisher.close(5_000);
  renameSync(join(dir, "spool"), join(dir, "old"));
  rmSync(join(dir, "heads.jsonl"));
  const path = await sampleLog(dir);
  const { transport, publisher } = publish(t, dir);
  await publisher.close(5_000);
  // The old cursor's place is one of the new spool, too; only the entry before it is another.
  assert.deepEqual(transport.payloads(), payloadsOf(path));
});

test("while Kafka is away the record grows to its limit, and no further; afterwards all of it is there, once", async (t) => {
  const dir = tempDir(t);
  const recorder = await openRecorder({ stateDir: dir });
  const { transport, publisher } = publish(t, dir);
  let away = true;
  transport.refuse = () => (away ? { error: new Error("away") } : null);
  const told: string[] = [];
  const bytesMax = 256 * 1024;
  const limit = startSpoolLimit({
    ...{ stateDir: dir, bytesMax, recorder, everyMs: 5 },
    full: (reason) => {
      told.push(reason);
      recorder.append("agent", { type: "notice", text: "full" });
    },
    room: ({ operations }) => {
      told.push(`${operations} refused`);
      recorder.append("agent", { type: "notice", text: "room" });
    },
  });
  t.after(() => limit.close());
  recorder.append("s", { type: "session-start", flow: flow("s"), target: "app", protocol: "postgres" });
  let [taken, refused] = [0, 0];
  const load = async (): Promise<void> => {
    try {
      recorder.append("s", operation(taken + 1, "x".repeat(8_000)));
      taken += 1;
      recorder.flush();
    } catch (error) {
      assert.equal((error as WeirError).code, "WEIR_SPOOL_FULL");
      refused += 1;
    }
    await new Promise((resolve) => setTimeout(resolve, 1));
  };
  for (let tries = 0; refused < 20; tries += 1) {
    assert.ok(tries < 5_000);
    await load();
  }
  assert.match(told[0] ?? "", /of the record wait for Kafka, and 0 MiB may \(--spool-max\)/);
  const there = waitingBytes(dir, new CursorFile(dir));
  // What came between two looks is above it.
  assert.ok(there >= bytesMax && there < 8 * bytesMax, String(there));
  const size = recorder.status().size;
  for (let tries = 0; tries < 20; tries += 1) await load();
  recorder.flush();
  assert.equal(recorder.status().size, size, "it does not grow");
  away = false;
  await until(() => told.length === 2);
  assert.equal(told[1], `${refused} refused`);
  await load();
  await recorder.close();
  await publisher.close(5_000);
  const sent = transport.payloads();
  assert.equal(new Set(sent.map((one) => one.toString("base64"))).size, sent.length);
  // The beginning and each operation that was taken, and the two notices.
  assert.deepEqual([sent.length, [...readEntries(dir)].length], [taken + 3, taken + 3]);
  assert.equal(waitingBytes(dir, new CursorFile(dir)), 0);
  assert.equal(verifyLog(dir).ok, true);
});
