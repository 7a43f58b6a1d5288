/** What is odd is said in a sentence, what is usual is not, and nothing is odd before something is known. */
import assert from "node:assert/strict";
import { test } from "node:test";
import { Baseline } from "../../../agent/anomaly/baseline.ts";
import { Samples } from "../../../agent/anomaly/samples.ts";
import type { Operation } from "../../../agent/core/operation.ts";

const minute = 60_000;
const day = 86_400_000;
const noon = 20_000 * day + 12 * 3_600_000;

const statement = (relations: readonly string[] = ["orders"], over: Partial<Operation> = {}): Operation => ({
  protocol: "postgres",
  kind: "statement",
  text: "SELECT",
  user: "ada",
  database: "app",
  verbs: ["select"],
  relations,
  columns: [],
  functions: [],
  writes: false,
  traits: [],
  parameters: [],
  bytes: 60,
  ...over,
});

/** One statement a minute, some rows each. */
function learnt(count = 60, rows = 10): { baseline: Baseline; nowMs: number } {
  const baseline = new Baseline();
  let nowMs = noon;
  for (let at = 0; at < count; at += 1) {
    nowMs += minute;
    assert.equal(baseline.operation(statement(), nowMs).score, 0, `operation ${at}`);
    assert.equal(baseline.rows(rows + (at % 5), nowMs).score, 0);
  }
  return { baseline, nowMs };
}

test("a dump is odd, says by how much, and stands for a quarter of an hour", () => {
  const { baseline, nowMs } = learnt();
  const { score, reasons } = baseline.rows(50_000, nowMs);
  assert.ok(score > 6, String(score));
  assert.deepEqual(reasons, ["It read 50000 rows; usual are about 12."]);
  assert.equal(baseline.operation(statement(), nowMs + minute).score, score);
  assert.equal(baseline.operation(statement(), nowMs + 16 * minute).score, 0);
});

test("somewhat more than usual is not odd, nor is the first work of somebody new", () => {
  const { baseline, nowMs } = learnt();
  assert.equal(baseline.rows(30, nowMs).score, 0);
  const fresh = new Baseline();
  assert.equal(fresh.rows(1_000_000, noon).score, 0);
  for (let at = 0; at < 19; at += 1) assert.equal(fresh.operation(statement([`t${at}`]), noon + at).score, 0);
});

test("who enumerates what he never touched is odd from the fourth on", () => {
  const { baseline, nowMs } = learnt();
  const scores = Array.from(
    { length: 8 },
    (_, at) => baseline.operation(statement([], { database: `db${at}` }), nowMs + minute + at * 1000).score,
  );
  assert.deepEqual(scores.slice(0, 3), [0, 0, 0]);
  assert.ok((scores[3] as number) >= 3 && (scores[7] as number) > (scores[3] as number), scores.join());
  const { reasons } = baseline.operation(statement(), nowMs + 2 * minute);
  assert.match(
    reasons.join(" "),
    /8 things never used before within ten minutes, database db5, database db6, database db7/,
  );
});

test("a burst of denials, a burst of operations, a long prompt", () => {
  const { baseline, nowMs } = learnt();
  const denied = Array.from({ length: 6 }, (_, at) => baseline.denied(nowMs + at).score);
  assert.deepEqual(denied, [0, 0, 0, 0, 3, 3.5]);

  const busy = learnt().baseline;
  let score = 0;
  for (let at = 0; at < 256; at += 1) score = busy.operation(statement(), nowMs + 2 * minute + at).score;
  assert.ok(score > 6, String(score));

  const talker = new Baseline();
  const llm = (tokens: number): Operation => ({
    ...statement([]),
    protocol: "llm",
    llm: {
      provider: "openai",
      api: "chat",
      model: "m",
      stream: false,
      tools: [],
      tokens,
      outputTokensMax: null,
      prompt: "",
    },
  });
  for (let at = 0; at < 30; at += 1) assert.equal(talker.operation(llm(200 + at), noon + at * minute).score, 0);
  assert.match(
    talker.operation(llm(90_000), noon + 31 * minute).reasons.join(),
    /It cost 90000 tokens; usual are about 2\d\d/,
  );
});

test("three in the morning is odd for who works by day", () => {
  const baseline = new Baseline();
  for (let at = 0; at < 400; at += 1) baseline.operation(statement(), noon + (at % 8) * day + (at % 6) * minute);
  const night = noon + 9 * day - 9 * 3_600_000;
  assert.match(baseline.operation(statement(), night).reasons.join(), /between 3:00 and 3:59 UTC/);
});

test("what was learnt outlives a restart, and a log of ids in paths does not grow the endpoints", () => {
  const { baseline, nowMs } = learnt();
  const again = new Baseline(JSON.parse(JSON.stringify(baseline.kept())));
  assert.ok(again.rows(50_000, nowMs).score > 6);
  const http = (path: string): Operation => ({
    ...statement([]),
    protocol: "http",
    http: { method: "GET", scheme: "https", host: "api.example", path, query: "", contentType: "" },
  });
  for (let at = 0; at < 50; at += 1)
    assert.equal(again.operation(http(`/orders/${at}x@y.z/items`), nowMs + (20 + at) * minute).score, 0);
  assert.ok(!JSON.stringify(again.kept()).includes("@"));
});

test("a median and a spread that one wild value does not move", () => {
  const samples = new Samples();
  for (let at = 0; at < 40; at += 1) samples.add(at === 20 ? 1e9 : 100);
  assert.equal(samples.usual, 100);
  assert.ok(samples.above(5_000) > 6);
  assert.equal(samples.above(110) < 1, true);
});
