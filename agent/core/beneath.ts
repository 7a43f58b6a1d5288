/** What Node keeps beneath a socket or a server: not documented, the same since Node 0.12. Read here alone. */

export interface Beneath {
  readonly fd: number;
  readonly writeQueueSize: number;
  reading: boolean;
  readStop(): number;
  /** A TLS socket, Node's or ours, passes the question on. */
  getpeername?(out: object): number;
}

/** Null: it is closed. */
export function beneath(socket: object): Beneath | null {
  return (socket as { readonly _handle?: Beneath | null })._handle ?? null;
}

/** Negative: it is closed. */
export function descriptorOf(socket: object): number {
  return beneath(socket)?.fd ?? -1;
}
