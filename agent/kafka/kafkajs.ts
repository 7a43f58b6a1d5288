/** kafkajs behind the narrow transport: its two ways to lose acknowledged messages are closed here. */
import { promisify } from "node:util";
import { zstdDecompress } from "node:zlib";
import kafkajs, { type Message, type Producer, type SASLOptions } from "kafkajs";
import { keyHasher } from "./murmur2.ts";
import {
  batchBytesMax,
  connectTimeoutMs,
  type KafkaSettings,
  type Library,
  type LibraryProducer,
  type OutMessage,
  requestTimeoutMs,
} from "./transport.ts";
import { compressed } from "./zstd.ts";

const { CompressionCodecs, CompressionTypes, Kafka, logLevel } = kafkajs;
/** Within one send; the publisher tries for ever. */
const retriesMax = 4;
const retryFirstMs = 100;
const retryMaxMs = 1_000;

const decompress = promisify(zstdDecompress);

/** kafkajs brings no zstd. */
export function registerZstd(): void {
  CompressionCodecs[CompressionTypes.ZSTD] = () => ({
    compress: ({ buffer }: { buffer: Buffer }) => compressed(buffer),
    decompress: (buffer: Buffer) => decompress(buffer, { maxOutputLength: batchBytesMax }),
  });
}

/** kafkajs's client with our settings; also what consumers and `weir topics` start from. */
export function kafkajsClient(settings: KafkaSettings): InstanceType<typeof Kafka> {
  registerZstd();
  quietTimers();
  return new Kafka({
    clientId: settings.clientId ?? "weir",
    brokers: [...settings.brokers],
    connectionTimeout: connectTimeoutMs,
    authenticationTimeout: connectTimeoutMs,
    requestTimeout: requestTimeoutMs,
    logLevel: logLevel.NOTHING,
    retry: { retries: retriesMax, initialRetryTime: retryFirstMs, maxRetryTime: retryMaxMs },
    // Certificates are always verified: there is no setting against it.
    ...(settings.tls ? { ssl: { ...settings.tls, rejectUnauthorized: true } } : {}),
    ...(settings.sasl ? { sasl: settings.sasl as SASLOptions } : {}),
  });
}

export function kafkajsLibrary(settings: KafkaSettings): Library {
  const client = kafkajsClient(settings);
  return { producer: () => new KafkajsProducer(client) };
}

class KafkajsProducer implements LibraryProducer {
  readonly #producer: Producer;
  /** Partitions of each topic that the send under way has messages for. */
  readonly #expected = new Map<string, Set<number>>();

  constructor(client: InstanceType<typeof Kafka>) {
    this.#producer = client.producer({
      idempotent: true,
      allowAutoTopicCreation: false,
      createPartitioner: () => {
        const hashOf = keyHasher();
        return ({ topic, partitionMetadata, message }) => {
          const partition = hashOf(String(message.key)) % partitionMetadata.length;
          this.#expect(topic, partition);
          return partition;
        };
      },
      retry: { retries: retriesMax, initialRetryTime: retryFirstMs, maxRetryTime: retryMaxMs },
    });
  }

  connect(): Promise<void> {
    return this.#producer.connect();
  }

  async send(batch: readonly OutMessage[]): Promise<void> {
    this.#expected.clear();
    const answers = await this.#producer.sendBatch({
      acks: -1,
      timeout: requestTimeoutMs,
      compression: CompressionTypes.ZSTD,
      topicMessages: byTopic(batch),
    });
    // When one of several brokers fails and its partition moves to a broker that has answered already, kafkajs takes
    // that answer for the moved partition, too, and never sends it.
    for (const { topicName, partition } of answers) this.#expected.get(topicName)?.delete(partition);
    for (const [topic, [partition]] of this.#expected)
      if (partition !== undefined) throw new Error(`No broker acknowledged partition ${partition} of ${topic}.`);
  }

  #expect(topic: string, partition: number): void {
    const partitions = this.#expected.get(topic);
    if (partitions === undefined) this.#expected.set(topic, new Set([partition]));
    else partitions.add(partition);
  }

  survives(error: unknown): boolean {
    const causes: unknown[] = [];
    for (let at = error; at instanceof Error && causes.length < 4; at = at.cause) causes.push(at);
    // What is not known to be repeatable is sent by a new producer: at worst doubled, never taken for a repetition.
    return causes.some((cause) =>
      ["KafkaJSConnectionError", "KafkaJSRequestTimeoutError", "KafkaJSConnectionClosedError"].includes(
        (cause as Error).name,
      ),
    );
  }

  async close(): Promise<void> {
    await this.#producer.disconnect().catch(() => {});
  }
}

function byTopic(batch: readonly OutMessage[]): { topic: string; messages: Message[] }[] {
  const topics = new Map<string, Message[]>();
  for (const { topic, key, value, headers } of batch) {
    let messages = topics.get(topic);
    if (messages === undefined) {
      messages = [];
      topics.set(topic, messages);
    }
    messages.push(headers === undefined ? { key, value } : { key, value, headers: { ...headers } });
  }
  return [...topics].map(([topic, messages]) => ({ topic, messages }));
}

let quiet = false;

/** kafkajs sets timers into the past on every request, about which Node 24 warns each time. */
function quietTimers(): void {
  if (quiet) return;
  quiet = true;
  const emitWarning = process.emitWarning.bind(process) as (...words: unknown[]) => void;
  process.emitWarning = ((...words: unknown[]) => {
    if (words[1] !== "TimeoutNegativeWarning") emitWarning(...words);
  }) as typeof process.emitWarning;
}
