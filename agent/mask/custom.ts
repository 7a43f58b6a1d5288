/** The detectors that a policy defines, made from their definitions and from what the caller read of their files. */
import type { CustomDetector } from "../core/verdict.ts";
import { keysDetector } from "./custom-keys.ts";
import { regexDetector } from "./custom-regex.ts";
import { sourceDetector } from "./custom-source.ts";
import { wordsDetector } from "./custom-words.ts";
import type { Detector } from "./detector.ts";
import { FingerprintTable, type SharedFingerprints } from "./fingerprints.ts";
import { type SharedWords, WordList } from "./word-list.ts";

export interface DetectorMaterial {
  /** Of the file that `words` names. */
  readonly words?: WordList;
  /** Of the files that `source` names. */
  readonly fingerprints?: FingerprintTable;
}

/** A detector as plain data, by which another thread makes the same; tables are shared, not copied. */
export interface DetectorRecipe {
  readonly definition: CustomDetector;
  readonly words: SharedWords | null;
  readonly fingerprints: SharedFingerprints | null;
}

const recipes = new WeakMap<Detector, DetectorRecipe>();

export function customDetector(definition: CustomDetector, { words, fingerprints }: DetectorMaterial): Detector {
  const list = definition.kind === "words" ? (words ?? new WordList()) : null;
  if (definition.kind === "words") for (const word of definition.words) list?.add(word);
  const detector = detectorOf(definition, list, fingerprints ?? null);
  recipes.set(detector, {
    definition,
    words: list?.shared() ?? null,
    fingerprints: fingerprints?.shared() ?? null,
  });
  return detector;
}

/** Null: it is none that `customDetector` made. */
export function recipeOf(detector: Detector): DetectorRecipe | null {
  return recipes.get(detector) ?? null;
}

export function detectorBy({ definition, words, fingerprints }: DetectorRecipe): Detector {
  return detectorOf(
    definition,
    words === null ? null : new WordList(words),
    fingerprints === null ? null : new FingerprintTable(fingerprints),
  );
}

function detectorOf(
  definition: CustomDetector,
  words: WordList | null,
  fingerprints: FingerprintTable | null,
): Detector {
  const { name } = definition;
  switch (definition.kind) {
    case "regex":
      return regexDetector(name, definition.expression, definition.charactersMax);
    case "words":
      return wordsDetector(name, words ?? new WordList());
    case "keys":
      return keysDetector(name, definition.keys);
    case "source":
      return sourceDetector(name, fingerprints);
  }
}
