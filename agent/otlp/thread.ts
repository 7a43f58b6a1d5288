/**
 * Traces and metrics in a thread of their own, that shares nothing with the agent but the spool's files: what it costs,
 * no verdict pays, and a receiver that is away is not noticed by one.
 */
import { Worker } from "node:worker_threads";
import type { Metric } from "../health/metrics.ts";
import type { SenderCounts } from "./sender.ts";
import type { OtlpSettings } from "./settings.ts";

export interface OtlpThreadSettings {
  readonly otlp: OtlpSettings;
  /** `weir-agent`, `weir-controller`. */
  readonly service: string;
  /** Which of them. */
  readonly instance: string;
  /** Its record becomes spans; null: metrics alone. */
  readonly stateDir: string | null;
  readonly startedAtMs: number;
}

export interface OtlpThread {
  /** At most `statusEveryMs` old. */
  metrics(): Metric[];
  close(): Promise<void>;
}

/** To the thread. */
export type OtlpOrder = { readonly metrics: readonly Metric[] } | { readonly close: true };

/** From the thread. */
export type OtlpReport =
  | { readonly type: "status"; readonly counts: SenderCounts }
  | { readonly type: "log"; readonly level: "info" | "warn"; readonly message: string };

export const statusEveryMs = 1_000;
const closeWithinMs = 5_000;
const restartAfterMs = 5_000;
const oldHeapMbMax = 256;
const youngHeapMbMax = 32;

export function startOtlp(
  settings: OtlpThreadSettings,
  numbers: () => readonly Metric[],
  log: (level: "info" | "warn", message: string) => void,
): OtlpThread {
  let counts: SenderCounts = { sent: 0, dropped: 0, problem: null };
  let before = { sent: 0, dropped: 0 };
  let closing = false;
  let restart: NodeJS.Timeout | undefined;
  let worker = started(settings);

  function started(from: OtlpThreadSettings): Worker {
    const thread = new Worker(new URL("./worker.ts", import.meta.url), {
      workerData: from,
      resourceLimits: { maxOldGenerationSizeMb: oldHeapMbMax, maxYoungGenerationSizeMb: youngHeapMbMax },
    });
    thread.unref();
    thread.on("message", (report: OtlpReport) => {
      if (report.type === "status") counts = report.counts;
      else log(report.level, report.message);
    });
    thread.on("error", (error) => log("warn", `otlp: the thread broke and starts again: ${error.message}`));
    thread.on("exit", () => {
      if (closing) return;
      before = { sent: before.sent + counts.sent, dropped: before.dropped + counts.dropped };
      counts = { sent: 0, dropped: 0, problem: "the thread is starting" };
      restart = setTimeout(() => {
        worker = started({ ...settings, startedAtMs: Date.now() });
      }, restartAfterMs);
      restart.unref();
    });
    return thread;
  }

  const own = (): Metric[] => [
    {
      name: "otlp_spans_total",
      help: "Spans since the start, by what became of them.",
      type: "counter",
      value: {
        label: "outcome",
        values: { sent: before.sent + counts.sent, dropped: before.dropped + counts.dropped },
      },
    },
  ];
  const push = (): void => {
    const order: OtlpOrder = { metrics: [...numbers(), ...own()] };
    worker.postMessage(order);
  };
  const timer = setInterval(push, settings.otlp.metricsEveryMs);
  timer.unref();

  return {
    metrics: own,
    async close() {
      closing = true;
      clearInterval(timer);
      clearTimeout(restart);
      if (worker.threadId === -1) return;
      const gone = new Promise<void>((resolve) => worker.once("exit", () => resolve()));
      worker.ref();
      push();
      const hung = setTimeout(() => void worker.terminate(), closeWithinMs);
      const order: OtlpOrder = { close: true };
      worker.postMessage(order);
      await gone;
      clearTimeout(hung);
    },
  };
}
