/** The log's and the witness's own keys: the private one 0600, the public one beside it as a verifier key. */
import { createPrivateKey, generateKeyPairSync, type KeyObject, randomBytes } from "node:crypto";
import { existsSync, readFileSync, renameSync, writeFileSync } from "node:fs";
import { hostname } from "node:os";
import { join } from "node:path";
import { readFileOr, WeirError, whyUnread } from "../../agent/errors.ts";
import { formatVerifier, noteKeyType, parseVerifier, type VerifierKey, verifierOf } from "./note.ts";

export interface OwnKey {
  readonly key: KeyObject;
  readonly verifier: VerifierKey;
}

export interface KeyFiles {
  readonly private: string;
  readonly verifier: string;
}

export const logKeyFiles: KeyFiles = { private: "log-key.pem", verifier: "log-key.vkey" };
export const witnessKeyFiles: KeyFiles = { private: "witness-key.pem", verifier: "witness-key.vkey" };

/** Makes them at the first start; `name` is asked for only then. */
export function openOwnKey(dir: string, files: KeyFiles, name: () => string, type: number = noteKeyType): OwnKey {
  const [privatePath, verifierPath] = [join(dir, files.private), join(dir, files.verifier)];
  if (!existsSync(privatePath)) {
    // Another key under the old name would be another log that says it is this one.
    if (existsSync(verifierPath))
      throw new WeirError("WEIR_CHAIN_BROKEN", `${privatePath} is missing. Move ${dir} away to begin anew.`);
    write(privatePath, generateKeyPairSync("ed25519").privateKey.export({ type: "pkcs8", format: "pem" }), 0o600);
  }
  const anew = `Restore it, or move ${dir} away to begin anew.`;
  const key = readFileOr("WEIR_STATE_DAMAGED", privatePath, anew, () => createPrivateKey(readFileSync(privatePath)));
  if (!existsSync(verifierPath)) write(verifierPath, `${formatVerifier(verifierOf(name(), key, type))}\n`, 0o644);
  const verifier = readVerifier(verifierPath);
  if (!verifierOf(verifier.name, key, type).keyId.equals(verifier.keyId))
    throw new WeirError("WEIR_CHAIN_BROKEN", `${verifierPath} is not the key of ${privatePath}.`);
  return { key, verifier };
}

export function readVerifier(path: string): VerifierKey {
  return parseVerifier(readText(path));
}

/** A verifier key as a person gives it: itself, or a file that holds it. */
export function verifierArgument(text: string): VerifierKey {
  return existsSync(text) ? readVerifier(text) : parseVerifier(text);
}

/** A name that no other log has: schema-less, as the format asks for. */
export function freshName(part: string): string {
  const host = hostname().replace(/[^A-Za-z0-9.-]/g, "-") || "host";
  return `${host}/weir/${part}-${randomBytes(4).toString("hex")}`;
}

function write(path: string, text: string | Buffer, mode: number): void {
  writeFileSync(`${path}.new`, text, { mode, flush: true });
  renameSync(`${path}.new`, path);
}

function readText(path: string): string {
  try {
    return readFileSync(path, "utf8");
  } catch (cause) {
    throw new WeirError("WEIR_USAGE", `${path} cannot be read: ${whyUnread(cause)}.`, { cause });
  }
}
