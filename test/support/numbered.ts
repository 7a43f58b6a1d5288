/** Numbered messages over some keys: sent until they are acknowledged, and counted where they arrive. */
import assert from "node:assert/strict";
import { hash } from "node:crypto";
import type { TopicPlan } from "../../agent/kafka/topics.ts";
import type { OutMessage, Transport } from "../../agent/kafka/transport.ts";
import type { ReadMessage } from "./kafka-read.ts";

const keys = Array.from({ length: 16 }, (_, at) => `session-${at}`);

export function plan(topic: string): TopicPlan {
  return {
    topic,
    key: "",
    partitions: "many",
    compacted: false,
    writers: "agents",
    agentsRead: false,
    compactedWithinMs: null,
    retentionMs: -1,
  };
}

/** `count` messages from number `from`, over all keys in turn, with a body that no compression makes small. */
export function numbered(topic: string, from: number, count: number): OutMessage[] {
  return Array.from({ length: count }, (_, at) => {
    const number = from + at;
    const key = keys[number % keys.length] as string;
    return {
      topic,
      key,
      value: Buffer.from(`${number} ${hash("sha512", key + number, "base64")}`),
      headers: { "weir-kind": "test" },
    };
  });
}

/** The identical batch again, until it is acknowledged. */
export async function sendAll(transport: Transport, topic: string, batches: number, each: number): Promise<number> {
  let rejections = 0;
  for (let batch = 0; batch < batches; batch += 1) {
    const messages = numbered(topic, batch * each, each);
    for (;;) {
      try {
        await transport.send(messages);
        break;
      } catch {
        rejections += 1;
        assert.ok(rejections < 1_200, "the broker never takes it");
        await new Promise((resolve) => setTimeout(resolve, 100));
      }
    }
  }
  return rejections;
}

/** All are there, and what each key's reader sees first is in order. Answers how many came more than once. */
export function assertComplete(messages: readonly ReadMessage[], total: number): number {
  const seen = new Set<number>();
  const last = new Map<string, number>();
  for (const { key, value } of messages) {
    const number = Number.parseInt(value.toString("latin1"), 10);
    if (seen.has(number)) continue;
    seen.add(number);
    assert.ok(number > (last.get(key) ?? -1), `${number} of ${key} after ${last.get(key)}`);
    last.set(key, number);
  }
  assert.equal(seen.size, total);
  return messages.length - total;
}
