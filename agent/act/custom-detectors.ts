/**
 * The detectors that a policy defines, with what their files hold. One that cannot be made is a problem with a place:
 * in its file where the file is wrong, in the policy where the file is missing.
 */
import { createHash } from "node:crypto";
import { dirname, resolve } from "node:path";
import type { CustomDetector } from "../core/verdict.ts";
import { WeirError } from "../errors.ts";
import { customDetector, type DetectorMaterial } from "../mask/custom.ts";
import type { Detector } from "../mask/detector.ts";
import { FingerprintTable } from "../mask/fingerprints.ts";
import { FileProblem, readFingerprints, readSource, readWords } from "./detector-files.ts";

export interface BuiltDetectors {
  readonly custom: ReadonlyMap<string, Detector>;
  /** By detector: `file:line:column: message`, which it is missing for. */
  readonly problems: ReadonlyMap<string, string>;
  /** Lists and fingerprints that were read; not the files below directories. */
  readonly files: readonly string[];
  /** SHA-256 of all that was read, in hex. */
  readonly digest: string;
}

export async function buildDetectors(definitions: readonly CustomDetector[]): Promise<BuiltDetectors> {
  const custom = new Map<string, Detector>();
  const problems = new Map<string, string>();
  const files: string[] = [];
  const hash = createHash("sha256");
  for (const definition of definitions) {
    const { name, place } = definition;
    try {
      hash.update(`${name}\0`);
      const path = (file: string): string => resolve(dirname(place.file), file);
      custom.set(name, customDetector(definition, await readMaterial(definition, path, files, (b) => hash.update(b))));
    } catch (error) {
      problems.set(name, problemText(definition, error));
    }
  }
  return { custom, problems, files, digest: hash.digest("hex") };
}

/** All of them; throws WEIR_POLICY_INVALID with every problem. */
export async function buildAllDetectors(definitions: readonly CustomDetector[]): Promise<BuiltDetectors> {
  const built = await buildDetectors(definitions);
  if (built.problems.size > 0) {
    const lines = [...built.problems.values()].join("\n");
    throw new WeirError("WEIR_POLICY_INVALID", `the detectors of the policy cannot be used:\n${lines}`);
  }
  return built;
}

async function readMaterial(
  definition: CustomDetector,
  path: (file: string) => string,
  files: string[],
  digest: (bytes: Buffer) => void,
): Promise<DetectorMaterial> {
  if (definition.kind === "words" && definition.file !== null) {
    const file = path(definition.file);
    files.push(file);
    return { words: await readWords(file, digest) };
  }
  if (definition.kind !== "source") return {};
  const { directories, fingerprints } = definition;
  if (directories.length === 0 && fingerprints === null) return {};
  let table = new FingerprintTable();
  if (fingerprints !== null) {
    const file = path(fingerprints);
    files.push(file);
    table = await readFingerprints(file, digest);
  }
  for (const directory of directories) {
    const before = table.size;
    await readSource(path(directory), table, digest);
    if (table.size === before) throw new FileProblem(path(directory), "There is no source code in it.");
  }
  return { fingerprints: table };
}

function problemText({ name, place }: CustomDetector, error: unknown): string {
  if (error instanceof FileProblem && error.line > 0)
    return `${error.file}:${error.line}:${error.column}: ${error.message}`;
  const what = error instanceof FileProblem ? `${error.file}: ${error.message}` : String((error as Error).message);
  return `${place.file}:${place.line}:${place.column}: detectors.${name}: ${what}`;
}
