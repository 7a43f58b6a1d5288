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
  keys?: string[];
  source?: { directories?: string[]; fingerprints?: string };
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
  const kinds = (["regex", "words", "keys", "source"] as const).filter((kind) => raw[kind] !== undefined);
  if (kinds.length !== 1) return complain([], "a detector is exactly one of regex, words, keys and source.");
  if (raw.max !== undefined && raw.regex === undefined) return complain(["max"], "`max` is for a regex.");
  const { file, line, column } = place.source.problem(place.path, "", "key");
  const own = { name, place: { file, line, column } };
  if (raw.regex !== undefined) return compileRegex(own, raw.regex, raw.max, complain);
  if (raw.words !== undefined) {
    if (!Array.isArray(raw.words)) return { kind: "words", ...own, file: raw.words.file, words: [] };
    const blank = raw.words.findIndex((word) => word.trim() === "" || /[\r\n]/.test(word));
    if (blank >= 0) return complain(["words", blank], "expected a word.");
    return { kind: "words", ...own, file: null, words: raw.words };
  }
  if (raw.keys !== undefined) {
    const bare = raw.keys.findIndex((key) => key.replaceAll("*", "").trim() === "");
    return bare >= 0 ? complain(["keys", bare], "expected a member's name.") : { kind: "keys", ...own, keys: raw.keys };
  }
  const { directories = [], fingerprints = null } = raw.source ?? {};
  return { kind: "source", ...own, directories, fingerprints };
}

function compileRegex(
  own: Pick<CustomDetector, "name" | "place">,
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
  return { kind: "regex", ...own, expression, charactersMax: Math.min(read.longest, max ?? charactersMax) };
}
