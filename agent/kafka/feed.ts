/**
 * Reads whole topics, for who has to know all of them: each reader is a group of its own, and no offset is committed.
 * What is read from the start is read again at each start. It goes on for as long as it is open, whatever Kafka does.
 */
import { setTimeout as delay } from "node:timers/promises";
import { kafkajsClient } from "./kafkajs.ts";
import type { KafkaSettings } from "./transport.ts";

export interface FeedMessage {
  readonly topic: string;
  readonly key: string;
  readonly value: Buffer | null;
  readonly headers: Readonly<Record<string, unknown>>;
  /** When the broker took it. */
  readonly timeMs: number;
}

export interface FeedOptions {
  readonly kafka: KafkaSettings;
  readonly groupId: string;
  /** `end`: what is written from now on. */
  readonly topics: readonly { readonly topic: string; readonly from: "start" | "end" }[];
  take(message: FeedMessage): void | Promise<void>;
  log(level: "info" | "warn", message: string): void;
}

export interface Feed {
  /** When it reads: what is written after it, it will see. */
  readonly reading: Promise<void>;
  close(): Promise<void>;
}

const fetchWaitMs = 500;
const fetchBytesMax = 4 * 1024 * 1024;
const sessionTimeoutMs = 15_000;
const retryFirstMs = 500;
const retryMaxMs = 5_000;

export function openFeed(options: FeedOptions): Feed {
  const stop = new AbortController();
  const { promise: reading, resolve } = Promise.withResolvers<void>();
  let current: { disconnect(): Promise<void> } | null = null;
  let told = false;
  /** The next offset of each partition, once it is known: what was taken is not taken again. */
  const next = new Map<string, bigint>();

  /** Resolves when this reader is lost. */
  async function read(): Promise<void> {
    const client = kafkajsClient(options.kafka);
    if (next.size === 0)
      for (const { topic, partition, offset } of await endsOf(client, options.topics))
        next.set(`${topic}/${partition}`, BigInt(offset));
    const consumer = client.consumer({
      groupId: options.groupId,
      sessionTimeout: sessionTimeoutMs,
      maxWaitTimeInMs: fetchWaitMs,
      maxBytes: fetchBytesMax,
      allowAutoTopicCreation: false,
      retry: { restartOnFailure: async () => false },
    });
    current = consumer;
    const { promise: lost, reject } = Promise.withResolvers<void>();
    lost.catch(() => {});
    const stopped = (): void => reject(new Error("closed"));
    stop.signal.addEventListener("abort", stopped);
    consumer.on(consumer.events.CRASH, ({ payload }) => reject(payload.error));
    consumer.on(consumer.events.GROUP_JOIN, () => {
      told = false;
      resolve();
    });
    try {
      await consumer.connect();
      for (const { topic } of options.topics) await consumer.subscribe({ topic, fromBeginning: true });
      await consumer.run({
        autoCommit: false,
        eachMessage: async ({ topic, partition, message: { offset, key, value, headers = {}, timestamp } }) => {
          const place = `${topic}/${partition}`;
          if (BigInt(offset) < (next.get(place) ?? 0n)) return;
          await options.take({ topic, key: key?.toString() ?? "", value, headers, timeMs: Number(timestamp) });
          next.set(place, BigInt(offset) + 1n);
        },
      });
      for (const [place, offset] of next) {
        const at = place.lastIndexOf("/");
        consumer.seek({ topic: place.slice(0, at), partition: Number(place.slice(at + 1)), offset: String(offset) });
      }
      await lost;
    } finally {
      stop.signal.removeEventListener("abort", stopped);
      await consumer.disconnect().catch(() => {});
    }
  }

  async function run(): Promise<void> {
    for (let waitMs = retryFirstMs; !stop.signal.aborted; waitMs = Math.min(waitMs * 2, retryMaxMs)) {
      try {
        await read();
      } catch (error) {
        if (stop.signal.aborted) return;
        if (!told) options.log("warn", `reading ${options.groupId}: ${error instanceof Error ? error.message : error}`);
        told = true;
      }
      await delay(waitMs, undefined, { signal: stop.signal }).catch(() => {});
    }
  }

  const done = run();
  return {
    reading,
    async close() {
      stop.abort();
      await current?.disconnect().catch(() => {});
      // A reader that Kafka does not let go of must not keep the process.
      await Promise.race([done, delay(sessionTimeoutMs, undefined, { ref: false })]);
    },
  };
}

/** Where the topics that are read from their end begin for this reader. */
async function endsOf(client: ReturnType<typeof kafkajsClient>, topics: FeedOptions["topics"]) {
  const admin = client.admin();
  try {
    await admin.connect();
    const ends: { topic: string; partition: number; offset: string }[] = [];
    for (const { topic } of topics.filter(({ from }) => from === "end"))
      for (const { partition, high } of await admin.fetchTopicOffsets(topic))
        ends.push({ topic, partition, offset: high });
    return ends;
  } finally {
    await admin.disconnect().catch(() => {});
  }
}
