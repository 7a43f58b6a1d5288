import assert from "node:assert/strict";
import { spawn } from "node:child_process";
import { once } from "node:events";
import { connect, createServer } from "node:net";
import { test } from "node:test";
import { containerIdOf, processInfo } from "../../../agent/kernel/attribution.ts";
import { jobHint } from "../../../agent/kernel/job-hint.ts";
import { createNameTable } from "../../../agent/kernel/name-table.ts";
import { findHolder, findSocket, hexEndpoint } from "../../../agent/kernel/socket-owner.ts";
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

test("the owner of a socket is found by its inode", async () => {
  const server = createServer().listen(0, "127.0.0.1");
  await once(server, "listening");
  const remote = { address: "127.0.0.1", port: (server.address() as { port: number }).port };
  const client = connect(remote.port, remote.address);
  await once(client, "connect");
  const socket = findSocket("tcp", { address: "127.0.0.1", port: client.localPort! }, remote);
  assert.equal(socket?.uid, process.getuid?.());
  assert.equal(findHolder(socket!.inode, [process.pid]), process.pid);
  client.destroy();
  server.close();
  assert.equal(hexEndpoint({ address: "127.0.0.1", port: 5432 }, false), "0100007F:1538");
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
