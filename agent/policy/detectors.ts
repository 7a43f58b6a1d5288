/**
 * Detectors that the policy defines. Files and directories are only named here; the edge reads them.
 */
import type { CustomDetector, DetectorName } from "../core/verdict.ts";
import type { Place } from "./compile.ts";
import { readRegex } from "./regex.ts";
import { nameOf } from "./shape.ts";
import { detectorNames } from "./words.ts";

export interface RawDetector {
  regex?: string;
  max?: number;
  words?: string[] | { file: string };
  source?: { directories?: string[] };
}

/** Longest match of an expression, in characters: so much of a stream may be held back for it. */
const charactersMax = 4_096;

export function compileDetector(name: string, raw: RawDetector, place: Place): CustomDetector | null {
  const complain = (path: readonly (string | number)[], message: string): null => {
    const full = [...place.path, ...path];
    place.problems.push(place.source.problem(full, `${nameOf(full)}: ${message}`));
    return null;
  };
  if (name === "all" || detectorNames.includes(name as DetectorName))
    return complain([], `${name} is a built-in detector; give yours another name.`);
  if (name === "not" || name === "only") return complain([], `${name} is a word of the policy; give it another name.`);
  const kinds = (["regex", "words", "source"] as const).filter((kind) => raw[kind] !== undefined);
  if (kinds.length !== 1) return complain([], "a detector is exactly one of regex, words and source.");
  if (raw.max !== undefined && raw.regex === undefined) return complain(["max"], "`max` is for a regex.");
  if (raw.regex !== undefined) return compileRegex(name, raw.regex, raw.max, complain);
  if (raw.words !== undefined) {
    if (!Array.isArray(raw.words)) return { kind: "words", name, file: raw.words.file, words: [] };
    const blank = raw.words.findIndex((word) => word.trim() === "" || /[\r\n]/.test(word));
    if (blank >= 0) return complain(["words", blank], "expected a word.");
    return { kind: "words", name, file: null, words: raw.words };
  }
  return { kind: "source", name, directories: raw.source?.directories ?? [] };
}

function compileRegex(
  name: string,
  expression: string,
  max: number | undefined,
  complain: (path: readonly (string | number)[], message: string) => null,
): CustomDetector | null {
  const read = readRegex(expression);
  if ("error" in read) return complain(["regex"], `${read.error}, at character ${read.offset + 1}.`);
  if (read.shortest === 0) return complain(["regex"], "the expression matches the empty text, so it is everywhere.");
  if (read.longest === Number.POSITIVE_INFINITY) {
    if (max === undefined)
      return complain(["regex"], "the expression sets no longest match; bound its repeats, or give `max`.");
  } else if (read.longest > charactersMax) {
    return complain(["regex"], `it may match ${read.longest} characters; the most is ${charactersMax}.`);
  } else if (max !== undefined && read.longest > max) {
    return complain(
      ["max"],
      `the expression may match ${read.longest} characters, and what is longer would be missed.`,
    );
  }
  return { kind: "regex", name, expression, charactersMax: Math.min(read.longest, max ?? charactersMax) };
}
