/**
 * The agent's listeners, where redirected connections arrive: on loopback those of the host's own processes, and for a whole
 * host on every address those that come over a bridge. The firewall lets nobody else reach the latter.
 */
import { readFileSync } from "node:fs";
import { createServer, type Server } from "node:net";
import { type Beneath, beneath } from "../core/beneath.ts";
import { WeirError } from "../errors.ts";
import { Arrival, type Handle } from "./arrival.ts";

/** Flows open at once; beyond, a new one is reset before anything of it is read. */
const flowsMax = 8192;
/** Descriptors of one flow: two sockets, and with the TLS addon another of each. */
const flowDescriptors = 4;
/** Descriptors that flows leave for the record, the firewall's commands, the page and the catalog's connections. */
const otherDescriptors = 200;
/** Connections the kernel keeps until they are accepted. */
const backlogMax = 1024;

export interface Listeners {
  /** Flows that may be open at once on this host. */
  readonly flowsMax: number;
  readonly ports: Ports;
  /** Null when they were not asked for. */
  readonly bridgePorts: Ports | null;
  readonly flows: number;
  /** Stops listening; flows that are open stay with their sessions. */
  close(): Promise<void>;
}

/** 0: a host without that family. */
export interface Ports {
  readonly v4: number;
  readonly v6: number;
}

export interface ListenerOptions {
  readonly bridges?: boolean;
  /** Sets on a listener's descriptor what its connections inherit: cheaper than on each of them. */
  prepare?(fd: number): void;
  /** Nothing is read before it is known where it wanted to go. */
  onFlow(arrival: Arrival): void;
  /** From now on new connections are reset; told again when it was better in between. */
  onFull(reason: string): void;
  /** Descriptors that this process may have; left out: what the system says. */
  readonly descriptorsMax?: number;
}

export async function startListeners(options: ListenerOptions): Promise<Listeners> {
  const { bridges = false, prepare = () => {}, onFlow, onFull, descriptorsMax = openFilesMax() } = options;
  const most = flowsWith(descriptorsMax);
  let flows = 0;
  let told = false;
  const closed = (): void => {
    flows--;
    if (flows < most / 2) told = false;
  };
  const accept = (handle: Handle, port: number): void => {
    flows++;
    const arrival = new Arrival(handle, port, closed);
    if (flows > most) {
      const why = most < flowsMax ? `, what ${descriptorsMax} open files leave room for (ulimit -n)` : "";
      if (!told) onFull(`${most} connections are open, the most there can be${why}; new ones are reset.`);
      told = true;
      arrival.reset();
    } else onFlow(arrival);
  };
  const own = await listenBoth("127.0.0.1", "::1", accept, prepare);
  const bridge = bridges ? await listenBoth("0.0.0.0", "::", accept, prepare) : null;
  return {
    flowsMax: most,
    ports: portsOf(own),
    bridgePorts: bridge === null ? null : portsOf(bridge),
    get flows() {
      return flows;
    },
    close: async () => {
      await Promise.all([own, bridge].map((pair) => Promise.all([pair?.v4, pair?.v6].map(stop))));
    },
  };
}

/** Out of descriptors the record could not begin its next file, nor the firewall be put back. */
function flowsWith(descriptorsMax: number): number {
  return Math.max(1, Math.min(flowsMax, Math.floor((descriptorsMax - otherDescriptors) / flowDescriptors)));
}

/** Node has raised the soft limit to the hard one when it started. */
function openFilesMax(): number {
  const limit = /^Max open files\s+(\d+)/m.exec(readFileSync("/proc/self/limits", "utf8"))?.[1];
  return limit === undefined ? Number.POSITIVE_INFINITY : Number(limit);
}

interface Pair {
  readonly v4: Server;
  readonly v6: Server | null;
}

type Accept = (handle: Handle, port: number) => void;
type Prepare = (fd: number) => void;

async function listenBoth(host4: string, host6: string, accept: Accept, prepare: Prepare): Promise<Pair> {
  const v4 = await listen(host4, accept, prepare);
  // A host without IPv6 has no ::1; port 0 says so, and BPF leaves IPv6 to the firewall.
  const v6 = await listen(host6, accept, prepare).catch((error: unknown) => {
    if (!["EADDRNOTAVAIL", "EAFNOSUPPORT"].includes((error as NodeJS.ErrnoException).code ?? "")) throw error;
    return null;
  });
  return { v4, v6 };
}

function portsOf({ v4, v6 }: Pair): Ports {
  return { v4: portOf(v4), v6: v6 === null ? 0 : portOf(v6) };
}

/** Node's own makes a stream of each connection. */
interface Listening extends Beneath {
  onconnection: (error: number | undefined, handle: Handle) => void;
}

function listen(host: string, accept: Accept, prepare: Prepare): Promise<Server> {
  const server = createServer();
  return new Promise((resolve, reject) => {
    server.once("error", reject);
    server.listen({ host, port: 0, backlog: backlogMax, ipv6Only: true }, () => {
      server.off("error", reject);
      const listening = beneath(server) as Listening;
      const port = portOf(server);
      const arrived: Listening["onconnection"] = (error, handle) => {
        // EMFILE: the kernel keeps the connection in its backlog.
        if (!error) accept(handle, port);
      };
      prepare(listening.fd);
      listening.onconnection = arrived;
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
function stop(server: Server | null | undefined): Promise<void> {
  server?.close();
  return Promise.resolve();
}
