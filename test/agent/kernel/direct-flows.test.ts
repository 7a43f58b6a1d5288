/** Connections that go past the agent, and a policy that names where they lead, or lets nothing out any more. */
import assert from "node:assert/strict";
import type { ChildProcessWithoutNullStreams } from "node:child_process";
import { on, once } from "node:events";
import { mkdirSync, mkdtempSync, rmdirSync, rmSync, writeFileSync } from "node:fs";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { after, before, describe, test } from "node:test";
import { until } from "../../support/until.ts";
import { makeHost, type NetnsAgent, type NetnsHost, peer4, peer6, target } from "./netns-host.ts";

const isRoot = process.getuid?.() === 0;
const targetOn = (host: object, port: number) => target([host], [port], `port ${port}`);
const postgres = targetOn({ kind: "any" }, 5432);
/** Governed from the start. */
const governed = targetOn({ kind: "any" }, 6000);

describe("connections past the agent", { skip: isRoot ? false : "needs root" }, () => {
  let host: NetnsHost;
  let servers: ChildProcessWithoutNullStreams;
  before(async () => {
    host = makeHost("d");
    servers = host.inPeer(echoes);
    const sshd = await host.inScope(null, listener);
    await Promise.all([once(servers.stdout, "data"), once(sshd.stdout, "data")]);
  });
  after(() => host.remove());

  for (const [what, scope, bpf] of [
    ["a run", { kind: "run" }, true],
    ["a run, by the firewall alone", { kind: "run" }, false],
    ["a whole host", { kind: "host" }, true],
    ["a whole host, by the firewall alone", { kind: "host" }, false],
  ] as const) {
    test(`${what}: a policy that names where they lead ends them, and one that lets nothing out ends the rest`, async (t) => {
      const common = { resolvers: [peer4], onFailure: "closed", echo: true };
      const agent = await host.agent({ ...common, scope, bpf, targets: [governed], egress: "allow" });
      t.after(() => agent.kill());
      const outside = await host.inScope(null, client, JSON.stringify([`tcp ${peer4} 5432`]));
      const places = [
        `tcp ${peer4} 5432`,
        `tcp ${peer6} 5432`,
        `udp ${peer4} 5432`,
        `tcp ${peer4} 8080`,
        `tcp ${peer4} 6000`,
      ];
      const inside = await host.inScope(scope.kind === "run" ? agent : null, client, JSON.stringify(places));
      const inbound = host.inPeer(`process.argv[1] = '["tcp 10.77.0.1 2222"]'; ${client}`);
      const [say, sayOutside, sayInbound] = [talk(inside), talk(outside), talk(inbound)];
      assert.deepEqual(await say(), ["echo", "echo", "echo", "echo", "echo"]);
      assert.deepEqual([await sayOutside(), await sayInbound()], [["echo"], ["echo"]]);
      // The agent's own, on its way to the server.
      await agent.ask({ do: "open", destination: { address: peer4, port: 7000 } });

      await agent.ask({ do: "targets", targets: [governed, postgres], egress: "allow" });
      await until(() => endedOf(agent).includes(`tcp [${peer6}]:5432`));
      const named = await say();
      assert.deepEqual(named.slice(0, 2), ["ended", "ended"]);
      assert.notEqual(named[2], "echo", "a datagram to the target's port");
      assert.deepEqual(named.slice(3), ["echo", "echo"]);

      await agent.ask({ do: "targets", targets: [governed, postgres], egress: "deny" });
      await until(() => endedOf(agent).includes(`tcp ${peer4}:8080`));
      assert.deepEqual((await say()).slice(3), ["ended", "echo"]);
      if (scope.kind === "run") assert.deepEqual(await sayOutside(), ["echo"], "who is not governed goes on");
      assert.deepEqual(await sayInbound(), ["echo"]);
      servers.stdin.write("\n");
      assert.equal(await agent.ask({ do: "heard" }), "real");
      assert.equal(endedOf(agent).includes(":6000"), false);
      for (const child of [inside, outside, inbound]) child.kill("SIGKILL");
      await agent.close();
      assert.equal(host.saved(), "");
    });
  }

  test("who has come in goes on under a policy that lets nothing out, also when his listener is gone", async (t) => {
    const agent = await host.agent({
      ...{ resolvers: [peer4], onFailure: "closed", scope: { kind: "host" } },
      ...{ targets: [governed], egress: "deny" },
    });
    t.after(() => agent.kill());
    const server = await host.inScope(null, onceListener);
    await once(server.stdout, "data");
    const inbound = host.inPeer(`process.argv[1] = '["tcp 10.77.0.1 2223"]'; ${client}`);
    const say = talk(inbound);
    assert.deepEqual(await say(), ["echo"]);
    const local = await host.inScope(null, client, JSON.stringify(["tcp 127.0.0.1 2222"]));
    assert.deepEqual(await talk(local)(), ["echo"]);
    const loopback = targetOn({ kind: "cidr", family: 4, address: "127.0.0.1", prefix: 32 }, 2222);
    await agent.ask({ do: "targets", targets: [governed, loopback], egress: "deny" });
    await until(() => endedOf(agent).includes("tcp 127.0.0.1:2222"));
    assert.deepEqual(await say(), ["echo"]);
    assert.equal(endedOf(agent).replaceAll(", ", ""), "tcp 127.0.0.1:2222");
    for (const child of [inbound, local]) child.kill("SIGKILL");
    await agent.close();
  });

  test("a container's, TCP and datagrams; what stays on this host's networks goes on", async (t) => {
    const box = host.container("docker0", "172.17.0", "fd17::");
    const agent = await host.agent({
      ...{ resolvers: [peer4], onFailure: "closed", echo: true, scope: { kind: "host" } },
      ...{ targets: [governed], egress: "allow" },
    });
    t.after(() => agent.kill());
    const places = [`tcp ${peer4} 5432`, `tcp ${peer4} 8080`, `tcp ${peer4} 6000`, `tcp 172.17.0.1 2222`];
    const inside = box.start(client, JSON.stringify([...places, `udp ${peer4} 5432`]));
    const say = talk(inside);
    assert.deepEqual(await say(), ["echo", "echo", "echo", "echo", "echo"]);
    await agent.ask({ do: "targets", targets: [governed, postgres], egress: "allow" });
    await until(() => endedOf(agent).includes(`tcp ${peer4}:5432`));
    const named = await say();
    assert.deepEqual(named.slice(0, 4), ["ended", "echo", "echo", "echo"]);
    assert.notEqual(named[4], "echo");
    await agent.ask({ do: "targets", targets: [governed, postgres], egress: "deny" });
    await until(() => endedOf(agent).includes(`tcp ${peer4}:8080`));
    assert.deepEqual((await say()).slice(0, 4), ["ended", "ended", "echo", "echo"]);
    inside.kill("SIGKILL");
    await agent.close();
    box.remove();
  });

  test("at the start: what a cgroup has open already, and a server on loopback that a target names", async (t) => {
    const common = { resolvers: [peer4], onFailure: "closed", egress: "allow" };
    const path = `weir-kbd-own-${process.pid}`;
    const directory = join(host.cgroups, path);
    mkdirSync(directory);
    const inside = await host.inScope(null, client, JSON.stringify([`tcp ${peer4} 5432`, `tcp ${peer4} 8080`]));
    const local = await host.inScope(null, client, JSON.stringify(["tcp 127.0.0.1 2222"]));
    const [say, sayLocal] = [talk(inside), talk(local)];
    assert.deepEqual([await say(), await sayLocal()], [["echo", "echo"], ["echo"]]);
    // A socket is of the cgroup that it was opened in.
    const enter = `require("node:fs").writeFileSync("${directory}/cgroup.procs", String(process.pid)); ${client}`;
    const born = await host.inScope(null, enter, JSON.stringify([`tcp ${peer4} 5432`, `tcp ${peer4} 8080`]));
    const sayBorn = talk(born);
    assert.deepEqual(await sayBorn(), ["echo", "echo"]);
    const first = await host.agent({ ...common, targets: [postgres], scope: { kind: "cgroup", path } });
    t.after(() => first.kill());
    assert.equal(endedOf(first).replaceAll(", ", ""), `tcp ${peer4}:5432`);
    assert.equal((await sayBorn())[0], "ended");
    assert.deepEqual(await say(), ["echo", "echo"]);
    await first.close();
    born.kill("SIGKILL");
    await once(born, "close");
    rmdirSync(directory);

    const loopback = targetOn({ kind: "cidr", family: 4, address: "127.0.0.1", prefix: 32 }, 2222);
    const second = await host.agent({ ...common, targets: [loopback], scope: { kind: "host" } });
    t.after(() => second.kill());
    assert.match(endedOf(second), /tcp 127\.0\.0\.1:2222/);
    assert.deepEqual([await say(), await sayLocal()], [["ended", "ended"], ["ended"]]);
    await second.close();
    for (const child of [inside, local]) child.kill("SIGKILL");
  });

  test("a kernel that closes no socket: it is told what goes on", async (t) => {
    const programs = mkdtempSync(join(tmpdir(), "weir-ss-"));
    t.after(() => rmSync(programs, { recursive: true }));
    const silent = `#!/bin/sh\ncase "$*" in -K*) exit 0;; esac\nPATH="$\{PATH#*:}" exec ss "$@"\n`;
    writeFileSync(join(programs, "ss"), silent, { mode: 0o755 });
    const inside = await host.inScope(null, client, JSON.stringify([`tcp ${peer4} 5432`]));
    assert.deepEqual(await talk(inside)(), ["echo"]);
    const options = { resolvers: [peer4], onFailure: "closed", scope: { kind: "host" }, targets: [postgres] };
    const agent = await host.agent({ ...options, egress: "allow" }, { PATH: `${programs}:${process.env["PATH"]}` });
    t.after(() => agent.kill());
    const notices = agent.events.map(({ notice }) => notice ?? "").join();
    assert.match(notices, /this kernel does not close them: .*tcp 10\.77\.0\.2:5432/);
    inside.kill("SIGKILL");
    await agent.close();
  });

  test("a name that is looked up only now", async (t) => {
    const common = { resolvers: [peer4], onFailure: "closed", scope: { kind: "run" } };
    const agent = await host.agent({ ...common, targets: [governed], egress: "allow" });
    t.after(() => agent.kill());
    const inside = await host.inScope(agent, client, JSON.stringify(["tcp 127.0.0.1 8090", `tcp ${peer4} 8080`]));
    const say = talk(inside);
    assert.deepEqual(await say(), ["ended", "echo"]);
    const named = targetOn({ kind: "name", name: peer4 }, 8080);
    await agent.ask({ do: "targets", targets: [named], egress: "allow" });
    await until(() => endedOf(agent).includes(`tcp ${peer4}:8080`));
    assert.deepEqual(await say(), ["ended", "ended"]);
    inside.kill("SIGKILL");
    await agent.close();
  });
});

function endedOf(agent: NetnsAgent): string {
  return agent.events.map(({ ended }) => ended ?? "").join(", ");
}

/** One word each of what becomes of another byte sent. */
function talk(child: ChildProcessWithoutNullStreams): () => Promise<string[]> {
  const lines = on(child.stdout, "data");
  return async () => {
    child.stdin.write("\n");
    const { value } = (await lines.next()) as { value: [Buffer] };
    return JSON.parse(String(value[0])) as string[];
  };
}

const client = `
const net = require("node:net"), dgram = require("node:dgram");
const ends = JSON.parse(process.argv[1]).map((place) => {
  const [kind, to, port] = place.split(" ");
  let heard = () => {}, over = false;
  const end = () => { over = true; heard("ended"); };
  const s = kind === "tcp" ? net.connect(Number(port), to) : dgram.createSocket("udp4");
  if (kind === "tcp") s.on("data", () => heard("echo")).on("close", end).on("error", () => {});
  else s.on("message", () => heard("echo")).on("error", () => heard("refused")).connect(Number(port), to);
  return () => new Promise((done) => {
    heard = done;
    if (over) return done("ended");
    if (kind === "tcp") s.write("x");
    else setImmediate(() => s.send("x", () => {}));
    setTimeout(() => done("silence"), 1500).unref();
  });
});
process.stdin.on("data", async () => process.stdout.write(JSON.stringify(await Promise.all(ends.map((say) => say())))));`;

/** Connected to as sshd is. */
const listener = `require("node:net").createServer((s) => s.on("error", () => {}).pipe(s)).listen(2222, () => console.log("ready"))`;

/** One client, and no other. */
const onceListener = `
const server = require("node:net").createServer((s) => { server.close(); s.on("error", () => {}).pipe(s); });
server.listen(2223, () => console.log("ready"));`;

/** Port 7000 says something only when it is told to. */
const echoes = `
const net = require("node:net");
const quiet = new Set();
let left = 5;
const ready = () => { if (--left === 0) console.log("ready"); };
for (const [a, p] of [["${peer4}", 5432], ["${peer6}", 5432], ["${peer4}", 8080]])
  net.createServer((s) => s.on("error", () => {}).pipe(s)).listen(p, a, ready);
net.createServer((s) => quiet.add(s.on("error", () => {}))).listen(7000, "${peer4}", ready);
process.stdin.on("data", () => { for (const s of quiet) s.write("real"); });
const d = require("node:dgram").createSocket("udp4");
d.on("message", (m, from) => d.send(m, from.port, from.address)).bind(5432, "${peer4}", ready);`;
