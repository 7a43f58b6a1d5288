/** Retention in a thread of its own: reading and hashing an old segment takes no time from verdicts. */
import { Worker } from "node:worker_threads";
import type { RetentionSettings } from "./settings.ts";

export interface RetentionThread {
  close(): Promise<void>;
}

/** To the thread. */
export interface RetentionWork {
  readonly stateDir: string;
  readonly settings: RetentionSettings;
  readonly everyMs: number;
  /** Entries go to Kafka: what it has not acknowledged stays. */
  readonly publishing: boolean;
}

/** From the thread. */
export type RetentionMessage =
  | { readonly type: "pruned"; readonly text: string }
  | { readonly type: "problem"; readonly text: string };

export const everyMsDefault = 60_000;
const oldHeapMbMax = 256;

export function startRetention(
  work: Omit<RetentionWork, "everyMs"> & { readonly everyMs?: number },
  /** What was taken out, for the record itself. */
  pruned: (text: string) => void,
  log: (level: "info" | "warn", message: string) => void,
): RetentionThread {
  const worker = new Worker(new URL("./worker.ts", import.meta.url), {
    workerData: { everyMs: everyMsDefault, ...work } satisfies RetentionWork,
    resourceLimits: { maxOldGenerationSizeMb: oldHeapMbMax },
  });
  worker.unref();
  worker.on("message", ({ type, text }: RetentionMessage) => {
    log(type === "pruned" ? "info" : "warn", `retention: ${text}`);
    if (type === "pruned") pruned(text);
  });
  worker.on("error", (error) => log("warn", `retention ended: ${error.message}`));
  return {
    async close() {
      // In the middle of anything: each step can be done again.
      await worker.terminate();
    },
  };
}
