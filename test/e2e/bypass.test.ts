/**
 * Ways around Weir, each tried first on a host without it, where it gets out (so the test would see it), then on a governed
 * one. docs/threat-model.md lists them by the names they have here.
 */
import assert from "node:assert/strict";
import { type ChildProcess, execFileSync, spawn } from "node:child_process";
import { once } from "node:events";
import { after, before, describe, test } from "node:test";
import { setTimeout as sleep } from "node:timers/promises";
import { cgroupRoot } from "../../agent/kernel/cgroup.ts";
import { collect, type Ran, startTestAgent, type TestAgent } from "../support/agent.ts";
import { type Attempt, attempts, programOf } from "../support/attempts.ts";
import { makeNamespacePair, type NamespacePair } from "../support/namespace.ts";
import { startWireTap, type WireTap } from "../support/wire-tap.ts";

const policy = `apiVersion: weir/v1
defaults: { egress: deny }
targets:
  databases: { protocol: postgres, hosts: any, ports: [5432], tls: { verify: none } }
`;
const jobUid = "12345";
const asJob = ["setpriv", `--reuid=${jobUid}`, `--regid=${jobUid}`, "--clear-groups", "--inh-caps=-all"];
const firstPort = 7000;
/** The system's: one below a home cannot be run by a job. */
const python = "/usr/bin/python3";

describe("ways around Weir", { skip: process.getuid?.() === 0 ? false : "needs root" }, () => {
  let net: NamespacePair;
  let tap: WireTap;
  let agent: TestAgent | null = null;
  let held: ChildProcess[] = [];
  /** What got out before the agent was there, by name. */
  const canaries = new Map<string, { out: boolean; said: string }>();

  const inside = (words: readonly string[], input?: string): Promise<Ran> =>
    collect(spawn("nsenter", [`--net=/run/netns/${net.a.name}`, "--", ...words]), input);
  const sh = (script: string): Promise<Ran> => inside(["sh", "-c", script]);

  async function tryOut(attempt: Attempt, at: number, mark = 0x5700_0001): Promise<{ out: boolean; said: string }> {
    const port = firstPort + at;
    const word = `carried-${at}-${process.pid}`;
    const facts = { to: net.b.address4, to6: net.b.address6, port, word, mark, cgroups: cgroupRoot() as string };
    await tap.seen(word, port);
    const code = programOf(attempt, facts);
    const ran = await inside([...(attempt.as === "job" ? asJob : []), python, "-c", code]);
    const usual = /(?:TO6?, |"TO6?, )"?(\d+)/.exec(attempt.code)?.[1];
    const { frames, opened } = await tap.seen(word, usual === undefined ? port : Number(usual));
    return { out: frames > 0 || (attempt.opening === true && opened > 0), said: `${ran.stdout}${ran.stderr}`.trim() };
  }

  /** A first datagram of root's arrives: the host is open. */
  async function isOpen(): Promise<boolean> {
    const found = await tryOut(attempts.find(({ name }) => name === "root without a trick") as Attempt, 900);
    return found.out;
  }

  before(async () => {
    net = await makeNamespacePair("bypass");
    tap = await startWireTap(net.b.name, "veth0");
    for (const [at, attempt] of attempts.entries()) canaries.set(attempt.name, await tryOut(attempt, at));
    held = await openEarlier();
    agent = await startTestAgent({ namespace: net.a, policy, args: ["--scope", "host"] });
  });

  after(async () => {
    for (const child of held) child.kill("SIGKILL");
    await agent?.remove();
    await tap?.stop();
    await net?.remove();
  });

  /** A TCP connection and a UDP flow with an answer, both from before the agent's start; each line in sends once more. */
  async function openEarlier(): Promise<ChildProcess[]> {
    const server = spawn("nsenter", [`--net=/run/netns/${net.b.name}`, python, "-u", "-c", earlierServer]);
    await once(server.stdout, "data");
    held = [server];
    const client = spawn("nsenter", [
      `--net=/run/netns/${net.a.name}`,
      "--",
      ...asJob,
      python,
      "-u",
      "-c",
      earlierClient,
      net.b.address4,
    ]);
    await Promise.race([once(client.stdout, "data"), once(client, "exit").then(() => assert.fail("no earlier flows"))]);
    return [server, client];
  }

  for (const [at, attempt] of attempts.entries()) {
    test(attempt.name, async () => {
      const canary = canaries.get(attempt.name) as { out: boolean; said: string };
      if (attempt.mayLack?.test(canary.said) === true) assert.equal(canary.out, false, canary.said);
      else assert.equal(canary.out, true, `the canary did not get out either: ${canary.said}`);
      const found = await tryOut(attempt, at);
      assert.equal(found.out, false, `it got out; the client saw: ${found.said}`);
    });
  }

  test("connections opened before the start are ended, and the record names them", async () => {
    const [, client] = held as [ChildProcess, ChildProcess];
    await tap.seen("earlier", 1);
    const said = once(client.stdout as NodeJS.ReadableStream, "data");
    client.stdin?.write("\n");
    assert.match(String(await said), /tcp (ECONNABORTED|ECONNRESET|EPIPE|ENOTCONN)/);
    assert.equal((await tap.seen("earlier", 1)).frames, 0);
    const { stdout } = await (agent as TestAgent).weir(["export"]);
    assert.match(stdout, /flows-ended.*tcp \S+:9001/);
  });

  test("a job cannot end the agent, trace it, open its debugger, change its rules or read its keys", async () => {
    const { pid, stateDir } = agent as TestAgent;
    const asUser = (script: string): Promise<Ran> => inside([...asJob, "sh", "-c", script]);
    for (const signal of ["KILL", "STOP", "USR1"]) assert.notEqual((await asUser(`kill -${signal} ${pid}`)).code, 0);
    for (const script of [
      `cat /proc/${pid}/environ`,
      `cat ${stateDir}/ca/ca-key.pem`,
      `ls ${stateDir}/spool`,
      `echo >>${stateDir}/policy.yaml`,
      "iptables -F OUTPUT",
      "nft flush ruleset",
      "ls /sys/fs/bpf",
    ])
      assert.notEqual((await asUser(script)).code, 0, script);
    const traced = await inside([...asJob, python, "-c", attach, String(pid)]);
    assert.match(traced.stdout, /EPERM/);
  });

  test("SIGUSR1 by root opens no debugger", async () => {
    const { pid } = agent as TestAgent;
    const other = spawn(process.execPath, ["-e", "setInterval(() => {}, 1000); console.log(1)"], {
      env: { ...process.env },
    });
    await once(other.stdout, "data");
    try {
      other.kill("SIGUSR1");
      const [canary] = (await once(other.stderr, "data")) as [Buffer];
      assert.match(canary.toString(), /Debugger listening/);
    } finally {
      other.kill("SIGKILL");
    }
    process.kill(pid, "SIGUSR1");
    await sleep(300);
    assert.equal((await sh("ss -Htln 'sport = :9229'")).stdout.trim(), "");
    assert.doesNotMatch((agent as TestAgent).output(), /Debugger listening/);
  });

  for (const [name, script] of [
    ["flushes the chains", "iptables -F; iptables -t mangle -F; ip6tables -F"],
    [
      "takes the jump out",
      "for p in iptables ip6tables; do $p-save | sed -n 's/^-A \\(OUTPUT .*-j WEIR-.*-F\\)$/\\1/p' | while read -r r; do $p -D $r; done; done",
    ],
    ["lets all out before ours", "iptables -I OUTPUT 1 -j ACCEPT; ip6tables -I OUTPUT 1 -j ACCEPT"],
    ["flushes everything with nft", "nft flush ruleset || { iptables -F; ip6tables -F; }"],
  ] as const) {
    test(`root in the job ${name}: put back, closed again, recorded`, async () => {
      const before = await restored();
      assert.equal((await sh(script)).code, 0);
      await until(async () => (await restored()) > before);
      assert.equal(await isOpen(), false);
      await sh("iptables -D OUTPUT -j ACCEPT; ip6tables -D OUTPUT -j ACCEPT");
    });
  }

  async function restored(): Promise<number> {
    const { stdout } = await (agent as TestAgent).weir(["export"]);
    return stdout.split("\n").filter((line) => line.includes("firewall-restored")).length;
  }

  test("root makes a namespace with a way through the host (NAT and forwarding): refused, and told", async () => {
    const inner = `${net.a.name}-c`;
    execFileSync("ip", ["netns", "add", inner]);
    try {
      const script = `ip link add c0 type veth peer name eth0 netns ${inner}
        ip addr add 172.31.77.1/24 dev c0; ip link set c0 up
        ip -n ${inner} addr add 172.31.77.2/24 dev eth0; ip -n ${inner} link set eth0 up
        ip -n ${inner} route add default via 172.31.77.1
        echo 1 >/proc/sys/net/ipv4/ip_forward
        iptables -t nat -A POSTROUTING -s 172.31.77.0/24 -j MASQUERADE`;
      assert.equal((await sh(script)).code, 0);
      const send = `import socket; s = socket.socket(socket.AF_INET, socket.SOCK_DGRAM); s.sendto(b"through", ("${net.b.address4}", 7700))`;
      const words = ["ip", "netns", "exec", inner, python, "-c", send];
      await tap.seen("through", 1);
      await collect(spawn(words[0] as string, words.slice(1)));
      assert.equal((await tap.seen("through", 1)).frames, 0);
      const { stdout } = await (agent as TestAgent).weir(["export"]);
      assert.match(stdout, /:7700\/udp/);
      // The twin: the same way without the rules is open.
      await (agent as TestAgent).stop();
      await collect(spawn(words[0] as string, words.slice(1)));
      assert.equal((await tap.seen("through", 1)).frames, 1);
      await (agent as TestAgent).restart();
    } finally {
      await sh("ip link del c0; iptables -t nat -F POSTROUTING");
      execFileSync("ip", ["netns", "del", inner]);
    }
  });

  test("a stopped agent (SIGSTOP) lets nothing out; nor does a killed one", async () => {
    const one = agent as TestAgent;
    process.kill(one.pid, "SIGSTOP");
    try {
      assert.equal(await isOpen(), false);
    } finally {
      process.kill(one.pid, "SIGCONT");
    }
    await one.kill("SIGKILL");
    assert.equal(await isOpen(), false);
    await one.restart();
    assert.equal(await isOpen(), false);
  });

  test("--on-failure open: out when it is killed, and the audit says so", async () => {
    await (agent as TestAgent).remove();
    agent = await startTestAgent({ namespace: net.a, policy, args: ["--scope", "host", "--on-failure", "open"] });
    assert.equal(await isOpen(), false);
    await agent.kill("SIGKILL");
    assert.equal(await isOpen(), true);
    await agent.restart();
    const { stdout } = await agent.weir(["export"]);
    assert.match(stdout, /bypass-open/);
    assert.match(stdout, /did not end in order/);
  });

  test("what Weir does not stop: a packet socket of root's, and the agent's mark in root's hand", async () => {
    const packets: Attempt = {
      name: "",
      as: "root",
      code: `
s = socket.socket(socket.AF_PACKET, socket.SOCK_RAW); s.bind(("veth0", 0))
s.send(b"\\xff" * 6 + b"\\0" * 6 + b"\\x88\\xb5" + WORD); print("sent")`,
    };
    assert.equal((await tryOut(packets, 901)).out, true, "if this is stopped now, docs/threat-model.md has to say so");
  });
});

const earlierServer = `
import socket, threading
t = socket.socket(); t.setsockopt(1, 2, 1); t.bind(("", 9001)); t.listen()
u = socket.socket(socket.AF_INET, socket.SOCK_DGRAM); u.bind(("", 9002))
def echo():
    while True:
        b, a = u.recvfrom(2000); u.sendto(b"answer", a)
threading.Thread(target=echo, daemon=True).start()
print("ready")
c, _ = t.accept()
while c.recv(1000): pass
threading.Event().wait()`;

const earlierClient = `
import errno, socket, sys
t = socket.create_connection((sys.argv[1], 9001))
u = socket.socket(socket.AF_INET, socket.SOCK_DGRAM); u.sendto(b"hello", (sys.argv[1], 9002)); u.recvfrom(100)
print("ready")
for line in sys.stdin:
    said = []
    for name, send in (("tcp", lambda: t.send(b"earlier")), ("udp", lambda: u.sendto(b"earlier", (sys.argv[1], 9002)))):
        try: send(); said.append(name + " sent")
        except OSError as e: said.append(name + " " + errno.errorcode[e.errno])
    print(", ".join(said))`;

const attach = `
import ctypes, errno, sys
libc = ctypes.CDLL(None, use_errno=True)
print("attached" if libc.ptrace(16, int(sys.argv[1]), 0, 0) == 0 else errno.errorcode[ctypes.get_errno()])`;

import { until } from "../support/until.ts";
