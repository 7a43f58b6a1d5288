/** Two network namespaces joined by a veth: the governed host, and a peer with real servers. */
import { type ChildProcessWithoutNullStreams, execFileSync, spawn } from "node:child_process";
import { once } from "node:events";
import { join } from "node:path";
import { createInterface } from "node:readline";
import { cgroupRoot } from "../../../agent/kernel/cgroup.ts";

export const peer4 = "10.77.0.2";
export const peer6 = "fd77::2";
const sh = (script: string): string => execFileSync("sh", ["-ec", script], { encoding: "utf8" });

export interface Attempt {
  readonly to: string;
  readonly port: number;
  readonly udp?: boolean;
  /** Hex of a datagram to send and to be answered. */
  readonly ask?: string;
}

export interface NetnsHost {
  readonly cgroups: string;
  agent(options: object): Promise<NetnsAgent>;
  /** Runs a client with the attempts in the agent's scope; each result is what came back, or an error code. */
  client(agent: NetnsAgent | null, attempts: readonly Attempt[], options?: { uid?: number }): Promise<string[]>;
  held(agent: NetnsAgent | null, attempts: readonly Attempt[]): Promise<() => Promise<string[]>>;
  inbound(): Promise<string>;
  saved(): string;
  inPeer(code: string): ChildProcessWithoutNullStreams;
  remove(): void;
}

export interface NetnsAgent {
  readonly pid: number;
  readonly events: Record<string, unknown>[];
  ask<Result>(request: object): Promise<Result>;
  kill(): Promise<void>;
  close(): Promise<void>;
}

export function makeHost(tag: string): NetnsHost {
  const host = `weir-kb-${tag}-${process.pid}`;
  const peer = `${host}p`;
  const children: ChildProcessWithoutNullStreams[] = [];
  const remove = (): void => {
    for (const child of children) child.kill("SIGKILL");
    sh(`ip netns del ${host} || true; ip netns del ${peer} || true`);
  };
  sh(`ip netns add ${host}; ip netns add ${peer}
    ip -n ${host} link add e0 type veth peer name e1 netns ${peer}
    ip -n ${host} link set lo up; ip -n ${peer} link set lo up
    ip -n ${host} addr add 10.77.0.1/24 dev e0; ip -n ${peer} addr add ${peer4}/24 dev e1
    ip -n ${host} -6 addr add fd77::1/64 dev e0 nodad; ip -n ${peer} -6 addr add ${peer6}/64 dev e1 nodad
    ip -n ${host} link set e0 up; ip -n ${peer} link set e1 up`);
  const inside = (namespace: string, ...args: string[]): ChildProcessWithoutNullStreams => {
    const child = spawn("nsenter", [`--net=/run/netns/${namespace}`, ...args]);
    child.stderr.on("data", (data: Buffer) => process.stderr.write(data));
    children.push(child);
    return child;
  };

  /** In the scope at once, started when the returned function is called. */
  async function held(agent: NetnsAgent | null, attempts: readonly Attempt[], options: { uid?: number } = {}) {
    const drop =
      options.uid === undefined
        ? []
        : ["setpriv", `--reuid=${options.uid}`, `--regid=${options.uid}`, "--clear-groups"];
    const code = ['read go; exec "$0" -e "$1" "$2"', process.execPath, clientCode, JSON.stringify(attempts)];
    const child = inside(host, ...drop, "sh", "-c", ...code);
    if (agent !== null) await agent.ask({ do: "run", pid: child.pid, uid: options.uid ?? 0, name: "test" });
    return async () => {
      let output = "";
      child.stdout.on("data", (data: Buffer) => {
        output += data;
      });
      child.stdin.write("\n");
      await once(child, "close");
      return JSON.parse(output) as string[];
    };
  }

  /** A connection from the peer to a server on the governed host, as ssh would be. */
  async function inbound(): Promise<string> {
    const server = inside(host, process.execPath, "-e", echoCode);
    await once(server.stdout, "data");
    const child = inside(peer, process.execPath, "-e", clientCode, JSON.stringify([{ to: "10.77.0.1", port: 2222 }]));
    const [data] = (await once(child.stdout, "data")) as [Buffer];
    server.kill("SIGKILL");
    return (JSON.parse(data.toString()) as string[])[0]!;
  }

  async function agent(options: object): Promise<NetnsAgent> {
    const child = inside(
      host,
      process.execPath,
      join(import.meta.dirname, "netns-agent.ts"),
      JSON.stringify({ instance: `kb${tag}${process.pid}`, ...options }),
    );
    const events: Record<string, unknown>[] = [];
    const waiting: ((value: Record<string, unknown>) => void)[] = [];
    const ready = new Promise<void>((resolve, reject) => {
      createInterface({ input: child.stdout }).on("line", (line) => {
        const event = JSON.parse(line) as Record<string, unknown>;
        events.push(event);
        if ("ready" in event) resolve();
        if ("ok" in event || "error" in event) waiting.shift()?.(event);
      });
      child.once("close", () => reject(new Error("the agent ended before it was ready")));
    });
    await ready;
    const ask = async <Result>(request: object): Promise<Result> => {
      const answer = new Promise<Record<string, unknown>>((resolve) => waiting.push(resolve));
      child.stdin.write(`${JSON.stringify(request)}\n`);
      const event = await answer;
      if ("error" in event) throw Object.assign(new Error(String(event.error)), { code: event.code });
      return event.ok as Result;
    };
    const ended = once(child, "close");
    return {
      pid: child.pid!,
      events,
      ask,
      kill: async () => {
        child.kill("SIGKILL");
        await ended;
      },
      close: async () => {
        await ask({ do: "close" });
        await ended;
      },
    };
  }

  return {
    cgroups: cgroupRoot() ?? "",
    agent,
    client: async (agent, attempts, options) => (await held(agent, attempts, options))(),
    held,
    inbound,
    saved: () =>
      sh(`for p in iptables ip6tables; do nsenter --net=/run/netns/${host} $p-save | grep WEIR || true; done`),
    inPeer: (code) => inside(peer, process.execPath, "-e", code),
    remove,
  };
}

const echoCode = `require("node:net").createServer((s) => s.end("hello")).listen(2222, "10.77.0.1", () => console.log("ready"))`;

const clientCode = `
const net = require("node:net"), dgram = require("node:dgram"), results = [];
const tcp = ({ to, port }) => new Promise((done) => {
  let got = ""; const s = net.connect(port, to);
  s.setTimeout(5000, () => { s.destroy(); done("TIMEOUT"); });
  s.on("data", (d) => { got += d; }); s.on("error", (e) => done(e.code)); s.on("end", () => done(got.trim()));
});
const udp = ({ to, port, ask }) => new Promise((done) => {
  const s = dgram.createSocket(to.includes(":") ? "udp6" : "udp4");
  const end = (value) => { try { s.close(); } catch {} done(value); };
  s.on("error", (e) => end(e.code)); s.on("message", (m) => end(m.toString("hex")));
  // Connected, as QUIC clients are: the kernel tells a socket of an ICMP error only then.
  s.connect(port, to, () => s.send(Buffer.from(ask ?? "00", "hex"), (e) => { if (e) end(e.code); }));
  setTimeout(() => end("SILENCE"), 3000).unref();
});
(async () => {
  for (const a of JSON.parse(process.argv[1])) results.push(await (a.udp ? udp(a) : tcp(a)));
  process.stdout.write(JSON.stringify(results), () => process.exit(0));
})();`;

/** TCP on 5432 and 8080 of both families says "real"; UDP 53 answers any question with 10.77.0.2 for its name. */
export const peerServers = `
const net = require("node:net"), dgram = require("node:dgram");
let left = 4;
for (const a of ["${peer4}", "${peer6}"]) for (const p of [5432, 8080])
  net.createServer((s) => { s.on("error", () => {}); s.end("real"); }).listen(p, a, () => { if (--left === 0) console.log("ready"); });
const d = dgram.createSocket("udp4");
d.on("message", (q, from) => {
  const a = Buffer.concat([q, Buffer.from("c00c00010001000000050004" + "0a4d0002", "hex")]);
  a[2] |= 0x80; a.writeUInt16BE(1, 6); d.send(a, from.port, from.address);
});
d.bind(53, "${peer4}");`;
