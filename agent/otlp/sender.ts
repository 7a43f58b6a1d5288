/**
 * Spans to their receiver (OTLP/HTTP, section "OTLP/HTTP Response" and "Retryable Response Codes"): in batches, one
 * request at a time, again with longer and longer waits while the receiver is away. The queue is bounded; what finds it
 * full is dropped and counted.
 */
import { Agent as PlainAgent, request as plainRequest } from "node:http";
import { Agent, request } from "node:https";
import { type Envelope, metricsRequest, type Span, traceRequest } from "./json.ts";
import type { OtlpSettings } from "./settings.ts";

export const spansQueuedMax = 8_192;
export const spanBytesQueuedMax: number = 16 * 1024 * 1024;
const spansAtOnceMax = 512;
/** A batch goes when it is full, or after this. */
const flushEveryMs = 1_000;
const answerWithinMs = 10_000;
const answerBytesMax = 64 * 1024;
const retryFirstMs = 1_000;
const retryMaxMs = 30_000;
/** What is sent on the way out, and no longer. */
const drainWithinMs = 2_000;
const retryable = [429, 502, 503, 504];

export interface SenderCounts {
  readonly sent: number;
  /** The queue was full, or the receiver refused them. */
  readonly dropped: number;
  readonly problem: string | null;
}

export interface Sender {
  add(span: Span): void;
  /** Of metrics the newest count: they are sent once, or not at all. */
  metrics(metrics: readonly object[]): Promise<void>;
  counts(): SenderCounts;
  /** Sends what it has, within `drainWithinMs`. */
  close(): Promise<void>;
}

type Log = (level: "info" | "warn", message: string) => void;

interface Answer {
  readonly status: number;
  readonly retryAfterMs: number | null;
  readonly body: string;
}

export function openSender(settings: OtlpSettings, envelope: Envelope, log: Log): Sender {
  const { endpoint, headers, ca } = settings;
  const secure = endpoint.startsWith("https:");
  const connections = { keepAlive: true, maxSockets: 2 };
  const agent = secure ? new Agent({ ...connections, ...(ca === null ? {} : { ca }) }) : new PlainAgent(connections);
  let queue: string[] = [];
  let queuedBytes = 0;
  let [sent, dropped] = [0, 0];
  let problem: string | null = null;
  let retryMs = 0;
  let closing = false;
  let timer: NodeJS.Timeout | null = null;
  let sending: Promise<void> | null = null;

  function tell(next: string | null): void {
    if (next !== null && problem !== next) log("warn", `otlp: ${next}`);
    if (next === null && problem !== null) log("info", "otlp: the receiver takes spans again");
    problem = next;
  }

  function later(ms: number): void {
    if (timer !== null || closing) return;
    timer = setTimeout(() => {
      timer = null;
      void flush();
    }, ms);
    timer.unref();
  }

  /** At most one at a time. */
  function flush(): Promise<void> {
    sending ??= (queue.length === 0 ? Promise.resolve() : send()).finally(() => {
      sending = null;
      if (queue.length > 0) later(retryMs > 0 ? retryMs : queue.length >= spansAtOnceMax ? 0 : flushEveryMs);
    });
    return sending;
  }

  async function send(): Promise<void> {
    const batch = queue.slice(0, spansAtOnceMax);
    let answer: Answer;
    try {
      answer = await post("/v1/traces", traceRequest(envelope, batch));
    } catch (error) {
      answer = { status: 503, retryAfterMs: null, body: error instanceof Error ? error.message : String(error) };
    }
    if (retryable.includes(answer.status)) {
      // Half of it by chance: many agents that lost one receiver do not come back as one.
      const next = Math.min(Math.max(retryMs * 2, retryFirstMs), retryMaxMs);
      retryMs = Math.min(answer.retryAfterMs ?? next * (0.5 + Math.random() / 2), retryMaxMs);
      tell(`${endpoint} does not take spans (${answer.status}): ${said(answer.body)}`);
      return;
    }
    retryMs = 0;
    queue = queue.slice(batch.length);
    queuedBytes -= batch.reduce((bytes, span) => bytes + span.length, 0);
    if (answer.status !== 200) {
      dropped += batch.length;
      tell(`${endpoint} refused ${batch.length} spans (${answer.status}): ${said(answer.body)}`);
      return;
    }
    const { rejected, message } = partialSuccess(answer.body);
    sent += batch.length - Math.min(rejected, batch.length);
    dropped += Math.min(rejected, batch.length);
    tell(rejected > 0 ? `${endpoint} refused ${rejected} spans: ${said(message)}` : null);
  }

  function post(path: string, body: string): Promise<Answer> {
    return new Promise((resolve, reject) => {
      const asked = (secure ? request : plainRequest)(
        `${endpoint}${path}`,
        {
          agent,
          method: "POST",
          headers: { ...headers, "content-type": "application/json", "user-agent": "weir" },
          signal: AbortSignal.timeout(answerWithinMs),
        },
        (answer) => {
          let text = "";
          answer.setEncoding("utf8");
          answer.on("error", reject);
          answer.on("data", (piece: string) => {
            if (text.length < answerBytesMax) text += piece;
          });
          answer.on("end", () => {
            const seconds = Number(answer.headers["retry-after"] ?? Number.NaN);
            const retryAfterMs = Number.isFinite(seconds) && seconds >= 0 ? seconds * 1_000 : null;
            resolve({ status: answer.statusCode ?? 502, retryAfterMs, body: text });
          });
        },
      );
      asked.on("error", reject);
      asked.end(body);
    });
  }

  return {
    add(span) {
      const text = JSON.stringify(span);
      if (queue.length >= spansQueuedMax || queuedBytes + text.length > spanBytesQueuedMax) {
        dropped += 1;
        return;
      }
      queue.push(text);
      queuedBytes += text.length;
      // While one is sent, what comes after it, and when, is not known yet.
      if (sending !== null) return;
      if (queue.length >= spansAtOnceMax && retryMs === 0) void flush();
      else later(flushEveryMs);
    },
    async metrics(metrics) {
      const answer = await post("/v1/metrics", metricsRequest(envelope, metrics)).catch((error: unknown) => ({
        ...{ status: 503, body: error instanceof Error ? error.message : String(error) },
      }));
      if (answer.status !== 200) tell(`${endpoint} does not take metrics (${answer.status}): ${said(answer.body)}`);
    },
    counts: () => ({ sent, dropped, problem }),
    async close() {
      closing = true;
      if (timer !== null) clearTimeout(timer);
      const untilMs = performance.now() + drainWithinMs;
      const drained = (async () => {
        await sending;
        // A receiver that is away is not waited for.
        while (queue.length > 0 && retryMs === 0 && performance.now() < untilMs) await flush();
      })();
      await Promise.race([drained, new Promise((over) => setTimeout(over, drainWithinMs))]);
      dropped += queue.length;
      queue = [];
      agent.destroy();
    },
  };
}

function partialSuccess(body: string): { rejected: number; message: string } {
  try {
    const { partialSuccess: partial } = JSON.parse(body) as {
      partialSuccess?: { rejectedSpans?: unknown; errorMessage?: unknown };
    };
    // 64-bit numbers come as texts.
    const rejected = Number(partial?.rejectedSpans ?? 0);
    return {
      rejected: Number.isSafeInteger(rejected) ? Math.max(rejected, 0) : 0,
      message: String(partial?.errorMessage ?? ""),
    };
  } catch {
    return { rejected: 0, message: "" };
  }
}

/** What a receiver says goes to the log. */
function said(text: string): string {
  return text.replace(/[^\x20-\x7e]+/g, " ").slice(0, 200);
}
