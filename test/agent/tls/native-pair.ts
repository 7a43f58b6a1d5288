/** Connections of the native engine over real sockets, for its tests. */
import { once } from "node:events";
import { type AddressInfo, connect as connectPlain, createServer, type Socket } from "node:net";
import type { TestContext } from "node:test";
import { nativeContext } from "../../../agent/tls/native/context.ts";
import { handshake, type Shaken } from "../../../agent/tls/native/handshake.ts";
import { hasNativeTls } from "../../../agent/tls/native/hub.ts";
import { takeOver } from "../../../agent/tls/native/take-over.ts";
import { testCa } from "./pki.ts";

export const ca = testCa("Native CA");
const leaf = ca.issue({ name: "db.example", dns: ["db.example"], ip: ["127.0.0.1"] });
/** Without the addon the tests are skipped, after this is loaded. */
const context = (options: Parameters<typeof nativeContext>[0]): object =>
  hasNativeTls() ? nativeContext(options) : {};
export const serverContext = context({ server: true, certificate: leaf.cert + ca.pem, key: leaf.key });
export const clientContext = context({ server: false, roots: ca.pem });

interface Asked {
  readonly serverName?: string;
  readonly alpn?: readonly string[];
  readonly context?: object;
}

export async function shake(carrier: Socket, server: boolean, asked: Asked = {}): Promise<Shaken> {
  const { fd, read } = await takeOver(carrier);
  return handshake(
    {
      context: asked.context ?? (server ? serverContext : clientContext),
      base: { carrier, fd },
      serverName: asked.serverName ?? "",
      alpn: asked.alpn ?? [],
      first: read,
    },
    { timeoutMs: 60_000, late: "too late" },
  );
}

/** Accepts one plain connection after the other; `next` is the one to be taken over. */
export async function listener(t: TestContext, { allowHalfOpen = true } = {}) {
  const sockets = new Set<Socket>();
  const server = createServer({ pauseOnConnect: true, allowHalfOpen, noDelay: true }, (socket) => {
    sockets.add(socket);
    socket.on("error", () => {});
    socket.once("close", () => sockets.delete(socket));
  });
  server.listen(0, "127.0.0.1");
  await once(server, "listening");
  t.after(() => {
    for (const socket of sockets) socket.destroy();
    server.close();
  });
  const { port } = server.address() as AddressInfo;
  return {
    port,
    sockets,
    next: async (): Promise<Socket> => ((await once(server, "connection")) as [Socket])[0],
  };
}

/** Both ends are the engine's. */
export async function pair(t: TestContext, client: Asked = {}, server: Asked = {}) {
  const { port, next } = await listener(t);
  const accepted = next();
  const plain = connectPlain({ port, host: "127.0.0.1", noDelay: true, allowHalfOpen: true });
  await once(plain, "connect");
  const serverCarrier = await accepted;
  const [there, here] = await Promise.all([shake(serverCarrier, true, server), shake(plain, false, client)]);
  t.after(() => {
    there.secured.destroy();
    here.secured.destroy();
  });
  return { client: here, server: there, clientCarrier: plain, serverCarrier };
}
