/**
 * What an agent costs a whole host: flows that nobody intercepts, new connections to a target, its start, and its rest.
 *
 *   npm run bench -- host [bulk|connections|start|rest]
 *
 * Each round measures without an agent, starts one, measures with it, and stops it. Bulk is measured in slices that alternate
 * between the governed host and another beside it, so that a slow second hits both: the other has no rules, but its packets
 * pass the agent's BPF program, too, which stands on the root of all cgroups. What both cost against none is in the CPU-s.
 */
import { type ChildProcess, execFile, spawn } from "node:child_process";
import { mkdirSync, mkdtempSync, rmSync, writeFileSync } from "node:fs";
import { tmpdir } from "node:os";
import { join, resolve } from "node:path";
import { setTimeout as sleep } from "node:timers/promises";
import { promisify } from "node:util";
import { makeNamespacePair, type Namespace, type NamespacePair } from "../support/namespace.ts";
import { median, startWeir, stop, usage } from "./process.ts";

const run = promisify(execFile);
const weir = resolve(import.meta.dirname, "../../scripts/weir");
const python = "/usr/bin/python3";
const rounds = Number(process.env["WEIR_BENCH_ROUNDS"] ?? 3);
const sliceSeconds = 0.4;
const slices = 8;
const only = process.argv.slice(2);
const wants = (row: string): boolean => only.length === 0 || only.includes(row);
const connections = 300;
/** Before those that count: the first ones after a start run through code that V8 has not compiled yet. */
const warming = 1000;
const restSeconds = 10;
const settleMs = 15_000;
const ports = { bulk: 7100, target: 8080 } as const;

const policy = `apiVersion: weir/v1
defaults: { egress: allow }
targets:
  shop: { protocol: http, hosts: any, ports: [${ports.target}] }
`;

interface Sent {
  readonly bytesPerSecond: number;
  readonly cpuPerGb: number;
}

interface Round {
  /** Of the sender, before the agent's start. */
  readonly bulkAlone: readonly Sent[];
  readonly bulkBeside: readonly Sent[];
  readonly bulk: readonly Sent[];
  readonly newDirect: readonly number[];
  readonly new: readonly number[];
  /** The first ones after the start. */
  readonly cold: readonly number[];
  readonly readyMs: number;
  readonly readyCpu: number;
  readonly restCpu: number;
  readonly restMb: number;
}

async function main(): Promise<void> {
  const net = await makeNamespacePair("bench-host");
  const beside = await makeNamespacePair("bench-beside");
  const dir = mkdtempSync(join(tmpdir(), "weir-bench-host-"));
  const servers: ChildProcess[] = [];
  try {
    writeFileSync(join(dir, "policy.yaml"), policy);
    mkdirSync(join(dir, "state"), { mode: 0o711 });
    for (const code of [sinkCode(), shopCode()]) servers.push(await serve(net.b, code));
    servers.push(await serve(beside.b, sinkCode()));
    const measured: Round[] = [];
    for (let at = 0; at < rounds; at += 1) measured.push(await round(net, beside, dir));
    print(measured);
  } finally {
    for (const server of servers) server.kill("SIGKILL");
    await net.remove();
    await beside.remove();
    rmSync(dir, { recursive: true, force: true });
  }
}

async function round({ a, b }: NamespacePair, beside: NamespacePair, dir: string): Promise<Round> {
  const times = wants("bulk") ? slices : 0;
  const bulkAlone: Sent[] = [];
  for (let slice = 0; slice < times; slice += 1) bulkAlone.push(await bulk(a, b));
  const newDirect = wants("connections") ? await opened(a, b, connections) : [];
  const before = performance.now();
  const agent = await startWeir(a.name, weir, [
    ...["--scope", "host", "--policy", join(dir, "policy.yaml"), "--state", join(dir, "state")],
  ]);
  const readyMs = performance.now() - before;
  const readyCpu = usage(agent.pid, true).cpu;
  try {
    const cold = wants("connections") ? (await opened(a, b, warming)).slice(0, connections) : [];
    const withAgent = wants("connections") ? await opened(a, b, connections) : [];
    const [governed, bulkBeside]: [Sent[], Sent[]] = [[], []];
    for (let slice = 0; slice < times; slice += 1) {
      governed.push(await bulk(a, b));
      bulkBeside.push(await bulk(beside.a, beside.b));
    }
    const rest = wants("rest") ? await atRest(agent) : { cpu: Number.NaN, mb: Number.NaN };
    return {
      bulkAlone,
      bulkBeside,
      bulk: governed,
      newDirect,
      cold,
      new: withAgent,
      readyMs,
      readyCpu,
      restCpu: rest.cpu,
      restMb: rest.mb,
    };
  } finally {
    await stop(agent);
  }
}

async function atRest(agent: ChildProcess): Promise<{ cpu: number; mb: number }> {
  // V8 tidies up once when nothing comes any more.
  await sleep(settleMs);
  const first = usage(agent.pid, true);
  await sleep(restSeconds * 1000);
  const last = usage(agent.pid, true);
  return { cpu: (last.cpu - first.cpu) / restSeconds, mb: last.rss };
}

function print(measured: readonly Round[]): void {
  const say = (text: string): void => void process.stdout.write(`${text}\n`);
  const list = (values: readonly number[], digits = 2): string => values.map((one) => one.toFixed(digits)).join(", ");
  if (wants("bulk")) {
    const rate = (all: readonly Sent[]): number => median(all.map((one) => one.bytesPerSecond));
    const cpu = (all: readonly Sent[]): number => median(all.map((one) => one.cpuPerGb));
    const ratios = measured.flatMap((one) =>
      one.bulk.map((sent, at) => sent.bytesPerSecond / (one.bulkBeside[at] as Sent).bytesPerSecond),
    );
    say(`bulk, not intercepted: ${median(ratios).toFixed(2)} of direct (median of ${ratios.length} pairs, goal 0.95)`);
    say(
      `  MB/s governed: ${list(
        measured.map((one) => rate(one.bulk) / 1e6),
        0,
      )}`,
    );
    say(`  the sender's CPU-s per GB governed: ${list(measured.map((one) => cpu(one.bulk)))}`);
    say(
      `    beside: ${list(measured.map((one) => cpu(one.bulkBeside)))}; without any agent: ${list(measured.map((one) => cpu(one.bulkAlone)))}`,
    );
  }
  if (wants("connections")) {
    const added = measured.map((one) => median(one.new) - median(one.newDirect));
    say(`new connection with one request, p50 added ms: ${list(added)} (median ${median(added).toFixed(2)}, goal 1)`);
    say(
      `  the first ${connections} after a start: ${list(measured.map((one) => median(one.cold) - median(one.newDirect)))}`,
    );
    say(`  direct p50 ms: ${list(measured.map((one) => median(one.newDirect)))}`);
  }
  if (wants("start")) {
    const ready = measured.map((one) => one.readyMs);
    say(`start to ready ms: ${list(ready, 0)} (median ${median(ready).toFixed(0)}, goal 1500); the first is uncached`);
    say(`  CPU-s to ready: ${list(measured.map((one) => one.readyCpu))}`);
  }
  if (wants("rest")) {
    say(`at rest, % of a CPU: ${list(measured.map((one) => one.restCpu * 100))} (goal 1)`);
    say(
      `at rest, MB resident: ${list(
        measured.map((one) => one.restMb),
        0,
      )} (goal 150)`,
    );
  }
}

/** To a port that no target names. */
async function bulk(from: Namespace, to: Namespace): Promise<Sent> {
  const { stdout } = await client(from, bulkCode, [to.address4, ports.bulk, sliceSeconds]);
  const [bytesPerSecond = Number.NaN, cpuPerGb = Number.NaN] = stdout.split(" ").map(Number);
  return { bytesPerSecond, cpuPerGb };
}

/** Milliseconds of each connection: opened, one request, its answer. */
async function opened(from: Namespace, to: Namespace, count: number): Promise<readonly number[]> {
  const { stdout } = await client(from, openCode, [to.address4, ports.target, count]);
  return JSON.parse(stdout) as number[];
}

function client(from: Namespace, code: string, words: readonly (string | number)[]): Promise<{ stdout: string }> {
  return run("nsenter", [`--net=/run/netns/${from.name}`, python, "-c", code, ...words.map(String)]);
}

async function serve(at: Namespace, code: string): Promise<ChildProcess> {
  const child = spawn("nsenter", [`--net=/run/netns/${at.name}`, python, "-u", "-c", code]);
  await new Promise<void>((done, failed) => {
    child.stdout.once("data", () => done());
    child.once("exit", (status) => failed(new Error(`a server ended with ${status}`)));
  });
  return child;
}

function sinkCode(): string {
  return `
import socket, threading
s = socket.socket(); s.setsockopt(1, 2, 1); s.bind(("", ${ports.bulk})); s.listen(); print("ready")
def take(c):
    b = bytearray(1 << 20); n = 0
    while True:
        k = c.recv_into(b)
        if k == 0: break
        n += k
    c.close()
while True:
    threading.Thread(target=take, args=(s.accept()[0],)).start()`;
}

function shopCode(): string {
  return `
import socket
s = socket.socket(); s.setsockopt(1, 2, 1); s.bind(("", ${ports.target})); s.listen(); print("ready")
while True:
    c = s.accept()[0]
    try:
        while c.recv(4096).find(b"\\r\\n\\r\\n") < 0: pass
        c.sendall(b"HTTP/1.1 200 OK\\r\\nContent-Length: 5\\r\\nConnection: close\\r\\n\\r\\nstock")
    except OSError: pass
    c.close()`;
}

const bulkCode = `
import resource, socket, sys, time
s = socket.create_connection((sys.argv[1], int(sys.argv[2]))); b = bytes(1 << 20); n = 0; t = time.monotonic()
while time.monotonic() - t < float(sys.argv[3]): s.sendall(b); n += len(b)
took = time.monotonic() - t; used = resource.getrusage(resource.RUSAGE_SELF)
print(n / took, (used.ru_utime + used.ru_stime) / n * 1e9)`;

const openCode = `
import json, socket, sys, time
took = []
for i in range(int(sys.argv[3])):
    t = time.monotonic()
    s = socket.create_connection((sys.argv[1], int(sys.argv[2])))
    s.sendall(b"GET /stock HTTP/1.1\\r\\nHost: %s:8080\\r\\nConnection: close\\r\\n\\r\\n" % sys.argv[1].encode())
    got = b""
    while not got.endswith(b"stock"):
        k = s.recv(4096)
        if not k: break
        got += k
    assert b" 200 " in got, got
    took.append((time.monotonic() - t) * 1000)
    s.close()
print(json.dumps(took))`;

await main();
