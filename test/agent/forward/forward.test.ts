/** Forwarding to receivers over TLS: what arrives, in which order, and what happens when they are away. */
import assert from "node:assert/strict";
import { execFileSync } from "node:child_process";
import { mkdtempSync, readFileSync, rmSync } from "node:fs";
import { createServer as createHttps } from "node:https";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { after, before, type TestContext, test } from "node:test";
import { createServer as createTls, type TLSSocket } from "node:tls";
import type { WeirError } from "../../../agent/errors.ts";
import { type ForwarderOptions, startForwarder } from "../../../agent/forward/forwarder.ts";
import { hecSink } from "../../../agent/forward/hec.ts";
import { resentBytesMax, syslogSink } from "../../../agent/forward/syslog.ts";
import { readTarget } from "../../../agent/forward/target.ts";
import { openRecorder } from "../../../agent/record/recorder.ts";
import { until } from "../../support/until.ts";
import { fill, sampleLog, tempDir } from "../record/sample.ts";

let certificates = "";
before(() => {
  certificates = mkdtempSync(join(tmpdir(), "weir-forward-"));
  const words = "req -x509 -newkey ec -pkeyopt ec_paramgen_curve:P-256 -nodes -days 2 -subj /CN=siem".split(" ");
  const names = ["-addext", "subjectAltName=IP:127.0.0.1,DNS:localhost"];
  const out = ["-keyout", join(certificates, "key.pem"), "-out", join(certificates, "cert.pem")];
  execFileSync("openssl", [...words, ...names, ...out], { stdio: "ignore" });
});
after(() => rmSync(certificates, { recursive: true, force: true }));

const pem = (name: string): string => readFileSync(join(certificates, name), "utf8");
const code = (wanted: string) => (error: unknown) => (error as WeirError).code === wanted;

/** Octet counting (RFC 5425 §4.3), taken apart again. */
function messagesIn(bytes: Buffer): { messages: string[]; rest: Buffer } {
  const messages: string[] = [];
  let at = 0;
  for (;;) {
    const space = bytes.indexOf(32, at);
    const length = space < 0 ? Number.NaN : Number(bytes.toString("latin1", at, space));
    if (Number.isNaN(length) || space + 1 + length > bytes.length) return { messages, rest: bytes.subarray(at) };
    messages.push(bytes.toString("utf8", space + 1, space + 1 + length));
    at = space + 1 + length;
  }
}

/** A receiver that can be made to hang up after some messages. */
async function syslogServer(t: TestContext, hangUpAfter = Number.POSITIVE_INFINITY) {
  const received: string[] = [];
  let limit = hangUpAfter;
  const sockets = new Set<TLSSocket>();
  const server = createTls({ key: pem("key.pem"), cert: pem("cert.pem") }, (socket) => {
    let rest = Buffer.alloc(0);
    sockets.add(socket);
    socket.on("error", () => {});
    socket.on("data", (piece: Buffer) => {
      const read = messagesIn(Buffer.concat([rest, piece]));
      rest = Buffer.from(read.rest);
      received.push(...read.messages);
      if (received.length < limit) return;
      limit = Number.POSITIVE_INFINITY;
      socket.destroy();
    });
  });
  await new Promise<void>((done) => server.listen(0, "127.0.0.1", done));
  t.after(() => {
    for (const socket of sockets) socket.destroy();
    server.close();
  });
  const { port } = server.address() as { port: number };
  return { url: new URL(`syslog+tls://127.0.0.1:${port}`), received };
}

function forward(t: TestContext, options: Partial<ForwarderOptions> & Pick<ForwarderOptions, "stateDir" | "sink">) {
  const forwarder = startForwarder({ format: "ocsf", name: null, sinceMs: 0, log: () => {}, ...options });
  t.after(() => forwarder.close());
  return forwarder;
}

const seqOf = (message: string): number => Number(/ seq="(\d+)" /.exec(message)?.[1]);

test("syslog: RFC 5424 over TLS, as it is recorded, and what is recorded later", async (t) => {
  const dir = tempDir(t);
  await sampleLog(dir);
  const { url, received } = await syslogServer(t);
  forward(t, { stateDir: dir, sink: syslogSink({ url, ca: pem("cert.pem") }) });
  await until(() => received.length === 12);
  const recorder = await openRecorder({ stateDir: dir });
  fill(recorder);
  await recorder.close();
  await until(() => received.length === 24);
  assert.deepEqual(received.map(seqOf), [...Array(24).keys()]);
  const denied = received[6] as string;
  assert.match(
    denied,
    /^<132>1 2026-09-21T\S+Z \S+ weir 6 Operation \[weir@32473 agent="[^"]+" seq="6" session="019a[^"]+"\] \ufeff\{/,
  );
  const event = JSON.parse(denied.slice(denied.indexOf("\ufeff") + 1)) as { class_uid: number; action_id: number };
  assert.deepEqual([event.class_uid, event.action_id], [6005, 2]);
  assert.match(received[5] as string, /^<134>1 /);
});

test("syslog: a receiver that hangs up loses nothing, order stays, repetitions are told by their number", async (t) => {
  const dir = tempDir(t);
  await sampleLog(dir, (recorder) => {
    for (let at = 0; at < 1_500; at += 1) recorder.append("agent", { type: "notice", text: `${at}` });
  });
  const { url, received } = await syslogServer(t, 700);
  const said: string[] = [];
  const log = (_: string, message: string) => said.push(message);
  forward(t, { stateDir: dir, sink: syslogSink({ url, ca: pem("cert.pem") }), log, format: "jsonl" });
  await until(() => received.map(seqOf).includes(1_511));
  assert.deepEqual(
    [...new Set(received.map(seqOf))].sort((a, b) => a - b),
    [...Array(1_512).keys()],
  );
  const repeated = received
    .slice(0, -1)
    .filter((_, at) => seqOf(received[at + 1] as string) <= seqOf(received[at] as string));
  assert.ok(repeated.length <= 2, `${repeated.length} steps back`);
  assert.ok(resentBytesMax > 0);
});

test("a receiver with another certificate gets nothing, and it is told once", async (t) => {
  const dir = tempDir(t);
  await sampleLog(dir);
  const { url, received } = await syslogServer(t);
  const said: string[] = [];
  const forwarder = forward(t, {
    stateDir: dir,
    sink: syslogSink({ url, ca: null }),
    log: (_, message) => said.push(message),
  });
  await until(() => forwarder.problem !== null);
  assert.match(said.join("\n"), /^forward: 127\.0\.0\.1:\d+ cannot be reached: self-signed certificate/);
  assert.equal(received.length, 0);
});

interface HecEvent {
  readonly time: number;
  readonly host: string;
  readonly source: string;
  readonly sourcetype: string;
  readonly event: Record<string, unknown>;
}

interface Post {
  readonly authorization: string | undefined;
  readonly events: HecEvent[];
}

async function collector(t: TestContext, statusOf: (post: number) => number) {
  const posts: Post[] = [];
  let count = 0;
  const server = createHttps({ key: pem("key.pem"), cert: pem("cert.pem") }, (request, response) => {
    let body = "";
    request.setEncoding("utf8");
    request.on("data", (piece: string) => {
      body += piece;
    });
    request.on("end", () => {
      count += 1;
      const status = statusOf(count);
      if (status === 200)
        posts.push({
          authorization: request.headers.authorization,
          events: body.split("\n").map((line) => JSON.parse(line)),
        });
      response.writeHead(status, { "Content-Type": "application/json" });
      response.end(status === 200 ? '{"text":"Success","code":0}' : '{"text":"Server is busy","code":9}');
    });
  });
  await new Promise<void>((done) => server.listen(0, "127.0.0.1", done));
  t.after(() => {
    server.closeAllConnections();
    server.close();
  });
  const { port } = server.address() as { port: number };
  return { to: `https://127.0.0.1:${port}/services/collector/event`, posts };
}

test("HTTP event collector: token, shape, tried again while it is busy, and the place is remembered", async (t) => {
  const dir = tempDir(t);
  await sampleLog(dir);
  const { to, posts } = await collector(t, (post) => (post === 1 ? 503 : 200));
  const words = { to, format: undefined, ca: join(certificates, "cert.pem"), tokenFile: undefined };
  const target = readTarget({ ...words, env: { WEIR_HEC_TOKEN: "t0ken" } });
  const said: string[] = [];
  const log = (_: string, message: string) => said.push(message);
  const first = forward(t, { stateDir: dir, sink: hecSink(target), name: "splunk", log });
  await until(() => posts.length === 1);
  await until(() => first.sent === 12);
  await first.close();
  assert.match(said.join("\n"), /did not take the events \(503\).*busy[\s\S]*takes entries again/);
  const [post] = posts;
  assert.equal(post?.authorization, "Splunk t0ken");
  const event = post?.events[5];
  assert.deepEqual([event?.time, event?.source, event?.sourcetype], [1_790_000_000.123, "weir", "weir:ocsf"]);
  assert.deepEqual((event as HecEvent).event["query_info"], { query_string: "SELECT name FROM users", uid: "1" });
  await sampleLog(dir);
  forward(t, { stateDir: dir, sink: hecSink(target), name: "splunk" });
  await until(() => posts.length === 2);
  const again = posts[1]?.events ?? [];
  assert.equal(again.length, 12, "only what is new");
  // The session's endpoints are known although its beginning was sent by the run before.
  const [first12th] = again as [HecEvent];
  assert.equal((first12th.event["metadata"] as { sequence: number }).sequence, 12);
  const attestation = ({ event: one }: HecEvent) => (one["attestation_list"] as [Record<string, unknown>])[0];
  const before = (attestation(first12th)["prev_event"] as { fingerprint: unknown }).fingerprint;
  assert.deepEqual(before, attestation(post?.events[11] as HecEvent)["fingerprint"]);
});

test("words of the command line", () => {
  const good = { to: "syslog+tls://siem.example", format: undefined, ca: undefined, tokenFile: undefined, env: {} };
  assert.deepEqual([readTarget(good).kind, readTarget(good).format], ["syslog", "ocsf"]);
  assert.equal(readTarget({ ...good, format: "cef" }).format, "cef");
  const hec = { ...good, to: "https://siem.example/services/collector/event" };
  assert.equal(readTarget({ ...hec, env: { WEIR_HEC_TOKEN: "x" } }).kind, "hec");
  for (const bad of [
    { ...good, to: "siem.example" },
    { ...good, to: "syslog://siem.example" },
    { ...good, to: "http://siem.example/x" },
    { ...good, to: "https://user:secret@siem.example/x", env: { WEIR_HEC_TOKEN: "x" } },
    { ...good, format: "csv" },
    { ...good, format: "xml" },
    { ...good, ca: "/nowhere" },
    hec,
    { ...hec, env: { WEIR_HEC_TOKEN: "a\nb" } },
    { ...hec, format: "cef", env: { WEIR_HEC_TOKEN: "x" } },
  ])
    assert.throws(() => readTarget(bad), code("WEIR_USAGE"), JSON.stringify(bad));
});
