/** The detectors that a policy defines, made from their definitions and from what the caller read of their files. */
import type { CustomDetector } from "../core/verdict.ts";
import { keysDetector } from "./custom-keys.ts";
import { regexDetector } from "./custom-regex.ts";
import { sourceDetector } from "./custom-source.ts";
import { wordsDetector } from "./custom-words.ts";
import type { Detector } from "./detector.ts";
import type { Fingerprints } from "./fingerprints.ts";
import { WordList } from "./word-list.ts";

export interface DetectorMaterial {
  /** Of the file that `words` names. */
  readonly words?: WordList;
  /** Of the files that `source` names. */
  readonly fingerprints?: Fingerprints;
}

export function customDetector(definition: CustomDetector, material: DetectorMaterial): Detector {
  const { name } = definition;
  switch (definition.kind) {
    case "regex":
      return regexDetector(name, definition.expression, definition.charactersMax);
    case "words": {
      const list = material.words ?? new WordList();
      for (const word of definition.words) list.add(word);
      return wordsDetector(name, list);
    }
    case "keys":
      return keysDetector(name, definition.keys);
    case "source":
      return sourceDetector(name, material.fingerprints ?? null);
  }
}
