/** The key that a controller's decisions and revocations are signed with; controllers side by side share one file. */
import { createPrivateKey, createPublicKey, generateKeyPairSync, type KeyObject } from "node:crypto";
import { existsSync, mkdirSync, readFileSync, renameSync, writeFileSync } from "node:fs";
import { join } from "node:path";
import { WeirError } from "../agent/errors.ts";

export interface SigningKey {
  readonly privateKey: KeyObject;
  readonly publicKey: KeyObject;
  readonly publicKeyPath: string;
}

const privateFile = "controller-key.pem";
const publicFile = "controller-key.pub.pem";

/** Made at the first start. */
export function openSigningKey(stateDir: string): SigningKey {
  mkdirSync(stateDir, { recursive: true, mode: 0o700 });
  const path = join(stateDir, privateFile);
  if (!existsSync(path)) {
    const { privateKey } = generateKeyPairSync("ed25519");
    writeFileSync(`${path}.new`, privateKey.export({ type: "pkcs8", format: "pem" }), { mode: 0o600 });
    renameSync(`${path}.new`, path);
  }
  let privateKey: KeyObject;
  try {
    privateKey = createPrivateKey(readFileSync(path));
  } catch (cause) {
    throw new WeirError("WEIR_CONFIG_INVALID", `${path} cannot be read as a private key.`, { cause });
  }
  if (privateKey.asymmetricKeyType !== "ed25519")
    throw new WeirError("WEIR_CONFIG_INVALID", `${path} is no Ed25519 key.`);
  const publicKey = createPublicKey(privateKey);
  const publicKeyPath = join(stateDir, publicFile);
  writeFileSync(publicKeyPath, publicKey.export({ type: "spki", format: "pem" }), { mode: 0o644 });
  return { privateKey, publicKey, publicKeyPath };
}
