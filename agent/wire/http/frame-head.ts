/** The head of a WebSocket frame (RFC 6455 §5.2), as both who mask and who scrub read it. */
import { WeirError } from "../../errors.ts";

/** Two bytes, a length of eight, and a key of four. */
const headBytesMax = 14;

/** null: the head is not whole yet. A server's frames carry no masking key (§5.1). */
export function payloadLength(head: Buffer): number | null {
  if (head.length < 2) return null;
  const second = head[1] as number;
  if ((second & 0x80) !== 0) throw new WeirError("WEIR_FRAME_INVALID", "A server's WebSocket frame has a masking key.");
  if (second < 126) return second;
  if (second === 126) return head.length < 4 ? null : head.readUInt16BE(2);
  if (head.length < 10) return null;
  const length = head.readBigUInt64BE(2);
  if (length > BigInt(Number.MAX_SAFE_INTEGER) || head.length > headBytesMax)
    throw new WeirError("WEIR_FRAME_INVALID", "A WebSocket frame has no valid length.");
  return Number(length);
}
