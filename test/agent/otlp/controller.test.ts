/** `weir controller --otlp`: its numbers come, whether Kafka is there or not. */
import assert from "node:assert/strict";
import { spawn } from "node:child_process";
import { test } from "node:test";
import { collect, weirCommand } from "../../support/agent.ts";
import { otlpMissing, startOtlpReceiver } from "../../support/otlp.ts";
import { tempDir } from "../record/sample.ts";

test("a controller tells its numbers, and the last ones on its way out", {
  skip: otlpMissing() ?? false,
}, async (t) => {
  const receiver = await startOtlpReceiver();
  t.after(() => receiver.stop());
  const words = ["controller", "--kafka", "127.0.0.1:1", "--state", tempDir(t), "--no-ui", "--otlp", receiver.endpoint];
  const child = spawn(weirCommand, words, { env: { ...process.env, OTEL_METRIC_EXPORT_INTERVAL: "1000" } });
  const done = collect(child);
  t.after(() => void child.kill("SIGKILL"));
  await receiver.until(() => receiver.metrics().has("weir.audit_leaves"), "weir.audit_leaves");
  child.kill("SIGTERM");
  const { code, stderr } = await done;
  assert.equal(code, 0, stderr);
  assert.deepEqual([receiver.metrics().get("weir.audit_leaves"), receiver.spans(), receiver.refused()], [0, [], []]);
  assert.equal(receiver.resource()["service.name"], "weir-controller");
});
