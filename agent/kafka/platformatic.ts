/** @platformatic/kafka behind the narrow transport. Its settings and errors are its own; its promises are the same. */
import { type CompressionAlgorithmSpecification, compressionsAlgorithms, Producer } from "@platformatic/kafka";
import { murmur2 } from "./murmur2.ts";
import {
  connectTimeoutMs,
  type KafkaSettings,
  type Library,
  type LibraryProducer,
  type OutMessage,
  requestTimeoutMs,
} from "./transport.ts";
import { compressed } from "./zstd.ts";

/** Within one send; below two the library takes it for endless. The publisher tries for ever. */
const retriesMax = 4;
const retryEveryMs = 250;

/** Keys that are remembered: the library's own hash counts in big integers, each time. */
const keysMax = 8_192;

interface KnownKey {
  readonly key: Buffer;
  /** Java's hash, and kafkajs's; the library takes it modulo the partitions. A session stays in its partition whichever library sends. */
  readonly partition: number;
}

type RawProducer = Producer<Buffer, Buffer, Buffer, Buffer>;

/**
 * The library compresses in its own thread at zstd's default level, which is half of what a record costs. At the fastest
 * level, and in the pool's threads, partition beside partition.
 */
function compressFast(): void {
  const zstd: CompressionAlgorithmSpecification = compressionsAlgorithms.zstd;
  zstd.compress = (data) => compressed(Buffer.isBuffer(data) ? data : data.buffer);
}

export function platformaticLibrary(settings: KafkaSettings): Library {
  compressFast();
  return { producer: () => new PlatformaticProducer(settings) };
}

class PlatformaticProducer implements LibraryProducer {
  readonly #producer: RawProducer;
  readonly #keys = new Map<string, KnownKey>();

  constructor({ brokers, clientId, tls, sasl }: KafkaSettings) {
    this.#producer = new Producer<Buffer, Buffer, Buffer, Buffer>({
      clientId: clientId ?? "weir",
      bootstrapBrokers: [...brokers],
      idempotent: true,
      acks: -1,
      compression: "zstd",
      autocreateTopics: false,
      connectTimeout: connectTimeoutMs,
      requestTimeout: requestTimeoutMs,
      timeout: requestTimeoutMs,
      retries: retriesMax,
      retryDelay: retryEveryMs,
      ...(tls ? { tls: { ...tls, rejectUnauthorized: true } } : {}),
      ...(sasl
        ? {
            sasl: {
              mechanism: sasl.mechanism.toUpperCase() as "SCRAM-SHA-256" | "SCRAM-SHA-512" | "PLAIN",
              username: sasl.username,
              password: sasl.password,
            },
          }
        : {}),
    });
    // A connection can fail twice (TLS 1.3's alert for a missing certificate, then its close); the library listens once,
    // and an event `error` without a listener ends the process.
    this.#producer.connections.on("connecting", ({ connection }) => void connection.on("error", () => {}));
  }

  async connect(): Promise<void> {
    await this.#producer.initIdempotentProducer({});
  }

  async send(batch: readonly OutMessage[]): Promise<void> {
    await this.#producer.send({
      messages: batch.map(({ topic, key, value, headers }) => ({
        topic,
        ...this.#known(key),
        value: value as Buffer,
        ...(headers === undefined
          ? {}
          : { headers: new Map(Object.entries(headers).map(([k, v]) => [Buffer.from(k), Buffer.from(v)])) }),
      })),
    });
  }

  #known(text: string): KnownKey {
    let known = this.#keys.get(text);
    if (known === undefined) {
      const key = Buffer.from(text);
      known = { key, partition: murmur2(key) };
      if (this.#keys.size >= keysMax) this.#keys.clear();
      this.#keys.set(text, known);
    }
    return known;
  }

  /** The library forgets its producer id after an error anyway; a new one has new connections, too. */
  survives(): boolean {
    return false;
  }

  async close(): Promise<void> {
    await this.#producer.close(true).catch(() => {});
  }
}
