/** A key on the command line: a file, or a verifier key written out. */
import { existsSync, readFileSync } from "node:fs";
import { WeirError } from "../errors.ts";

const keyBytesMax = 64 * 1024;

/** Null for a path that is not there: who needs that key says so. */
export function readKeyText(word: string): string | null {
  if (existsSync(word)) {
    const bytes = readFileSync(word);
    if (bytes.length > keyBytesMax) throw new WeirError("WEIR_USAGE", `${word} is too long for a key.`);
    const text = bytes.toString("utf8").trim();
    return /^\S+\+[0-9a-f]{8}\+/.test(text) ? text : "-----BEGIN";
  }
  return /^\S+\+[0-9a-f]{8}\+\S+$/.test(word) ? word : null;
}
