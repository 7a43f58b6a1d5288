/**
 * The kernel takes the agent's memory away and kills it under load: what was open ends with an error, nothing gets out, and the
 * next agent finds a record that is whole.
 */
import assert from "node:assert/strict";
import { type ChildProcess, spawn } from "node:child_process";
import { once } from "node:events";
import { existsSync, mkdirSync, readFileSync, rmdirSync, writeFileSync } from "node:fs";
import { join } from "node:path";
import { after, before, describe, test } from "node:test";
import { setTimeout as sleep } from "node:timers/promises";
import { cgroupRoot } from "../../agent/kernel/cgroup.ts";
import { startTestAgent, type TestAgent } from "../support/agent.ts";
import { makeNamespacePair, type NamespacePair } from "../support/namespace.ts";
import { probedPort, startProbe, startWorld, type World } from "../support/window-probe.ts";

const policy = `apiVersion: weir/v1
defaults: { egress: deny }
targets:
  shop: { protocol: http, hosts: any, ports: [8080] }
`;
/** What the agent may take beyond what it has. */
const moreBytes = 6 * 1024 * 1024;
const clients = 600;

describe("memory is short", { skip: skip() }, () => {
  let net: NamespacePair;
  let world: World;
  let shop: ChildProcess;
  let agent: TestAgent;
  let group: MemoryGroup;
  /** A process in the governed namespace. */
  let inside: ChildProcess;

  before(async () => {
    net = await makeNamespacePair("oom");
    world = await startWorld(net.b.name, [net.b.address4, net.b.address6]);
    shop = spawn("nsenter", [`--net=/run/netns/${net.b.name}`, process.execPath, "-e", shopCode]);
    await once(shop.stdout as NodeJS.ReadableStream, "data");
    inside = spawn("nsenter", [`--net=/run/netns/${net.a.name}`, "sh", "-c", "echo in; exec sleep 600"]);
    await once(inside.stdout as NodeJS.ReadableStream, "data");
    assert.ok((await probed(300)) > 0, "the probe sees an open host");
    agent = await startTestAgent({ namespace: net.a, policy, args: ["--scope", "host"] });
    group = memoryGroup();
  });
  after(async () => {
    shop?.kill("SIGKILL");
    inside?.kill("SIGKILL");
    await agent?.remove();
    group?.remove();
    await world?.stop();
    await net?.remove();
  });

  async function probed(ms: number, work: () => Promise<unknown> = async () => {}): Promise<number> {
    const before = await world.arrived();
    const probe = await startProbe(inside.pid as number, [net.b.address4, net.b.address6]);
    await work();
    await sleep(ms);
    assert.ok((await probe.stop()).tried > 0);
    return (await world.arrived()) - before;
  }

  async function servedOnce(): Promise<number> {
    const client = spawn("nsenter", [
      ...[`--net=/run/netns/${net.a.name}`, process.execPath, "-e", loadCode],
      ...[net.b.address4, "1", "once"],
    ]);
    const [line] = (await once(client.stdout, "data")) as [Buffer];
    return (JSON.parse(String(line)) as { answered: number }).answered;
  }

  test("killed under load: clients get an error, nothing gets out, the next agent goes on and its record is whole", async () => {
    const { pid } = agent;
    assert.equal(await servedOnce(), 1, "before, they are served");
    group.take(pid);
    const load = spawn("nsenter", [
      ...[`--net=/run/netns/${net.a.name}`, process.execPath, "-e", loadCode],
      ...[net.b.address4, String(clients)],
    ]);
    const said = once(load.stdout, "data");
    assert.equal(await probed(300, () => agent.ended()), 0, `of port ${probedPort}`);
    assert.ok(group.kills() >= 1, "it was the kernel");
    const [line] = (await said) as [Buffer];
    const { errors } = JSON.parse(String(line)) as { errors: Record<string, number> };
    assert.ok(Object.keys(errors).length > 0);
    for (const code of Object.keys(errors)) assert.match(code, /^(ECONNRESET|ECONNREFUSED|EPIPE|closed)$/);

    assert.equal(await probed(300, () => agent.restart()), 0);
    assert.equal(await servedOnce(), 1);
    const verified = await agent.weir(["verify"]);
    assert.equal(verified.code, 0, verified.stdout + verified.stderr);
    assert.match((await agent.weir(["export"])).stdout, /did not end in order/);
  });
});

interface MemoryGroup {
  take(pid: number): void;
  kills(): number;
  remove(): void;
}

/** A cgroup of the memory controller: of version 2 where it has one, else of version 1. */
function memoryGroup(): MemoryGroup {
  const v2 = controllerOfV2();
  const dir = join(v2 ?? "/sys/fs/cgroup/memory", `weir-oom-${process.pid}`);
  mkdirSync(dir);
  return {
    take(pid) {
      // What it has stays charged where it is.
      writeFileSync(join(dir, v2 === null ? "memory.limit_in_bytes" : "memory.max"), String(moreBytes));
      const swap = join(dir, v2 === null ? "memory.memsw.limit_in_bytes" : "memory.swap.max");
      if (existsSync(swap)) writeFileSync(swap, String(v2 === null ? moreBytes : 0));
      writeFileSync(join(dir, "cgroup.procs"), String(pid));
    },
    kills: () =>
      Number(
        /oom_kill (\d+)/.exec(
          readFileSync(join(dir, v2 === null ? "memory.oom_control" : "memory.events"), "utf8"),
        )?.[1],
      ),
    remove: () => rmdirSync(dir),
  };
}

function controllerOfV2(): string | null {
  const root = cgroupRoot();
  if (root === null) return null;
  return readFileSync(join(root, "cgroup.subtree_control"), "utf8").split(/\s/).includes("memory") ? root : null;
}

function skip(): string | false {
  if (process.getuid?.() !== 0) return "needs root";
  if (controllerOfV2() !== null || existsSync("/sys/fs/cgroup/memory/memory.limit_in_bytes")) return false;
  return "no cgroup has the memory controller";
}

const shopCode = `
require("node:http").createServer((q, s) => { q.resume(); s.end("stock"); }).listen(8080, "::", () => console.log("ready"));`;

/** Connections that stay open, each with a request after another; ends when they have all failed. */
const loadCode = `
const net = require("node:net"), [to, count, once] = process.argv.slice(1), errors = {};
let answered = 0, left = Number(count);
for (let at = 0; at < Number(count); at += 1) {
  const s = net.connect(8080, to);
  const ask = () => s.write("POST /stock HTTP/1.1\\r\\nHost: " + to + ":8080\\r\\nContent-Length: 20000\\r\\n\\r\\n" + "x".repeat(20000));
  let why = "closed";
  s.on("connect", ask).on("data", () => { answered += 1; if (once) s.destroy(); else ask(); });
  s.on("error", (e) => { why = e.code; }).on("close", () => {
    if (!once) errors[why] = (errors[why] ?? 0) + 1;
    if (--left === 0) console.log(JSON.stringify({ answered, errors }));
  });
}`;
