/**
 * How long one request or its answer keeps the event loop: the agent without a kernel in this process, the client in
 * another, and the longest delay that perf_hooks saw while the two were on their way. The server is in this process,
 * too: what it needs is in the figure.
 */
import { execFile } from "node:child_process";
import { mkdtempSync, rmSync, writeFileSync } from "node:fs";
import { createSecureServer } from "node:http2";
import type { AddressInfo } from "node:net";
import { tmpdir } from "node:os";
import { join, resolve } from "node:path";
import { monitorEventLoopDelay } from "node:perf_hooks";
import { promisify } from "node:util";
import { gzipSync } from "node:zlib";
import { frameOf } from "../../../agent/wire/grpc/frames.ts";
import { MessageReader, writeMessage } from "../../../agent/wire/websocket/messages.ts";
import { testCa } from "../../agent/tls/pki.ts";
import { type Origin, startOrigin } from "../../support/origin.ts";
import { type Relay, startRelay } from "../../support/relay.ts";

const run = promisify(execFile);
const mib = 1024 * 1024;
const prose = "The quick brown fox jumps over the lazy dog, and writes to 12 people. ";
const proseOf = (bytes: number): string => prose.repeat(bytes / prose.length);

interface Row {
  readonly name: string;
  /** Gives its status. */
  ask(): Promise<string>;
}

/** Bodies of requests by name; each is answered with 1 KB. */
function requests(): Record<string, { body: Buffer; gzip?: boolean }> {
  const chat = (content: unknown): Buffer =>
    Buffer.from(JSON.stringify({ model: "m", messages: [{ role: "user", content }] }));
  const image = { type: "image_url", image_url: { url: `data:image/png;base64,${"iVBORw0K".repeat(2 * mib)}` } };
  return {
    "a prompt of 10 KB": { body: chat(prose.repeat(150)) },
    "a prompt of 100 KB": { body: chat(prose.repeat(1_500)) },
    "a prompt of 1 MB": { body: chat(prose.repeat(15_000)) },
    "a prompt of 16 MB": { body: chat(prose.repeat(240_000)) },
    "a picture of 16 MB": { body: chat([image]) },
    "100,000 values": { body: chat(Array.from({ length: 100_000 }, (_, at) => ({ text: `x${at}` }))) },
    "100,000 deep": { body: Buffer.from(`{"a":${"[".repeat(100_000)}${"]".repeat(100_000)}}`) },
    "gigabytes of zeros in gzip": { body: Buffer.concat(Array(32).fill(gzipSync(Buffer.alloc(64 * mib)))), gzip: true },
  };
}

/** Events of streams by name. */
function events(): Record<string, Buffer> {
  const event = (content: string): Buffer =>
    Buffer.from(
      `data: ${JSON.stringify({ id: "x", choices: [{ index: 0, delta: { content } }] })}\n\ndata: [DONE]\n\n`,
    );
  return {
    "an event of 190 KB, all but values": event("a@b.c@d.".repeat(190 * 128)),
    "an event of 1 MB of prose": event(proseOf(mib)),
    "an event of 1 MB, all but values": event("a@b.c@d.".repeat(mib / 8)),
    "an event of 3 MB of prose": event(proseOf(3 * mib)),
  };
}

async function curl(words: readonly string[], body: Buffer): Promise<string> {
  const shared = ["-s", "-o", "/dev/null", "-w", "%{http_code}", "-X", "POST", "--data-binary", "@-", "-H", "expect:"];
  const asked = run("curl", [...shared, ...words]);
  asked.child.stdin?.on("error", () => {});
  asked.child.stdin?.end(body);
  return (await asked).stdout;
}

export async function measureLoop(): Promise<void> {
  const closing: (() => Promise<void>)[] = [];
  try {
    process.stdout.write("input | longest delay of the event loop | most CPU of its thread in one turn\n");
    const rows = [...(await llmRows(closing)), ...(await grpcRows(closing))];
    const loop = monitorEventLoopDelay({ resolution: 1 });
    for (const { name, ask } of rows) {
      await ask();
      loop.reset();
      loop.enable();
      const turns = watchTurns();
      const status = await ask();
      const cpuMs = turns();
      loop.disable();
      process.stdout.write(`${name} (${status}) | ${(loop.max / 1e6).toFixed(0)} ms | ${cpuMs.toFixed(0)} ms\n`);
    }
  } finally {
    for (const close of closing) await close();
  }
}

/** Where others have the processors, too, a delay tells of them; what a turn takes of this thread's own time does not. */
function watchTurns(): () => number {
  const spentMs = (): number => {
    const { user, system } = process.threadCpuUsage();
    return (user + system) / 1000;
  };
  let last = spentMs();
  let longest = 0;
  let watches = true;
  const turn = (): void => {
    const now = spentMs();
    longest = Math.max(longest, now - last);
    last = now;
    if (watches) setImmediate(turn);
  };
  setImmediate(turn);
  return () => {
    watches = false;
    return longest;
  };
}

async function llmRows(closing: (() => Promise<void>)[]): Promise<Row[]> {
  const streams = events();
  const origin = await startOrigin((request, response) => {
    const name = String(request.headers["x-event"] ?? "");
    response.setHeader("content-type", name === "" ? "application/json" : "text/event-stream");
    response.end(name === "" ? '{"choices":[]}' : streams[name]);
  });
  closing.unshift(() => origin.close());
  const relay = await startRelay({
    policy: `apiVersion: weir/v1
targets:
  openai: { protocol: openai, hosts: [api.internal], ports: [${origin.port}], tls: { ca: ${origin.caPath} } }
rules:
  - { name: masks, match: { target: openai }, mask: [{ detector: [email, credit-card] }], redact: [{ detector: [email, iban], with: placeholder }] }
`,
    server: { host: "127.0.0.1", port: origin.port },
    hostname: null,
  });
  closing.unshift(() => relay.close());
  const to = (fields: readonly string[]): string[] => [
    ...["--http1.1", "-H", "content-type: application/json", ...fields.flatMap((field) => ["-H", field])],
    ...["--cacert", relay.authority.caPath, "--connect-to", `api.internal:${origin.port}:127.0.0.1:${relay.port}`],
    `https://api.internal:${origin.port}/v1/chat/completions`,
  ];
  const asked = Buffer.from('{"model":"m","stream":true,"messages":[]}');
  return [
    ...Object.entries(requests()).map(([name, { body, gzip = false }]) => ({
      name,
      ask: () => curl(to(gzip ? ["content-encoding: gzip"] : []), body),
    })),
    ...Object.keys(streams).map((name) => ({ name, ask: () => curl(to([`x-event: ${name}`]), asked) })),
    ...[mib, 8 * mib].map((bytes) => realtimeRow(origin, relay, bytes)),
  ];
}

/** Both ways a message of so many bytes. */
function realtimeRow(origin: Origin, relay: Relay, bytes: number): Row {
  const delta = { type: "response.output_text.delta", response_id: "r", item_id: "i", delta: proseOf(bytes) };
  const said = writeMessage(1, Buffer.from(JSON.stringify(delta)), null);
  const done = writeMessage(1, Buffer.from('{"type":"response.done","response":{"id":"r"}}'), null);
  return {
    name: `messages of ${bytes / mib} MB in a realtime session`,
    async ask() {
      origin.upgrade((socket) => {
        const reader = new MessageReader(true);
        socket.on("data", (part: Buffer) => {
          if (reader.push(part).length > 0) socket.write(Buffer.concat([said, done]));
        });
      });
      const client = resolve(import.meta.dirname, "loop-client.ts");
      const { port, authority } = relay;
      const words = [client, `${port}`, authority.caPath, `api.internal:${origin.port}`, `${bytes}`];
      return (await run(process.execPath, words)).stdout;
    },
  };
}

/** Both ways a message of so many bytes. */
async function grpcRows(closing: (() => Promise<void>)[]): Promise<Row[]> {
  const dir = mkdtempSync(join(tmpdir(), "weir-loop-"));
  const ca = testCa("Origin CA");
  writeFileSync(join(dir, "ca.pem"), ca.pem);
  let answer: Buffer = Buffer.alloc(0);
  const server = createSecureServer(ca.issue({ dns: ["grpc.internal"] }));
  server.on("stream", (stream) => {
    stream.on("error", () => {});
    stream.resume();
    stream.on("end", () => {
      stream.respond({ ":status": 200, "content-type": "application/grpc" });
      stream.end(answer);
    });
  });
  await new Promise<void>((listening) => server.listen(0, "127.0.0.1", listening));
  closing.unshift(async () => {
    await new Promise((closed) => server.close(closed));
    rmSync(dir, { recursive: true });
  });
  const { port } = server.address() as AddressInfo;
  const relay = await startRelay({
    policy: `apiVersion: weir/v1
targets:
  grpc:
    protocol: grpc
    hosts: [grpc.internal]
    ports: [${port}]
    tls: { ca: ${join(dir, "ca.pem")} }
    grpc: { descriptors: ${resolve(import.meta.dirname, "../../vectors/grpc/grpc-testing.desc")} }
rules:
  - { name: masks, match: { target: grpc }, mask: [{ detector: [email, credit-card] }], redact: [{ detector: [email, iban] }] }
`,
    server: { host: "127.0.0.1", port },
    hostname: null,
  });
  closing.unshift(() => relay.close());
  const words = [
    ...["--http2", "-H", "content-type: application/grpc", "-H", "te: trailers", "--cacert", relay.authority.caPath],
    ...["--connect-to", `grpc.internal:${port}:127.0.0.1:${relay.port}`],
    `https://grpc.internal:${port}/grpc.testing.TestService/UnaryCall`,
  ];
  // SimpleRequest { payload (3) { body (2) } }, SimpleResponse { payload (1) { body (2) } }
  const message = (number: number, text: Buffer): Buffer => frameOf(field(number, field(2, text)));
  const texts = {
    "gRPC messages of 1 MB of prose": Buffer.from(proseOf(mib)),
    "gRPC messages of 4 MB of prose": Buffer.from(proseOf(4 * mib)),
    "gRPC messages of 4 MB, all but values": Buffer.from("a@b.c@d.".repeat(mib / 2)),
  };
  return Object.entries(texts).map(([name, text]) => ({
    name,
    ask() {
      answer = message(1, text);
      return curl(words, message(3, text));
    },
  }));
}

function field(number: number, value: Buffer): Buffer {
  const head = [number * 8 + 2];
  let left = value.length;
  for (; left > 127; left = Math.floor(left / 128)) head.push((left % 128) | 128);
  return Buffer.concat([Buffer.from([...head, left]), value]);
}
