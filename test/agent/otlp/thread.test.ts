/** The whole way: a record that grows, the thread, and a receiver that believes OpenTelemetry's definitions alone. */
import assert from "node:assert/strict";
import { type TestContext, test } from "node:test";
import { startOtlp } from "../../../agent/otlp/thread.ts";
import { openRecorder } from "../../../agent/record/recorder.ts";
import { otlpMissing, startOtlpReceiver } from "../../support/otlp.ts";
import { until } from "../../support/until.ts";
import { fill, flow, operation, result, sessionA, sessionEnd, tempDir } from "../record/sample.ts";

const skip = otlpMissing() ?? false;

async function open(t: TestContext, endpoint: string, stateDir: string | null, startedAtMs = Date.now()) {
  const said: string[] = [];
  const otlp = startOtlp(
    {
      otlp: { endpoint, headers: {}, ca: null, resource: { "service.name": "mine" }, metricsEveryMs: 1_000 },
      ...{ service: "weir-agent", instance: "agent-1", stateDir, startedAtMs },
    },
    () => [
      { name: "operations_total", help: "Decided.", type: "counter", value: { label: "action", values: { allow: 2 } } },
      { name: "spool_bytes", help: "Bytes.", type: "gauge", value: 1.5 },
    ],
    (level, message) => said.push(`${level}: ${message}`),
  );
  t.after(() => otlp.close());
  return { otlp, said };
}

test("what is recorded from the start on becomes spans, what was before does not, and the end is told", {
  skip,
}, async (t) => {
  const receiver = await startOtlpReceiver();
  t.after(() => receiver.stop());
  const stateDir = tempDir(t);
  const long = await openRecorder({ stateDir, now: () => Date.now() - 60_000 });
  fill(long);
  await long.close();
  const recorder = await openRecorder({ stateDir });
  const { otlp } = await open(t, receiver.endpoint, stateDir);
  recorder.append(sessionA, { type: "session-start", flow: flow(sessionA), target: "app", protocol: "postgres" });
  recorder.append(sessionA, operation(1, "SELECT 1"));
  recorder.append(sessionA, result(1, 1));
  recorder.append(sessionA, operation(2, "DROP TABLE x", { action: "deny" }, { user: "lone \ud800 surrogate" }));
  recorder.flush();
  await receiver.until(() => receiver.spans().length === 2, "two spans");
  await receiver.until(() => receiver.metrics().has("weir.spool_bytes"), "metrics");
  recorder.append(sessionA, operation(3, "SELECT 3"));
  recorder.append(sessionA, result(3, 1));
  recorder.append(sessionA, sessionEnd);
  await recorder.close();
  await otlp.close();
  assert.deepEqual(receiver.refused(), []);
  assert.deepEqual(
    receiver.spans().map(({ attributes }) => attributes["weir.operation.id"]),
    ["1", "2", "3"],
  );
  const metrics = receiver.metrics();
  assert.deepEqual([metrics.get("weir.operations allow"), metrics.get("weir.spool_bytes")], [2, 1.5]);
  assert.equal(metrics.has("weir.otlp_spans sent"), true);
  assert.deepEqual(
    [receiver.resource()["service.name"], receiver.resource()["service.instance.id"]],
    ["mine", "agent-1"],
  );
  assert.deepEqual(otlp.metrics()[0]?.value, { label: "outcome", values: { sent: 3, dropped: 0 } });
});

test("a receiver that is not there: the record goes on, and the end does not wait", { skip }, async (t) => {
  const stateDir = tempDir(t);
  const recorder = await openRecorder({ stateDir });
  const { otlp, said } = await open(t, "http://127.0.0.1:1", stateDir);
  recorder.append(sessionA, operation(1, "SELECT 1"));
  recorder.append(sessionA, result(1, 1));
  recorder.flush();
  await until(() => said.length > 0);
  assert.match(said[0] ?? "", /warn: otlp: http:\/\/127\.0\.0\.1:1 does not take .*ECONNREFUSED/);
  await recorder.close();
  await otlp.close();
  assert.deepEqual(otlp.metrics()[0]?.value, { label: "outcome", values: { sent: 0, dropped: 1 } });
});

test("without a record there are metrics alone", { skip }, async (t) => {
  const receiver = await startOtlpReceiver();
  t.after(() => receiver.stop());
  const { otlp } = await open(t, receiver.endpoint, null);
  await otlp.close();
  assert.ok(receiver.metrics().has("weir.operations allow"), "the last ones are sent on the way out");
  assert.deepEqual([receiver.spans(), receiver.refused()], [[], []]);
});
