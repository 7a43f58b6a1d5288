/** Signed notes by C2SP signed-note: a text, an empty line, and lines of `— name base64(key id, signature)`. Pure. */
import { createPublicKey, hash, type KeyObject, sign, verify } from "node:crypto";
import { WeirError } from "../../agent/errors.ts";

export const noteBytesMax = 1024 * 1024;
/** The format asks for 16 at least. */
export const signaturesMax = 64;
const publicKeyBytes = 32;
const signatureBytes = 64;
/** Of DER: SubjectPublicKeyInfo with the algorithm id-Ed25519 (RFC 8410 §4), before the key's 32 bytes. */
const spkiHead = Buffer.from("302a300506032b6570032100", "hex");

/** First byte of a key that says what it signs. */
export const noteKeyType = 0x01;
export const cosignatureKeyType = 0x04;

export interface NoteSignature {
  readonly name: string;
  readonly keyId: Buffer;
  readonly signature: Buffer;
}

export interface Note {
  /** With its last newline. */
  readonly text: string;
  readonly signatures: readonly NoteSignature[];
}

/** Who signs: `name+keyid+base64(type, key)` as text. */
export interface VerifierKey {
  readonly name: string;
  readonly keyId: Buffer;
  readonly type: number;
  readonly key: KeyObject;
}

export function parseNote(bytes: string | Buffer): Note {
  const text = typeof bytes === "string" ? bytes : utf8(bytes);
  if (text.length > noteBytesMax) throw malformed(`it is longer than ${noteBytesMax} bytes`);
  if (hasControls(text)) throw malformed("it has control characters");
  const split = text.lastIndexOf("\n\n");
  if (split < 0 || !text.endsWith("\n")) throw malformed("it has no empty line before its signatures");
  const lines = text.slice(split + 2, -1).split("\n");
  if (lines.length > signaturesMax) throw malformed(`it has more than ${signaturesMax} signatures`);
  return { text: text.slice(0, split + 1), signatures: lines.map(parseSignature) };
}

export function formatNote({ text, signatures }: Note): string {
  return `${text}\n${signatures.map(formatSignature).join("")}`;
}

/** A line with its end. */
export function formatSignature({ name, keyId, signature }: NoteSignature): string {
  return `— ${name} ${Buffer.concat([keyId, signature]).toString("base64")}\n`;
}

export function signNote(text: string, name: string, key: KeyObject): NoteSignature {
  return { name, keyId: verifierOf(name, key).keyId, signature: sign(null, Buffer.from(text), key) };
}

/** The signature of this key in the note; null when there is none by its name and id. */
export function findSignature(note: Note, { name, keyId }: VerifierKey): NoteSignature | null {
  return note.signatures.find((one) => one.name === name && one.keyId.equals(keyId)) ?? null;
}

export function noteIsSigned(note: Note, verifier: VerifierKey): boolean {
  const found = findSignature(note, verifier);
  return found !== null && ed25519Holds(Buffer.from(note.text), found.signature, verifier.key);
}

export function ed25519Holds(message: Buffer, signature: Buffer, key: KeyObject): boolean {
  return signature.length === signatureBytes && verify(null, message, key, signature);
}

/** Of a private or public key. */
export function verifierOf(name: string, key: KeyObject, type: number = noteKeyType): VerifierKey {
  if (!isKeyName(name)) throw malformed(`"${name}" cannot be a key's name`);
  const publicKey = key.type === "private" ? createPublicKey(key) : key;
  return { name, type, key: publicKey, keyId: keyIdOf(name, type, rawKey(publicKey)) };
}

export function formatVerifier({ name, keyId, type, key }: VerifierKey): string {
  return `${name}+${keyId.toString("hex")}+${Buffer.concat([Buffer.from([type]), rawKey(key)]).toString("base64")}`;
}

/** Throws WEIR_USAGE: such a text comes from a person. */
export function parseVerifier(text: string): VerifierKey {
  const [, name = "", id = "", encoded = ""] = /^([^+\s]+)\+([0-9a-f]{8})\+([A-Za-z0-9+/=]+)$/.exec(text.trim()) ?? [];
  const bytes = Buffer.from(encoded, "base64");
  const type = bytes[0] ?? 0;
  if (name === "" || bytes.length !== 1 + publicKeyBytes || (type !== noteKeyType && type !== cosignatureKeyType))
    throw new WeirError("WEIR_USAGE", "A verifier key looks like NAME+8 hex digits+BASE64, for Ed25519.");
  const key = createPublicKey({ key: Buffer.concat([spkiHead, bytes.subarray(1)]), format: "der", type: "spki" });
  const keyId = keyIdOf(name, type, bytes.subarray(1));
  if (keyId.toString("hex") !== id)
    throw new WeirError("WEIR_USAGE", `The verifier key of ${name} is damaged: its id does not fit the key.`);
  return { name, keyId, type, key };
}

export function isKeyName(name: string): boolean {
  return name !== "" && !/[\s+]/u.test(name) && !hasControls(name);
}

/** Base64 has several texts for the same bytes; only the one that is written is taken. */
export function exactBase64(text: string): Buffer | null {
  const bytes = Buffer.from(text, "base64");
  return bytes.toString("base64") === text ? bytes : null;
}

/** A line without its end. */
export function parseSignature(line: string): NoteSignature {
  const [dash, name = "", encoded = "", ...rest] = line.split(" ");
  const bytes = exactBase64(encoded);
  if (dash !== "—" || rest.length > 0 || !isKeyName(name) || bytes === null || bytes.length < 5)
    throw malformed("a signature line cannot be read");
  return { name, keyId: bytes.subarray(0, 4), signature: bytes.subarray(4) };
}

function keyIdOf(name: string, type: number, raw: Buffer): Buffer {
  const hex = hash("sha256", Buffer.concat([Buffer.from(`${name}\n`), Buffer.from([type]), raw]), "hex");
  return Buffer.from(hex.slice(0, 8), "hex");
}

function rawKey(key: KeyObject): Buffer {
  return key.export({ type: "spki", format: "der" }).subarray(-publicKeyBytes);
}

function utf8(bytes: Buffer): string {
  try {
    return new TextDecoder("utf-8", { fatal: true, ignoreBOM: true }).decode(bytes);
  } catch (cause) {
    throw malformed("it is no UTF-8", cause);
  }
}

function hasControls(text: string): boolean {
  for (let at = 0; at < text.length; at += 1) {
    const code = text.charCodeAt(at);
    if (code < 0x20 && code !== 0x0a) return true;
  }
  return false;
}

function malformed(why: string, cause?: unknown): WeirError {
  return new WeirError("WEIR_CHAIN_BROKEN", `The signed note cannot be read: ${why}.`, { cause });
}
