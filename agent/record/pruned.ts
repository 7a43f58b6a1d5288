/**
 * What was taken out of a record that became too old or too large, in `pruned.jsonl`: how many entries, the last one's
 * link, and where each open session stood, signed by the agent. So what is left still proves that it follows from there.
 * One JSON line each time; the last one counts.
 */
import { type KeyObject, sign, verify } from "node:crypto";
import { closeSync, fdatasyncSync, openSync, writeSync } from "node:fs";
import { join } from "node:path";
import { WeirError } from "../errors.ts";
import { readTextOf } from "../files/read-text.ts";

export interface OpenSession {
  readonly session: string;
  /** Of its last entry before the cut. */
  readonly seq: number;
  /** Hex. */
  readonly link: string;
}

export interface Pruned {
  readonly agent: string;
  /** The last segment that is gone, by its number. */
  readonly segment: number;
  /** SHA-256 of its file, hex. */
  readonly sha256: string;
  /** Where its copy is; empty: there is none. */
  readonly archived: string;
  /** Entries that are gone in all: the next one's agentSeq. */
  readonly size: number;
  /** Of the last one, hex. */
  readonly link: string;
  /** When the last one was recorded. */
  readonly untilMs: number;
  readonly open: readonly OpenSession[];
  readonly timeMs: number;
  /** Ed25519 over the line without it, base64. */
  readonly signature: string;
}

export const prunedFile = "pruned.jsonl";

export function appendPruned(stateDir: string, pruned: Omit<Pruned, "signature">, key: KeyObject): Pruned {
  const signed = { ...pruned, signature: sign(null, statement(pruned), key).toString("base64") };
  const fd = openSync(join(stateDir, prunedFile), "a", 0o600);
  try {
    // Begins with a newline: what a killed run left unfinished is a line of its own then.
    writeSync(fd, `\n${JSON.stringify(signed)}\n`);
    fdatasyncSync(fd);
  } finally {
    closeSync(fd);
  }
  return signed;
}

export function prunedIsSigned(pruned: Pruned, key: KeyObject): boolean {
  try {
    const signature = Buffer.from(pruned.signature, "base64");
    return signature.toString("base64") === pruned.signature && verify(null, statement(pruned), key, signature);
  } catch {
    return false;
  }
}

/** The last line; null when nothing was taken out. Throws WEIR_SPOOL_CORRUPT for one that cannot be read. */
export function readPruned(stateDir: string): Pruned | null {
  const text = readTextOf(join(stateDir, prunedFile));
  if (text === null) return null;
  // A line without its end was being written when the process was killed: its segment is still there.
  const line = text.slice(0, text.lastIndexOf("\n") + 1).trimEnd();
  const last = line.slice(line.lastIndexOf("\n") + 1);
  if (last === "") return null;
  try {
    const value = JSON.parse(last) as Partial<Pruned> | null;
    const isPruned =
      [value?.agent, value?.sha256, value?.archived, value?.link, value?.signature].every(
        (x) => typeof x === "string",
      ) &&
      [value?.segment, value?.size, value?.untilMs, value?.timeMs].every(Number.isSafeInteger) &&
      Array.isArray(value?.open);
    if (isPruned) return value as Pruned;
  } catch {
    // Told below.
  }
  throw new WeirError("WEIR_SPOOL_CORRUPT", `The last line of ${prunedFile} cannot be read.`);
}

function statement({ agent, segment, sha256, archived, size, link, untilMs, open, timeMs }: Omit<Pruned, "signature">) {
  const sessions = open.map(({ session, seq, link: last }) => [session, seq, last]);
  const fields = [agent, segment, sha256, archived, size, link, untilMs, timeMs, sessions];
  return Buffer.from(`weir-pruned-v1\n${JSON.stringify(fields)}\n`);
}
