/** A throw-away HTTPS server on loopback: who gets a request through to it trusts the leaf that it shows. */
import { createServer, type Server, type Socket } from "node:net";
import { type SecureContext, TLSSocket } from "node:tls";
import { WeirError } from "../errors.ts";

/** The names that the leaf has to bear. */
export const probeNames = { commonName: "localhost", dns: ["localhost"], ip: ["127.0.0.1", "::1"] } as const;

export interface ProbeServer {
  readonly port: number;
  /** Of the requests that came over TLS. */
  paths(): readonly string[];
  /** It does not keep the process alive. */
  unref(): void;
  close(): Promise<void>;
}

const requestBytesMax = 8 * 1024;
const connectionsMax = 32;
/** The oldest go first. */
const pathsMax = 1_000;
const idleMs = 30_000;
/** For git: a repository with one branch, as it is read over plain HTTP. */
const someCommit = "0123456789abcdef0123456789abcdef01234567";

export async function startProbeServer(context: SecureContext): Promise<ProbeServer> {
  const paths = new Set<string>();
  const sockets = new Set<Socket>();
  let quiet = false;
  const accept = (raw: Socket): void => {
    sockets.add(raw);
    if (quiet) raw.unref();
    raw.once("close", () => sockets.delete(raw));
    raw.on("error", () => raw.destroy());
    const socket = new TLSSocket(raw, { isServer: true, secureContext: context, ALPNProtocols: ["http/1.1"] });
    socket.setTimeout(idleMs, () => socket.destroy());
    // A client that does not trust us ends the handshake with an alert.
    socket.on("error", () => socket.destroy());
    let text = "";
    socket.setEncoding("latin1");
    socket.on("data", (piece: string) => {
      text += piece;
      if (text.length > requestBytesMax) socket.destroy();
      else if (text.includes("\r\n\r\n")) {
        const path = text.split(" ")[1] ?? "";
        if (paths.size >= pathsMax) paths.delete(paths.values().next().value as string);
        paths.add(path);
        socket.end(answer(path));
        text = "";
      }
    });
  };
  const four = createServer(accept);
  four.maxConnections = connectionsMax;
  await listen(four, "127.0.0.1", 0);
  const address = four.address();
  if (address === null || typeof address === "string") throw new WeirError("WEIR_INTERNAL", "a port without a number");
  const six = createServer(accept);
  six.maxConnections = connectionsMax;
  // Some resolvers give ::1 first for localhost; a host without IPv6 has only the other.
  const servers = await listen(six, "::1", address.port).then(
    () => [four, six],
    () => [four],
  );
  return {
    port: address.port,
    paths: () => [...paths],
    unref() {
      quiet = true;
      for (const server of servers) server.unref();
    },
    async close() {
      for (const socket of sockets) socket.destroy();
      await Promise.all(servers.map((server) => new Promise<void>((resolve) => server.close(() => resolve()))));
    },
  };
}

function answer(path: string): string {
  const body = path.includes("/info/refs")
    ? `${someCommit}\trefs/heads/main\n`
    : path.endsWith("/HEAD")
      ? "ref: refs/heads/main\n"
      : "weir\n";
  return `HTTP/1.1 200 OK\r\nContent-Type: text/plain\r\nContent-Length: ${body.length}\r\nConnection: close\r\n\r\n${body}`;
}

function listen(server: Server, host: string, port: number): Promise<void> {
  return new Promise((resolve, reject) => {
    server.once("error", reject);
    server.listen(port, host, resolve);
  });
}
