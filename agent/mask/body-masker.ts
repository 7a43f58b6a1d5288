/** The same for a body of text in bytes, cut anywhere, also inside of a character; what is no UTF-8 is looked at too. */
import type { MaskPlan } from "./plan.ts";
import { mayMatch } from "./prefilter.ts";
import { Scanned } from "./scanned.ts";
import { scannerOf } from "./whole-text.ts";

export interface BodyMasker {
  push(bytes: Buffer): Buffer;
  end(): Buffer;
  readonly masked: number;
  readonly held: number;
}

/** Below this the look at what could match costs more than it saves. */
const prefilteredBytesMin = 256;
/** And above this, as a piece has to be made bytes once more for it. */
const prefilteredBytesMax = 1_536;

export function createBodyMasker(plan: MaskPlan): BodyMasker {
  return new BytesMasker(scannerOf(plan, "latin1"));
}

class BytesMasker extends Scanned implements BodyMasker {
  push(bytes: Buffer): Buffer {
    if (bytes.length === 0) return bytes;
    const text = bytes.toString("latin1", 0, bytes.length);
    let seen = -1;
    if (bytes.length >= prefilteredBytesMin && bytes.length <= prefilteredBytesMax) {
      const whole = Buffer.from(this.scanner.kept + text, "latin1");
      seen = mayMatch(whole, 0, whole.length);
    }
    return Buffer.from(this.scanner.push(text, false, seen), "latin1");
  }

  end(): Buffer {
    return Buffer.from(this.scanner.push("", true), "latin1");
  }
}
