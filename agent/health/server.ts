/** `/metrics` for Prometheus and `/healthz` for who restarts what fails. No secrets, no names of people or targets. */
import { createServer } from "node:http";
import { type Listener, listen } from "./listening.ts";
import { type Metric, metricsContentType, renderMetrics } from "./metrics.ts";

export interface HealthSource {
  metrics(): readonly Metric[];
  /** What makes it fail: then `/healthz` answers 503. Empty: nothing. */
  failures(): readonly string[];
  /** What somebody should look at, and what a restart does not mend. */
  warnings(): readonly string[];
}

const connectionsMax = 32;
const requestWithinMs = 5_000;

export async function startHealth(
  { host, port }: { readonly host: string; readonly port: number },
  source: HealthSource,
): Promise<Listener> {
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
  const option = "--listen-metrics ADDR:PORT";
  const listener = await listen(server, { host, port, option, connectionsMax, requestWithinMs });
  server.unref();
  return listener;
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
