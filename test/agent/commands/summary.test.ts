import assert from "node:assert/strict";
import { mkdtempSync, rmSync } from "node:fs";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { PassThrough } from "node:stream";
import { text } from "node:stream/consumers";
import { test } from "node:test";
import { run as runSessions } from "../../../agent/commands/sessions.ts";
import { run } from "../../../agent/commands/summary.ts";
import { openRecorder } from "../../../agent/record/recorder.ts";
import { flow, operation, sessionA } from "../record/sample.ts";

async function said(command: typeof run, stateDir: string, ...args: string[]): Promise<{ code: number; said: string }> {
  const stdout = new PassThrough();
  const all = text(stdout);
  const code = await command(args, { stdout, stderr: new PassThrough(), env: {}, stateDir });
  stdout.end();
  return { code, said: await all };
}

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
    const say = (...args: string[]) => said(run, stateDir, ...args);
    const { code, said: page } = await say();
    assert.equal(code, 0);
    assert.match(page, /^\| 3 \| &#60;img src=x&#62; &#124; &#96;10\.0\.0\.1:1\/tcp&#96; \|$/m);
    assert.match(page, /^- firewall-restored: missing: -A OUTPUT$/m);
    assert.equal((await say("--fail-on-deny")).code, 1);
    assert.equal((await say("--fail-on-deny", "--since", "2100-01-01T00:00:00Z")).code, 0);
    assert.deepEqual(JSON.parse((await say("--json")).said).refused, { "<img src=x> | `10.0.0.1:1/tcp`": 3 });
  } finally {
    rmSync(stateDir, { recursive: true, force: true });
  }
});

test("what a rule in mode report would have denied is told, and is no denial", async () => {
  const stateDir = mkdtempSync(join(tmpdir(), "weir-summary-"));
  try {
    const recorder = await openRecorder({ stateDir });
    const [allow, mode] = ["allow", "report"] as const;
    const told = { action: allow, mode, rule: "no-drop", reason: "Ask first.", wouldBe: "deny" } as const;
    const origin = { flow: flow(sessionA), target: "db", protocol: "postgres" };
    recorder.append(sessionA, { type: "session-start", ...origin });
    recorder.append(sessionA, operation(1, "DROP TABLE t", told, { parameters: [] }));
    await recorder.close();
    const summary = await said(run, stateDir, "--fail-on-deny");
    assert.equal(summary.code, 0);
    assert.match(
      summary.said,
      /^### Would be denied or held, in mode report$[^#]*^\| 1 \| DROP TABLE t \| no-drop would deny: Ask first\. \|$/m,
    );
    assert.deepEqual(JSON.parse((await said(run, stateDir, "--json")).said).denied, {});
    assert.match(
      (await said(runSessions, stateDir, "show", sessionA)).said,
      /ALLOW DROP TABLE t {2}\(no-drop would deny: Ask first\.\)$/m,
    );
  } finally {
    rmSync(stateDir, { recursive: true, force: true });
  }
});
