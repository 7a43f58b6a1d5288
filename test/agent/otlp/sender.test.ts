/** Batches, retries and the bound of the queue, against a receiver that answers as it is told. */
import assert from "node:assert/strict";
import { createServer } from "node:http";
import type { AddressInfo } from "node:net";
import { type TestContext, test } from "node:test";
import { setTimeout as sleep } from "node:timers/promises";
import type { Span } from "../../../agent/otlp/json.ts";
import { openSender, spansQueuedMax } from "../../../agent/otlp/sender.ts";
import { until as untilHeld } from "../../support/until.ts";
import { testCa } from "../tls/pki.ts";

interface Answer {
  readonly status: number;
  readonly headers?: Readonly<Record<string, string>>;
  readonly body?: string;
}

async function open(
  t: TestContext,
  answers: Answer[],
  change: { endpoint?: string; headers?: Record<string, string> } = {},
) {
  const batches: { path: string; names: string[]; key: string | undefined; atMs: number }[] = [];
  const server = createServer((request, response) => {
    const pieces: Buffer[] = [];
    request.on("data", (piece) => pieces.push(piece));
    request.on("end", () => {
      const body = JSON.parse(Buffer.concat(pieces).toString());
      const spans: { name: string }[] = body.resourceSpans?.[0].scopeSpans[0].spans ?? [];
      const key = request.headers["x-key"] as string | undefined;
      batches.push({ path: request.url ?? "", names: spans.map(({ name }) => name), key, atMs: performance.now() });
      const { status, headers = {}, body: said = "{}" } = answers.shift() ?? { status: 200 };
      response.writeHead(status, headers).end(said);
    });
  });
  await new Promise<void>((ready) => server.listen(0, "127.0.0.1", ready));
  const endpoint = change.endpoint ?? `http://127.0.0.1:${(server.address() as AddressInfo).port}`;
  const said: string[] = [];
  const settings = { endpoint, headers: change.headers ?? {}, ca: null, resource: {}, metricsEveryMs: 1000 };
  const envelope = { resource: { attributes: [] }, scope: { name: "weir", version: "1" } };
  const sender = openSender(settings, envelope, (level, message) => said.push(`${level}: ${message}`));
  t.after(async () => {
    await sender.close();
    server.closeAllConnections();
    await new Promise((closed) => server.close(closed));
  });
  const until = (done: () => boolean): Promise<void> =>
    untilHeld(done, () => JSON.stringify([batches, sender.counts(), said]));
  return { sender, batches, said, until };
}

const span = (name: string): Span => ({
  ...{ traceId: "1".repeat(32), spanId: "2".repeat(16), name, kind: 3, attributes: [], events: [] },
  ...{ startTimeUnixNano: "1", endTimeUnixNano: "2", status: { code: 0 } },
});

test("spans go together, in order, with the headers of the environment; metrics to their own address", async (t) => {
  const { sender, batches, until } = await open(t, [], { headers: { "x-key": "k" } });
  for (const name of ["a", "b", "c"]) sender.add(span(name));
  await until(() => sender.counts().sent === 3);
  await sender.metrics([]);
  assert.deepEqual(
    batches.map(({ path, names, key }) => [path, names, key]),
    [
      ["/v1/traces", ["a", "b", "c"], "k"],
      ["/v1/metrics", [], "k"],
    ],
  );
});

test("more than a batch holds goes in several at once", async (t) => {
  const { sender, batches, until } = await open(t, []);
  for (let at = 0; at < 1_200; at += 1) sender.add(span(`s${at}`));
  await until(() => sender.counts().sent === 1_200);
  assert.equal(batches.length, 3);
  assert.deepEqual(
    batches.flatMap(({ names }) => names),
    Array.from({ length: 1_200 }, (_, at) => `s${at}`),
  );
});

test("a receiver that is away: the same batch again, after the time it asks for, and nothing twice", async (t) => {
  const { sender, batches, said, until } = await open(t, [
    { status: 503, headers: { "retry-after": "1" } },
    { status: 429, headers: { "retry-after": "0" } },
  ]);
  sender.add(span("a"));
  await until(() => batches.length === 1);
  sender.add(span("b"));
  await until(() => sender.counts().sent === 2);
  assert.deepEqual(
    batches.slice(0, 2).map(({ names }) => names[0]),
    ["a", "a"],
  );
  assert.ok((batches[1]?.atMs ?? 0) - (batches[0]?.atMs ?? 0) >= 900, "it waited as it was asked");
  assert.equal(sender.counts().dropped, 0);
  assert.equal(sender.counts().problem, null);
  assert.match(
    said.join("\n"),
    /warn: otlp: .* does not take spans \(503\)[\s\S]*info: otlp: the receiver takes spans again/,
  );
});

test("what comes while it waits does not make it ask sooner", async (t) => {
  const { sender, batches, until } = await open(t, [{ status: 503, headers: { "retry-after": "2" } }]);
  sender.add(span("a"));
  await until(() => batches.length === 1);
  for (let at = 0; at < 40; at += 1) {
    sender.add(span("b"));
    await sleep(20);
  }
  await until(() => sender.counts().sent === 41);
  assert.ok((batches[1]?.atMs ?? 0) - (batches[0]?.atMs ?? 0) >= 1_900);
});

test("what the receiver refuses for good is dropped and counted, and does not stop the rest", async (t) => {
  const partial = JSON.stringify({ partialSuccess: { rejectedSpans: "1", errorMessage: "no\u001b[2J" } });
  const { sender, said, until } = await open(t, [
    { status: 400, body: "bad\nthing" },
    { status: 200, body: partial },
  ]);
  sender.add(span("a"));
  await until(() => sender.counts().dropped === 1);
  sender.add(span("b"));
  sender.add(span("c"));
  await until(() => sender.counts().sent === 1);
  assert.equal(sender.counts().dropped, 2);
  assert.match(said.join("\n"), /refused 1 spans \(400\): bad thing[\s\S]*refused 1 spans: no \[2J/);
});

test("a full queue drops what comes, and counts it", async (t) => {
  const { sender, said, until } = await open(t, [], { endpoint: "http://127.0.0.1:1" });
  for (let at = 0; at < spansQueuedMax + 100; at += 1) sender.add(span("a"));
  assert.equal(sender.counts().dropped, 100);
  await until(() => said.length > 0);
  assert.match(said[0] ?? "", /ECONNREFUSED/);
  // Who is away is not waited for.
  await sender.close();
  assert.equal(sender.counts().dropped, spansQueuedMax + 100);
});

test("huge spans fill it by their bytes", async (t) => {
  const { sender } = await open(t, [], { endpoint: "http://127.0.0.1:1" });
  for (let at = 0; at < 40; at += 1) sender.add(span("x".repeat(1024 * 1024)));
  assert.ok(sender.counts().dropped >= 24);
});

test("on the way out it sends what it has", async (t) => {
  const { sender, batches } = await open(t, []);
  for (let at = 0; at < 600; at += 1) sender.add(span("a"));
  await sender.close();
  assert.equal(sender.counts().sent, 600);
  assert.equal(batches.length, 2);
});

test("a receiver whose certificate does not verify gets nothing", async (t) => {
  const { createServer: secure } = await import("node:https");
  let asked = 0;
  const server = secure(testCa("Stranger").issue({ ip: ["127.0.0.1"] }), (_request, response) => {
    asked += 1;
    response.end("{}");
  });
  await new Promise<void>((ready) => server.listen(0, "127.0.0.1", ready));
  t.after(() => server.close());
  const endpoint = `https://127.0.0.1:${(server.address() as AddressInfo).port}`;
  const { sender, said, until } = await open(t, [], { endpoint });
  sender.add(span("a"));
  await until(() => said.length > 0);
  assert.match(said[0] ?? "", /certificate/);
  assert.equal(asked, 0);
});
