/** A small HTTP server of the host's own: how many it lets in, how long it waits, and what it says when its port is taken. */
import type { Server } from "node:http";
import { WeirError } from "../errors.ts";

export interface Listening {
  readonly host: string;
  readonly port: number;
  /** That names another address, for who finds this one in use. */
  readonly option: string;
  /** At once; more are refused. */
  readonly connectionsMax: number;
  readonly requestWithinMs: number;
}

export interface Listener {
  readonly port: number;
  close(): Promise<void>;
}

/** Throws WEIR_PORT_IN_USE. */
export async function listen(server: Server, options: Listening): Promise<Listener> {
  const { host, port, option, connectionsMax, requestWithinMs } = options;
  server.maxConnections = connectionsMax;
  server.headersTimeout = requestWithinMs;
  server.requestTimeout = requestWithinMs;
  await new Promise<void>((resolve, reject) => {
    server.once("error", (cause: NodeJS.ErrnoException) => {
      const taken = `${host}:${port} is in use. Take another with ${option}.`;
      reject(cause.code === "EADDRINUSE" ? new WeirError("WEIR_PORT_IN_USE", taken, { cause }) : cause);
    });
    server.listen(port, host, resolve);
  });
  const bound = server.address();
  return {
    port: typeof bound === "object" && bound !== null ? bound.port : port,
    async close() {
      const closed = new Promise<void>((resolve) => server.close(() => resolve()));
      server.closeAllConnections();
      await closed;
    },
  };
}
