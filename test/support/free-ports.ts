/**
 * Ports of loopback for servers that are not told of port 0. Below those that the kernel gives to connections by itself: one
 * of them could be taken by any connection between two uses, and whoever connects to it while nobody listens may meet himself.
 */
import { once } from "node:events";
import { createServer } from "node:net";

const first = 10_000;
/** Where ip_local_port_range begins, unless somebody has set it otherwise. */
const end = 32_768;
/** Test files run side by side, each in its own process: so far apart they begin. */
const perProcess = 64;
let next = first + ((process.pid * perProcess) % (end - first));

export async function freePorts(count: number): Promise<number[]> {
  const ports: number[] = [];
  while (ports.length < count) {
    const port = next;
    next = next + 1 < end ? next + 1 : first;
    if (await isFree(port)) ports.push(port);
  }
  return ports;
}

export async function freePort(): Promise<number> {
  const [port] = await freePorts(1);
  return port as number;
}

async function isFree(port: number): Promise<boolean> {
  const server = createServer().listen(port, "127.0.0.1");
  try {
    await once(server, "listening");
  } catch {
    return false;
  }
  server.close();
  await once(server, "close");
  return true;
}
