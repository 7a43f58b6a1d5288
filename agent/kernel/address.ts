/** What the kernel's side asks of addresses. Pure: used by the packet parser, the judge and the maps. */
import { formatAddress, hasPrefix, parseAddress } from "../core/address.ts";

/** The same address in canonical text; the input itself when it is no address, so that it still matches nothing. */
export function canonicalAddress(text: string): string {
  const bytes = parseAddress(text);
  return bytes === null ? text : formatAddress(bytes);
}

export function familyOf(address: string): 4 | 6 {
  return address.includes(":") ? 6 : 4;
}

/** 127.0.0.0/8 and ::1: what never leaves the host and is taken only when a target names it. */
export function isLoopback(address: string): boolean {
  return address.startsWith("127.") || address === "::1";
}

/** A network and its prefix length, prepared once for many look-ups. */
export interface Cidr {
  readonly family: 4 | 6;
  readonly bytes: Uint8Array;
  readonly prefix: number;
}

export function parseCidr(address: string, prefix: number): Cidr | null {
  const bytes = parseAddress(address);
  if (bytes === null || !Number.isInteger(prefix) || prefix < 0 || prefix > bytes.length * 8) return null;
  return { family: bytes.length === 4 ? 4 : 6, bytes, prefix };
}

export function cidrContains(cidr: Cidr, address: Uint8Array): boolean {
  return hasPrefix(address, cidr.bytes, cidr.prefix);
}
