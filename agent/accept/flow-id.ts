/** Flow ids: UUIDv7 (RFC 9562 §5.7), so that they sort by time over all agents. */
import { randomFillSync } from "node:crypto";

const idBytes = 16;
/** Of many ids at once: the generator's start costs more than its bytes. */
const random = Buffer.alloc(256 * idBytes);
let used = random.length;

export function flowId(nowMs: number): string {
  if (used === random.length) {
    randomFillSync(random);
    used = 0;
  }
  const bytes = random.subarray(used, used + idBytes);
  used += idBytes;
  bytes.writeUIntBE(nowMs, 0, 6);
  bytes[6] = ((bytes[6] as number) & 0x0f) | 0x70;
  bytes[8] = ((bytes[8] as number) & 0x3f) | 0x80;
  const hex = bytes.toString("hex");
  return `${hex.slice(0, 8)}-${hex.slice(8, 12)}-${hex.slice(12, 16)}-${hex.slice(16, 20)}-${hex.slice(20)}`;
}
