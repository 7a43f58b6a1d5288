/**
 * An export that can be checked without the record: each line holds the hash of the one before, and the last line is a
 * seal, signed by the agent's key, over how many there are and what the last one hashes to. For JSON lines the hash is
 * SHA-256 over the line before; OCSF events have it in their attestation.
 */
import { createPrivateKey, hash, type KeyObject, sign, verify } from "node:crypto";
import { readFileSync } from "node:fs";
import { join } from "node:path";

export type SealedFormat = "jsonl" | "ocsf";

export interface Seal {
  readonly format: SealedFormat;
  readonly agent: string;
  /** Lines before the seal. */
  readonly lines: number;
  /** Of the first and last line; -1 for none. */
  readonly firstSeq: number;
  readonly lastSeq: number;
  /** Hex, of the last line; empty for none. */
  readonly last: string;
  readonly timeMs: number;
}

export interface SignedSeal extends Seal {
  /** Ed25519 over its fields, base64. */
  readonly signature: string;
}

export const sealType = "ExportSeal";

/** The key that the export is sealed with; null where it cannot be read: then there is no seal. */
export function readSealKey(stateDir: string): KeyObject | null {
  try {
    return createPrivateKey(readFileSync(join(stateDir, "agent-key.pem")));
  } catch {
    return null;
  }
}

export function signSeal(seal: Seal, key: KeyObject): SignedSeal {
  return { ...seal, signature: sign(null, statement(seal), key).toString("base64") };
}

export function sealIsSigned(seal: SignedSeal, key: KeyObject): boolean {
  try {
    const signature = Buffer.from(seal.signature, "base64");
    return signature.toString("base64") === seal.signature && verify(null, statement(seal), key, signature);
  } catch {
    return false;
  }
}

export function lineHash(line: string): string {
  return hash("sha256", line);
}

/** Null when this value is no seal. */
export function sealOf(value: unknown): SignedSeal | null {
  const seal = value as Partial<SignedSeal> | null;
  const isSeal =
    typeof seal === "object" &&
    (seal?.format === "jsonl" || seal?.format === "ocsf") &&
    [seal.agent, seal.last, seal.signature].every((text) => typeof text === "string") &&
    [seal.lines, seal.firstSeq, seal.lastSeq, seal.timeMs].every(Number.isSafeInteger);
  return isSeal ? (seal as SignedSeal) : null;
}

function statement({ format, agent, lines, firstSeq, lastSeq, last, timeMs }: Seal): Buffer {
  return Buffer.from(`weir-export-v1\n${[format, agent, lines, firstSeq, lastSeq, last, timeMs].join("\n")}\n`);
}
