/**
 * Checkpoints by C2SP tlog-checkpoint: a signed note of the log's name, its size and its root. Cosignatures by C2SP
 * tlog-cosignature (`cosignature/v1`): a witness says when it saw the log grow to this and not shrink or fork. Pure.
 */
import { type KeyObject, sign } from "node:crypto";
import { WeirError } from "../../agent/errors.ts";
import {
  cosignatureKeyType,
  ed25519Holds,
  exactBase64,
  findSignature,
  formatNote,
  type Note,
  type NoteSignature,
  noteIsSigned,
  parseNote,
  signNote,
  type VerifierKey,
  verifierOf,
} from "./note.ts";
import { hashBytes } from "./tree.ts";

export interface Checkpoint {
  /** The log's name. */
  readonly origin: string;
  readonly size: number;
  readonly root: Buffer;
}

export interface SignedCheckpoint extends Checkpoint {
  readonly note: Note;
}

export function checkpointText({ origin, size, root }: Checkpoint): string {
  return `${origin}\n${size}\n${root.toString("base64")}\n`;
}

export function signCheckpoint(checkpoint: Checkpoint, key: KeyObject): string {
  const text = checkpointText(checkpoint);
  return formatNote({ text, signatures: [signNote(text, checkpoint.origin, key)] });
}

/** Reads it; says nothing of its signatures. Throws WEIR_CHAIN_BROKEN. */
export function parseCheckpoint(bytes: string | Buffer): SignedCheckpoint {
  const note = parseNote(bytes);
  const [origin = "", size = "", root = "", ...extensions] = note.text.slice(0, -1).split("\n");
  const hash = exactBase64(root);
  const count = Number(size);
  if (origin === "" || hash?.length !== hashBytes || !/^(0|[1-9]\d*)$/.test(size) || !Number.isSafeInteger(count))
    throw new WeirError("WEIR_CHAIN_BROKEN", "The checkpoint cannot be read: a name, a size and a root are expected.");
  // Nobody audits extension lines, so a log with them is not ours.
  if (extensions.length > 0)
    throw new WeirError("WEIR_CHAIN_BROKEN", "The checkpoint has lines behind its root that nobody checks.");
  return { origin, size: count, root: hash, note };
}

/** A log signs under its own name: a key of one log is not taken for another. */
export function checkpointIsSigned({ origin, note }: SignedCheckpoint, verifier: VerifierKey): boolean {
  return verifier.name === origin && noteIsSigned(note, verifier);
}

/** The witness has seen this checkpoint follow from all that it has seen before. */
export function cosign({ note }: SignedCheckpoint, name: string, key: KeyObject, timeSeconds: number): NoteSignature {
  const time = Buffer.alloc(8);
  time.writeBigUInt64BE(BigInt(timeSeconds));
  return {
    name,
    keyId: verifierOf(name, key, cosignatureKeyType).keyId,
    signature: Buffer.concat([time, sign(null, cosigned(note.text, BigInt(timeSeconds)), key)]),
  };
}

/** When the witness cosigned, in seconds; null when it has not, or its signature is wrong. */
export function cosignedAt({ note }: SignedCheckpoint, witness: VerifierKey): number | null {
  const found = findSignature(note, witness);
  if (found === null || witness.type !== cosignatureKeyType || found.signature.length < 8) return null;
  const time = found.signature.readBigUInt64BE();
  const holds = ed25519Holds(cosigned(note.text, time), found.signature.subarray(8), witness.key);
  return holds && time <= BigInt(Number.MAX_SAFE_INTEGER) ? Number(time) : null;
}

/** The note with one more signature; an older one by the same key goes. */
export function withSignature(note: Note, signature: NoteSignature): string {
  const others = note.signatures.filter((one) => one.name !== signature.name || !one.keyId.equals(signature.keyId));
  return formatNote({ text: note.text, signatures: [...others, signature] });
}

function cosigned(text: string, time: bigint): Buffer {
  return Buffer.from(`cosignature/v1\ntime ${time}\n${text}`);
}
