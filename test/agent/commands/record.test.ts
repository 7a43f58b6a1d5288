/** `weir verify`, `weir sessions`, `weir export` over a small record: what they say and with which exit code. */
import assert from "node:assert/strict";
import { hash } from "node:crypto";
import { rmSync, writeFileSync } from "node:fs";
import { join } from "node:path";
import { Writable } from "node:stream";
import { test } from "node:test";
import { run as exportRun } from "../../../agent/commands/export.ts";
import type { CommandIo } from "../../../agent/commands/io.ts";
import { run as sessions } from "../../../agent/commands/sessions.ts";
import { run as verify } from "../../../agent/commands/verify.ts";
import type { WeirError } from "../../../agent/errors.ts";
import { canonicalJson } from "../../../agent/record/ocsf.ts";
import {
  flow,
  llm,
  operation,
  payloadsOf,
  sampleLog,
  sessionA,
  sessionB,
  sessionEnd,
  tempDir,
  writePayloads,
} from "../record/sample.ts";

type Run = (args: readonly string[], io: CommandIo) => Promise<number>;

async function out(
  run: Run,
  stateDir: string,
  ...args: string[]
): Promise<{ code: number; text: string; error: string }> {
  const texts = { stdout: "", stderr: "" };
  const sink = (name: "stdout" | "stderr") =>
    new Writable({
      write(piece, _, done) {
        texts[name] += String(piece);
        done();
      },
    });
  const code = await run(args, { stdout: sink("stdout"), stderr: sink("stderr"), env: {}, stateDir });
  return { code, text: texts.stdout, error: texts.stderr };
}

const code = (wanted: string) => (error: unknown) => (error as WeirError).code === wanted;
const evil = "SELECT '\u001b]0;owned\u0007\u001b[2J\u202e\u009b31m' --\nsecond line \u200b";

test("weir verify: green, broken, wrong key, nothing there", async (t) => {
  const dir = tempDir(t);
  const path = await sampleLog(dir);
  assert.deepEqual(await out(verify, dir), {
    code: 0,
    text: "OK: 12 entries in 2 sessions, 1 signed heads.\n",
    error: "",
  });
  assert.equal(JSON.parse((await out(verify, "/nowhere", "--log", dir, "--json")).text).ok, true);
  const payloads = payloadsOf(path);
  writePayloads(path, payloads.toSpliced(5, 1));
  const broken = await out(verify, dir);
  assert.equal(broken.code, 11);
  assert.match(
    broken.text,
    /^BROKEN: gap\. After entry 4 comes entry 6: 1 entries are missing\. \(00000001\.seg, byte \d+\)/,
  );
  writePayloads(path, payloads);
  const other = tempDir(t);
  await sampleLog(other);
  const wrong = await out(verify, dir, "--key", join(other, "agent-key.pub.pem"));
  assert.deepEqual([wrong.code, /^BROKEN: wrong-key/.test(wrong.text)], [15, true]);
  await assert.rejects(out(verify, tempDir(t)), code("WEIR_USAGE"));
  writeFileSync(join(dir, "not-a-key"), "x");
  await assert.rejects(out(verify, dir, "--key", join(dir, "not-a-key")), code("WEIR_USAGE"));
});

test("weir verify says when nothing is signed for", async (t) => {
  const dir = tempDir(t);
  await sampleLog(dir);
  rmSync(join(dir, "heads.jsonl"));
  const { text } = await out(verify, dir);
  assert.match(text, /0 signed heads.* The last 12 are chained and not yet signed/);
});

test("weir sessions: list, show, replay, json, and ids cut short", async (t) => {
  const dir = tempDir(t);
  assert.deepEqual(await out(sessions, dir), { code: 0, text: "no sessions yet\n", error: "" });
  await sampleLog(dir);
  const list = await out(sessions, dir, "ls");
  assert.equal(list.text.trim().split("\n").length, 2);
  assert.match(list.text, /ada@app on app \(10\.0\.0\.5:5432\) {2}psql\[7\] github:12 {2}1 operations, 1 denied/);
  assert.equal((await out(sessions, dir, "--limit", "1")).text.trim().split("\n").length, 1);
  const shown = await out(sessions, dir, "show", sessionB);
  assert.match(shown.text, /DENY {2}DROP TABLE users {2}\[x, NULL\] {2}\(no-drop: no drops\)/);
  const json = JSON.parse((await out(sessions, dir, "show", sessionA, "--json")).text) as { type: string }[];
  assert.deepEqual(
    json.map(({ type }) => type),
    ["SessionStart", "Login", "Operation", "Result", "SessionEnd"],
  );
  const replayed = await out(sessions, dir, "replay", sessionA, "--speed", "1000");
  assert.match(replayed.text, /SELECT 3, 3 rows, 1 values masked, 1\.5 ms/);
  const missing = await out(sessions, dir, "show", "ffff");
  assert.deepEqual([missing.code, missing.error], [1, "weir sessions: no session ffff\n"]);
  await assert.rejects(out(sessions, dir, "show", "019a"), /names several sessions/);
  for (const args of [["show"], ["erase", "x"], ["ls", "--limit", "0"], ["ls", "--limit", "x"]])
    await assert.rejects(out(sessions, dir, ...args), code("WEIR_USAGE"));
});

test("control sequences from a wire do not reach the terminal", async (t) => {
  const dir = tempDir(t);
  await sampleLog(dir, (recorder) => {
    const hostile = {
      ...flow("evil"),
      process: { ...(flow("x").process as NonNullable<ReturnType<typeof flow>["process"]>), comm: evil, exe: evil },
    };
    recorder.append("evil", { type: "session-start", flow: hostile, target: evil, protocol: "postgres" });
    recorder.append("evil", {
      type: "login",
      user: evil,
      database: evil,
      application: evil,
      clientTls: true,
      upstreamTls: true,
    });
    recorder.append("evil", operation(1, evil, { action: "deny", reason: evil }, { parameters: [evil] }));
    recorder.append("evil", { type: "notice", text: evil });
    recorder.append("evil", sessionEnd);
  });
  for (const args of [["ls"], ["show", "evil"], ["show", evil]]) {
    const { text, error } = await out(sessions, dir, ...args);
    assert.doesNotMatch((text + error).replaceAll("\n", ""), /[\p{Cc}\p{Cf}]/u);
  }
  assert.match((await out(sessions, dir, "show", "evil")).text, /\\u001b\]0;owned\\u0007/);
});

test("weir export: jsonl is the record, since cuts, a wrong format is told", async (t) => {
  const dir = tempDir(t);
  await sampleLog(dir);
  const lines = (await out(exportRun, dir)).text.trim().split("\n");
  assert.equal(lines.length, 13);
  assert.equal(JSON.parse(lines[12] as string).type, "ExportSeal");
  assert.equal(JSON.parse(lines[5] as string).fields.text, "SELECT name FROM users");
  assert.equal((await out(exportRun, dir, "--since", "2099-01-01T00:00:00Z")).text, "");
  await assert.rejects(out(exportRun, dir, "--format", "xml"), code("WEIR_USAGE"));
  await assert.rejects(out(exportRun, dir, "--format", "constructor"), code("WEIR_USAGE"));
  await assert.rejects(out(exportRun, dir, "--since", "yesterday"), code("WEIR_USAGE"));
});

test("weir export --format ocsf: Datastore Activity, with attestations that can be checked from the export alone", async (t) => {
  const dir = tempDir(t);
  await sampleLog(dir, (recorder) => {
    recorder.append("agent", { type: "refused", code: "WEIR_DENIED", reason: "no target", flow: flow("r") });
    recorder.append("odd", operation(1, "SELECT '\ud800'", { action: "hold" }, { verbs: ["update"] }));
  });
  const events = (await out(exportRun, dir, "--format", "ocsf")).text
    .trim()
    .split("\n")
    .map((line) => JSON.parse(line));
  assert.equal(events.length, 15);
  const [read, drop] = [events[5], events[6]];
  assert.deepEqual([read.class_uid, read.category_uid, read.activity_id, read.type_uid], [6005, 6, 4, 600_504]);
  assert.deepEqual([read.action_id, drop.action_id, drop.disposition_id, drop.severity_id], [1, 2, 2, 3]);
  assert.equal(read.query_info.query_string, "SELECT name FROM users");
  assert.deepEqual(read.dst_endpoint, { ip: "10.0.0.5", port: 5432, hostname: "db.example" });
  assert.deepEqual([read.actor.user.name, read.actor.process.pid], ["ada", 7]);
  assert.deepEqual([events[7].status_id, events[7].unmapped.operation_uid], [1, "1"]);
  assert.deepEqual([events[12].class_uid, events[12].type_uid], [4001, 400_105]);
  assert.deepEqual([events[13].action_id, events[13].activity_id], [0, 2]);
  for (const [at, event] of events.entries()) {
    const [{ fingerprint, ...attestation }] = event.attestation_list;
    assert.equal(fingerprint.value, hash("sha256", canonicalJson({ ...event, attestation_list: [attestation] })));
    assert.deepEqual(
      attestation.prev_event?.fingerprint,
      at === 0 ? undefined : events[at - 1].attestation_list[0].fingerprint,
    );
    for (const field of ["metadata", "time", "severity_id", "class_uid", "type_uid"]) assert.ok(field in event);
  }
});

test("canonical JSON is that of RFC 8785", () => {
  const value = {
    "\u20ac": 1,
    "\r": "\u000f",
    "1": [56.0, 1e30, 4.5, 0.002],
    "\ud83d\ude02": "</script>",
    a: { b: null, A: true },
  };
  assert.equal(
    canonicalJson(value),
    '{"\\r":"\\u000f","1":[56,1e+30,4.5,0.002],"a":{"A":true,"b":null},"€":1,"😂":"</script>"}',
  );
});

test("weir export --format cef: one line an entry, headers and values escaped", async (t) => {
  const dir = tempDir(t);
  const text = "SELECT 'a=b' | 'c\\d'\r\nFROM x act=allow";
  await sampleLog(dir, (recorder) => recorder.append(sessionA, operation(2, text, { action: "deny", rule: "r|1=2" })));
  const lines = (await out(exportRun, dir, "--format", "cef")).text.trim().split("\n");
  assert.equal(lines.length, 13);
  assert.ok(lines.every((line) => /^CEF:0\|Weir\|Weir\|0\.1\.0\|\w+\|[^|]+\|\d\|rt=\d+ /.test(line)));
  assert.match(
    lines[6] as string,
    /\|Operation\|statement deny\|6\|.* dst=10\.0\.0\.5 dpt=5432 dhost=db\.example .* act=deny duser=ada /,
  );
  const last = lines[12] as string;
  assert.ok(last.endsWith("request=SELECT 'a\\=b' | 'c\\\\d'\\nFROM x act\\=allow"), last);
  assert.match(last, / cs4=r\|1\\=2 /);
});

test("weir sessions show: requests by what they are, answers with status and tokens", async (t) => {
  const dir = tempDir(t);
  const http = {
    method: "PUT",
    scheme: "https",
    host: "api.example",
    path: "/a",
    query: "b=c",
    contentType: "",
  } as const;
  const base = { kind: "request", parameters: [], http } as const;
  const answer = { type: "result", rows: 0, bytes: 9, masked: 1, durationMs: 2, error: null } as const;
  await sampleLog(dir, (recorder) => {
    recorder.append("http", { type: "session-start", flow: flow("http"), target: "api", protocol: "http" });
    recorder.append("http", operation(1, "PUT /a", {}, { ...base, protocol: "http", bytes: Number.MAX_SAFE_INTEGER }));
    recorder.append("http", { ...answer, operationId: 1, tag: "201", details: '{"status":201}' });
    recorder.append("http", operation(2, `hello ${evil}`, {}, { ...base, protocol: "llm", llm }));
    const details = { status: 200, inputTokens: 5, outputTokens: 6, toolCalls: ["weather"], text: "sunny\u001b[2J" };
    recorder.append("http", { ...answer, operationId: 2, tag: "200", details: JSON.stringify(details) });
    const mcp = { method: "tools/call", name: "find", arguments: {} };
    recorder.append("http", operation(3, "tools/call find {}", {}, { ...base, protocol: "mcp", mcp }));
  });
  const { text } = await out(sessions, dir, "show", "http");
  assert.equal(text.includes("\u001b"), false);
  const lines = text.split("\n").map((line) => line.slice(25));
  assert.equal(lines[1], "ALLOW PUT https://api.example/a?b=c, body of unknown length  (readers)");
  assert.match(lines[2] ?? "", /^ +201, 9 bytes, 1 values masked, 2\.0 ms$/);
  assert.match(lines[3] ?? "", /^ALLOW openai chat gpt-5, about 12 tokens, tools weather, stream: hello /);
  assert.match(lines[4] ?? "", /^ +200, 9 bytes, 5 tokens in, 6 out, calls weather, 1 values masked, 2\.0 ms: sunny/);
  assert.match(lines[5] ?? "", /^ALLOW mcp tools\/call find \{\}/);
});
