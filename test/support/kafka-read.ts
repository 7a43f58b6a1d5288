/** What a topic holds, read by a consumer of its own. */
import { randomUUID } from "node:crypto";
import { kafkajsClient } from "../../agent/kafka/kafkajs.ts";
import type { KafkaSettings } from "../../agent/kafka/transport.ts";

export interface ReadMessage {
  readonly partition: number;
  readonly offset: number;
  readonly key: string;
  readonly value: Buffer;
  readonly headers: Readonly<Record<string, string>>;
}

/** Everything up to the end that the topic has now, each partition in order. */
export async function readTopic(settings: KafkaSettings, topic: string): Promise<ReadMessage[]> {
  const client = kafkajsClient(settings);
  const admin = client.admin();
  await admin.connect();
  const ends = new Map<number, number>();
  for (const { partition, high, low } of await admin.fetchTopicOffsets(topic))
    if (high !== low) ends.set(partition, Number(high));
  await admin.disconnect();
  const next = new Map<number, number>();
  const messages: ReadMessage[] = [];
  if (ends.size === 0) return messages;
  const consumer = client.consumer({
    groupId: `test-${randomUUID()}`,
    maxWaitTimeInMs: 50,
    maxBytes: 32 * 1024 * 1024,
    // After a broker died the group's new coordinator loads for a while, and says so (GROUP_LOAD_IN_PROGRESS).
    retry: { initialRetryTime: 100, retries: 12, restartOnFailure: async () => true },
  });
  try {
    await consumer.connect();
    await consumer.subscribe({ topics: [topic], fromBeginning: true });
    await new Promise<void>((resolve, reject) => {
      consumer.on(consumer.events.CRASH, ({ payload }) => {
        if (!payload.restart) reject(payload.error);
      });
      void consumer.run({
        autoCommit: false,
        eachBatch: async ({ batch }) => {
          for (const { offset, key, value, headers } of batch.messages) {
            if (Number(offset) >= (ends.get(batch.partition) ?? 0)) continue;
            // A reader that had to join again reads from the start again.
            if (Number(offset) < (next.get(batch.partition) ?? 0)) continue;
            next.set(batch.partition, Number(offset) + 1);
            messages.push({
              partition: batch.partition,
              offset: Number(offset),
              key: key?.toString() ?? "",
              value: value ?? Buffer.alloc(0),
              headers: Object.fromEntries(Object.entries(headers ?? {}).map(([name, text]) => [name, String(text)])),
            });
          }
          if (Number(batch.lastOffset()) + 1 >= (ends.get(batch.partition) ?? 0)) ends.delete(batch.partition);
          if (ends.size === 0) resolve();
        },
      });
    });
  } finally {
    await consumer.disconnect();
  }
  return messages;
}
