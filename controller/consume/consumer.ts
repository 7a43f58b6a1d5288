/**
 * Reads the agents' topics in the controllers' consumer group: check, store, put aside what is wrong, then commit. A
 * controller that dies in between reads the same again, and the store has it already.
 */
import { setTimeout as delay } from "node:timers/promises";
import type { Consumer, EachBatchPayload } from "kafkajs";
import { kafkajsClient } from "../../agent/kafka/kafkajs.ts";
import { topics } from "../../agent/kafka/topics.ts";
import { type KafkaSettings, openTransport, type Transport } from "../../agent/kafka/transport.ts";
import { Intake, type RawMessage } from "./intake.ts";
import { EntrySchemas } from "./schemas.ts";
import type { RecordSink } from "./sink.ts";

export interface ConsumerOptions {
  readonly kafka: KafkaSettings;
  readonly sink: RecordSink;
  readonly schemas?: EntrySchemas;
  readonly groupId?: string;
  readonly log?: (level: "info" | "warn", message: string) => void;
}

export interface ConsumerStatus {
  readonly state: "consuming" | "waiting" | "stopped";
  readonly stored: number;
  readonly repeated: number;
  readonly deadLetters: number;
  readonly problem: string | null;
}

export interface RecordConsumer {
  status(): ConsumerStatus;
  close(): Promise<void>;
}

export const defaultGroupId = "weir-controllers";
/** Checked and stored in one transaction. */
const entriesAtOnceMax = 2_000;
const fetchWaitMs = 100;
const fetchBytesMax = 16 * 1024 * 1024;
const sessionTimeoutMs = 15_000;
const heartbeatEveryMs = 2_000;
const retryFirstMs = 200;
const retryMaxMs = 5_000;

export async function startConsumer(options: ConsumerOptions): Promise<RecordConsumer> {
  const consumer = new KafkaRecordConsumer(options, await openTransport(options.kafka));
  consumer.start();
  return consumer;
}

class KafkaRecordConsumer implements RecordConsumer {
  readonly #options: ConsumerOptions;
  readonly #deadLetters: Transport;
  readonly #intake: Intake;
  readonly #stop = new AbortController();
  #consumer: Consumer | null = null;
  #done: Promise<void> = Promise.resolve();
  #counts = { stored: 0, repeated: 0, deadLetters: 0 };
  #problem: string | null = null;

  constructor(options: ConsumerOptions, deadLetters: Transport) {
    this.#options = options;
    this.#deadLetters = deadLetters;
    this.#intake = new Intake(options.sink, options.schemas ?? new EntrySchemas());
  }

  start(): void {
    this.#done = this.#run();
  }

  /** Until it is closed; Kafka may come later than the controller. */
  async #run(): Promise<void> {
    for (let waitMs = retryFirstMs; !this.#stop.signal.aborted; waitMs = Math.min(waitMs * 2, retryMaxMs)) {
      const startedAtMs = performance.now();
      await this.#consume().catch((error: unknown) => {
        if (!this.#stop.signal.aborted) this.#trouble(error);
      });
      if (performance.now() - startedAtMs > retryMaxMs) waitMs = retryFirstMs;
      await delay(waitMs, undefined, { signal: this.#stop.signal }).catch(() => {});
    }
  }

  /**
   * Until this consumer is lost. kafkajs starts again by itself after some errors only: a coordinator that forgot the
   * member while it joins, as after a broker was killed, ended it for good.
   */
  async #consume(): Promise<void> {
    const consumer = kafkajsClient(this.#options.kafka).consumer({
      groupId: this.#options.groupId ?? defaultGroupId,
      sessionTimeout: sessionTimeoutMs,
      heartbeatInterval: heartbeatEveryMs,
      maxWaitTimeInMs: fetchWaitMs,
      maxBytes: fetchBytesMax,
      allowAutoTopicCreation: false,
      retry: { restartOnFailure: async () => false },
    });
    this.#consumer = consumer;
    const { promise: lost, reject } = Promise.withResolvers<never>();
    lost.catch(() => {});
    const stopped = (): void => reject(new Error("closed"));
    this.#stop.signal.addEventListener("abort", stopped);
    consumer.on(consumer.events.GROUP_JOIN, () => {
      this.#intake.forget();
      this.#problem = null;
    });
    consumer.on(consumer.events.CRASH, ({ payload }) => reject(payload.error));
    try {
      await consumer.connect();
      await consumer.subscribe({ topics: [topics.checkpoints, topics.sessions], fromBeginning: true });
      await consumer.run({
        autoCommit: false,
        eachBatchAutoResolve: false,
        eachBatch: (batch) => this.#batch(consumer, batch),
      });
      await lost;
    } finally {
      this.#stop.signal.removeEventListener("abort", stopped);
      await consumer.disconnect().catch(() => {});
    }
  }

  status(): ConsumerStatus {
    const state = this.#stop.signal.aborted ? "stopped" : this.#problem === null ? "consuming" : "waiting";
    return { state, ...this.#counts, problem: this.#problem };
  }

  async close(): Promise<void> {
    this.#stop.abort();
    await this.#consumer?.disconnect().catch(() => {});
    await this.#done;
    await this.#deadLetters.close();
  }

  async #batch(
    consumer: Consumer,
    { batch, heartbeat, isRunning, isStale, resolveOffset }: EachBatchPayload,
  ): Promise<void> {
    for (let at = 0; at < batch.messages.length; at += entriesAtOnceMax) {
      const raw = batch.messages.slice(at, at + entriesAtOnceMax).map(
        ({ key, value, headers, offset }): RawMessage => ({
          topic: batch.topic,
          partition: batch.partition,
          offset,
          key,
          value,
          headers: headers ?? {},
        }),
      );
      if (!isRunning() || isStale()) return;
      await this.#retried(() => this.#take(raw), heartbeat);
      const last = raw.at(-1) as RawMessage;
      resolveOffset(last.offset);
      const next = String(BigInt(last.offset) + 1n);
      await consumer.commitOffsets([{ topic: batch.topic, partition: batch.partition, offset: next }]);
      await heartbeat();
    }
  }

  async #take(raw: readonly RawMessage[]): Promise<void> {
    const { batch, deadLetters, repeated, stored } = await this.#intake.check(raw);
    // Before the store: a letter that is sent twice harms nobody, one that is never sent is lost.
    if (deadLetters.length > 0) await this.#deadLetters.send(deadLetters);
    if (batch.entries.length + batch.heads.length + batch.faults.length > 0) await this.#options.sink.store(batch);
    stored();
    this.#counts.stored += batch.entries.length;
    this.#counts.repeated += repeated;
    this.#counts.deadLetters += deadLetters.length;
    for (const { sentence } of batch.faults) this.#log("warn", sentence);
  }

  /** Tries until it is closed. A store that is away longer than `sessionTimeoutMs` does not cost the partition. */
  async #retried(work: () => Promise<void>, heartbeat: () => Promise<void> = async () => {}): Promise<void> {
    for (let waitMs = retryFirstMs; ; waitMs = Math.min(waitMs * 2, retryMaxMs)) {
      this.#stop.signal.throwIfAborted();
      try {
        await work();
        this.#problem = null;
        return;
      } catch (error) {
        this.#stop.signal.throwIfAborted();
        this.#trouble(error);
      }
      await delay(waitMs, undefined, { signal: this.#stop.signal });
      await heartbeat();
    }
  }

  #trouble(error: unknown): void {
    const problem = error instanceof Error ? error.message : String(error);
    if (this.#problem === null) this.#log("warn", problem);
    this.#problem = problem;
  }

  #log(level: "info" | "warn", message: string): void {
    this.#options.log?.(level, `consume: ${message}`);
  }
}
