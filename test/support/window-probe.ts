/**
 * Looks for an open window: a thousand times a second a TCP connection and a datagram, of both families, to a world that
 * counts what arrives. `arrived` above 0 means that something got out.
 */
import { type ChildProcess, spawn } from "node:child_process";
import { once } from "node:events";
import { createInterface } from "node:readline";

/** Nothing names this port, neither a policy nor a rule. */
export const probedPort = 7777;

export interface World {
  arrived(): Promise<number>;
  stop(): Promise<void>;
}

export interface Probe {
  /** Ends it; says how many were tried and over how many milliseconds. */
  stop(): Promise<{ tried: number; ms: number }>;
}

export async function startWorld(namespace: string, addresses: readonly string[]): Promise<World> {
  const child = spawn(
    "nsenter",
    [
      `--net=/run/netns/${namespace}`,
      process.execPath,
      "-e",
      worldCode,
      JSON.stringify({ addresses, port: probedPort }),
    ],
    {
      stdio: ["pipe", "pipe", "inherit"],
    },
  );
  const lines = createInterface({ input: child.stdout });
  await once(lines, "line");
  return {
    async arrived() {
      child.stdin.write("?\n");
      const [line] = (await once(lines, "line")) as [string];
      return Number(line);
    },
    stop: () => ended(child, () => child.stdin.end()),
  };
}

/** In the network namespace of a process, whatever its other namespaces are. */
export async function startProbe(pid: number, addresses: readonly string[]): Promise<Probe> {
  const child = spawn(
    // Before others on a loaded machine: a probe that waits for its turn has seen nothing.
    "nice",
    [
      "-n",
      "-15",
      "nsenter",
      "-t",
      String(pid),
      "-n",
      process.execPath,
      "-e",
      probeCode,
      JSON.stringify({ addresses, port: probedPort }),
    ],
    {
      stdio: ["pipe", "pipe", "inherit"],
    },
  );
  const lines = createInterface({ input: child.stdout });
  await once(lines, "line");
  return {
    async stop() {
      const last = once(lines, "line");
      child.stdin.end();
      const [line] = (await last) as [string];
      return JSON.parse(line) as { tried: number; ms: number };
    },
  };
}

function ended(child: ChildProcess, end: () => void): Promise<void> {
  if (child.exitCode !== null || child.signalCode !== null) return Promise.resolve();
  return new Promise((done) => {
    child.once("exit", () => done());
    end();
  });
}

const worldCode = `
const net = require("node:net"), dgram = require("node:dgram");
const { addresses, port } = JSON.parse(process.argv[1]);
let arrived = 0, open = 0;
const ready = () => { if (++open === 2) console.log("ready"); };
net.createServer((s) => { arrived++; s.on("error", () => {}); s.destroy(); }).listen(port, "::", ready);
const d = dgram.createSocket({ type: "udp6" });
d.on("message", () => { arrived++; });
d.bind(port, "::", ready);
process.stdin.on("data", () => console.log(arrived)).on("end", () => process.exit(0));`;

/** Its own clock: a timer of a millisecond would drift with the load. */
const probeCode = `
const net = require("node:net"), dgram = require("node:dgram");
const { addresses, port } = JSON.parse(process.argv[1]);
const started = Date.now();
let tried = 0, stopped = false;
const udp = { 4: dgram.createSocket("udp4"), 6: dgram.createSocket("udp6") };
for (const s of Object.values(udp)) s.on("error", () => {});
const open = new Set();
const one = () => {
  const to = addresses[tried++ % addresses.length];
  udp[to.includes(":") ? 6 : 4].send("x", port, to, () => {});
  if (open.size < 500) {
    const s = net.connect(port, to);
    open.add(s);
    s.on("error", () => {}).on("connect", () => s.destroy()).on("close", () => open.delete(s)).setTimeout(1000, () => s.destroy());
  }
};
const turn = () => {
  if (stopped) return;
  const due = Date.now() - started;
  // Missed milliseconds are not made up for in one burst: a burst sees one moment only.
  for (let n = 0; tried < due && n < 5; n++) one();
  setTimeout(turn, 0);
};
turn();
process.stdin.on("data", () => {}).on("end", () => { stopped = true; console.log(JSON.stringify({ tried, ms: Date.now() - started })); process.exit(0); });
console.log("ready");`;
