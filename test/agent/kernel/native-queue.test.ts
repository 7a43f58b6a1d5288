/**
 * NFQUEUE, raw packets and SO_ORIGINAL_DST with real packets. The file runs itself once more inside a network namespace
 * of its own (unshare), so that its rules and queue meet nobody else's.
 */
import assert from "node:assert/strict";
import { execFileSync, spawnSync } from "node:child_process";
import { once } from "node:events";
import { existsSync } from "node:fs";
import { type AddressInfo, connect, createServer, Socket } from "node:net";
import { join } from "node:path";
import { test } from "node:test";
import { setTimeout as sleep } from "node:timers/promises";
import {
  listenInNamespace,
  openQueue,
  originalDestination,
  peerCredentials,
  type QueuedPacket,
  sendRaw4,
  sendRaw6,
  socketMarked,
} from "../../../agent/kernel/native.ts";

const inside = process.env.WEIR_TEST_NETNS === "1";
const root = join(import.meta.dirname, "../../..");

function reasonToSkip(): string | false {
  if (process.getuid?.() !== 0) return "needs root";
  if (!existsSync(join(root, "build/weir.node"))) return "build/weir.node is not built";
  if (spawnSync("unshare", ["-n", "iptables", "-t", "mangle", "-L"]).status !== 0) return "no iptables in a namespace";
  return false;
}

if (!inside) {
  test("in a network namespace of its own", { skip: reasonToSkip() }, () => {
    const env: NodeJS.ProcessEnv = { ...process.env, WEIR_TEST_NETNS: "1" };
    delete env.NODE_TEST_CONTEXT;
    const command = 'ip link set lo up && exec "$0" --test-reporter=tap "$1"';
    const args = ["-n", "sh", "-c", command, process.execPath, import.meta.filename];
    const ran = spawnSync("unshare", args, { env, encoding: "utf8", timeout: 240_000 });
    assert.equal(ran.status, 0, ran.stdout + ran.stderr);
    assert.match(ran.stdout, /# pass 7/);
  });
} else {
  insideNamespace();
}

function rule(tool: "iptables" | "ip6tables", text: string): void {
  execFileSync(tool, text.split(" "));
}

async function outcome(port: number, host: string, fd?: number): Promise<string> {
  const socket = fd === undefined ? connect(port, host) : new Socket({ fd }).connect(port, host);
  try {
    await Promise.race([
      once(socket, "connect"),
      sleep(5000, undefined, { ref: false }).then(() => Promise.reject({ code: "silence" })),
    ]);
    return "connected";
  } catch (error) {
    return (error as NodeJS.ErrnoException).code ?? String(error);
  } finally {
    socket.destroy();
  }
}

function insideNamespace(): void {
  const packets: QueuedPacket[] = [];
  const queue = 7;
  const options = { queue, copyBytesMax: 256, queueLengthMax: 64 };

  test("a first packet waits for its verdict: accept, mark, drop with RST", async () => {
    const server = createServer((socket) => socket.destroy()).listen(0, "127.0.0.1");
    await once(server, "listening");
    const port = (server.address() as AddressInfo).port;
    rule("iptables", `-t mangle -A OUTPUT -p tcp --dport ${port} --syn -j NFQUEUE --queue-num ${queue}`);
    rule("iptables", `-A OUTPUT -p tcp --dport ${port} -m mark --mark 0x99 -j REJECT --reject-with tcp-reset`);
    let verdict: (packet: QueuedPacket) => void = () => {};
    const opened = openQueue(options, (packet) => {
      packets.push(packet);
      verdict(packet);
    });
    try {
      verdict = ({ id }) => opened.verdict(id, "accept");
      assert.equal(await outcome(port, "127.0.0.1"), "connected");
      const packet = packets.at(-1) as QueuedPacket;
      assert.equal(packet.payload[0], 0x45);
      assert.equal(packet.payload.readUInt16BE(22), port);
      assert.deepEqual([packet.uid, packet.gid, packet.hook, packet.mark, packet.outIface], [0, 0, 3, 0, 1]);

      verdict = ({ id }) => opened.verdict(id, "accept", 0x99);
      assert.equal(await outcome(port, "127.0.0.1"), "ECONNREFUSED", "the mark is seen by later rules");

      verdict = ({ id, payload }) => {
        sendRaw4(resetFor(payload), 0);
        opened.verdict(id, "drop");
      };
      assert.equal(await outcome(port, "127.0.0.1"), "ECONNREFUSED", "a raw RST ends it at once");

      verdict = ({ id, mark }) => opened.verdict(id, mark === 0x1234 ? "accept" : "drop");
      assert.equal(await outcome(port, "127.0.0.1", socketMarked(4, 0x1234)), "connected", "a marked socket");
      assert.equal(packets.at(-1)?.mark, 0x1234);
      const counters = opened.counters();
      assert.deepEqual([counters.accepted, counters.dropped, counters.overruns, counters.verdictErrors], [3, 1, 0, 0]);
      assert.equal(counters.received, 4);
    } finally {
      opened.close();
      opened.close();
      server.close();
    }
  });

  test("many waiting packets take one verdict, and the callback may close the queue", async () => {
    const server = createServer((socket) => socket.destroy()).listen(0, "::1");
    await once(server, "listening");
    const port = (server.address() as AddressInfo).port;
    rule(
      "ip6tables",
      `-t mangle -A OUTPUT -p tcp --dport ${port} --syn -j NFQUEUE --queue-num ${queue} --queue-bypass`,
    );
    let waiting = 0;
    const opened = openQueue(options, ({ id, payload }) => {
      assert.equal((payload[0] as number) >> 4, 6);
      if (++waiting === 10) opened.verdictUpTo(id, "accept");
      if (waiting > 10) opened.close();
    });
    const all = await Promise.all(Array.from({ length: 10 }, () => outcome(port, "::1")));
    assert.deepEqual(all, Array(10).fill("connected"));
    // The eleventh is dropped with the queue; its retransmission goes by the bypass.
    assert.equal(await outcome(port, "::1"), "connected");
    server.close();
  });

  test("a queue is held once, and wrong use is a TypeError", () => {
    const first = openQueue(options, () => {});
    assert.throws(() => openQueue(options, () => {}), { code: "EPERM" });
    assert.throws(() => first.verdict(-1, "drop"), TypeError);
    assert.throws(() => first.verdict(1, "drop", 2 ** 32), TypeError);
    first.close();
    first.verdict(1, "drop");
    assert.throws(() => openQueue({ ...options, queue: 65_536 }, () => {}), TypeError);
    openQueue(options, () => {}).close();
  });

  for (const [family, tool, host] of [
    [4, "iptables", "127.0.0.1"],
    [6, "ip6tables", "::1"],
  ] as const) {
    test(`IPv${family}: the destination before REDIRECT`, async () => {
      const server = createServer().listen(0, host);
      await once(server, "listening");
      const port = (server.address() as AddressInfo).port;
      rule(tool, `-t nat -A OUTPUT -p tcp --dport 5432 -j REDIRECT --to-ports ${port}`);
      const accepted = once(server, "connection");
      const client = connect(5432, host);
      const [socket] = (await accepted) as [Socket & { _handle: { fd: number } }];
      assert.deepEqual(originalDestination(socket._handle.fd), { address: host, port: 5432 });
      assert.throws(() => peerCredentials(socket._handle.fd), { code: "ENOTCONN" });
      client.destroy();
      socket.destroy();
      server.close();
    });
  }

  test("IPv6 packets leave whole", () => {
    const packet = Buffer.alloc(48);
    packet[0] = 0x60;
    packet.writeUInt16BE(8, 4);
    packet[6] = 17;
    packet[7] = 64;
    packet[23] = 1;
    packet[39] = 1;
    packet.writeUInt16BE(9, 42);
    packet.writeUInt16BE(8, 44);
    sendRaw6(packet, 5);
    assert.throws(() => sendRaw6(packet.subarray(0, 39), 5), TypeError);
    assert.throws(() => sendRaw4(packet, 5), TypeError);
  });

  test("a listener in another namespace, reached from there", async () => {
    const fd = listenInNamespace("/proc/self/ns/net", 4, "127.0.0.1", 0);
    const server = createServer((socket) => socket.destroy()).listen({ fd });
    await once(server, "listening");
    assert.equal(await outcome((server.address() as AddressInfo).port, "127.0.0.1"), "connected");
    server.close();
    assert.throws(() => listenInNamespace("/nowhere", 4, "127.0.0.1", 0), { code: "ENOENT" });
    assert.throws(() => listenInNamespace("/proc/self/ns/net", 4, "::1", 0), TypeError);
  });
}

/** RST, ACK with the SYN's numbers turned round (RFC 9293 section 3.10.7.1). */
function resetFor(syn: Buffer): Buffer {
  const out = Buffer.alloc(40);
  out[0] = 0x45;
  out.writeUInt16BE(40, 2);
  out[8] = 64;
  out[9] = 6;
  syn.copy(out, 12, 16, 20);
  syn.copy(out, 16, 12, 16);
  syn.copy(out, 20, 22, 24);
  syn.copy(out, 22, 20, 22);
  out.writeUInt32BE((syn.readUInt32BE(24) + 1) >>> 0, 28);
  out[32] = 0x50;
  out[33] = 0x14;
  const pseudo = Buffer.concat([out.subarray(12, 20), Buffer.from([0, 6, 0, 20]), out.subarray(20)]);
  let sum = 0;
  for (let at = 0; at < pseudo.length; at += 2) sum += pseudo.readUInt16BE(at);
  while (sum > 0xffff) sum = (sum & 0xffff) + (sum >>> 16);
  out.writeUInt16BE(~sum & 0xffff, 36);
  return out;
}
