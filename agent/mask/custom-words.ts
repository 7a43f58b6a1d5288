/** Whole words and phrases out of a list; upper and lower case differ, the longest entry at a place counts. */
import type { TextKind } from "./chars.ts";
import type { Detector } from "./detector.ts";
import { isWordAt, type WordList, wordEnd } from "./word-list.ts";

export function wordsDetector(name: string, list: WordList): Detector {
  return { ...detectorOf(name, list, "utf16"), forBytes: detectorOf(name, list, "latin1") };
}

/** Of a character at a text's end: with its last byte it may be a sign or a letter. */
const undecidedBytes = 3;

function detectorOf(name: string, list: WordList, kind: TextKind): Detector {
  return {
    name,
    needs: 0,
    follow: null,
    next(text, from, open) {
      for (let at = from; at < open; ) {
        const end = wordEnd(text, at, kind);
        // The rest of a word that began before, as far as one was looked at.
        if (end > at && at > 0 && isWordAt(text, at - 1, kind)) {
          at = end;
          continue;
        }
        const entry = list.at(text, at, kind);
        if (entry.end > 0) return { start: at, end: entry.end };
        at = Math.max(at + 1, end);
      }
      return null;
    },
    tail(text, from) {
      const reach = Math.max(from, text.length - list.reach() - (kind === "latin1" ? undecidedBytes : 0));
      let at = text.length;
      while (at > reach && isWordAt(text, at - 1, kind)) at -= 1;
      // The rest of a word that is too long, or has been looked at.
      let word = isWordAt(text, at - 1, kind) ? text.length : at;
      // Of bytes, the first ones of a sign are not told from those of a letter.
      let known = text.length;
      if (kind === "latin1") {
        while (word > reach && text.charCodeAt(word - 1) >= 0x80) word -= 1;
        while (known > text.length - undecidedBytes && text.charCodeAt(known - 1) >= 0x80) known -= 1;
      }
      if (!list.hasPhrases) return word;
      for (at = reach; at < word; ) {
        const end = wordEnd(text, at, kind);
        if (end === at || at === 0 || !isWordAt(text, at - 1, kind)) {
          if (list.at(text, at, kind, known).open) return at;
        }
        at = Math.max(at + 1, end);
      }
      return word;
    },
  };
}
