/** What runs in the thread of thread.ts: follows the spool from its start on, and sends what its entries make. */
import { hostname } from "node:os";
import { join } from "node:path";
import { setTimeout as delay } from "node:timers/promises";
import { parentPort, workerData } from "node:worker_threads";
import { newestSegmentOf, SpoolFollower } from "../publish/follower.ts";
import { decodeEntry } from "../record/chain.ts";
import { simplify } from "../record/read.ts";
import { attributes, type Envelope } from "./json.ts";
import { otlpMetrics } from "./metrics.ts";
import { openSender } from "./sender.ts";
import { SpanMaker } from "./spans.ts";
import { type OtlpOrder, type OtlpReport, type OtlpThreadSettings, statusEveryMs } from "./thread.ts";

const readBytesMax = 1024 * 1024;
const pollEveryMs = 200;
/** On the way out. */
const metricsWithinMs = 1_000;
const version = "0.1.0";

const { otlp, service, instance, stateDir, startedAtMs } = workerData as OtlpThreadSettings;
const tell = (report: OtlpReport): void => parentPort?.postMessage(report);
const envelope: Envelope = {
  resource: {
    attributes: attributes({
      ...{ "service.name": service, "service.version": version, "service.instance.id": instance },
      ...{ "host.name": hostname(), ...otlp.resource },
    }),
  },
  scope: { name: "weir", version },
};
const sender = openSender(otlp, envelope, (level, message) => tell({ type: "log", level, message }));
const spans = new SpanMaker();
const stop = new AbortController();
const followed = stateDir === null ? Promise.resolve() : follow(join(stateDir, "spool"));
const timer = setInterval(() => tell({ type: "status", counts: counts() }), statusEveryMs);
let lastMetrics: Promise<void> = Promise.resolve();

parentPort?.on("message", (order: OtlpOrder) => {
  if ("close" in order) void close();
  else lastMetrics = sender.metrics(otlpMetrics(order.metrics, startedAtMs, Date.now()));
});

/** What was decided before the start was told by whoever ran then, or nobody. */
async function follow(dir: string): Promise<void> {
  const follower = new SpoolFollower(dir, newestSegmentOf(dir), { onlyOnDisk: false });
  try {
    for (;;) {
      const { payloads } = await follower.read(readBytesMax);
      for (const payload of payloads) {
        const entry = simplify(decodeEntry(payload));
        if (entry.timeMs < startedAtMs) continue;
        for (const span of spans.take(entry)) sender.add(span);
      }
      if (payloads.length > 0) continue;
      // What was recorded on the way out is read before the end.
      if (stop.signal.aborted) return;
      await delay(pollEveryMs, undefined, { signal: stop.signal }).catch(() => {});
    }
  } finally {
    follower.close();
  }
}

function counts() {
  const { sent, dropped, problem } = sender.counts();
  return { sent, dropped: dropped + spans.forgotten, problem };
}

async function close(): Promise<void> {
  clearInterval(timer);
  stop.abort();
  await Promise.all([followed, Promise.race([lastMetrics, delay(metricsWithinMs)])]);
  await sender.close();
  tell({ type: "status", counts: counts() });
  parentPort?.close();
}
