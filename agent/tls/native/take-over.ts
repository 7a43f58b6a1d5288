/**
 * Takes a connected socket's descriptor away from Node's stream: nothing is read or written there any more, and what it
 * had read already comes back. The stream stays as the carrier and is destroyed with the connection.
 */
import { once } from "node:events";
import type { Socket } from "node:net";
import { type Beneath, beneath } from "../../core/beneath.ts";
import { tlsAddon } from "./addon.ts";

export interface Taken {
  readonly fd: number;
  /** Bytes that Node read before. */
  readonly read: Buffer;
}

/** Resolves at once unless bytes still wait to be sent. Throws when the socket is closed. */
export async function takeOver(socket: Socket): Promise<Taken> {
  const open = (): Beneath => {
    const handle = beneath(socket);
    if (handle === null || socket.destroyed || handle.fd < 0) throw new Error("the connection was closed");
    return handle;
  };
  const pieces: Buffer[] = [];
  const stop = (): void => {
    socket.pause();
    // `read` starts reading anew, so it comes first.
    for (let piece: Buffer | null = socket.read(); piece !== null; piece = socket.read()) pieces.push(piece);
    const handle = open();
    handle.readStop();
    handle.reading = false;
  };
  stop();
  while (open().writeQueueSize > 0) {
    await Promise.race([new Promise((resolve) => socket.write("", resolve)), once(socket, "close")]);
    stop();
  }
  const fd = tlsAddon()?.tlsDuplicate(open().fd);
  if (fd === undefined) throw new Error("the native addon is missing");
  return { fd, read: Buffer.concat(pieces) };
}

export function giveUp(fd: number): void {
  tlsAddon()?.tlsCloseFd(fd);
}
