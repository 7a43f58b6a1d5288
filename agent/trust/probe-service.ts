/** A probe server that the agent keeps for callers who may not read the authority's key; it goes when nobody asks. */
import type { SecureContext } from "node:tls";
import { type ProbeServer, startProbeServer } from "./probe-server.ts";

export interface ProbeView {
  readonly port: number;
  /** Paths below the asker's prefix for which a request came. */
  readonly reached: readonly string[];
}

export interface ProbeService {
  ask(prefix: string): Promise<ProbeView>;
}

/** Longer than any runtime takes for its handshake. */
const idleMsMax = 60_000;

/** Nothing of it keeps a process alive. */
export function createProbeService(context: () => SecureContext, idleMs = idleMsMax): ProbeService {
  let running: Promise<ProbeServer> | null = null;
  let timer: NodeJS.Timeout | undefined;
  const stop = (): void => {
    const server = running;
    running = null;
    void server?.then((one) => one.close());
  };
  return {
    async ask(prefix) {
      clearTimeout(timer);
      timer = setTimeout(stop, idleMs).unref();
      running ??= startProbeServer(context());
      try {
        const server = await running;
        server.unref();
        return { port: server.port, reached: server.paths().filter((path) => path.startsWith(prefix)) };
      } catch (error) {
        running = null;
        throw error;
      }
    },
  };
}
