/**
 * A client for llm.ts that costs little itself: raw TLS sockets with one request after the other. Its argument says
 * where to, what and how often; prints one line of JSON.
 */
import { connect as connectPlain, type Socket } from "node:net";
import { connect } from "node:tls";

interface Work {
  readonly host: string;
  readonly port: number;
  readonly path: string;
  readonly kind: "rate" | "stream";
  readonly connections: number;
  readonly requests: number;
  /** A peer without TLS on this leg. */
  readonly plain: boolean;
  readonly headers: Readonly<Record<string, string>>;
}

const work = JSON.parse(process.argv[2] ?? "{}") as Work;
const body = JSON.stringify({
  model: "gpt-4o-mini",
  ...(work.kind === "stream" ? { stream: true } : {}),
  messages: [
    { role: "system", content: "You are brief." },
    { role: "user", content: "Tell me, in a few words, how the build went, and what is left to do. ".repeat(6) },
  ],
});
const fields = Object.entries({
  "content-type": "application/json",
  authorization: "Bearer sk-bench",
  ...work.headers,
  "content-length": String(Buffer.byteLength(body)),
});
const request = `POST ${work.path} HTTP/1.1\r\nHost: ${work.host}:${work.port}\r\n${fields.map(([name, value]) => `${name}: ${value}\r\n`).join("")}\r\n${body}`;

let left = work.requests;
const latencies: number[] = [];
const firsts: number[] = [];
const tokens: number[] = [];

const sockets = await Promise.all(Array.from({ length: work.connections }, open));
const started = performance.now();
await Promise.all(sockets.map(work.kind === "rate" ? askAll : listenAll));
const seconds = (performance.now() - started) / 1000;
for (const socket of sockets) socket.destroy();
process.stdout.write(
  `${JSON.stringify({
    rate: work.requests / seconds,
    p50: middle(latencies),
    first: middle(firsts),
    token: middle(tokens),
    tokens: tokens.length,
    calls: work.requests,
  })}\n`,
);

function open(): Promise<Socket> {
  return new Promise((resolve, reject) => {
    const { host, port } = work;
    const socket = work.plain
      ? connectPlain({ host, port })
      : connect({ host, port, rejectUnauthorized: false, ALPNProtocols: ["http/1.1"] });
    socket.setNoDelay(true);
    socket.once(work.plain ? "connect" : "secureConnect", () => resolve(socket));
    socket.once("error", reject);
  });
}

/** One request after the other on one connection, while there are some. */
function askAll(socket: Socket): Promise<void> {
  return new Promise((resolve, reject) => {
    let got = "";
    let sentAt = 0;
    const ask = (): void => {
      if (left === 0) {
        resolve();
        return;
      }
      left -= 1;
      sentAt = performance.now();
      socket.write(request);
    };
    socket.on("data", (bytes: Buffer) => {
      got += bytes.toString("latin1");
      if (!isWhole(got)) return;
      if (!got.startsWith("HTTP/1.1 200")) reject(new Error(got));
      got = "";
      latencies.push(performance.now() - sentAt);
      ask();
    });
    socket.on("error", reject);
    ask();
  });
}

function listenAll(socket: Socket): Promise<void> {
  return new Promise((resolve, reject) => {
    let got = "";
    let sentAt = 0;
    let isFirst = true;
    const ask = (): void => {
      if (left === 0) {
        resolve();
        return;
      }
      left -= 1;
      got = "";
      isFirst = true;
      sentAt = performance.now();
      socket.write(request);
    };
    socket.on("data", (bytes: Buffer) => {
      const now = performance.now();
      const text = bytes.toString("latin1");
      if (got === "" && !text.startsWith("HTTP/1.1 200")) reject(new Error(text));
      got = (got + text).slice(-64);
      for (const [, id] of text.matchAll(/data: \{"id":"(\d+)"/g)) {
        if (isFirst) firsts.push(now - sentAt);
        else tokens.push((performance.timeOrigin + now) * 1000 - Number(id));
        isFirst = false;
      }
      if (got.endsWith("0\r\n\r\n")) ask();
    });
    socket.on("error", reject);
    ask();
  });
}

function isWhole(text: string): boolean {
  const head = text.indexOf("\r\n\r\n");
  if (head < 0) return false;
  const length = /\r\ncontent-length: (\d+)/i.exec(text)?.[1];
  return length === undefined ? text.endsWith("0\r\n\r\n") : text.length >= head + 4 + Number(length);
}

function middle(values: number[]): number {
  return values.sort((a, b) => a - b)[Math.floor(values.length / 2)] ?? 0;
}
