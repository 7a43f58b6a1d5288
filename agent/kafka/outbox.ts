/** Messages that have to get there, few and small: in order, one send outstanding, again until Kafka has them. */
import { setTimeout as delay } from "node:timers/promises";
import { WeirError } from "../errors.ts";
import type { OutMessage, Transport } from "./transport.ts";

export interface Outbox {
  /** Resolves when all in-sync replicas have it. Rejects when it is full, or closed before. */
  send(message: OutMessage): Promise<void>;
  close(): Promise<void>;
}

const waitingMax = 10_000;
const batchMax = 500;
/** What waits at the end still goes out when Kafka takes it by then. */
const closeWithinMs = 2_000;
const retryFirstMs = 200;
const retryMaxMs = 5_000;

interface Waiting {
  readonly message: OutMessage;
  resolve(): void;
  reject(error: Error): void;
}

export function openOutbox(transport: Transport, log: (level: "info" | "warn", message: string) => void): Outbox {
  const stop = new AbortController();
  const waiting: Waiting[] = [];
  // Else the first decision after a start would pay for the connection.
  let sending: Promise<void> | null = transport
    .connect()
    .catch(() => {})
    .then(work);

  async function work(): Promise<void> {
    let waitMs = retryFirstMs;
    while (waiting.length > 0 && !stop.signal.aborted) {
      const batch = waiting.slice(0, batchMax);
      try {
        await transport.send(batch.map(({ message }) => message));
        waiting.splice(0, batch.length);
        for (const { resolve } of batch) resolve();
        waitMs = retryFirstMs;
      } catch (error) {
        if (stop.signal.aborted) break;
        if (waitMs === retryFirstMs)
          log("warn", `approvals: ${error instanceof Error ? error.message : String(error)}`);
        await delay(waitMs, undefined, { signal: stop.signal }).catch(() => {});
        waitMs = Math.min(waitMs * 2, retryMaxMs);
      }
    }
    // At once: who sends again as soon as one is acknowledged must find nobody at work.
    sending = null;
  }

  return {
    send(message) {
      if (stop.signal.aborted || waiting.length >= waitingMax)
        return Promise.reject(new WeirError("WEIR_KAFKA_UNREACHABLE", "Too many messages wait for Kafka."));
      const { promise, resolve, reject } = Promise.withResolvers<void>();
      waiting.push({ message, resolve, reject });
      sending ??= work();
      return promise;
    },
    async close() {
      if (sending !== null) await Promise.race([sending, delay(closeWithinMs, undefined, { ref: false })]);
      stop.abort();
      await transport.close();
      await sending;
      for (const { reject } of waiting.splice(0)) reject(new WeirError("WEIR_SHUTDOWN"));
    },
  };
}
