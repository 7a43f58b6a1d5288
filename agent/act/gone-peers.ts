/**
 * Peers that are gone without a word. A connection that nobody reads from, since what it brought still waits for the
 * other side, tells of no reset; and node:http2 tells of none that meets a write. Either would stay for ever, with all
 * that waits for it.
 */
import type { Socket } from "node:net";
import { beneath } from "../core/beneath.ts";
import { Roster } from "../core/roster.ts";

/** How often it is looked for them. */
const watchMs = 5_000;

export interface Watched {
  /** Ends what has not heard the end of its peer. */
  dropGone(): void;
}

/** The kernel knows no peer any more: it was reset, or has answered no probe. */
export function isGone(socket: Socket): boolean {
  return !socket.destroyed && (beneath(socket)?.getpeername?.({}) ?? 0) < 0;
}

const watched = new Roster<Watched>();
let watching: NodeJS.Timeout | null = null;

/** Until what it returns is called. */
export function watchPeers(one: Watched): () => void {
  watching ??= setInterval(look, watchMs).unref();
  return watched.add(one);
}

function look(): void {
  for (const one of watched) one.dropGone();
  if (watched.size > 0 || watching === null) return;
  clearInterval(watching);
  watching = null;
}
