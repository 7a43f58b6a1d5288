/** `/metrics` for Prometheus and `/healthz` for who restarts what fails. No secrets, no names of people or targets. */
import { createServer } from "node:http";
import { WeirError } from "../errors.ts";
import { type Metric, metricsContentType, renderMetrics } from "./metrics.ts";

export interface HealthSource {
  metrics(): readonly Metric[];
  /** What makes it fail: then `/healthz` answers 503. Empty: nothing. */
  failures(): readonly string[];
  /** What somebody should look at, and what a restart does not mend. */
  warnings(): readonly string[];
}

export interface HealthServer {
  readonly port: number;
  close(): Promise<void>;
}

const connectionsMax = 32;
const requestWithinMs = 5_000;

export async function startHealth(
  { host, port }: { readonly host: string; readonly port: number },
  source: HealthSource,
): Promise<HealthServer> {
  const server = createServer((request, response) => {
    const path = (request.url ?? "").split("?")[0];
    response.setHeader("X-Content-Type-Options", "nosniff");
    response.setHeader("Cache-Control", "no-store");
    if (request.method !== "GET" || (path !== "/metrics" && path !== "/healthz")) {
      response.writeHead(404).end();
      return;
    }
    if (path === "/metrics") {
      response.setHeader("Content-Type", metricsContentType);
      response.end(renderMetrics([...source.metrics(), ...ofProcess()]));
      return;
    }
    const failures = source.failures();
    response.writeHead(failures.length === 0 ? 200 : 503, { "Content-Type": "application/json" });
    response.end(
      `${JSON.stringify({ status: failures.length === 0 ? "ok" : "failing", failures, warnings: source.warnings() })}\n`,
    );
  });
  server.maxConnections = connectionsMax;
  server.headersTimeout = requestWithinMs;
  server.requestTimeout = requestWithinMs;
  await new Promise<void>((resolve, reject) => {
    server.once("error", (cause: NodeJS.ErrnoException) => {
      const taken = `${host}:${port} is in use. Take another with --listen-metrics ADDR:PORT.`;
      reject(cause.code === "EADDRINUSE" ? new WeirError("WEIR_PORT_IN_USE", taken, { cause }) : cause);
    });
    server.listen(port, host, resolve);
  });
  server.unref();
  const bound = server.address();
  return {
    port: typeof bound === "object" && bound !== null ? bound.port : port,
    async close() {
      const closed = new Promise<void>((resolve) => server.close(() => resolve()));
      server.closeAllConnections();
      await closed;
    },
  };
}

function ofProcess(): Metric[] {
  const { user, system } = process.cpuUsage();
  return [
    { name: "process_cpu_seconds_total", help: "CPU time.", type: "counter", value: (user + system) / 1e6 },
    {
      name: "process_resident_memory_bytes",
      help: "Resident memory.",
      type: "gauge",
      value: process.memoryUsage.rss(),
    },
    { name: "process_uptime_seconds", help: "Time since the start.", type: "gauge", value: process.uptime() },
  ];
}
