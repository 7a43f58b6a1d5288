/**
 * Reads the head of an IP packet: enough to judge a new flow. Pure; junk gives null, never a throw.
 *
 *   IPv4  RFC 791   version/IHL, total length, protocol, source, destination, options
 *   IPv6  RFC 8200  fixed header, then a chain of extension headers
 *   TCP   RFC 9293  ports, sequence, acknowledgment, data offset, flags
 *   UDP   RFC 768   ports, length
 */

import { formatAddress } from "../core/address.ts";
import type { Endpoint } from "../core/flow.ts";

export const tcpFlags = { fin: 0x01, syn: 0x02, rst: 0x04, psh: 0x08, ack: 0x10 } as const;

/** More extension headers than any honest packet has; a longer chain is junk to us. */
const extensionHeadersMax = 8;

export interface Packet {
  readonly family: 4 | 6;
  /** IANA protocol number of the transport: 6 TCP, 17 UDP. */
  readonly protocol: number;
  readonly source: Endpoint;
  readonly destination: Endpoint;
  /** Where the transport header begins. */
  readonly transportOffset: number;
  /** The transport's payload, as far as the packet was copied. */
  readonly payload: Uint8Array;
  readonly tcp: TcpHead | null;
}

export interface TcpHead {
  readonly sequence: number;
  readonly acknowledgment: number;
  readonly flags: number;
}

/** Ports are 0 for protocols without. A later fragment, a cut header, an unknown version: null. */
export function parsePacket(bytes: Uint8Array): Packet | null {
  if (bytes.length < 20) return null;
  const version = bytes[0]! >> 4;
  if (version === 4) return parseV4(bytes);
  if (version === 6) return parseV6(bytes);
  return null;
}

function parseV4(bytes: Uint8Array): Packet | null {
  const headerBytes = (bytes[0]! & 0x0f) * 4;
  const totalBytes = u16(bytes, 2);
  if (headerBytes < 20 || totalBytes < headerBytes || bytes.length < headerBytes) return null;
  // A fragment other than the first has no transport header: reading ports from it would be reading payload.
  if ((u16(bytes, 6) & 0x1fff) !== 0) return null;
  const end = Math.min(bytes.length, totalBytes);
  return parseTransport(4, bytes[9]!, bytes.subarray(12, 16), bytes.subarray(16, 20), bytes, headerBytes, end);
}

function parseV6(bytes: Uint8Array): Packet | null {
  if (bytes.length < 40) return null;
  const end = Math.min(bytes.length, 40 + u16(bytes, 4));
  let next = bytes[6]!;
  let at = 40;
  for (let seen = 0; isExtension(next); seen++) {
    if (seen === extensionHeadersMax || at + 8 > end) return null;
    if (next === 44 && (u16(bytes, at + 2) & 0xfff8) !== 0) return null;
    const length = next === 44 ? 8 : (bytes[at + 1]! + 1) * 8;
    next = bytes[at]!;
    at += length;
  }
  return parseTransport(6, next, bytes.subarray(8, 24), bytes.subarray(24, 40), bytes, at, end);
}

/** Hop-by-hop, routing, fragment, destination options: what may stand before the transport (RFC 8200 section 4). */
function isExtension(next: number): boolean {
  return next === 0 || next === 43 || next === 44 || next === 60;
}

function parseTransport(
  family: 4 | 6,
  protocol: number,
  source: Uint8Array,
  destination: Uint8Array,
  bytes: Uint8Array,
  at: number,
  end: number,
): Packet | null {
  let ports = false;
  let payloadAt = at;
  let tcp: TcpHead | null = null;
  if (protocol === 6) {
    if (at + 20 > end) return null;
    const headerBytes = (bytes[at + 12]! >> 4) * 4;
    if (headerBytes < 20 || at + headerBytes > end) return null;
    tcp = { sequence: u32(bytes, at + 4), acknowledgment: u32(bytes, at + 8), flags: bytes[at + 13]! };
    payloadAt = at + headerBytes;
    ports = true;
  } else if (protocol === 17) {
    if (at + 8 > end) return null;
    payloadAt = at + 8;
    ports = true;
  }
  return {
    family,
    protocol,
    source: { address: formatAddress(source), port: ports ? u16(bytes, at) : 0 },
    destination: { address: formatAddress(destination), port: ports ? u16(bytes, at + 2) : 0 },
    transportOffset: at,
    payload: bytes.subarray(Math.min(payloadAt, end), end),
    tcp,
  };
}

function u16(bytes: Uint8Array, at: number): number {
  return (bytes[at]! << 8) | bytes[at + 1]!;
}

function u32(bytes: Uint8Array, at: number): number {
  return u16(bytes, at) * 0x10000 + u16(bytes, at + 2);
}
