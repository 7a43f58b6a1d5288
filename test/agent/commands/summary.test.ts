import assert from "node:assert/strict";
import { mkdtempSync, rmSync } from "node:fs";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { PassThrough } from "node:stream";
import { text } from "node:stream/consumers";
import { test } from "node:test";
import { run } from "../../../agent/commands/summary.ts";
import { openRecorder } from "../../../agent/record/recorder.ts";

test("counts what was refused and what happened to the agent; text of a job is no markup", async () => {
  const stateDir = mkdtempSync(join(tmpdir(), "weir-summary-"));
  try {
    const recorder = await openRecorder({ stateDir });
    for (let at = 0; at < 3; at += 1)
      recorder.append("agent", {
        type: "refused",
        code: "WEIR_DENIED",
        reason: "<img src=x> | `10.0.0.1:1/tcp`",
        flow: null,
      });
    recorder.append("agent", { type: "agent", event: "firewall-restored", detail: "missing: -A OUTPUT" });
    await recorder.close();
    const say = async (...args: string[]): Promise<{ code: number; said: string }> => {
      const stdout = new PassThrough();
      const said = text(stdout);
      const code = await run(args, { stdout, stderr: new PassThrough(), env: {}, stateDir });
      stdout.end();
      return { code, said: await said };
    };
    const { code, said } = await say();
    assert.equal(code, 0);
    assert.match(said, /^\| 3 \| &#60;img src=x&#62; &#124; &#96;10\.0\.0\.1:1\/tcp&#96; \|$/m);
    assert.match(said, /^- firewall-restored: missing: -A OUTPUT$/m);
    assert.equal((await say("--fail-on-deny")).code, 1);
    assert.equal((await say("--fail-on-deny", "--since", "2100-01-01T00:00:00Z")).code, 0);
    assert.deepEqual(JSON.parse((await say("--json")).said).refused, { "<img src=x> | `10.0.0.1:1/tcp`": 3 });
  } finally {
    rmSync(stateDir, { recursive: true, force: true });
  }
});
