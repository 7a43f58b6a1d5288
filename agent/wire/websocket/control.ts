/** What a control frame of a server's says (RFC 6455 §5.5): a ping's bytes, and why a connection ends, reach programs. */
import type { Masker } from "../../mask/masker.ts";

const opClose = 8;
/** Its payload is never so long that its length would need more. */
const headBytes = 2;
/** Of a close frame, before its reason. */
const codeBytes = 2;

/** The same frame, with what is found in it hidden; a mask has the length of what it hides. */
export function maskControl(frame: Buffer, masker: Pick<Masker, "mask"> | null): Buffer {
  const start = headBytes + (((frame[0] as number) & 0x0f) === opClose ? codeBytes : 0);
  if (masker === null || frame.length <= start) return frame;
  const copy = Buffer.from(frame);
  return masker.mask(copy, start, copy.length) === 0 ? frame : copy;
}
