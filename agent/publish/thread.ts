/** The publisher in a thread of its own: encoding and compressing for Kafka takes no time from verdicts. */
import { Worker } from "node:worker_threads";
import type { KafkaSettings, TransportName } from "../kafka/transport.ts";
import type { PublisherStatus } from "./publisher.ts";

export interface PublishSettings {
  readonly stateDir: string;
  readonly kafka: KafkaSettings;
  readonly transport?: TransportName;
  /** Address of a schema registry with Confluent's API. */
  readonly registry?: string;
  readonly statusEveryMs?: number;
}

export interface PublishThread {
  /** At most `statusEveryMs` (500) old. */
  status(): PublisherStatus;
  /** As the publisher's: close the recorder first, so that its last head goes out, too. */
  close(drainWithinMs?: number): Promise<void>;
}

/** From the thread. */
export type ThreadMessage =
  | { readonly type: "status"; readonly status: PublisherStatus }
  | { readonly type: "log"; readonly level: "info" | "warn"; readonly message: string };

export const statusEveryMsDefault = 500;
/** A thread that breaks is started again; it goes on from the cursor. */
const restartAfterMs = 1_000;
/** Beyond the time it has to drain; then the thread is ended, and what it had not acknowledged comes again. */
const closeWithinMs = 5_000;
/** Above them the thread is ended and started again. */
const oldHeapMbMax = 1024;
const youngHeapMbMax = 32;

export function startPublishThread(
  settings: PublishSettings,
  log: (level: "info" | "warn", message: string) => void,
): PublishThread {
  let status: PublisherStatus = { state: "publishing", behind: 0, published: 0, problem: null };
  let closing = false;
  let worker = started();
  let restart: NodeJS.Timeout | undefined;

  function started(): Worker {
    const thread = new Worker(new URL("./worker.ts", import.meta.url), {
      workerData: settings,
      resourceLimits: { maxOldGenerationSizeMb: oldHeapMbMax, maxYoungGenerationSizeMb: youngHeapMbMax },
    });
    thread.unref();
    thread.on("message", (message: ThreadMessage) => {
      if (message.type === "status") status = message.status;
      else log(message.level, message.message);
    });
    thread.on("error", (error) => log("warn", `publish: the thread broke and starts again: ${error.message}`));
    thread.on("exit", () => {
      if (closing) return;
      status = { ...status, state: "behind", problem: "the publishing thread is starting" };
      restart = setTimeout(() => {
        worker = started();
      }, restartAfterMs);
      restart.unref();
    });
    return thread;
  }

  return {
    status: () => status,
    async close(drainWithinMs = 0) {
      closing = true;
      clearTimeout(restart);
      const gone = new Promise<void>((resolve) => worker.once("exit", () => resolve()));
      if (worker.threadId === -1) return;
      worker.ref();
      const hung = setTimeout(() => void worker.terminate(), drainWithinMs + closeWithinMs);
      worker.postMessage({ drainWithinMs });
      await gone;
      clearTimeout(hung);
      status = { ...status, state: "stopped" };
    },
  };
}
