/** The detectors that a policy defines, made from their definitions; files and directories are read by the caller. */
import type { CustomDetector } from "../core/verdict.ts";
import { regexDetector } from "./custom-regex.ts";
import { sourceDetector } from "./custom-source.ts";
import { wordsDetector } from "./custom-words.ts";
import type { Detector } from "./detector.ts";
import { collectFingerprints } from "./fingerprints.ts";

export interface DetectorFiles {
  /** One word a line. */
  lines(file: string): Iterable<string>;
  /** The texts of the source files below the directories. */
  texts(directories: readonly string[]): Iterable<string>;
}

export function customDetector(definition: CustomDetector, files: DetectorFiles): Detector {
  switch (definition.kind) {
    case "regex":
      return regexDetector(definition.name, definition.expression, definition.charactersMax);
    case "words":
      return wordsDetector(definition.name, definition.file === null ? definition.words : files.lines(definition.file));
    case "source": {
      const { name, directories } = definition;
      return sourceDetector(name, directories.length === 0 ? null : collectFingerprints(files.texts(directories)));
    }
  }
}
