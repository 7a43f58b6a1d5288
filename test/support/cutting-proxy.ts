/** A TCP proxy in front of a broker that cuts connections when the broker has answered and the client has not heard it. */
import { connect, createServer, type Socket } from "node:net";

export interface CuttingProxy {
  readonly port: number;
  /** How often it has cut. */
  readonly cuts: number;
  /** Cuts in place of the nth, 2nth, … answer to a request of at least `requestBytesMin`; 0 cuts none. */
  every: number;
  /** True: takes no connection, and ends those there are. */
  down: boolean;
  close(): Promise<void>;
}

/** What is shorter is no batch of entries. */
const requestBytesMin = 2_048;

export async function startCuttingProxy(port: number, targetPort: () => number): Promise<CuttingProxy> {
  const sockets = new Set<Socket>();
  let answers = 0;
  let down = false;
  const server = createServer({ noDelay: true }, (client) => {
    if (down) return void client.destroy();
    const upstream = connect({ host: "127.0.0.1", port: targetPort(), noDelay: true });
    const cut = (): void => {
      client.destroy();
      upstream.destroy();
    };
    let asked = 0;
    for (const socket of [client, upstream]) {
      sockets.add(socket);
      socket.on("error", cut);
      socket.on("close", () => {
        sockets.delete(socket);
        cut();
      });
    }
    client.on("data", (bytes) => {
      asked += bytes.length;
      upstream.write(bytes);
    });
    upstream.on("data", (bytes) => {
      if (asked >= requestBytesMin) answers += 1;
      const dropped = asked >= requestBytesMin && proxy.every > 0 && answers % proxy.every === 0;
      asked = 0;
      if (!dropped) return void client.write(bytes);
      cuts += 1;
      cut();
    });
  });
  let cuts = 0;
  await new Promise<void>((resolve, reject) => {
    server.once("error", reject);
    server.listen(port, "127.0.0.1", resolve);
  });
  const proxy = {
    port,
    every: 0,
    get cuts() {
      return cuts;
    },
    get down() {
      return down;
    },
    set down(value: boolean) {
      down = value;
      if (down) for (const socket of sockets) socket.destroy();
    },
    async close() {
      proxy.down = true;
      await new Promise<void>((resolve) => server.close(() => resolve()));
    },
  };
  return proxy;
}
