/** A receiver of traces and metrics that holds them against OpenTelemetry's own definitions (otlp-receiver.py). */
import { execFileSync, spawn } from "node:child_process";
import { existsSync, mkdtempSync, readFileSync, rmSync } from "node:fs";
import { tmpdir } from "node:os";
import { join, resolve } from "node:path";
import { setTimeout as sleep } from "node:timers/promises";

const python = resolve(import.meta.dirname, "../../build/venv/bin/python");

export function otlpMissing(): string | null {
  try {
    execFileSync(python, ["-c", "import opentelemetry.proto"], { stdio: "ignore" });
    return null;
  } catch {
    return "opentelemetry-proto is not installed: scripts/setup --dev";
  }
}

export interface ReceivedSpan {
  readonly traceId: string;
  readonly spanId: string;
  readonly parentSpanId?: string;
  readonly name: string;
  readonly startTimeUnixNano: string;
  readonly endTimeUnixNano: string;
  readonly status: { readonly code: number };
  readonly events: readonly { readonly name: string; readonly attributes: readonly Attribute[] }[];
  /** As they came, by their key. */
  readonly attributes: Readonly<Record<string, unknown>>;
}

interface Attribute {
  readonly key: string;
  readonly value: Readonly<Record<string, unknown>>;
}

interface SentPoint {
  readonly attributes: readonly Attribute[];
  readonly asInt?: string;
  readonly asDouble?: number;
}

interface SentMetric {
  readonly name: string;
  readonly sum?: { readonly dataPoints: readonly SentPoint[] };
  readonly gauge?: { readonly dataPoints: readonly SentPoint[] };
}

interface Resource {
  readonly resource: { readonly attributes: readonly Attribute[] };
}

/** A line of the receiver's, which has held the request against its definition. */
interface Line {
  readonly request?: {
    readonly resourceSpans?: readonly (Resource & {
      readonly scopeSpans: readonly {
        readonly spans: readonly (Omit<ReceivedSpan, "attributes"> & { readonly attributes: readonly Attribute[] })[];
      }[];
    })[];
    readonly resourceMetrics?: readonly (Resource & {
      readonly scopeMetrics: readonly { readonly metrics: readonly SentMetric[] }[];
    })[];
  };
  readonly refused?: string;
  readonly body?: string;
}

export interface OtlpReceiver {
  readonly endpoint: string;
  spans(): ReceivedSpan[];
  /** Names of metrics that came, with their last value. */
  metrics(): Map<string, unknown>;
  /** Of the resource of the last request. */
  resource(): Readonly<Record<string, unknown>>;
  /** All of it, as text. */
  text(): string;
  /** What OpenTelemetry's definitions do not know; empty: nothing. */
  refused(): string[];
  until(done: () => boolean, what: string): Promise<void>;
  stop(): Promise<void>;
}

const waitMax = 2_400;

export async function startOtlpReceiver(namespace?: string, port = 0): Promise<OtlpReceiver> {
  const dir = mkdtempSync(join(tmpdir(), "weir-otlp-"));
  const file = join(dir, "received.jsonl");
  const words = [python, join(import.meta.dirname, "otlp-receiver.py"), String(port), file];
  const inside = namespace === undefined ? words : ["nsenter", `--net=/run/netns/${namespace}`, "--", ...words];
  const child = spawn(inside[0] as string, inside.slice(1), { stdio: ["ignore", "pipe", "inherit"] });
  const bound = await new Promise<string>((ready, failed) => {
    child.stdout.once("data", (piece) => ready(String(piece).trim()));
    child.once("exit", (code) => failed(new Error(`the receiver ended with ${code}`)));
  });
  const text = (): string => (existsSync(file) ? readFileSync(file, "utf8") : "");
  const lines = (): Line[] =>
    text()
      .split("\n")
      .slice(0, -1)
      .map((line) => JSON.parse(line));
  const traces = () => lines().flatMap(({ request }) => request?.resourceSpans ?? []);
  const measured = () => lines().flatMap(({ request }) => request?.resourceMetrics ?? []);
  return {
    endpoint: `http://127.0.0.1:${bound}`,
    text,
    spans: () =>
      traces()
        .flatMap(({ scopeSpans }) => scopeSpans)
        .flatMap(({ spans }) => spans)
        .map((span) => ({ ...span, attributes: byKey(span.attributes) })),
    metrics() {
      const found = new Map<string, unknown>();
      for (const { name, sum, gauge } of measured()
        .flatMap(({ scopeMetrics }) => scopeMetrics)
        .flatMap(({ metrics }) => metrics))
        for (const point of (sum ?? gauge)?.dataPoints ?? []) {
          const label = Object.values(byKey(point.attributes)).join();
          found.set(label === "" ? name : `${name} ${label}`, Number(point.asInt ?? point.asDouble));
        }
      return found;
    },
    resource: () => byKey([...traces(), ...measured()].at(-1)?.resource.attributes ?? []),
    refused: () => lines().flatMap(({ refused, body }) => (refused === undefined ? [] : [`${refused}: ${body}`])),
    async until(done, what) {
      for (let tries = 0; !done(); tries += 1) {
        if (tries === waitMax) throw new Error(`${what} did not come; this did: ${text()}`);
        await sleep(50);
      }
    },
    async stop() {
      if (child.exitCode === null && child.signalCode === null) {
        const ended = new Promise((done) => child.once("exit", done));
        child.kill("SIGKILL");
        await ended;
      }
      rmSync(dir, { recursive: true, force: true });
    },
  };
}

function byKey(attributes: readonly Attribute[]): Record<string, unknown> {
  return Object.fromEntries(attributes.map(({ key, value }) => [key, Object.values(value)[0]]));
}
