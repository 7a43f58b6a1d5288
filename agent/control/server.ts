/** The agent's Unix socket. Who asks is known by the kernel's peer credentials, not by what is said. */
import { chmodSync, mkdirSync, rmSync } from "node:fs";
import { connect, createServer, type Socket } from "node:net";
import { dirname } from "node:path";
import { WeirError } from "../errors.ts";
import { type ControlReply, type ControlRequest, controlLineBytesMax, parseRequest } from "./protocol.ts";

export interface Peer {
  readonly pid: number;
  readonly uid: number;
  readonly gid: number;
}

export interface ControlOptions {
  readonly path: string;
  peerOf(socket: Socket): Peer;
  answer(request: ControlRequest, peer: Peer): Promise<ControlReply>;
}

/** Connections at once; more are closed at accept. */
const controlConnectionsMax = 64;
const controlIdleMs = 10_000;

export async function startControl(options: ControlOptions): Promise<{ close(): Promise<void> }> {
  mkdirSync(dirname(options.path), { recursive: true, mode: 0o755 });
  if (await answers(options.path))
    throw new WeirError(
      "WEIR_STATE_LOCKED",
      `Another agent answers on ${options.path}. Stop it, or take another --state.`,
    );
  // What a killed agent left.
  rmSync(options.path, { force: true });
  const sockets = new Set<Socket>();
  const server = createServer((socket) => {
    sockets.add(socket);
    socket.once("close", () => sockets.delete(socket));
    socket.on("error", () => socket.destroy());
    socket.setTimeout(controlIdleMs, () => socket.destroy());
    serve(socket, options);
  });
  server.maxConnections = controlConnectionsMax;
  await new Promise<void>((resolve, reject) => {
    server.once("error", reject);
    server.listen(options.path, resolve);
  });
  // Any user may ask to be governed; what only root may do is checked by peer credentials.
  chmodSync(options.path, 0o666);
  return {
    close: () =>
      new Promise((resolve) => {
        for (const socket of sockets) socket.destroy();
        server.close(() => resolve());
      }),
  };
}

function answers(path: string): Promise<boolean> {
  return new Promise((resolve) => {
    const socket = connect(path, () => {
      socket.destroy();
      resolve(true);
    });
    socket.on("error", () => resolve(false));
  });
}

/** One question a connection. */
function serve(socket: Socket, options: ControlOptions): void {
  let text = "";
  socket.setEncoding("utf8");
  const read = (piece: string): void => {
    text += piece;
    if (text.length > controlLineBytesMax) {
      socket.destroy();
      return;
    }
    const end = text.indexOf("\n");
    if (end < 0) return;
    socket.off("data", read);
    socket.resume();
    // The limit is for who does not ask; an answer takes its time.
    socket.setTimeout(0);
    void reply(socket, options, text.slice(0, end));
  };
  socket.on("data", read);
}

async function reply(socket: Socket, options: ControlOptions, line: string): Promise<void> {
  let answer: ControlReply;
  try {
    const request = parseRequest(line);
    if (request === null) throw new WeirError("WEIR_CONTROL_REFUSED", "This is not a request that the agent knows.");
    const peer = options.peerOf(socket);
    answer = await options.answer(request, peer);
  } catch (error) {
    const code = error instanceof WeirError ? error.code : "WEIR_CONTROL_REFUSED";
    answer = { ok: false, code, message: error instanceof Error ? error.message : String(error) };
  }
  if (!socket.destroyed) socket.end(`${JSON.stringify(answer)}\n`);
}
