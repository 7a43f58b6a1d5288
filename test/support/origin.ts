/** An HTTPS origin of Node's own server, with a certificate of a test authority; it records what reached it. */
import { createHash } from "node:crypto";
import { mkdtempSync, rmSync, writeFileSync } from "node:fs";
import type { IncomingMessage, ServerResponse } from "node:http";
import { createServer as createPlainServer } from "node:http";
import { createServer } from "node:https";
import type { AddressInfo, Socket } from "node:net";
import { tmpdir } from "node:os";
import { join } from "node:path";
import type { Duplex } from "node:stream";
import { testCa } from "../agent/tls/pki.ts";

export interface Reached {
  readonly method: string;
  readonly url: string;
  readonly headers: Readonly<Record<string, string | string[] | undefined>>;
  readonly body: Buffer;
}

export interface Origin {
  readonly port: number;
  /** PEM file of the authority that signed its certificate. */
  readonly caPath: string;
  readonly reached: Reached[];
  /** What becomes of the connections that change to WebSocket from now on; the 101 is sent before. */
  upgrade(serve: (socket: Duplex) => void): void;
  /** Ends every connection at once, as a server that restarts. */
  dropConnections(): void;
  close(): Promise<void>;
}

export type Handler = (request: IncomingMessage, response: ServerResponse, body: Buffer) => void;

/** `names`: the DNS names in its certificate; `plain`: HTTP without TLS. */
export async function startOrigin(
  handler: Handler,
  { names = ["api.internal"], plain = false }: { names?: readonly string[]; plain?: boolean } = {},
): Promise<Origin> {
  const dir = mkdtempSync(join(tmpdir(), "weir-origin-"));
  const ca = testCa("Origin CA");
  const caPath = join(dir, "ca.pem");
  writeFileSync(caPath, ca.pem);
  const reached: Reached[] = [];
  const sockets = new Set<Socket>();
  const listener = (request: IncomingMessage, response: ServerResponse): void => {
    const parts: Buffer[] = [];
    request.on("data", (part: Buffer) => parts.push(part));
    request.on("end", () => {
      const body = Buffer.concat(parts);
      reached.push({ method: request.method ?? "", url: request.url ?? "", headers: request.headers, body });
      handler(request, response, body);
    });
    request.on("error", () => {});
  };
  const server = plain
    ? createPlainServer(listener)
    : createServer(ca.issue({ dns: names, ip: ["127.0.0.1"] }), listener);
  let serve: (socket: Duplex) => void = (socket) => socket.destroy();
  server.on("upgrade", (request: IncomingMessage, socket: Duplex) => {
    const key = `${request.headers["sec-websocket-key"]}258EAFA5-E914-47DA-95CA-C5AB0DC85B11`;
    const accept = createHash("sha1").update(key).digest("base64");
    socket.on("error", () => {});
    socket.write(
      `HTTP/1.1 101 Switching Protocols\r\nUpgrade: websocket\r\nConnection: Upgrade\r\nSec-WebSocket-Accept: ${accept}\r\n\r\n`,
    );
    serve(socket);
  });
  server.on("connection", (socket: Socket) => {
    sockets.add(socket);
    socket.on("close", () => sockets.delete(socket));
  });
  await new Promise<void>((resolve) => server.listen(0, "127.0.0.1", resolve));
  return {
    port: (server.address() as AddressInfo).port,
    caPath,
    reached,
    upgrade(next) {
      serve = next;
    },
    dropConnections() {
      for (const socket of sockets) socket.destroy();
    },
    async close() {
      for (const socket of sockets) socket.destroy();
      await new Promise((resolve) => server.close(resolve));
      rmSync(dir, { recursive: true, force: true });
    },
  };
}
