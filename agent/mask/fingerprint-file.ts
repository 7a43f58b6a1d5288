/**
 * Fingerprints on their way from a repository to a policy: text, so that it can be kept, compared and sent. A first line
 * names the format, then each fingerprint stands on a line of its own, in hex. Nothing of the code can be read from it.
 */
import type { FingerprintTable } from "./fingerprints.ts";

const firstLine = "weir-fingerprints 1";
const hexDigitsMax = 14;

export function* writeFingerprints(table: FingerprintTable): Generator<string> {
  yield `${firstLine}\n`;
  for (const value of [...table.values()].sort((a, b) => a - b)) yield `${value.toString(16)}\n`;
}

/** Takes line `number` (from 1); what is wrong with it, or null. */
export function readFingerprint(line: string, number: number, table: FingerprintTable): string | null {
  if (number === 1) {
    return line === firstLine
      ? null
      : `The first line has to be \`${firstLine}\`; \`weir policy fingerprint\` writes it.`;
  }
  if (line === "") return null;
  const value = line.length <= hexDigitsMax && /^[0-9a-f]+$/.test(line) ? Number.parseInt(line, 16) : Number.NaN;
  if (!Number.isSafeInteger(value)) return "Expected a fingerprint in hex.";
  table.add(value);
  return null;
}
