/** Is it PostgreSQL? The first eight bytes say so: a length and a code that no other protocol begins with. */
import type { Sniffed } from "../protocol.ts";
import { startupBytesMax } from "./limits.ts";

const requests: ReadonlySet<number> = new Set([80877102, 80877103, 80877104]);

/**
 * Direct TLS begins as any TLS does: "no" here, since its protocol shows only in the ALPN inside of it;
 * a target that says `protocol: postgres` needs no sniffing.
 */
export function sniffPostgres(prefix: Uint8Array): Sniffed {
  const bytes = Buffer.from(prefix.buffer, prefix.byteOffset, prefix.byteLength);
  // Lengths are far below 64 KiB, so the two high bytes are zero.
  if (bytes.length >= 1 && bytes[0] !== 0) return "no";
  if (bytes.length >= 2 && bytes[1] !== 0) return "no";
  if (bytes.length >= 4) {
    const length = bytes.readUInt32BE(0);
    if (length < 8 || length > startupBytesMax) return "no";
  }
  if (bytes.length < 8) return "more";
  const code = bytes.readInt32BE(4);
  return requests.has(code) || code >> 16 === 3 ? "yes" : "no";
}
