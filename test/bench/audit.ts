/**
 * From the spool to committed in Kafka (acks=all, zstd), records a second, against a real broker on the same cores:
 *   node --liftoff-only test/bench/audit.ts [--entries 200000] [--bytes 1024] [--kind operations|mixed]
 *                                           [--transport kafkajs|platformatic] [--json]
 * `spool alone` writes the record and publishes nothing; `Kafka away` the same while the publisher finds no broker: their
 * ratio is what publishing costs a verdict. `published` writes and publishes at once, by a thread that has
 * run for a while, as an agent's has. `drained` starts on a spool that is full, as when Kafka was away. `consumed` is the
 * controller's side: read, decoded and checked, without a store; `stored` the same into SQLite.
 */
import { mkdtempSync, rmSync } from "node:fs";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { parseArgs } from "node:util";
import type { EntryBody } from "../../agent/core/record.ts";
import { createTopics } from "../../agent/kafka/admin.ts";
import { topics } from "../../agent/kafka/topics.ts";
import type { KafkaSettings, TransportName } from "../../agent/kafka/transport.ts";
import { type PublishThread, startPublishThread } from "../../agent/publish/thread.ts";
import { openRecorder, type Recorder } from "../../agent/record/recorder.ts";
import { startConsumer } from "../../controller/consume/consumer.ts";
import type { SessionTail } from "../../controller/consume/session-chain.ts";
import { nameOf, type RecordSink } from "../../controller/consume/sink.ts";
import { openSqliteStore } from "../../controller/store/sqlite.ts";
import { operation, result } from "../agent/record/sample.ts";
import { freePorts } from "../support/free-ports.ts";
import { countOf, startKafka } from "../support/kafka.ts";
import { MemorySink } from "../support/memory-sink.ts";

const { values } = parseArgs({
  options: {
    entries: { type: "string", default: "200000" },
    bytes: { type: "string", default: "1024" },
    transport: { type: "string", default: "platformatic" },
    kind: { type: "string", default: "operations" },
    json: { type: "boolean", default: false },
  },
});
const entries = Number(values.entries);
const bytes = Number(values.bytes);
const transport = values.transport as TransportName;
const sessions = 64;
/** What one turn of the event loop appends, and flushes at once. */
const perTurn = 64;

interface Figure {
  readonly what: string;
  readonly perSecond: number;
  readonly seconds: number;
  readonly agentCpuSeconds: number;
}

/** Text that no other has, and that compresses as SQL does: words of a fixed vocabulary in random order. */
const words = "select from where and or join on group by order customer account balance created status left".split(" ");
let seed = 1;
function text(length: number): string {
  let out = "";
  while (out.length < length) {
    seed = (Math.imul(seed, 1_103_515_245) + 12_345) >>> 0;
    out += `${words[(seed >>> 8) % words.length]} ${(seed >>> 4).toString(36)} `;
  }
  return out.slice(0, length);
}

const fixed = 330;
const bodies: EntryBody[] = Array.from({ length: 512 }, (_, at) => operation(at, text(Math.max(1, bytes - fixed))));

async function append(recorder: Recorder, count: number): Promise<void> {
  for (let at = 0; at < count; ) {
    for (const end = Math.min(count, at + perTurn); at < end; at += 1) {
      const body = values.kind === "mixed" && at % 2 === 1 ? result(at, 3) : (bodies[at % bodies.length] as EntryBody);
      recorder.append(`bench-session-${Math.floor(at / 2) % sessions}`, body);
    }
    recorder.flush();
    await new Promise((resolve) => setImmediate(resolve));
  }
  await recorder.synced();
}

async function measured(what: string, work: () => Promise<void>): Promise<Figure> {
  const cpu = process.cpuUsage();
  const start = performance.now();
  await work();
  const seconds = (performance.now() - start) / 1_000;
  const { user, system } = process.cpuUsage(cpu);
  return { what, perSecond: Math.round(entries / seconds), seconds, agentCpuSeconds: (user + system) / 1e6 };
}

async function publishedBy(thread: PublishThread, count: number): Promise<void> {
  while (thread.status().published < count) await new Promise((resolve) => setTimeout(resolve, 5));
}

type Start = (settings?: KafkaSettings) => PublishThread;

async function withSpool(work: (recorder: Recorder, start: Start) => Promise<Figure>): Promise<Figure> {
  const stateDir = mkdtempSync(join(tmpdir(), "weir-bench-audit-"));
  const recorder = await openRecorder({ stateDir });
  let thread: PublishThread | null = null;
  const start = (settings: KafkaSettings = kafka.settings): PublishThread => {
    thread = startPublishThread({ stateDir, kafka: settings, transport, statusEveryMs: 20 }, () => {});
    return thread;
  };
  try {
    return await work(recorder, start);
  } finally {
    await (thread as PublishThread | null)?.close();
    await recorder.close();
    rmSync(stateDir, { recursive: true, force: true });
  }
}

/** Read, decoded and checked; a store that keeps where sessions end, and no entry. */
async function consumed(count: number): Promise<Figure> {
  const tails = new Map<string, SessionTail>();
  const memory = new MemorySink();
  const sink: RecordSink = {
    tailsOf: async (names) => names.map((name) => tails.get(nameOf(name)) ?? null),
    store: async ({ entries: checked }) => {
      for (const { entry, link } of checked) tails.set(nameOf(entry), { seq: entry.seq, link });
    },
    keyOf: (agent) => memory.keyOf(agent),
    pinKey: (agent, key) => memory.pinKey(agent, key),
  };
  return consumedBy("consumed", sink, count);
}

async function stored(count: number): Promise<Figure> {
  const dir = mkdtempSync(join(tmpdir(), "weir-bench-audit-"));
  const store = openSqliteStore(dir);
  try {
    return await consumedBy("stored", store, count);
  } finally {
    await store.close();
    rmSync(dir, { recursive: true, force: true });
  }
}

async function consumedBy(what: string, sink: RecordSink, count: number): Promise<Figure> {
  const consumer = await startConsumer({ kafka: kafka.settings, sink, groupId: `weir-controllers-${what}` });
  while (consumer.status().stored === 0) await new Promise((resolve) => setTimeout(resolve, 5));
  const before = consumer.status().stored;
  const { seconds, agentCpuSeconds } = await measured("", async () => {
    while (consumer.status().stored < count) await new Promise((resolve) => setTimeout(resolve, 5));
  });
  await consumer.close();
  return { what, perSecond: Math.round((count - before) / seconds), seconds, agentCpuSeconds };
}

const [nowhere] = await freePorts(1);
const kafka = await startKafka({ optimise: true, heapMb: 512 });
try {
  await createTopics(kafka.settings, { partitions: 6, replicas: 1 });
  const figures = [
    await withSpool((recorder) => measured("spool alone", () => append(recorder, entries))),
    await withSpool((recorder, start) => {
      start({ brokers: [`127.0.0.1:${nowhere}`] });
      return measured("Kafka away", () => append(recorder, entries));
    }),
    await withSpool(async (recorder, start) => {
      const thread = start();
      await append(recorder, entries);
      await publishedBy(thread, entries);
      return measured("published", async () => {
        await append(recorder, entries);
        await publishedBy(thread, 2 * entries);
      });
    }),
    await withSpool(async (recorder, start) => {
      await append(recorder, entries);
      return measured("drained", () => publishedBy(start(), entries));
    }),
  ];
  figures.push(await consumed(3 * entries), await stored(3 * entries));
  const there = await countOf(kafka.settings, topics.sessions);
  if (there !== 3 * entries) throw new Error(`${there} of ${3 * entries} entries are in Kafka`);
  if (values.json) process.stdout.write(`${JSON.stringify(figures)}\n`);
  else
    for (const { what, perSecond, seconds, agentCpuSeconds } of figures)
      process.stdout.write(
        `${what.padEnd(12)} ${String(perSecond).padStart(8)} /s  ${seconds.toFixed(1)} s, ${agentCpuSeconds.toFixed(1)} CPU-s\n`,
      );
} finally {
  await kafka.stop();
}
