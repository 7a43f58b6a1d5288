/** Two network namespaces joined by a veth: the governed host, and a peer with real servers. */
import assert from "node:assert/strict";
import { type ChildProcessWithoutNullStreams, execFileSync, spawn } from "node:child_process";
import { once } from "node:events";
import { mkdtempSync, rmSync, symlinkSync } from "node:fs";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { createInterface } from "node:readline";
import { cgroupRoot } from "../../../agent/kernel/cgroup.ts";

export const legacyProgram = "/usr/sbin/xtables-legacy-multi";
export const peer4 = "10.77.0.2";
export const peer6 = "fd77::2";

/** A target as the policy would have it. */
export function target(hosts: readonly object[], ports: readonly number[], name = "db") {
  const tls = { verify: "none", ca: null, clientCertificate: null, serverName: null };
  return { name, protocol: "postgres", hosts, ports, tls, credential: null };
}

export interface Attempt {
  readonly to: string;
  readonly port: number;
  readonly udp?: boolean;
  /** Hex of a datagram to send and to be answered. */
  readonly ask?: string;
  /** How long a client waits for an answer. */
  readonly waitMs?: number;
}

export interface NetnsHost {
  readonly cgroups: string;
  agent(options: object, variables?: NodeJS.ProcessEnv): Promise<NetnsAgent>;
  /** Runs a client with the attempts in the agent's scope; each result is what came back, or an error code. */
  client(agent: NetnsAgent | null, attempts: readonly Attempt[], options?: { uid?: number }): Promise<string[]>;
  held(agent: NetnsAgent | null, attempts: readonly Attempt[]): Promise<() => Promise<string[]>>;
  inbound(): Promise<string>;
  saved(): string;
  /** A network as Docker makes one, with one container; `.1` and `1` are the host's addresses on it, `.2` and `2` its own. */
  container(bridge: string, net4: string, net6: string): Container;
  fromPeer(attempts: readonly Attempt[], before?: string): Promise<string[]>;
  peerSends: Container["sendAs"];
  leaked(work: () => Promise<unknown>): Promise<number>;
  asker(to: string, port: number): Promise<() => void>;
  /** Runs a script in the governed host's network. */
  sh(script: string): string;
  inPeer(code: string): ChildProcessWithoutNullStreams;
  /** Started in the agent's scope: a node with this program and these arguments. */
  inScope(agent: NetnsAgent | null, code: string, ...args: string[]): Promise<ChildProcessWithoutNullStreams>;
  remove(): void;
}

export interface Container {
  client(attempts: readonly Attempt[]): Promise<string[]>;
  /** A node with this program and these arguments. */
  start(code: string, ...args: string[]): ChildProcessWithoutNullStreams;
  /** A server that says "hello", until the returned function is called. */
  serve(port: number): Promise<() => void>;
  /** One datagram with a source that is not its own. */
  sendAs(source: string, sourcePort: number, to: string, port: number, hex: string): void;
  remove(): void;
}

export interface NetnsAgent {
  readonly pid: number;
  readonly events: Record<string, unknown>[];
  ask<Result>(request: object): Promise<Result>;
  kill(): Promise<void>;
  close(): Promise<void>;
}

/** Where it finds its programs by name: one program that goes by the name it is called by. */
function legacyPrograms(): string {
  const directory = mkdtempSync(join(tmpdir(), "weir-legacy-"));
  for (const name of ["iptables", "ip6tables"])
    for (const end of ["", "-save", "-restore"]) symlinkSync(legacyProgram, join(directory, `${name}${end}`));
  return directory;
}

/** `legacy`: the host's iptables is the legacy one, as its alternative would have it; elsewhere whatever is in use. */
export function makeHost(tag: string, { legacy = false } = {}): NetnsHost {
  const programs = legacy ? legacyPrograms() : null;
  const env = programs === null ? process.env : { ...process.env, PATH: `${programs}:${process.env["PATH"]}` };
  const sh = (script: string): string => execFileSync("sh", ["-ec", script], { encoding: "utf8", env });
  const host = `weir-kb-${tag}-${process.pid}`;
  const peer = `${host}p`;
  const containers: string[] = [];
  const children: ChildProcessWithoutNullStreams[] = [];
  const remove = (): void => {
    for (const child of children) child.kill("SIGKILL");
    for (const name of [host, peer, ...containers]) sh(`ip netns del ${name} || true`);
    if (programs !== null) rmSync(programs, { recursive: true });
  };
  sh(`ip netns add ${host}; ip netns add ${peer}
    ip -n ${host} link add e0 type veth peer name e1 netns ${peer}
    ip -n ${host} link set lo up; ip -n ${peer} link set lo up
    ip -n ${host} addr add 10.77.0.1/24 dev e0; ip -n ${peer} addr add ${peer4}/24 dev e1
    ip -n ${host} -6 addr add fd77::1/64 dev e0 nodad; ip -n ${peer} -6 addr add ${peer6}/64 dev e1 nodad
    ip -n ${host} link set e0 up; ip -n ${peer} link set e1 up`);
  const inside = (namespace: string, ...args: string[]): ChildProcessWithoutNullStreams => {
    const child = spawn("nsenter", [`--net=/run/netns/${namespace}`, ...args], { env });
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

  function container(bridge: string, net4: string, net6: string): Container {
    const name = `${host}-${bridge}`;
    containers.push(name);
    sh(`ip netns add ${name}`);
    sh(`nsenter --net=/run/netns/${host} sh -ec '
      ip link add ${bridge} type bridge; ip addr add ${net4}.1/24 dev ${bridge}; ip -6 addr add ${net6}1/64 dev ${bridge} nodad
      ip link set ${bridge} up
      ip link add v${bridge} type veth peer name eth0 netns ${name}; ip link set v${bridge} master ${bridge} up
      echo 1 >/proc/sys/net/ipv4/ip_forward; echo 1 >/proc/sys/net/ipv6/conf/all/forwarding
      for f in iptables,${net4}.0/24 ip6tables,${net6}/64; do p=\${f%,*}; n=\${f#*,}
        $p -t nat -A POSTROUTING -s $n ! -o ${bridge} -j MASQUERADE
        $p -N DOCKER-USER 2>/dev/null || true; $p -D FORWARD -j DOCKER-USER 2>/dev/null || true
        $p -P FORWARD DROP
        $p -A FORWARD -o ${bridge} -m conntrack --ctstate RELATED,ESTABLISHED -j ACCEPT
        $p -A FORWARD -i ${bridge} ! -o ${bridge} -j ACCEPT
        $p -I FORWARD 1 -j DOCKER-USER
      done'
      ip -n ${name} addr add ${net4}.2/24 dev eth0; ip -n ${name} -6 addr add ${net6}2/64 dev eth0 nodad
      ip -n ${name} link set eth0 up; ip -n ${name} link set lo up
      ip -n ${name} route add default via ${net4}.1; ip -n ${name} -6 route add default via ${net6}1`);
    return {
      async client(attempts) {
        const child = inside(name, process.execPath, "-e", clientCode, JSON.stringify(attempts));
        let output = "";
        child.stdout.on("data", (data: Buffer) => {
          output += data;
        });
        await once(child, "close");
        return JSON.parse(output) as string[];
      },
      start: (code, ...args) => inside(name, process.execPath, "-e", code, ...args),
      async serve(port) {
        const server = inside(name, process.execPath, "-e", serverCode, String(port));
        await once(server.stdout, "data");
        return () => void server.kill("SIGKILL");
      },
      sendAs: (...words) => sendAs(name, words),
      remove() {
        containers.splice(containers.indexOf(name), 1);
        sh(`ip netns del ${name}; ip -n ${host} link del ${bridge}`);
      },
    };
  }

  function sendAs(name: string, words: readonly (string | number)[]): void {
    execFileSync("nsenter", [`--net=/run/netns/${name}`, "/usr/bin/python3", "-c", spoofCode, ...words.map(String)]);
  }

  async function fromPeer(attempts: readonly Attempt[], before = "true"): Promise<string[]> {
    const child = inside(
      peer,
      ...["sh", "-ec", `${before}; exec "$0" -e "$1" "$2"`, process.execPath, clientCode, JSON.stringify(attempts)],
    );
    let output = "";
    child.stdout.on("data", (data: Buffer) => {
      output += data;
    });
    await once(child, "close");
    return JSON.parse(output) as string[];
  }

  /** Packets that reached the peer with a first segment or a datagram of a client's in them. */
  async function leaked(work: () => Promise<unknown>): Promise<number> {
    const arrived = (): number =>
      ["iptables", "ip6tables"].reduce((sum, program) => {
        const rules = sh(`nsenter --net=/run/netns/${peer} ${program} -t raw -nvxL PREROUTING`);
        const counted = [...rules.matchAll(/^\s*(\d+) .*dpts:5000:9999/gm)].map(([, packets]) => Number(packets));
        assert.equal(counted.length, 2);
        return sum + counted.reduce((all, one) => all + one, 0);
      }, 0);
    for (const program of ["iptables", "ip6tables"])
      sh(`p="nsenter --net=/run/netns/${peer} ${program} -t raw"
        for t in tcp udp; do r="PREROUTING -p $t --dport 5000:9999"; $p -C $r 2>/dev/null || $p -A $r; done`);
    const before = arrived();
    await work();
    return arrived() - before;
  }

  /** A socket of the host's with a question to the resolver under way. */
  async function asker(to: string, port: number): Promise<() => void> {
    const code = `const d = require("node:dgram").createSocket("udp4"); d.bind(${port}, () => d.send("?", 53, "${to}", () => console.log("asked")))`;
    const child = inside(host, process.execPath, "-e", code);
    await once(child.stdout, "data");
    return () => void child.kill("SIGKILL");
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

  async function agent(options: object, variables: NodeJS.ProcessEnv = {}): Promise<NetnsAgent> {
    const child = inside(
      host,
      "env",
      ...Object.entries(variables).map(([name, value]) => `${name}=${value}`),
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
    container,
    fromPeer,
    peerSends: (...words) => sendAs(peer, words),
    leaked,
    asker,
    sh: (script) => execFileSync("nsenter", [`--net=/run/netns/${host}`, "sh", "-ec", script], { encoding: "utf8" }),
    saved: () =>
      sh(`for p in iptables ip6tables; do nsenter --net=/run/netns/${host} $p-save | grep WEIR || true; done`),
    inPeer: (code) => inside(peer, process.execPath, "-e", code),
    async inScope(agent, code, ...args) {
      const child = inside(host, "sh", "-c", 'read go; exec "$0" -e "$@"', process.execPath, code, ...args);
      if (agent !== null) await agent.ask({ do: "run", pid: child.pid, uid: 0, name: "test" });
      child.stdin.write("\n");
      return child;
    },
    remove,
  };
}

const echoCode = `require("node:net").createServer((s) => s.end("hello")).listen(2222, "10.77.0.1", () => console.log("ready"))`;

const serverCode = `require("node:net").createServer((s) => s.end("hello")).listen(Number(process.argv[1]), "::", () => console.log("ready"))`;

const spoofCode = `
import socket, struct, sys
source, sport, to, dport, data = sys.argv[1], int(sys.argv[2]), sys.argv[3], int(sys.argv[4]), bytes.fromhex(sys.argv[5])
udp = struct.pack("!HHHH", sport, dport, 8 + len(data), 0) + data
ip = struct.pack("!BBHHHBBH4s4s", 0x45, 0, 20 + len(udp), 1, 0, 64, 17, 0, socket.inet_aton(source), socket.inet_aton(to))
socket.socket(socket.AF_INET, socket.SOCK_RAW, socket.IPPROTO_RAW).sendto(ip + udp, (to, 0))`;

const clientCode = `
const net = require("node:net"), dgram = require("node:dgram"), results = [];
const tcp = ({ to, port, waitMs = 5000 }) => new Promise((done) => {
  let got = ""; const s = net.connect(port, to);
  s.setTimeout(waitMs, () => { s.destroy(); done("TIMEOUT"); });
  s.on("data", (d) => { got += d; }); s.on("error", (e) => done(e.code)); s.on("end", () => done(got.trim()));
});
const udp = ({ to, port, ask, waitMs = 3000 }) => new Promise((done) => {
  const s = dgram.createSocket(to.includes(":") ? "udp6" : "udp4");
  const end = (value) => { try { s.close(); } catch {} done(value); };
  s.on("error", (e) => end(e.code)); s.on("message", (m) => end(m.toString("hex")));
  // Connected, as QUIC clients are: the kernel tells a socket of an ICMP error only then.
  s.connect(port, to, () => s.send(Buffer.from(ask ?? "00", "hex"), (e) => { if (e) end(e.code); }));
  setTimeout(() => end("SILENCE"), waitMs).unref();
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
