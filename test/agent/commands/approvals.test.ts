/** `weir approvals` and `weir run` against a control socket of the test's own. */
import assert from "node:assert/strict";
import { mkdtempSync, rmSync } from "node:fs";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { Writable } from "node:stream";
import { type TestContext, test } from "node:test";
import { run as approvals } from "../../../agent/commands/approvals.ts";
import { run } from "../../../agent/commands/run.ts";
import type { ApprovalView, ControlReply, ControlRequest } from "../../../agent/control/protocol.ts";
import { startControl } from "../../../agent/control/server.ts";
import { WeirError } from "../../../agent/errors.ts";

const held: ApprovalView = {
  id: "abcdefgh",
  status: "pending",
  createdAtMs: 0,
  expiresAtMs: 1,
  user: "ada\u001b[2J",
  database: "app",
  target: "app",
  process: "psql\u202e[7]",
  text: `DELETE FROM t\nWHERE x = '\u0007' ${"y".repeat(300)} AND the_end`,
  rule: "ask\u009b1m",
  reason: "because",
  risks: ["It writes:\u001b[1m delete."],
  grantedUntilMs: null,
};

async function open(t: TestContext, answer: (request: ControlRequest) => ControlReply) {
  const stateDir = mkdtempSync(join(tmpdir(), "weir-approvals-"));
  const control = await startControl({
    path: join(stateDir, "control.sock"),
    peerOf: () => ({ pid: 1, uid: 0, gid: 0 }),
    answer: async (request) => answer(request),
  });
  t.after(async () => {
    await control.close();
    rmSync(stateDir, { recursive: true });
  });
  return async (command: typeof approvals, ...args: string[]) => {
    let text = "";
    const stdout = new Writable({
      write(piece, _, done) {
        text += String(piece);
        done();
      },
    });
    const code = await command(args, { stdout, stderr: stdout, env: { PATH: "/usr/bin:/bin" }, stateDir });
    return { code, text };
  };
}

const code = (wanted: string) => (error: unknown) => error instanceof WeirError && error.code === wanted;

test("weir approvals shows the whole statement, with nothing in it that the terminal would obey", async (t) => {
  const weir = await open(t, () => ({ ok: true, approvals: [held] }));
  const { code: exit, text } = await weir(approvals);
  assert.equal(exit, 0);
  assert.doesNotMatch(text.replaceAll("\n", ""), /[\p{Cc}\p{Cf}]/u);
  assert.equal(text.trim().split("\n").length, 4);
  assert.match(text, /^abcdefgh {2}pending {4}ada\\u001b\[2J@app on app by psql\\u202e\[7\]/);
  assert.match(text, /the_end/);
  assert.deepEqual(JSON.parse((await weir(approvals, "ls", "--json")).text), [held]);
});

test("who asks over HTTP has no login, and none is shown", async (t) => {
  const weir = await open(t, () => ({ ok: true, approvals: [{ ...held, user: "", database: "" }] }));
  assert.match((await weir(approvals)).text, /^abcdefgh {2}pending {4}on app by psql/);
});

test("weir approvals decides with a reason, and says what became of it", async (t) => {
  const asked: ControlRequest[] = [];
  const weir = await open(t, (request) => {
    asked.push(request);
    if (asked.length > 1) throw new WeirError("WEIR_CONTROL_REFUSED", "abcdefgh is already denied.");
    return { ok: true, approval: { ...held, status: "denied" } };
  });
  assert.deepEqual(await weir(approvals, "deny", "abcdefgh", "--reason", "no"), { code: 0, text: "abcdefgh denied\n" });
  assert.deepEqual(asked, [{ op: "decide", id: "abcdefgh", decision: "deny", reason: "no" }]);
  await assert.rejects(weir(approvals, "approve", "abcdefgh"), /^WeirError: abcdefgh is already denied\.$/);
  for (const args of [["approve"], ["erase", "x"], ["ls", "x"], ["approve", "a", "b"]])
    await assert.rejects(weir(approvals, ...args), code("WEIR_USAGE"));
});

test("no held operations; no agent", async (t) => {
  const weir = await open(t, () => ({ ok: true, approvals: [] }));
  assert.equal((await weir(approvals)).text, "no held operations\n");
  await assert.rejects(weir(approvals, "--state", "/nowhere"), code("WEIR_AGENT_UNREACHABLE"));
});

test("weir run: wrong use, a command that is not there, an agent that is not there or refuses", async (t) => {
  const weir = await open(t, () => ({ ok: false, code: "WEIR_CONTROL_REFUSED", message: "not now" }));
  await assert.rejects(weir(run), code("WEIR_USAGE"));
  await assert.rejects(weir(run, "--nonsense", "true"), code("WEIR_USAGE"));
  await assert.rejects(weir(run, "--name"), code("WEIR_USAGE"));
  assert.equal((await weir(run, "--", "no-such-program")).code, 127);
  assert.equal((await weir(run, "--", "/usr")).code, 126);
  await assert.rejects(weir(run, "--state", "/nowhere", "--", "true"), code("WEIR_AGENT_UNREACHABLE"));
  await assert.rejects(weir(run, "--", "true"), /not now/);
});
