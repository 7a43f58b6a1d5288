/** A small record with two sessions that run at once, and its frames as one can cut and sew them. */
import { mkdtempSync, readdirSync, readFileSync, rmSync, writeFileSync } from "node:fs";
import { tmpdir } from "node:os";
import { join } from "node:path";
import type { TestContext } from "node:test";
import { crc32 } from "node:zlib";
import type { Flow } from "../../../agent/core/flow.ts";
import type { LlmFacts, Operation } from "../../../agent/core/operation.ts";
import type { EntryBody } from "../../../agent/core/record.ts";
import type { Verdict } from "../../../agent/core/verdict.ts";
import { openRecorder, type Recorder } from "../../../agent/record/recorder.ts";

export const sessionA = "019a0000-0000-7000-8000-00000000000a";
export const sessionB = "019a0000-0000-7000-8000-00000000000b";

export function tempDir(t: TestContext): string {
  const dir = mkdtempSync(join(tmpdir(), "weir-record-"));
  t.after(() => rmSync(dir, { recursive: true, force: true }));
  return dir;
}

export function flow(id: string): Flow {
  return {
    id,
    destination: { address: "10.0.0.5", port: 5432 },
    source: { address: "10.0.0.9", port: 40_000 },
    hostname: "db.example",
    process: {
      pid: 7,
      ppid: 1,
      uid: 1000,
      gid: 1000,
      comm: "psql",
      exe: "/usr/bin/psql",
      commandLine: ["psql", "-c", "…"],
      startTicks: 99,
      cgroup: "/job",
      job: { system: "github", id: "12", repository: "a/b" },
    },
    identity: null,
    openedAtMs: 1_790_000_000_000,
    via: "bpf",
  };
}

const operationBase: Operation = {
  protocol: "postgres",
  kind: "statement",
  text: "SELECT 1",
  user: "ada",
  database: "app",
  verbs: ["select"],
  relations: ["users"],
  columns: ["id"],
  functions: [],
  writes: false,
  traits: [],
  parameters: ["x", null],
  bytes: 20,
};

const verdictBase: Verdict = {
  action: "allow",
  rule: "readers",
  reason: "reading is fine",
  mode: "enforce",
  wouldBe: null,
  transforms: { masks: [], limits: [] },
  record: "statement",
  approvers: [],
  holdTimeoutMs: 1000,
  onTimeout: "deny",
  policy: "abc123",
};

export const llm: LlmFacts = {
  provider: "openai",
  api: "chat",
  model: "gpt-5",
  stream: true,
  tools: ["weather"],
  tokens: 12,
  outputTokensMax: null,
  prompt: "",
};

export function operation(
  operationId: number,
  text: string,
  verdict: Partial<Verdict> = {},
  fields: Partial<Operation> = {},
): EntryBody {
  return {
    type: "operation",
    operationId,
    operation: { ...operationBase, text, ...fields },
    verdict: { ...verdictBase, ...verdict },
    approvalId: null,
  };
}

/** Of a request over HTTP. */
export const answer = (operationId: number, details: unknown): EntryBody => ({
  type: "result",
  operationId,
  tag: "200",
  rows: 0,
  bytes: 512,
  masked: 2,
  durationMs: 41.6,
  error: null,
  details: JSON.stringify(details),
});

export function result(operationId: number, rows: number): EntryBody {
  return {
    type: "result",
    operationId,
    tag: `SELECT ${rows}`,
    rows,
    bytes: 100,
    masked: 1,
    durationMs: 1.5,
    error: null,
  };
}

export const sessionEnd: EntryBody = {
  type: "session-end",
  reason: "the client closed",
  bytesUp: 10,
  bytesDown: 20,
  operations: 2,
  denied: 1,
};

/** Twelve entries: the agent's start and stop, and two sessions of five. */
export function fill(recorder: Recorder): void {
  recorder.append("agent", { type: "agent", event: "start", detail: "policy abc123" });
  for (const session of [sessionA, sessionB])
    recorder.append(session, { type: "session-start", flow: flow(session), target: "app", protocol: "postgres" });
  for (const session of [sessionA, sessionB])
    recorder.append(session, {
      type: "login",
      user: "ada",
      database: "app",
      application: "psql",
      clientTls: true,
      upstreamTls: true,
    });
  recorder.append(sessionA, operation(1, "SELECT name FROM users"));
  recorder.append(sessionB, operation(1, "DROP TABLE users", { action: "deny", rule: "no-drop", reason: "no drops" }));
  recorder.append(sessionA, result(1, 3));
  recorder.append(sessionB, { type: "notice", text: "the client was told" });
  recorder.append(sessionA, sessionEnd);
  recorder.append(sessionB, sessionEnd);
  recorder.append("agent", { type: "agent", event: "stop", detail: "" });
}

export async function sampleLog(dir: string, more: (recorder: Recorder) => void = () => {}): Promise<string> {
  const recorder = await openRecorder({ stateDir: dir, now: () => 1_790_000_000_123 });
  fill(recorder);
  more(recorder);
  await recorder.close();
  return onlySegment(dir);
}

export function onlySegment(dir: string): string {
  const names = readdirSync(join(dir, "spool")).filter((name) => name.endsWith(".seg"));
  if (names.length !== 1) throw new Error(`one segment expected, not ${names.join()}`);
  return join(dir, "spool", names[0] as string);
}

/** Payloads of the frames, by the documented format alone. Zeros at the end are room that is not used yet. */
export function payloadsOf(path: string): Buffer[] {
  const bytes = readFileSync(path);
  const payloads: Buffer[] = [];
  for (let at = 0; at + 8 <= bytes.length && bytes.readUInt32BE(at) > 0; ) {
    const end = at + 8 + bytes.readUInt32BE(at);
    payloads.push(bytes.subarray(at + 8, end));
    at = end;
  }
  return payloads;
}

/** What a forger with a good tool writes: every checksum is right. */
export function writePayloads(path: string, payloads: readonly Buffer[]): void {
  const frames = payloads.map((payload) => {
    const head = Buffer.alloc(8);
    head.writeUInt32BE(payload.length, 0);
    head.writeUInt32BE(crc32(payload), 4);
    return Buffer.concat([head, payload]);
  });
  writeFileSync(path, Buffer.concat(frames));
}
