import assert from "node:assert/strict";
import { test } from "node:test";
import { formatAddress, parseAddress } from "../../../agent/core/address.ts";
import { canonicalAddress, cidrContains, parseCidr } from "../../../agent/kernel/address.ts";
import { parseDnsAnswer } from "../../../agent/kernel/dns-answer.ts";
import { parsePacket, tcpFlags } from "../../../agent/kernel/packet.ts";
import { buildRefusal, checksum } from "../../../agent/kernel/refusal-packet.ts";
import { randomOf } from "../../support/random.ts";

/** SYN 10.0.0.1:40000 → 10.0.0.2:5432, sequence 0xfffffff0, no options. */
const syn4 = Buffer.from(
  "45000028000040004006000" + "00a0000010a0000029c401538fffffff00000000050022000" + "00000000",
  "hex",
);
const udp6 = Buffer.concat([
  Buffer.from("60000000000911400000000000000000000000000000000a", "hex").subarray(0, 8),
  parseAddress("fd00::1")!,
  parseAddress("fd00::2")!,
  Buffer.from("9c4001bb0009000041", "hex"),
]);
/** www.example.com CNAME db.example.com, A 10.77.0.2, and a planted A record of another name. */
const answer = Buffer.concat([
  Buffer.from("000181800001000300000000", "hex"),
  Buffer.from("\x03WWW\x07example\x03com\x00\x00\x01\x00\x01", "latin1"),
  Buffer.from("c00c00050001000000050005026462c010", "hex"),
  Buffer.from("c02d00010001000000050004" + "0a4d0002", "hex"),
  Buffer.from("\x04evil\x00", "latin1"),
  Buffer.from("00010001000000050004" + "0a4d0003", "hex"),
]);

test("the head of a SYN and of a datagram is read", () => {
  const packet = parsePacket(syn4)!;
  assert.deepEqual(packet.source, { address: "10.0.0.1", port: 40000 });
  assert.deepEqual(packet.destination, { address: "10.0.0.2", port: 5432 });
  assert.deepEqual(packet.tcp, { sequence: 0xfffffff0, acknowledgment: 0, flags: tcpFlags.syn });
  const datagram = parsePacket(udp6)!;
  assert.equal(datagram.protocol, 17);
  assert.deepEqual(datagram.destination, { address: "fd00::2", port: 443 });
  assert.equal(Buffer.from(datagram.payload).toString(), "A");
});

test("a later fragment and a chain of extension headers without end are not read", () => {
  const fragment = Buffer.from(syn4);
  fragment.writeUInt16BE(1, 6);
  assert.equal(parsePacket(fragment), null);
  const endless = Buffer.alloc(400);
  endless[0] = 0x60;
  endless.writeUInt16BE(360, 4);
  assert.equal(parsePacket(endless), null);
});

test("a refused SYN is answered by an acceptable reset with right checksums", () => {
  const reset = buildRefusal(parsePacket(syn4)!, syn4);
  const packet = parsePacket(reset)!;
  assert.deepEqual(packet.source, { address: "10.0.0.2", port: 5432 });
  assert.deepEqual(packet.destination, { address: "10.0.0.1", port: 40000 });
  assert.deepEqual(packet.tcp, { sequence: 0, acknowledgment: 0xfffffff1, flags: tcpFlags.rst | tcpFlags.ack });
  assert.equal(checksum(reset.subarray(0, 20), 0), 0);
  const pseudo = Buffer.concat([reset.subarray(12, 20), Buffer.from([0, 6, 0, 20]), reset.subarray(20)]);
  assert.equal(checksum(pseudo, 0), 0);
});

test("a refused datagram is answered by administratively prohibited", () => {
  const icmp = buildRefusal(parsePacket(udp6)!, udp6);
  assert.deepEqual([icmp[6], icmp[40], icmp[41]], [58, 1, 1]);
  assert.deepEqual(icmp.subarray(48), udp6);
});

test("a DNS answer gives the addresses of the asked name, by its aliases, and no planted one", () => {
  assert.deepEqual(parseDnsAnswer(answer), {
    name: "www.example.com",
    addresses: [{ address: "10.77.0.2", ttlSeconds: 5 }],
  });
  const loop = Buffer.concat([Buffer.from("000181800001000000000000", "hex"), Buffer.from("c00cc00c00010001", "hex")]);
  assert.equal(parseDnsAnswer(loop), null);
});

test("addresses: canonical text, mapped ones, networks", () => {
  assert.equal(canonicalAddress("2001:0db8:0:0:1:0:0:1"), "2001:db8::1:0:0:1");
  assert.equal(canonicalAddress("::ffff:10.0.0.1"), "10.0.0.1");
  const net = parseCidr("10.20.0.0", 14)!;
  assert.equal(cidrContains(net, parseAddress("10.23.255.255")!), true);
  assert.equal(cidrContains(net, parseAddress("10.24.0.0")!), false);
});

test("junk gives null or a reading, never a throw", () => {
  const seed = Number(process.env.WEIR_FUZZ_SEED ?? 1);
  const next = randomOf(seed);
  let read = 0;
  for (let round = 0; round < 20_000; round++) {
    const from = [syn4, udp6, answer, Buffer.alloc(64)][next(4)]!;
    const cut = next(2) === 0 ? from.length : next(from.length + 1);
    const bytes = Buffer.from(from.subarray(0, cut));
    for (let hits = next(4); hits > 0 && bytes.length > 0; hits--) {
      bytes[next(bytes.length)] = next(256);
    }
    try {
      const packet = parsePacket(bytes);
      if (packet !== null) {
        read++;
        buildRefusal(packet, bytes);
        assert.notEqual(parseAddress(formatAddress(parseAddress(packet.source.address)!)), null);
      }
      parseDnsAnswer(bytes);
    } catch (error) {
      assert.fail(`seed ${seed}, round ${round}, ${bytes.toString("hex")}: ${error}`);
    }
  }
  // The canary: were nothing ever read, the loop above would prove nothing.
  assert.ok(read > 1000, `only ${read} packets were read, seed ${seed}`);
});
