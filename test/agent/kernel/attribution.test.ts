import assert from "node:assert/strict";
import { spawn } from "node:child_process";
import { once } from "node:events";
import { type AddressInfo, connect, createServer } from "node:net";
import { test } from "node:test";
import { containerIdOf, processInfo } from "../../../agent/kernel/attribution.ts";
import { jobHint } from "../../../agent/kernel/job-hint.ts";
import { createNameTable } from "../../../agent/kernel/name-table.ts";
import { tcpOwner } from "../../../agent/kernel/native.ts";
import { findHolder, findInTables, findSocket, hexEndpoint } from "../../../agent/kernel/socket-owner.ts";
import { compileTargets } from "../../../agent/kernel/target-map.ts";

test("a process is described without its secrets", async () => {
  const child = spawn("sleep", ["30"], {
    argv0: "psql postgres://app:hunter2@db/x",
    env: { GITHUB_ACTIONS: "true", GITHUB_RUN_ID: "77", GITHUB_REPOSITORY: "o/r", SECRET_KEY: "hunter3" },
  });
  await once(child, "spawn");
  const info = processInfo(child.pid!)!;
  child.kill();
  assert.equal(info.ppid, process.pid);
  assert.equal(info.uid, process.getuid?.());
  assert.match(info.exe, /sleep|coreutils|busybox/);
  assert.deepEqual(info.job, { system: "github", id: "77", repository: "o/r" });
  assert.ok(info.startTicks > 0);
  assert.doesNotMatch(JSON.stringify(info), /hunter/);
});

test("a process that becomes another program is described anew at once", async () => {
  const child = spawn("sh", ["-c", "read line; exec sleep 30"], { stdio: ["pipe", "ignore", "ignore"] });
  await once(child, "spawn");
  while (processInfo(child.pid!)?.commandLine[0] !== "sh") await new Promise((later) => setTimeout(later, 1));
  assert.deepEqual(processInfo(child.pid!), processInfo(child.pid!));
  child.stdin.write("\n");
  while (/sh$/.test(processInfo(child.pid!)?.comm ?? "")) await new Promise((later) => setTimeout(later, 1));
  const { exe, commandLine } = processInfo(child.pid!)!;
  child.kill();
  assert.match(exe, /sleep|coreutils|busybox/);
  assert.deepEqual(commandLine, ["sleep", "30"]);
});

test("what the kernel told apart is looked at anew, what it calls the same is not", async () => {
  const child = spawn("sh", ["-c", "read line; exec sleep 30"], { stdio: ["pipe", "ignore", "ignore"] });
  await once(child, "spawn");
  const pid = child.pid!;
  while (processInfo(pid)?.commandLine[0] !== "sh") await new Promise((later) => setTimeout(later, 1));
  const startNs = BigInt(processInfo(pid)!.startTicks) * 10_000_000n;
  const known = { uid: 0, gid: 0, ppid: process.pid, comm: "sh", startNs, execId: 7, cgroupId: 1n };
  const shell = processInfo(pid, known);
  assert.equal(shell?.commandLine[0], "sh");
  assert.equal(processInfo(pid, known), shell);
  assert.notEqual(processInfo(pid, { ...known, execId: 0 }), shell, "a kernel that does not tell");
  child.stdin.write("\n");
  while (/sh$/.test(processInfo(pid)?.comm ?? "")) await new Promise((later) => setTimeout(later, 1));
  assert.deepEqual(processInfo(pid, { ...known, execId: 8 })?.commandLine, ["sleep", "30"]);
  assert.notEqual(processInfo(pid, { ...known, cgroupId: 2n })?.cgroup, undefined);
  child.kill();
});

test("a pid that was reused is not taken for the process that connected", () => {
  const known = { uid: 1, gid: 2, comm: "gone", ppid: 3, startNs: 10_000_000n };
  assert.deepEqual(processInfo(process.pid, known)?.comm, "gone");
  assert.equal(processInfo(process.pid, known)?.exe, "");
  assert.equal(processInfo(2 ** 30), null);
});

test("container ids and clone URLs", () => {
  const id = "ab".repeat(32);
  assert.equal(containerIdOf(`/system.slice/docker-${id}.scope`), id);
  assert.equal(containerIdOf(`/kubepods/pod1/${id}`), id);
  assert.equal(containerIdOf("/user.slice"), null);
  const hint = jobHint(
    new Map([
      ["JENKINS_URL", "x"],
      ["GIT_URL", "https://u:tok@h/r.git"],
    ]),
  );
  assert.equal(hint?.repository, "https://h/r.git");
});

for (const [host, address, remoteAddress] of [
  ["127.0.0.1", "127.0.0.1", "127.0.0.1"],
  ["::1", "::1", "::1"],
  // A client of both families that speaks IPv4: the kernel keeps it as an IPv6 socket.
  ["127.0.0.1", "127.0.0.1", "::ffff:127.0.0.1"],
] as const)
  test(`the owner of a connection to ${remoteAddress} is found by its inode, in both ways`, async () => {
    const server = createServer().listen(0, host);
    await once(server, "listening");
    const { port } = server.address() as AddressInfo;
    const client = connect(port, remoteAddress);
    await once(client, "connect");
    const local = { address, port: client.localPort! };
    const remote = { address: host, port };
    const socket = findSocket("tcp", local, remote);
    assert.equal(socket?.uid, process.getuid?.());
    assert.equal(findHolder(socket!.inode, [process.pid]), process.pid);
    assert.deepEqual(findInTables("tcp", address === "::1" ? 6 : 4, local, remote), socket);
    client.destroy();
    server.close();
  });

test("what is no connection has no owner: a listener's port, a tuple that never was, a client that is gone", async () => {
  const server = createServer((socket) => socket.on("error", () => {})).listen(0, "127.0.0.1");
  await once(server, "listening");
  const remote = { address: "127.0.0.1", port: (server.address() as AddressInfo).port };
  assert.equal(findSocket("tcp", remote, { address: "127.0.0.1", port: 9 }), null);
  assert.equal(findSocket("tcp", { address: "10.1.2.3", port: 4 }, { address: "10.3.2.1", port: 9 }), null);
  const client = connect(remote.port, remote.address);
  await once(client, "connect");
  const local = { address: "127.0.0.1", port: client.localPort! };
  client.resetAndDestroy();
  await once(client, "close");
  assert.equal(findSocket("tcp", local, remote), null);
  server.close();
  assert.equal(hexEndpoint({ address: "127.0.0.1", port: 5432 }, false), "0100007F:1538");
});

test("a wrong word to the kernel's look-up is an error, never an answer", () => {
  for (const bad of ["", "1.2.3", "::1"])
    assert.throws(() => tcpOwner({ address: bad, port: 1 }, { address: "127.0.0.1", port: 1 }), TypeError);
  assert.throws(() => tcpOwner({ address: "::1", port: 1 }, { address: "127.0.0.1", port: 1 }), TypeError);
  assert.throws(() => tcpOwner({ address: "127.0.0.1", port: 0 }, { address: "127.0.0.1", port: 1 }), TypeError);
});

test("loopback is a target only where the policy names it; names are forgotten in time", () => {
  const tls = { verify: "none", ca: null, clientCertificate: null, serverName: null } as const;
  const base = { protocol: "postgres", ports: [5432], tls, credential: null } as const;
  const map = compileTargets([
    { ...base, name: "any", hosts: [{ kind: "any" }] },
    { ...base, name: "own", ports: [6000], hosts: [{ kind: "cidr", family: 4, address: "127.0.0.1", prefix: 32 }] },
    { ...base, name: "net", ports: [7000], hosts: [{ kind: "cidr", family: 4, address: "0.0.0.0", prefix: 0 }] },
    { ...base, name: "suffix", ports: [8000], hosts: [{ kind: "suffix", suffix: ".corp" }] },
  ]);
  assert.equal(map.match("10.0.0.1", 5432, [])?.name, "any");
  assert.equal(map.match("127.0.0.1", 5432, []), null);
  assert.equal(map.match("127.0.0.1", 6000, [])?.name, "own");
  assert.equal(map.match("127.0.0.1", 7000, []), null);
  assert.equal(map.match("10.0.0.1", 8000, ["db.corp"])?.name, "suffix");
  assert.equal(map.match("127.0.0.1", 8000, ["db.corp"]), null);
  const names = createNameTable();
  assert.equal(names.learn("db.corp", "10.0.0.1", 5, 0), true);
  assert.equal(names.learn("db.corp", "10.0.0.1", 5, 1000), false);
  assert.deepEqual(names.namesOf("10.0.0.1", 300_000), ["db.corp"]);
  assert.deepEqual(names.namesOf("10.0.0.1", 302_000), []);
});
