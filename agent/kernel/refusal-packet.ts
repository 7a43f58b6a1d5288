/**
 * Builds the answer that makes a client fail at once instead of by time-out. Pure.
 *
 *   TCP  a reset that acknowledges the SYN (RFC 9293 section 3.10.7.3: in SYN-SENT only an acceptable ACK makes a
 *        reset count), so the sequence numbers of the queued packet are needed
 *   else ICMP type 3 code 13 (RFC 1812) or ICMPv6 type 1 code 1 (RFC 4443): administratively prohibited
 */
import { parseAddress } from "../core/address.ts";
import { type Packet, tcpFlags } from "./packet.ts";

/** How much of the refused packet an ICMP error quotes: its headers and the first bytes, far below any MTU. */
const quotedBytesMax = 256;

/** An IP packet to be sent to `packet.source`, coming from `packet.destination`. */
export function buildRefusal(packet: Packet, bytes: Uint8Array): Buffer {
  if (packet.tcp === null) return buildProhibited(packet, bytes);
  return buildReset(packet, packet.tcp.sequence, packet.tcp.flags);
}

function buildReset(packet: Packet, sequence: number, flags: number): Buffer {
  const tcp = Buffer.alloc(20);
  tcp.writeUInt16BE(packet.destination.port, 0);
  tcp.writeUInt16BE(packet.source.port, 2);
  // SYN and FIN take one place each in the sequence space, and so does every byte (TCP fast open sends some).
  const taken = (flags & tcpFlags.syn ? 1 : 0) + (flags & tcpFlags.fin ? 1 : 0) + packet.payload.length;
  tcp.writeUInt32BE((sequence + taken) % 0x100000000, 8);
  tcp[12] = 5 << 4;
  tcp[13] = tcpFlags.rst | tcpFlags.ack;
  return wrap(packet, 6, tcp, 16);
}

function buildProhibited(packet: Packet, bytes: Uint8Array): Buffer {
  const quoted = bytes.subarray(0, quotedBytesMax);
  const icmp = Buffer.alloc(8 + quoted.length);
  icmp[0] = packet.family === 4 ? 3 : 1;
  icmp[1] = packet.family === 4 ? 13 : 1;
  icmp.set(quoted, 8);
  return wrap(packet, packet.family === 4 ? 1 : 58, icmp, 2);
}

/** Puts an IP header before the transport and fills in both checksums; `checksumAt` is the transport's. */
function wrap(packet: Packet, protocol: number, transport: Buffer, checksumAt: number): Buffer {
  const source = parseAddress(packet.destination.address)!;
  const destination = parseAddress(packet.source.address)!;
  // ICMP over IPv4 is the one transport here whose checksum has no pseudo header (RFC 792).
  const pseudo = packet.family === 4 && protocol === 1 ? 0 : pseudoSum(source, destination, protocol, transport.length);
  transport.writeUInt16BE(checksum(transport, pseudo), checksumAt);
  if (packet.family === 6) {
    const head = Buffer.alloc(40);
    head[0] = 0x60;
    head.writeUInt16BE(transport.length, 4);
    head[6] = protocol;
    head[7] = 64;
    head.set(source, 8);
    head.set(destination, 24);
    return Buffer.concat([head, transport]);
  }
  const head = Buffer.alloc(20);
  head[0] = 0x45;
  head.writeUInt16BE(20 + transport.length, 2);
  head[8] = 64;
  head[9] = protocol;
  head.set(source, 12);
  head.set(destination, 16);
  head.writeUInt16BE(checksum(head, 0), 10);
  return Buffer.concat([head, transport]);
}

function pseudoSum(source: Uint8Array, destination: Uint8Array, protocol: number, length: number): number {
  return sumWords(source) + sumWords(destination) + protocol + length;
}

/** The Internet checksum (RFC 1071) over `bytes`, starting from `initial`. */
export function checksum(bytes: Uint8Array, initial: number): number {
  let sum = sumWords(bytes) + initial;
  while (sum > 0xffff) sum = (sum & 0xffff) + Math.floor(sum / 0x10000);
  return ~sum & 0xffff;
}

function sumWords(bytes: Uint8Array): number {
  let sum = 0;
  for (let at = 0; at < bytes.length; at += 2) sum += (bytes[at]! << 8) | (bytes[at + 1] ?? 0);
  return sum;
}
