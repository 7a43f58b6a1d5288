/** Source code as a detector: what it finds is the text as a whole. For prompts and bodies, not for what streams. */
import type { Detector } from "./detector.ts";
import { type Fingerprints, matchesFingerprints } from "./fingerprints.ts";
import { looksLikeSource } from "./source.ts";

/** One shared fingerprint may be a phrase that everybody writes; so many are a copy. */
const matchedMin = 4;

/** With fingerprints: text that shares code with them; without: any source code. */
export function sourceDetector(name: string, known: Fingerprints | null): Detector {
  return {
    name,
    needs: 0,
    follow: null,
    wholeOnly: true,
    tail: (text) => text.length,
    next(text, from, open) {
      if (from > 0 || open <= 0 || text.length === 0) return null;
      const found = known === null ? looksLikeSource(text) : matchesFingerprints(text, known).matched >= matchedMin;
      return found ? { start: 0, end: text.length } : null;
    },
  };
}
