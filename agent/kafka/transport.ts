/**
 * The narrow way to Kafka: what the agent publishes with and the controller answers with. Two implementations keep the
 * same promises, held by the same tests (test/agent/publish/transport.test.ts): idempotent, acks=all, zstd.
 */
import { WeirError } from "../errors.ts";

export interface KafkaSettings {
  /** host:port. */
  readonly brokers: readonly string[];
  readonly clientId?: string;
  /** PEM texts. `ca` stands in place of the system's roots; `cert` and `key` are for mutual TLS. */
  readonly tls?: { readonly ca?: string; readonly cert?: string; readonly key?: string };
  readonly sasl?: {
    readonly mechanism: "scram-sha-256" | "scram-sha-512" | "plain";
    readonly username: string;
    readonly password: string;
  };
}

export interface OutMessage {
  readonly topic: string;
  /** Messages with the same key are in one partition, in order. */
  readonly key: string;
  /** Null is a tombstone, in a compacted topic. */
  readonly value: Buffer | null;
  readonly headers?: Readonly<Record<string, string>>;
}

export interface Transport {
  readonly name: TransportName;
  /** Rejects when no broker answers in time; may be called again. */
  connect(): Promise<void>;
  /**
   * Resolves when all in-sync replicas have all of it. After a rejection some or all of it may be there: the caller
   * sends the identical batch again, nothing else. One call at a time: a second one is refused.
   */
  send(batch: readonly OutMessage[]): Promise<void>;
  /** A send that is under way rejects. */
  close(): Promise<void>;
}

export type TransportName = "kafkajs" | "platformatic";

export const connectTimeoutMs = 5_000;
/** What a broker has for one request. */
export const requestTimeoutMs = 10_000;
/** What a send may take with all its tries; then its connections are given up. */
export const sendTimeoutMs = 45_000;
/** An entry of 8 MiB with its headers; `weir topics create` sets the topics' `max.message.bytes` to it. */
export const messageBytesMax = 9 * 1024 * 1024;
/** What a compressed batch may become. */
export const batchBytesMax = 64 * 1024 * 1024;

/** Loaded when it is used: an agent without Kafka has neither library in memory. */
export async function openTransport(settings: KafkaSettings, name: TransportName = "kafkajs"): Promise<Transport> {
  const library =
    name === "kafkajs"
      ? (await import("./kafkajs.ts")).kafkajsLibrary(settings)
      : (await import("./platformatic.ts")).platformaticLibrary(settings);
  return new OneAtATime(name, library);
}

/** What a library has to do; a producer is thrown away when it is in doubt. */
export interface Library {
  producer(): LibraryProducer;
}

export interface LibraryProducer {
  connect(): Promise<void>;
  send(batch: readonly OutMessage[]): Promise<void>;
  /** After this error the same producer may send the batch again: brokers know its sequence numbers. */
  survives(error: unknown): boolean;
  close(): Promise<void>;
}

/**
 * One send outstanding per producer: kafkajs gives a sequence number out again when one of two fails, and brokers then
 * take new messages for repeated ones, which loses them though they were acknowledged.
 */
class OneAtATime implements Transport {
  readonly name: TransportName;
  readonly #library: Library;
  #producer: LibraryProducer | null = null;
  #busy = false;
  #closed = false;
  #abort: (() => void) | null = null;

  constructor(name: TransportName, library: Library) {
    this.name = name;
    this.#library = library;
  }

  async connect(): Promise<void> {
    await this.#exclusively(() => this.#connected());
  }

  async send(batch: readonly OutMessage[]): Promise<void> {
    await this.#exclusively(async () => {
      const producer = await this.#connected();
      try {
        await producer.send(batch);
      } catch (error) {
        if (!producer.survives(error)) this.#drop();
        throw error;
      }
    });
  }

  async close(): Promise<void> {
    this.#closed = true;
    this.#abort?.();
    const producer = this.#producer;
    this.#producer = null;
    await producer?.close();
  }

  async #connected(): Promise<LibraryProducer> {
    if (this.#producer !== null) return this.#producer;
    const producer = this.#library.producer();
    try {
      await producer.connect();
    } catch (error) {
      await producer.close();
      throw error;
    }
    if (this.#closed) {
      void producer.close();
      throw closed();
    }
    this.#producer = producer;
    return producer;
  }

  #drop(): void {
    void this.#producer?.close();
    this.#producer = null;
  }

  /** Runs it with a time limit; the one that is over the limit is left to its end, and its producer is not used again. */
  async #exclusively<T>(work: () => Promise<T>): Promise<void> {
    if (this.#closed) throw closed();
    if (this.#busy) throw new WeirError("WEIR_INTERNAL", "A second send on a producer whose first is outstanding.");
    this.#busy = true;
    let timer: NodeJS.Timeout | undefined;
    const given = new Promise<never>((_, reject) => {
      this.#abort = () => reject(closed());
      timer = setTimeout(() => {
        this.#drop();
        reject(new WeirError("WEIR_KAFKA_UNREACHABLE", `Kafka did not answer within ${sendTimeoutMs} ms.`));
      }, sendTimeoutMs);
    });
    try {
      await Promise.race([work(), given]);
    } catch (error) {
      throw error instanceof WeirError ? error : unreachable(error);
    } finally {
      clearTimeout(timer);
      this.#abort = null;
      this.#busy = false;
    }
  }
}

function closed(): WeirError {
  return new WeirError("WEIR_SHUTDOWN", "The connection to Kafka is closed.");
}

function unreachable(cause: unknown): WeirError {
  return new WeirError("WEIR_KAFKA_UNREACHABLE", cause instanceof Error ? cause.message : String(cause), { cause });
}
