/**
 * Takes a connected socket's descriptor away from Node's stream: nothing is read or written there any more, and what it
 * had read already comes back. The stream stays as the carrier and is destroyed with the connection.
 */
import { once } from "node:events";
import type { Socket } from "node:net";
import { tlsAddon } from "./addon.ts";

/** What Node keeps beneath a socket: not documented, the same since Node 0.12. */
interface Beneath {
  readonly fd: number;
  readonly writeQueueSize: number;
  reading: boolean;
  readStop(): number;
}

export interface Taken {
  readonly fd: number;
  /** Bytes that Node read before. */
  readonly read: Buffer;
}

/** Resolves at once unless bytes still wait to be sent. Throws when the socket is closed. */
export async function takeOver(socket: Socket): Promise<Taken> {
  const beneath = (): Beneath => {
    const handle = (socket as Socket & { readonly _handle: Beneath | null })._handle;
    if (handle === null || handle === undefined || socket.destroyed || handle.fd < 0)
      throw new Error("the connection was closed");
    return handle;
  };
  const pieces: Buffer[] = [];
  const stop = (): void => {
    socket.pause();
    // `read` starts reading anew, so it comes first.
    for (let piece: Buffer | null = socket.read(); piece !== null; piece = socket.read()) pieces.push(piece);
    const handle = beneath();
    handle.readStop();
    handle.reading = false;
  };
  stop();
  while (beneath().writeQueueSize > 0) {
    await Promise.race([new Promise((resolve) => socket.write("", resolve)), once(socket, "close")]);
    stop();
  }
  const fd = tlsAddon()?.tlsDuplicate(beneath().fd);
  if (fd === undefined) throw new Error("the native addon is missing");
  return { fd, read: Buffer.concat(pieces) };
}

export function giveUp(fd: number): void {
  tlsAddon()?.tlsCloseFd(fd);
}
