/** Redirection by cgroup BPF, with real sockets of real children in a cgroup of its own below the host's. */
import assert from "node:assert/strict";
import { execFile, spawn } from "node:child_process";
import { once } from "node:events";
import { existsSync, mkdirSync, readdirSync, readFileSync, rmdirSync, statSync } from "node:fs";
import { type AddressInfo, createServer, type Server } from "node:net";
import { join } from "node:path";
import { after, before, test } from "node:test";
import { promisify } from "node:util";
import type { Endpoint } from "../../../agent/core/flow.ts";
import { encodeTarget } from "../../../agent/kernel/native/bpf-maps.ts";
import { readBpfObject } from "../../../agent/kernel/native/bpf-object.ts";
import { kernelOffsets } from "../../../agent/kernel/native/kernel-offsets.ts";
import {
  type Bpf,
  loadBpf,
  netnsCookie,
  peerCredentials,
  removePins,
  sendRaw4,
  setMark,
  socketCookie,
} from "../../../agent/kernel/native.ts";

const root = join(import.meta.dirname, "../../..");
const run = promisify(execFile);
const cgroupRoot = /^\S+ (\S+) cgroup2 /m.exec(readFileSync("/proc/mounts", "utf8"))?.[1];
const skip =
  process.getuid?.() !== 0
    ? "needs root"
    : cgroupRoot === undefined
      ? "no cgroup2 is mounted"
      : existsSync(join(root, "build/weir.node"))
        ? false
        : "build/weir.node is not built";
const cgroup = join(cgroupRoot ?? "/", `weir-native-test-${process.pid}`);

let bpf: Bpf;
let listener4: Server;
let listener6: Server;
/** Where each accepted connection came from; a destroyed socket no longer tells. */
const accepted: Endpoint[] = [];

async function listen(host: string): Promise<Server> {
  const server = createServer((socket) => {
    accepted.push({ address: socket.remoteAddress as string, port: socket.remotePort as number });
    socket.on("error", () => {});
    socket.end("taken");
  });
  server.listen(0, host);
  await once(server, "listening");
  return server;
}

const portOf = (server: Server): number => (server.address() as AddressInfo).port;

/** A child in the cgroup that connects, and prints what it reads, or the reason of the failure. */
function connectFrom(address: string, port: number, uid = 0): Promise<{ pid: number; out: string }> {
  return runBash(`exec 3<>/dev/tcp/${address}/${port} && cat <&3`, uid);
}

async function runBash(connect: string, uid = 0): Promise<{ pid: number; out: string }> {
  const script = 'echo $$ >"$1/cgroup.procs"; shift; exec "$@"';
  const asUser = ["setpriv", `--reuid=${uid}`, `--regid=${uid}`, "--clear-groups", "bash", "-c", connect];
  // Whose stdin is a socket, a shell takes itself for a remote one and reads ~/.bashrc.
  const child = spawn("sh", ["-c", script, "sh", cgroup, ...asUser], { stdio: ["ignore", "pipe", "pipe"] });
  let out = "";
  child.stdout.on("data", (data) => (out += data));
  child.stderr.on("data", (data) => (out += data));
  await once(child, "close");
  return { pid: child.pid as number, out };
}

function takeLast(): ReturnType<Bpf["takeFlow"]> {
  return bpf.takeFlow(netnsCookie(), accepted.pop() as Endpoint);
}

before(async () => {
  if (skip !== false) return;
  mkdirSync(cgroup);
  listener4 = await listen("127.0.0.1");
  listener6 = await listen("::1");
  bpf = loadBpf();
  bpf.setConfig({
    agentPid: process.pid,
    agentMark: 0x77,
    netnsCookie: netnsCookie(),
    port4: portOf(listener4),
    port6: portOf(listener6),
    wallMark: 0,
  });
  bpf.attach(cgroup);
});

after(async () => {
  if (skip !== false) return;
  bpf?.close();
  listener4?.close();
  listener6?.close();
  rmdirSync(cgroup);
});

test("IPv4: a child's connection comes to the listener, with where it wanted to go and who it is", {
  skip,
}, async () => {
  bpf.addTarget({ address: "198.51.100.0", prefix: 24, port: 5432, takeLoopback: false });
  const { pid, out } = await connectFrom("198.51.100.7", 5432, 65534);
  assert.equal(out, "taken");
  const source = accepted.at(-1) as Endpoint;
  const flow = takeLast();
  assert.ok(flow);
  assert.deepEqual(flow.destination, { address: "198.51.100.7", port: 5432 });
  assert.deepEqual([flow.pid, flow.ppid, flow.uid, flow.gid, flow.comm], [pid, process.pid, 65534, 65534, "bash"]);
  assert.equal(flow.cgroupId, statSync(cgroup, { bigint: true }).ino);
  assert.equal(flow.netnsCookie, netnsCookie());
  const stat = readFileSync("/proc/self/stat", "utf8");
  const ourStart = Number(stat.slice(stat.lastIndexOf(")") + 2).split(" ")[19]);
  const start = Number(flow.startNs / 10_000_000n);
  assert.ok(start >= ourStart && start - ourStart < 60_000, `started at tick ${start}, we at ${ourStart}`);
  assert.equal(bpf.takeFlow(netnsCookie(), source), null, "a record is found once");
});

test("one process: the same program twice is told from a second one of the same name", { skip }, async () => {
  const connect = "exec 3<>/dev/tcp/198.51.100.7/5432 && cat <&3";
  const { out } = await runBash(`${connect}; ${connect}; exec bash -c '${connect}; exit'`);
  assert.equal(out, "takentakentaken");
  const [third, second, first] = [takeLast(), takeLast(), takeLast()];
  const who = (flow: typeof first) => [flow?.pid, flow?.comm, flow?.startNs, flow?.cgroupId];
  assert.deepEqual(who(first), who(third));
  assert.ok(first?.execId !== undefined && first.execId > 0);
  assert.equal(second?.execId, first.execId);
  assert.equal(third?.execId, first.execId + 1);
});

test("IPv6, and IPv4 in IPv6's clothes", { skip }, async () => {
  bpf.addTarget({ address: "2001:db8::", prefix: 32, port: 5432, takeLoopback: false });
  assert.equal((await connectFrom("2001:db8::5", 5432)).out, "taken");
  assert.deepEqual(takeLast()?.destination, { address: "2001:db8::5", port: 5432 });
  const mapped = await connectFrom("::ffff:198.51.100.9", 5432);
  assert.equal(mapped.out, "taken");
  const flow = takeLast();
  assert.deepEqual(flow?.destination, { address: "198.51.100.9", port: 5432 });
  assert.equal(flow?.pid, mapped.pid);
});

test("what is no target, another port, or from outside the cgroup is left alone", { skip }, async () => {
  const other = await listen("127.0.0.1");
  assert.equal((await connectFrom("127.0.0.1", portOf(other))).out, "taken");
  assert.equal(takeLast(), null);
  bpf.addTarget({ address: "127.0.0.0", prefix: 8, port: portOf(other), takeLoopback: true });
  const outside = await run("bash", ["-c", `exec 3<>/dev/tcp/127.0.0.1/${portOf(other)} && cat <&3`]);
  assert.equal(outside.stdout, "taken");
  assert.equal(takeLast(), null);
  assert.ok(bpf.removeTarget({ address: "127.0.0.0", prefix: 8, port: portOf(other) }));
  assert.equal(bpf.removeTarget({ address: "127.0.0.0", prefix: 8, port: portOf(other) }), false);
  other.close();
});

test("loopback is taken only where a target says so; 0.0.0.0 and :: mean loopback", { skip }, async () => {
  const other = await listen("127.0.0.1");
  const port = portOf(other);
  bpf.addTarget({ address: "0.0.0.0", prefix: 0, port, takeLoopback: false });
  assert.equal((await connectFrom("127.0.0.1", port)).out, "taken");
  assert.equal(takeLast(), null);
  assert.equal((await connectFrom("0.0.0.0", port)).out, "taken");
  assert.equal(takeLast(), null);
  bpf.addTarget({ address: "127.0.0.1", prefix: 32, port, takeLoopback: true });
  for (const address of ["127.0.0.1", "0.0.0.0", "::ffff:127.0.0.1"]) {
    assert.equal((await connectFrom(address, port)).out, "taken", address);
    assert.deepEqual(takeLast()?.destination, { address: "127.0.0.1", port }, address);
  }
  bpf.addTarget({ address: "::1", prefix: 128, port, takeLoopback: true });
  for (const address of ["::1", "::"]) {
    assert.equal((await connectFrom(address, port)).out, "taken", address);
    assert.deepEqual(takeLast()?.destination, { address: "::1", port }, address);
  }
  other.close();
});

test("the agent's own listener is never taken, and a direct visitor finds no stale record", { skip }, async () => {
  const port = portOf(listener4);
  bpf.addTarget({ address: "127.0.0.1", prefix: 32, port, takeLoopback: true });
  const redirected = bpf.counters().redirected;
  assert.equal((await connectFrom("127.0.0.1", port)).out, "taken");
  assert.equal(takeLast(), null);
  assert.equal(bpf.counters().redirected, redirected);
});

test("a marked socket goes where it wants: no redirect loop", { skip }, async () => {
  const other = await listen("127.0.0.1");
  const port = portOf(other);
  bpf.addTarget({ address: "127.0.0.1", prefix: 32, port, takeLoopback: true });
  const own = bpf.counters().own;
  const script = `import { socketMarked } from "${root}/agent/kernel/native.ts"; import net from "node:net";
    const s = new net.Socket({ fd: socketMarked(4, 0x77) }); s.connect(${port}, "127.0.0.1"); s.pipe(process.stdout);`;
  const { stdout } = await run("sh", [
    "-c",
    'echo $$ >"$1/cgroup.procs"; exec "$2" --input-type=module -e "$3"',
    "sh",
    cgroup,
    process.execPath,
    script,
  ]);
  assert.equal(stdout, "taken");
  assert.equal(takeLast(), null);
  assert.equal(bpf.counters().own, own + 1);
  other.close();
});

test("another network namespace is left to the firewall, and counted", { skip }, async () => {
  const before = bpf.counters().foreignNetns;
  const { stderr } = await run("sh", [
    "-c",
    'echo $$ >"$1/cgroup.procs"; unshare -n bash -c "exec 3<>/dev/tcp/198.51.100.7/5432" || true',
    "sh",
    cgroup,
  ]);
  assert.match(stderr, /unreachable/);
  assert.equal(bpf.counters().foreignNetns, before + 1);
});

const pinsIn = (dir: string): number => readdirSync(dir).filter((name) => name.startsWith("weir_")).length;

test("killed with pinned links: refused at once, until the next agent takes over", { skip }, async () => {
  const dir = `/tmp/weir-native-test-${process.pid}`;
  const port = portOf(listener4) === 54_399 ? 54_398 : 54_399;
  const script = `import { loadBpf, netnsCookie } from "${root}/agent/kernel/native.ts"; import net from "node:net";
    const server = net.createServer((s) => s.end("agent")).listen(0, "127.0.0.1", () => {
      const bpf = loadBpf();
      bpf.setConfig({ agentPid: process.pid, agentMark: 0, netnsCookie: netnsCookie(), port4: server.address().port, port6: 0, wallMark: 0 });
      bpf.addTarget({ address: "203.0.113.1", prefix: 32, port: ${port}, takeLoopback: false });
      bpf.attach("${cgroup}"); bpf.pin("${dir}"); console.log("up"); setInterval(() => {}, 1e6); });`;
  const agent = spawn(process.execPath, ["--input-type=module", "-e", script], {
    stdio: ["ignore", "pipe", "inherit"],
  });
  try {
    await Promise.race([once(agent.stdout, "data"), once(agent, "exit")]);
    assert.equal((await connectFrom("203.0.113.1", port)).out, "agent");
    assert.equal(pinsIn(dir), 4);
    agent.kill("SIGKILL");
    await once(agent, "exit");
    assert.match((await connectFrom("203.0.113.1", port)).out, /refused/);

    const next = loadBpf();
    next.setConfig({
      agentPid: 0,
      agentMark: 0,
      netnsCookie: netnsCookie(),
      port4: portOf(listener4),
      port6: 0,
      wallMark: 0,
    });
    next.addTarget({ address: "203.0.113.1", prefix: 32, port, takeLoopback: false });
    next.attach(cgroup);
    next.pin(dir);
    assert.equal(pinsIn(dir), 4, "only the new agent's pins are left");
    assert.equal((await connectFrom("203.0.113.1", port)).out, "taken");
    next.close();
    assert.equal(existsSync(dir), false, "no pin and no mount is left behind");
  } finally {
    if (agent.exitCode === null && agent.signalCode === null) agent.kill("SIGKILL");
    removePins(dir);
  }
});

test("wrong arguments are TypeErrors, what the kernel refuses has its code", { skip }, () => {
  assert.throws(() => setMark(-1, 1), TypeError);
  assert.throws(() => setMark(1.5, 1), TypeError);
  assert.throws(() => setMark("0" as unknown as number, 1), TypeError);
  assert.throws(() => setMark(0, 2 ** 32), TypeError);
  assert.throws(() => sendRaw4(Buffer.alloc(3), 0), TypeError);
  assert.throws(() => sendRaw4(Buffer.alloc(20), 0), TypeError);
  assert.throws(() => sendRaw4(new Float64Array(20) as unknown as Uint8Array, 0), TypeError);
  assert.throws(() => socketCookie(99_999), { code: "EBADF", syscall: "getsockopt SO_COOKIE" });
  assert.throws(() => peerCredentials(99_999), { code: "EBADF" });
  assert.throws(() => bpf.addTarget({ address: "1.2.3.4", prefix: 33, port: 1, takeLoopback: false }), TypeError);
  assert.throws(() => bpf.addTarget({ address: "nowhere", prefix: 1, port: 1, takeLoopback: false }), TypeError);
  assert.throws(() => bpf.attach("/nowhere"), /ENOENT/);
  assert.throws(() => bpf.attach("/tmp"), { code: "WEIR_BPF_LOAD" });
});

test("damaged objects and BTF are refused, not followed", () => {
  const object = readFileSync(join(root, "bpf/weir.bpf.o"));
  assert.deepEqual(
    readBpfObject(object)
      .programs.map((program) => program.section)
      .sort(),
    ["cgroup/connect4", "cgroup/connect6", "cgroup_skb/egress", "sockops"],
  );
  for (let length = 0; length < object.length; length += 97) {
    assert.throws(() => readBpfObject(object.subarray(0, length)), { code: "WEIR_BPF_LOAD" });
  }
  assert.deepEqual(kernelOffsets(Buffer.alloc(0)), { task: null, net: null });
  assert.deepEqual(kernelOffsets(Buffer.from("9feb01001800000000000000ffffffff", "hex")), { task: null, net: null });
});

test("a mapped target is the IPv4 one", () => {
  const mapped = encodeTarget({ address: "::ffff:10.0.0.0", prefix: 104, port: 5432 });
  assert.deepEqual(mapped, encodeTarget({ address: "10.0.0.0", prefix: 8, port: 5432 }));
  assert.equal(encodeTarget({ address: "0.0.0.0", prefix: 0, port: 5432 }).key.readUInt32LE(0), 16);
});
