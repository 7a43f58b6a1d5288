/**
 * Checks an audit log offline, by its files alone: every tile follows from the entries, the root is the signed one, and
 * receipts and checkpoints that others kept are of this same tree. Streams; memory grows with the heads only.
 */
import { existsSync, readFileSync } from "node:fs";
import { join } from "node:path";
import { WeirError, whyUnread } from "../../agent/errors.ts";
import type { Head } from "../../agent/record/heads.ts";
import { headOf, type Receipt } from "../../agent/record/receipts.ts";
import type { Fault } from "../../agent/record/verify.ts";
import { checkpointIsSigned, cosignedAt, parseCheckpoint, type SignedCheckpoint } from "./checkpoint.ts";
import { checkpointFile, readFrom } from "./files.ts";
import { logKeyFiles, readVerifier } from "./keys.ts";
import type { VerifierKey } from "./note.ts";
import { Edge, entriesOf, type ReadFile, readTile, tileHashes, tileWidth } from "./tiles.ts";
import { type HashReader, inclusionHolds, leafHash, rootOf } from "./tree.ts";
import { witnessedFile } from "./witnesses.ts";

export interface BadTree {
  readonly fault: Fault;
  readonly leaf: number | null;
  readonly sentence: string;
}

export interface TreeVerification {
  readonly ok: boolean;
  readonly origin: string;
  /** Leaves that the checkpoint signs for. */
  readonly size: number;
  /** That hold. */
  readonly receipts: number;
  /** When each witness asked for cosigned, in seconds. */
  readonly witnessed: Readonly<Record<string, number>>;
  readonly heads: readonly Head[];
  readonly firstBad: BadTree | null;
}

export interface TreeEvidence {
  /** The log's key; null: the one that stands beside it. */
  readonly key: VerifierKey | null;
  /** Each has to have cosigned. */
  readonly witnesses: readonly VerifierKey[];
  /** All of this log: one of another log is as bad as a forged one. */
  readonly receipts: readonly Receipt[];
  /** Of several logs: those of this one count. */
  readonly otherReceipts: readonly Receipt[];
  /** Signed notes of this log that somebody kept, by where they come from. */
  readonly checkpoints: ReadonlyMap<string, Buffer>;
}

/** What is bad as soon as it is found. */
class Bad extends Error {
  readonly bad: BadTree;
  constructor(fault: Fault, leaf: number | null, sentence: string) {
    super(sentence);
    this.bad = { fault, leaf, sentence };
  }
}

interface State {
  origin: string;
  size: number;
  receipts: number;
  heads: Head[];
  witnessed: Record<string, number>;
}

export function isAuditLog(dir: string): boolean {
  return [checkpointFile, logKeyFiles.verifier, "tile"].some((name) => existsSync(join(dir, name)));
}

export function verifyTree(dir: string, evidence: TreeEvidence): TreeVerification {
  const state: State = { origin: "", size: 0, receipts: 0, heads: [], witnessed: {} };
  let firstBad: BadTree | null = null;
  try {
    check(dir, evidence, state);
  } catch (error) {
    if (error instanceof Bad) firstBad = error.bad;
    // A tile or a note that cannot be read.
    else if (error instanceof WeirError && error.code === "WEIR_CHAIN_BROKEN")
      firstBad = { fault: error.message.includes("missing") ? "gap" : "damaged", leaf: null, sentence: error.message };
    else throw error;
  }
  return { ok: firstBad === null, ...state, firstBad };
}

function check(
  dir: string,
  { key, witnesses, receipts, otherReceipts, checkpoints }: TreeEvidence,
  state: State,
): void {
  const read = readFrom(dir);
  // Before the checkpoint: of a log that grows meanwhile the later one is the checkpoint.
  const witnessed = read(witnessedFile);
  const signed = read(checkpointFile);
  if (signed === null) {
    const begun = existsSync(join(dir, "tile"));
    throw begun
      ? new Bad("truncated", null, `The audit log in ${dir} has leaves and no checkpoint: it was taken away.`)
      : new Bad("empty", null, `The audit log in ${dir} has signed for nothing.`);
  }
  const verifier = key ?? readVerifier(join(dir, logKeyFiles.verifier));
  const checkpoint = parseCheckpoint(signed);
  state.origin = checkpoint.origin;
  state.size = checkpoint.size;
  if (!checkpointIsSigned(checkpoint, verifier))
    throw new Bad(
      "wrong-key",
      null,
      `The checkpoint over ${checkpoint.size} leaves is not signed by ${verifier.name}.`,
    );
  checkLeaves(read, checkpoint, state.heads);
  // One for all: receipts come by the thousand, and their roots are made of the same tiles.
  const hashes = tileHashes(read, checkpoint.size);

  const others = new Map(checkpoints);
  if (witnessed !== null) others.set(witnessedFile, witnessed);
  for (const [place, note] of others) checkCheckpoint(hashes, checkpoint, parseCheckpoint(note), verifier, place);
  const ofThis = otherReceipts.filter((receipt) => parseCheckpoint(receipt.checkpoint).origin === verifier.name);
  for (const receipt of [...receipts, ...ofThis]) checkReceipt(hashes, checkpoint, receipt, verifier);
  state.receipts = receipts.length + ofThis.length;
  for (const witness of witnesses) {
    const times = [...others.values()].map((note) => cosignedAt(parseCheckpoint(note), witness));
    const last = Math.max(...times.map((time) => time ?? -1));
    if (last < 0)
      throw new Bad("wrong-key", null, `The witness ${witness.name} has cosigned no checkpoint of this log.`);
    state.witnessed[witness.name] = last;
  }
}

/** Builds the tree anew from its entries, and holds every tile that is made against the one that is there. */
function checkLeaves(read: ReadFile, checkpoint: SignedCheckpoint, heads: Head[]): void {
  const { size, root } = checkpoint;
  let edge = new Edge();
  for (let index = 0; index * tileWidth < size; index += 1) {
    const first = index * tileWidth;
    const wanted = Math.min(tileWidth, size - first);
    const bundle = readTile(read, "entries", index, size);
    const entries = entriesOf(bundle)?.slice(0, wanted);
    if (entries === undefined) throw new Bad("damaged", first, `The entries from leaf ${first} on cannot be read.`);
    checkHashes(readTile(read, 0, index, size), entries, first);
    if (entries.length < wanted) {
      const there = first + entries.length;
      throw new Bad("truncated", there, `The audit log ends at leaf ${there}, and it has signed for ${size}.`);
    }
    const next = edge.append(entries);
    for (const { path, bytes } of next.files) {
      const stored = read(path);
      if (stored !== null && !stored.equals(bytes))
        throw new Bad("altered", first, `${path} of the audit log does not follow from its leaves.`);
    }
    edge = next.edge;
    heads.push(...entries.map(headOf).filter((head) => head !== null));
  }
  if (edge.root().equals(root)) return;
  const back = firstStepBack(heads);
  if (back !== null)
    throw new Bad(
      "reordered",
      null,
      `A head of agent ${back.agent} over ${back.size} entries stands behind a later one.`,
    );
  throw new Bad("altered", null, `The ${size} leaves of the audit log are not the ones that were signed for.`);
}

/** Level 0: one hash a leaf. */
function checkHashes(tile: Buffer, entries: readonly Buffer[], first: number): void {
  const hashes = entries.map((entry) => leafHash(entry).toString("hex"));
  const wanted = Array.from({ length: tile.length / 32 }, (_, at) => tile.toString("hex", at * 32, at * 32 + 32));
  const bad = hashes.findIndex((hash, at) => hash !== wanted[at]);
  if (bad < 0) return;
  const leaf = first + bad;
  if (wanted.includes(hashes[bad] as string) && hashes.includes(wanted[bad] as string))
    throw new Bad("reordered", leaf, `Leaf ${leaf} of the audit log stands where another belongs.`);
  if (wanted[bad + 1] === hashes[bad])
    throw new Bad("gap", leaf, `Leaf ${leaf} of the audit log is missing: the ones behind it moved up.`);
  throw new Bad("altered", leaf, `Leaf ${leaf} of the audit log is not the one that was hashed into the tree.`);
}

/** Signed later, and for less: within one agent that is never so. */
function firstStepBack(heads: readonly Head[]): Head | null {
  const last = new Map<string, Head>();
  for (const head of heads) {
    const before = last.get(head.agent);
    if (before !== undefined && head.size < before.size && head.timeMs <= before.timeMs) return head;
    last.set(head.agent, head);
  }
  return null;
}

function checkCheckpoint(
  hashes: HashReader,
  checkpoint: SignedCheckpoint,
  other: SignedCheckpoint,
  verifier: VerifierKey,
  place: string,
): void {
  if (!checkpointIsSigned(other, verifier))
    throw new Bad("wrong-key", null, `The checkpoint of ${place} is not signed by ${verifier.name}.`);
  if (other.size > checkpoint.size) {
    const sentence = `The log signed for ${other.size} leaves (${place}), and shows ${checkpoint.size} here: ${other.size - checkpoint.size} are cut off its end.`;
    throw new Bad("truncated", checkpoint.size, sentence);
  }
  if (rootOf(hashes, other.size).equals(other.root)) return;
  const sentence = `The log signed for other ${other.size} leaves (${place}) than it shows here: it has two faces.`;
  throw new Bad("split-view", null, sentence);
}

function checkReceipt(hashes: HashReader, checkpoint: SignedCheckpoint, receipt: Receipt, verifier: VerifierKey): void {
  const place = `receipt of agent ${receipt.agent} for ${receipt.headSize} entries`;
  const signed = parseCheckpoint(receipt.checkpoint);
  const proof = receipt.proof.map((hash) => Buffer.from(hash, "base64"));
  const leaf = Buffer.from(receipt.leaf, "base64");
  if (!inclusionHolds(leaf, receipt.index, signed.size, proof, signed.root))
    throw new Bad("altered", receipt.index, `The ${place} does not prove its leaf ${receipt.index}.`);
  checkCheckpoint(hashes, checkpoint, signed, verifier, place);
}

/** A checkpoint that somebody kept. */
export function readCheckpointFile(path: string): Buffer {
  try {
    return readFileSync(path);
  } catch (cause) {
    throw new WeirError("WEIR_USAGE", `${path} cannot be read: ${whyUnread(cause)}.`, { cause });
  }
}
