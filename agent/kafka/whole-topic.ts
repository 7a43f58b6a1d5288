/** A small topic as it stands now, read once from its start to its end. */
import { randomBytes } from "node:crypto";
import { WeirError } from "../errors.ts";
import type { FeedMessage } from "./feed.ts";
import { kafkajsClient } from "./kafkajs.ts";
import type { KafkaSettings } from "./transport.ts";

const fetchWaitMs = 50;
/** A group's coordinator may have to load first. */
const readWithinMs = 60_000;

/** Partition by partition in order. Rejects with WEIR_KAFKA_UNREACHABLE. `groupPrefix`: what the user may call a group. */
export async function readWholeTopic(
  settings: KafkaSettings,
  topic: string,
  groupPrefix: string,
): Promise<FeedMessage[]> {
  const client = kafkajsClient(settings);
  const consumer = client.consumer({
    groupId: `${groupPrefix}-read-${randomBytes(8).toString("hex")}`,
    maxWaitTimeInMs: fetchWaitMs,
    allowAutoTopicCreation: false,
    retry: { restartOnFailure: async () => false },
  });
  const messages: FeedMessage[] = [];
  const { promise: done, resolve, reject } = Promise.withResolvers<void>();
  const timer = setTimeout(() => reject(new Error(`it took more than ${readWithinMs} ms`)), readWithinMs);
  try {
    const ends = await endsOf(client, topic);
    if (ends.size === 0) return messages;
    consumer.on(consumer.events.CRASH, ({ payload }) => reject(payload.error));
    await consumer.connect();
    await consumer.subscribe({ topics: [topic], fromBeginning: true });
    await consumer.run({
      autoCommit: false,
      eachBatch: async ({ batch }) => {
        const end = ends.get(batch.partition);
        if (end === undefined) return;
        for (const { offset, key, value, headers = {}, timestamp } of batch.messages)
          if (BigInt(offset) < end)
            messages.push({ topic, key: key?.toString() ?? "", value, headers, timeMs: Number(timestamp) });
        if (BigInt(batch.lastOffset()) + 1n >= end) ends.delete(batch.partition);
        if (ends.size === 0) resolve();
      },
    });
    await done;
    return messages;
  } catch (cause) {
    const why = cause instanceof Error ? cause.message : String(cause);
    throw new WeirError("WEIR_KAFKA_UNREACHABLE", `${topic} cannot be read: ${why}`, { cause });
  } finally {
    clearTimeout(timer);
    done.catch(() => {});
    await consumer.disconnect().catch(() => {});
  }
}

/** Of the partitions that have something. */
async function endsOf(client: ReturnType<typeof kafkajsClient>, topic: string): Promise<Map<number, bigint>> {
  const admin = client.admin();
  try {
    await admin.connect();
    const offsets = await admin.fetchTopicOffsets(topic);
    return new Map(offsets.filter(({ high, low }) => high !== low).map((one) => [one.partition, BigInt(one.high)]));
  } finally {
    await admin.disconnect().catch(() => {});
  }
}
