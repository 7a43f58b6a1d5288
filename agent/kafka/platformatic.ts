/** @platformatic/kafka behind the narrow transport. Its settings and errors are its own; its promises are the same. */
import { compatibilityPartitioner, Producer } from "@platformatic/kafka";
import {
  connectTimeoutMs,
  type KafkaSettings,
  type Library,
  type LibraryProducer,
  type OutMessage,
  requestTimeoutMs,
} from "./transport.ts";

/** Within one send; below two the library takes it for endless. The publisher tries for ever. */
const retriesMax = 4;
const retryEveryMs = 250;

type RawProducer = Producer<Buffer, Buffer, Buffer, Buffer>;

export function platformaticLibrary(settings: KafkaSettings): Library {
  return { producer: () => new PlatformaticProducer(settings) };
}

class PlatformaticProducer implements LibraryProducer {
  readonly #producer: RawProducer;

  constructor({ brokers, clientId, tls, sasl }: KafkaSettings) {
    this.#producer = new Producer<Buffer, Buffer, Buffer, Buffer>({
      clientId: clientId ?? "weir",
      bootstrapBrokers: [...brokers],
      idempotent: true,
      acks: -1,
      compression: "zstd",
      // Java's, and kafkajs's: a session stays in its partition whichever library sends.
      partitioner: compatibilityPartitioner,
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
        key: Buffer.from(key),
        value: value as Buffer,
        ...(headers === undefined
          ? {}
          : { headers: new Map(Object.entries(headers).map(([k, v]) => [Buffer.from(k), Buffer.from(v)])) }),
      })),
    });
  }

  /** The library forgets its producer id after an error anyway; a new one has new connections, too. */
  survives(): boolean {
    return false;
  }

  async close(): Promise<void> {
    await this.#producer.close(true).catch(() => {});
  }
}
