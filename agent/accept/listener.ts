/** The agent's listeners on loopback, where redirected connections arrive. */
import { createServer, type Server, type Socket } from "node:net";
import { WeirError } from "../errors.ts";

/** Flows open at once; beyond, a new one is reset before anything of it is read. */
export const flowsMax = 8192;
/** Connections the kernel keeps until they are accepted. */
const backlogMax = 1024;
const keepAliveDelayMs = 60_000;

export interface Listeners {
  readonly ports: { readonly v4: number; readonly v6: number };
  readonly flows: number;
  /** Stops listening; flows that are open stay with their sessions. */
  close(): Promise<void>;
}

export interface ListenerOptions {
  /** The socket is paused: nothing is read before it is known where it wanted to go. */
  onFlow(socket: Socket): void;
  log(level: "info" | "warn", message: string): void;
}

export async function startListeners({ onFlow, log }: ListenerOptions): Promise<Listeners> {
  let flows = 0;
  let warned = false;
  const accept = (socket: Socket): void => {
    // Without a listener an error of the client's end would end the agent.
    socket.on("error", () => {});
    if (flows >= flowsMax) {
      if (!warned) log("warn", `flowsMax (${flowsMax}) is reached; new connections are reset.`);
      warned = true;
      socket.resetAndDestroy();
      return;
    }
    flows++;
    socket.once("close", () => {
      flows--;
      warned = false;
    });
    onFlow(socket);
  };
  const v4 = await listen("127.0.0.1", accept);
  // A host without IPv6 has no ::1; port 0 says so, and BPF leaves IPv6 to the firewall.
  const v6 = await listen("::1", accept).catch((error: unknown) => {
    if (!["EADDRNOTAVAIL", "EAFNOSUPPORT"].includes((error as NodeJS.ErrnoException).code ?? "")) throw error;
    return null;
  });
  return {
    ports: { v4: portOf(v4), v6: v6 === null ? 0 : portOf(v6) },
    get flows() {
      return flows;
    },
    close: async () => {
      await Promise.all([v4, ...(v6 === null ? [] : [v6])].map(stop));
    },
  };
}

function listen(host: string, accept: (socket: Socket) => void): Promise<Server> {
  const server = createServer(
    {
      pauseOnConnect: true,
      noDelay: true,
      keepAlive: true,
      keepAliveInitialDelay: keepAliveDelayMs,
      // The protocol decides when an end ends a session: a half-closed client still gets its answer.
      allowHalfOpen: true,
    },
    accept,
  );
  return new Promise((resolve, reject) => {
    server.once("error", reject);
    server.listen({ host, port: 0, backlog: backlogMax }, () => {
      server.off("error", reject);
      server.on("error", () => {}); // EMFILE at accept: the kernel keeps the connection in its backlog
      resolve(server);
    });
  });
}

function portOf(server: Server): number {
  const address = server.address();
  if (address === null || typeof address === "string") throw new WeirError("WEIR_INTERNAL", "A listener has no port.");
  return address.port;
}

/** Does not wait for open flows: `server.close` would, and their sessions end on their own. */
function stop(server: Server): Promise<void> {
  server.close();
  return Promise.resolve();
}
