/** `/metrics` as Prometheus reads it, `/healthz` as who restarts things reads it. */
import assert from "node:assert/strict";
import { test } from "node:test";
import type { WeirError } from "../../../agent/errors.ts";
import { agentMetrics } from "../../../agent/health/agent-metrics.ts";
import { type Metric, renderMetrics } from "../../../agent/health/metrics.ts";
import { type HealthSource, startHealth } from "../../../agent/health/server.ts";
import { openRecorder } from "../../../agent/record/recorder.ts";
import { fill, flow, operation, tempDir } from "../record/sample.ts";

/** The text format's own grammar: comments, then samples of the metric they name. */
function parse(text: string): Map<string, number> {
  const samples = new Map<string, number>();
  let type = "";
  for (const line of text.split("\n")) {
    if (line === "") continue;
    const comment = /^# (HELP|TYPE) (weir_[a-z0-9_]+) (.+)$/.exec(line);
    if (comment !== null) {
      if (comment[1] === "TYPE") {
        type = comment[2] as string;
        assert.match(comment[3] as string, /^(counter|gauge)$/);
        assert.equal(comment[3] === "counter", type.endsWith("_total"), line);
      }
      continue;
    }
    const sample = /^(weir_[a-z0-9_]+)(\{[a-z]+="(?:[^"\\]|\\.)*"\})? (-?\d+(?:\.\d+)?(?:e[+-]?\d+)?)$/.exec(line);
    assert.ok(sample !== null, line);
    assert.equal(sample[1], type, line);
    samples.set(`${sample[1]}${sample[2] ?? ""}`, Number(sample[3]));
  }
  return samples;
}

test("the agent's numbers are those of its record", async (t) => {
  const dir = tempDir(t);
  const recorder = await openRecorder({ stateDir: dir });
  fill(recorder);
  recorder.append("x", operation(2, "SELECT 1", { action: "hold" }));
  recorder.append("agent", { type: "refused", code: "WEIR_DENIED", reason: "", flow: flow("r") });
  recorder.flush();
  const numbers = { openSessions: 2, waitingApprovals: 1, auditLeaves: 7, auditProblem: false };
  const metrics = agentMetrics({ ...numbers, stateDir: dir, record: recorder.status() });
  const samples = parse(renderMetrics(metrics));
  assert.equal(samples.get('weir_operations_total{action="allow"}'), 1);
  assert.equal(samples.get('weir_operations_total{action="deny"}'), 1);
  assert.equal(samples.get('weir_operations_total{action="hold"}'), 1);
  assert.equal(samples.get('weir_refused_total{code="WEIR_DENIED"}'), 1);
  assert.equal(samples.get('weir_entries_total{kind="session-end"}'), 2);
  assert.deepEqual([samples.get("weir_rows_total"), samples.get("weir_masked_values_total")], [3, 1]);
  assert.deepEqual([samples.get("weir_record_entries"), samples.get("weir_record_signed_entries")], [14, 0]);
  assert.equal(samples.get("weir_record_bytes_total"), samples.get("weir_spool_bytes"));
  assert.ok((samples.get("weir_state_free_bytes") ?? 0) > 0);
  await recorder.close();
  assert.equal(recorder.status().signed, 14);
});

test("over HTTP: metrics, health, and nothing else", async (t) => {
  let failures: string[] = [];
  const metric: Metric = {
    name: "x_total",
    help: 'a\n"b\\',
    type: "counter",
    value: { label: "l", values: { '"\\\n': 1 } },
  };
  const source: HealthSource = { metrics: () => [metric], failures: () => failures, warnings: () => ["look"] };
  const server = await startHealth({ host: "127.0.0.1", port: 0 }, source);
  t.after(() => server.close());
  const get = (path: string, init: RequestInit = {}) => fetch(`http://127.0.0.1:${server.port}${path}`, init);
  const metrics = await get("/metrics?x=y");
  assert.equal(metrics.headers.get("content-type"), "text/plain; version=0.0.4; charset=utf-8");
  const samples = parse(await metrics.text());
  assert.equal(samples.get('weir_x_total{l="\\"\\\\\\n"}'), 1);
  assert.ok((samples.get("weir_process_resident_memory_bytes") ?? 0) > 1e6);
  const well = await get("/healthz");
  assert.deepEqual([well.status, await well.json()], [200, { status: "ok", failures: [], warnings: ["look"] }]);
  failures = ["the disk is full"];
  const ill = await get("/healthz");
  assert.deepEqual([ill.status, ((await ill.json()) as { failures: string[] }).failures], [503, failures]);
  for (const path of ["/", "/metrics/", "/%"]) assert.equal((await get(path)).status, 404);
  assert.equal((await get("/metrics", { method: "POST" })).status, 404);
  await assert.rejects(
    startHealth({ host: "127.0.0.1", port: server.port }, source),
    (error: WeirError) => error.code === "WEIR_PORT_IN_USE",
  );
});
