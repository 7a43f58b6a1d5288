/**
 * A witness (C2SP tlog-witness): it remembers the last checkpoint of each log that it knows, and cosigns the next one only
 * when that log has grown from it. A log that shrank or forked is refused, and its signed words are kept: they convict it.
 */
import { createHash, type KeyObject } from "node:crypto";
import { mkdirSync, readdirSync, readFileSync, writeFileSync } from "node:fs";
import { join } from "node:path";
import { WeirError } from "../../agent/errors.ts";
import { lockDirectory } from "../../agent/record/lock.ts";
import { checkpointIsSigned, cosign, parseCheckpoint, type SignedCheckpoint, withSignature } from "./checkpoint.ts";
import { replaceFile } from "./files.ts";
import type { OwnKey } from "./keys.ts";
import { exactBase64, formatSignature, type VerifierKey } from "./note.ts";
import { consistencyHolds, hashBytes, proofHashesMax } from "./tree.ts";

/** What the witness says, as HTTP has it. */
export interface WitnessAnswer {
  readonly status: 200 | 400 | 403 | 404 | 409 | 422;
  readonly contentType: "text/plain; charset=utf-8" | "text/x.tlog.size";
  readonly body: string;
}

export interface Witness {
  /** Body of an `add-checkpoint`. */
  addCheckpoint(body: Buffer): Promise<WitnessAnswer>;
  /** The last checkpoint of a log with the cosignature; null when there is none. */
  lastOf(origin: string): string | null;
  close(): void;
}

export interface WitnessOptions {
  readonly dir: string;
  readonly own: OwnKey;
  readonly logs: readonly VerifierKey[];
  readonly now?: () => number;
  readonly log?: (level: "info" | "warn", message: string) => void;
}

/** A checkpoint with 64 signatures, and a proof. */
export const requestBytesMax = 64 * 1024;
const conflictsDir = "conflicts";
/** Proofs of a fork that are kept; one is enough. */
const conflictsMax = 100;

export function openWitness({ dir, own, logs, now = Date.now, log = () => {} }: WitnessOptions): Witness {
  mkdirSync(join(dir, conflictsDir), { recursive: true, mode: 0o700 });
  const unlock = lockDirectory(dir, (pid) => `The witness with pid ${pid} uses ${dir}.`);
  // One at a time: between the look at the last checkpoint and the new one on the disk nothing else may come.
  let queue: Promise<unknown> = Promise.resolve();
  return {
    addCheckpoint(body) {
      const answer = queue.then(() => judge(body, { dir, own, logs, now, log }));
      queue = answer.catch(() => {});
      return answer;
    },
    lastOf: (origin) => readLast(dir, origin),
    close: unlock,
  };
}

async function judge(body: Buffer, options: Required<WitnessOptions>): Promise<WitnessAnswer> {
  const { dir, own, logs, now, log } = options;
  const request = parseRequest(body);
  if (request === null) return says(400, "The request is no `old SIZE`, proof and checkpoint.");
  const { oldSize, proof, checkpoint } = request;
  const known = logs.filter(({ name }) => name === checkpoint.origin);
  if (known.length === 0) return says(404, "This log is not known here.");
  const verifier = known.find((key) => checkpointIsSigned(checkpoint, key));
  if (verifier === undefined) return says(403, "The checkpoint is not signed by its log's key.");
  if (oldSize > checkpoint.size) return says(400, "The old size is above the checkpoint's.");

  const lastNote = readLast(dir, checkpoint.origin);
  const last = lastNote === null ? null : parseCheckpoint(lastNote);
  const lastSize = last?.size ?? 0;
  if (oldSize !== lastSize) {
    if (checkpoint.size < lastSize) keepConflict(dir, "shrunk", lastNote, checkpoint, log);
    return { status: 409, contentType: "text/x.tlog.size", body: `${lastSize}\n` };
  }
  if (last !== null && checkpoint.size === lastSize && !checkpoint.root.equals(last.root)) {
    keepConflict(dir, "fork", lastNote, checkpoint, log);
    return { status: 409, contentType: "text/x.tlog.size", body: `${lastSize}\n` };
  }
  if (last !== null && !consistencyHolds(lastSize, last.root, checkpoint.size, checkpoint.root, proof)) {
    keepConflict(dir, "unproven", lastNote, checkpoint, log);
    return says(422, "The proof does not lead from the last checkpoint to this one.");
  }
  if (last === null && proof.length > 0) return says(422, "From nothing there is nothing to prove.");

  const signature = cosign(checkpoint, own.verifier.name, own.key as KeyObject, Math.floor(now() / 1000));
  // On the disk before anybody has it: a witness that forgot what it signed could be led to sign a fork.
  await replaceFile(dir, nameOf(checkpoint.origin), withSignature(checkpoint.note, signature));
  return says(200, formatSignature(signature).trimEnd());
}

interface Request {
  readonly oldSize: number;
  readonly proof: readonly Buffer[];
  readonly checkpoint: SignedCheckpoint;
}

function parseRequest(body: Buffer): Request | null {
  if (body.length > requestBytesMax) return null;
  const text = body.toString("utf8");
  const split = text.indexOf("\n\n");
  const [first = "", ...hashes] = text.slice(0, Math.max(split, 0)).split("\n");
  const oldSize = Number(/^old (0|[1-9]\d*)$/.exec(first)?.[1] ?? Number.NaN);
  if (!Number.isSafeInteger(oldSize) || hashes.length > proofHashesMax) return null;
  const proof = hashes.map(exactBase64);
  if (proof.some((hash) => hash?.length !== hashBytes)) return null;
  try {
    // From the bytes: what is no UTF-8 is refused there, not made good here.
    return { oldSize, proof: proof as Buffer[], checkpoint: parseCheckpoint(body.subarray(body.indexOf("\n\n") + 2)) };
  } catch (error) {
    if (error instanceof WeirError) return null;
    throw error;
  }
}

function keepConflict(
  dir: string,
  kind: "shrunk" | "fork" | "unproven",
  last: string | null,
  checkpoint: SignedCheckpoint,
  log: Required<WitnessOptions>["log"],
): void {
  log("warn", `witness: ${checkpoint.origin} ${kind} at ${checkpoint.size} leaves: refused`);
  const folder = join(dir, conflictsDir);
  if (readdirSync(folder).length >= conflictsMax) return;
  const { text } = checkpoint.note;
  const name = `${kind}-${createHash("sha256").update(text).digest("hex").slice(0, 16)}`;
  const signatures = checkpoint.note.signatures.map(formatSignature).join("");
  writeFileSync(join(folder, name), `${last ?? ""}\n===\n${text}\n${signatures}`, { mode: 0o600 });
}

function nameOf(origin: string): string {
  return `${createHash("sha256").update(origin).digest("hex")}.checkpoint`;
}

function readLast(dir: string, origin: string): string | null {
  try {
    return readFileSync(join(dir, nameOf(origin)), "utf8");
  } catch (error) {
    if ((error as NodeJS.ErrnoException).code === "ENOENT") return null;
    throw error;
  }
}

function says(status: WitnessAnswer["status"], sentence: string): WitnessAnswer {
  return { status, contentType: "text/plain; charset=utf-8", body: `${sentence}\n` };
}
