/**
 * The process behind echo-origin.ts: servers that repeat what they were sent in every way that servers do, one address
 * and certificate each, HTTP/1.1 and HTTP/2. Its one argument is a list of `{ name, address, cert, key }`.
 */
import { createHash } from "node:crypto";
import type { IncomingMessage, ServerResponse } from "node:http";
import { createSecureServer } from "node:http2";
import type { Duplex } from "node:stream";
import { setTimeout as sleep } from "node:timers/promises";
import { gzipSync } from "node:zlib";

export interface EchoServer {
  readonly name: string;
  readonly address: string;
  readonly cert: string;
  readonly key: string;
}

const seen: string[] = [];

/** All that could be a key: fields and query. */
function told(request: IncomingMessage): string {
  return JSON.stringify({ url: request.url, headers: request.headers });
}

/** As a field can have it. */
function fieldOf(request: IncomingMessage): string {
  const { authorization, "x-service-key": key, "x-amz-security-token": token } = request.headers;
  return `${[authorization, key, token].filter((value) => value !== undefined).join(" ")} ${request.url}`;
}

async function answer(request: IncomingMessage, response: ServerResponse): Promise<void> {
  const all = told(request);
  const field = fieldOf(request);
  const path = (request.url ?? "").split("?")[0];
  switch (path) {
    case "/redirect":
      response.writeHead(302, { location: `https://elsewhere.internal/landing?from=${encodeURIComponent(field)}` });
      response.end(`<a href="${field.replaceAll("&", "&amp;")}">moved</a>`);
      return;
    case "/empty-redirect":
      response.writeHead(302, { location: `https://elsewhere.internal/landing?from=${encodeURIComponent(field)}` });
      response.end();
      return;
    case "/error":
      if (request.httpVersionMajor === 1) response.statusMessage = `Wrong key ${field}`;
      response.writeHead(401, { "www-authenticate": `Bearer error="${field}"`, "content-type": "text/html" });
      response.end(
        `<p>${field}</p><p>${Buffer.from(all).toString("base64")}</p><p>${Buffer.from(all).toString("hex")}`,
      );
      return;
    case "/gzip":
      response.writeHead(200, { "content-encoding": "gzip", "content-type": "application/json" });
      response.end(gzipSync(all));
      return;
    case "/image":
      response.writeHead(200, { "content-type": "image/png" });
      response.end(all);
      return;
    case "/slow":
      response.writeHead(200, { "content-type": "text/event-stream" });
      for (const letter of `data: ${field}\n\n`) {
        response.write(letter);
        await sleep(1);
      }
      response.end();
      return;
    case "/parts":
      part(request, response, Buffer.from(all));
      return;
    case "/trailers":
      response.writeHead(200, { trailer: "x-echo" });
      response.write("see below");
      response.addTrailers({ "x-echo": field });
      response.end();
      return;
    case "/hints":
      response.writeEarlyHints({ link: `</style.css?${encodeURIComponent(field)}>; rel=preload`, "x-echo": field });
      response.end("hinted");
      return;
    default:
      response.writeHead(200, { "content-type": "application/json", "x-echo": field, "set-cookie": `k=${field}` });
      response.end(all);
  }
}

/** One range is answered as RFC 9110 §14 has it; asked with `forced`, a server that answers with a part of its own. */
function part(request: IncomingMessage, response: ServerResponse, all: Buffer): void {
  const range = request.url?.includes("forced") === true ? "bytes=0-40" : request.headers.range;
  const [, from, to] = /^bytes=(\d+)-(\d*)$/.exec(range ?? "") ?? [];
  const type = { "content-type": "application/json" };
  if (from === undefined || to === undefined) {
    response.writeHead(200, type);
    response.end(all);
    return;
  }
  const end = to === "" ? all.length - 1 : Math.min(Number(to), all.length - 1);
  response.writeHead(206, { ...type, "content-range": `bytes ${from}-${end}/${all.length}` });
  response.end(all.subarray(Number(from), end + 1));
}

/** Of a server: short enough for a head of two bytes. */
function frameOf(op: number, text: Buffer, final: boolean): Buffer {
  return Buffer.concat([Buffer.from([(final ? 0x80 : 0) | op, text.length]), text]);
}

/** A WebSocket that says what it was sent, in one frame, and closes (RFC 6455 §4.2.2, §5.2). */
function upgrade(request: IncomingMessage, socket: Duplex): void {
  const accept = createHash("sha1")
    .update(`${request.headers["sec-websocket-key"]}258EAFA5-E914-47DA-95CA-C5AB0DC85B11`)
    .digest("base64");
  const head = ["HTTP/1.1 101 Switching Protocols", "Upgrade: websocket", "Connection: Upgrade"];
  socket.write(`${[...head, `Sec-WebSocket-Accept: ${accept}`, `X-Echo: ${fieldOf(request)}`].join("\r\n")}\r\n\r\n`);
  const text = Buffer.from(told(request));
  if (request.url?.startsWith("/ws-cut") === true) {
    // The same in frames of 10 bytes, and in messages of 10 bytes.
    const pieces = Array.from({ length: Math.ceil(text.length / 10) }, (_, at) => text.subarray(at * 10, at * 10 + 10));
    socket.write(Buffer.concat(pieces.map((piece, at) => frameOf(at === 0 ? 1 : 0, piece, false))));
    socket.write(frameOf(0, Buffer.from("|"), true));
    socket.write(Buffer.concat([...pieces.map((piece) => frameOf(1, piece, true)), Buffer.from([0x88, 0])]));
    socket.on("error", () => {});
    socket.on("data", () => socket.end());
    return;
  }
  const frame = Buffer.alloc(4);
  frame.writeUInt16BE(0x817e, 0);
  frame.writeUInt16BE(text.length, 2);
  socket.write(Buffer.concat([frame, text, Buffer.from([0x88, 0])]));
  socket.on("error", () => {});
  socket.on("data", () => socket.end());
}

const servers = JSON.parse(process.argv[2] as string) as EchoServer[];
let left = servers.length;
for (const { name, address, cert, key } of servers) {
  const server = createSecureServer({ cert, key, allowHTTP1: true });
  server.on("request", (request, response) => {
    request.resume();
    request.on("end", () => {
      seen.push(`${name} ${request.method} ${told(request as unknown as IncomingMessage)}`);
      void answer(request as unknown as IncomingMessage, response as unknown as ServerResponse);
    });
  });
  server.on("upgrade", (request: IncomingMessage, socket: Duplex) => {
    seen.push(`${name} UPGRADE ${told(request)}`);
    upgrade(request, socket);
  });
  server.on("sessionError", () => {});
  server.listen(443, address, () => {
    left -= 1;
    if (left === 0) process.send?.("ready");
  });
}
process.on("message", () => process.send?.(seen));
process.on("disconnect", () => process.exit());
