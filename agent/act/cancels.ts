/** PostgreSQL's CancelRequest: finds the session that one speaks of, and sends one to the server. */
import type { Socket } from "node:net";
import type { Flow } from "../core/flow.ts";

/** A server closes the connection of a CancelRequest as soon as it has read it. */
const closeMsMax = 10_000;

/** By the server's key, and only at the same destination. */
export class CancelRegistry {
  /** What is forgotten is taken out of its cell: a Map names what it held for longer (core/roster.ts). */
  readonly #sessions = new Map<string, { cancel: (() => boolean) | null }>();

  register(flow: Flow, key: Buffer, cancel: () => boolean): void {
    this.#sessions.set(nameOf(flow, key), { cancel });
  }

  forget(flow: Flow, key: Buffer): void {
    const name = nameOf(flow, key);
    const cell = this.#sessions.get(name);
    if (cell !== undefined) cell.cancel = null;
    this.#sessions.delete(name);
  }

  /** True when a session held something and has withdrawn it; the server then never hears of it. */
  deliver(flow: Flow, key: Buffer): boolean {
    return this.#sessions.get(nameOf(flow, key))?.cancel?.() ?? false;
  }
}

/** Resolves when the connection is closed, by the server or after `closeMsMax`. */
export async function sendCancel(server: Socket, key: Buffer): Promise<void> {
  server.on("error", () => {});
  server.resume();
  server.end(cancelRequest(key));
  const late = setTimeout(() => server.destroy(), closeMsMax);
  await new Promise<void>((resolve) => server.once("close", () => resolve()));
  clearTimeout(late);
}

/** CancelRequest: Int32 length, Int32 80877102, then process id and secret key (PostgreSQL docs §55.7). */
function cancelRequest(key: Buffer): Buffer {
  const head = Buffer.alloc(8);
  head.writeInt32BE(8 + key.length, 0);
  head.writeInt32BE(80877102, 4);
  return Buffer.concat([head, key]);
}

function nameOf(flow: Flow, key: Buffer): string {
  return `${flow.destination.address}:${flow.destination.port}/${key.toString("base64")}`;
}
