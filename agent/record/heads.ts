/** Signed heads: the agent's Ed25519 key says how long the chain is and what its last link is. One JSON line each. */
import { createPrivateKey, createPublicKey, generateKeyPairSync, type KeyObject, sign, verify } from "node:crypto";
import { existsSync, readFileSync, renameSync, writeFileSync } from "node:fs";
import { join } from "node:path";

export interface Head {
  readonly agent: string;
  /** Entries in the chain: the last one's agentSeq is one less. */
  readonly size: number;
  /** Hex. */
  readonly link: string;
  readonly timeMs: number;
  /** True for the head of an orderly end. */
  readonly closed: boolean;
  /** Ed25519 (RFC 8032) over the line without it, base64. */
  readonly signature: string;
}

export const headsFile = "heads.jsonl";
export const publicKeyFile = "agent-key.pub.pem";

export function openAgentKey(stateDir: string): KeyObject {
  const path = join(stateDir, "agent-key.pem");
  if (!existsSync(path)) {
    const { privateKey } = generateKeyPairSync("ed25519");
    writeFileSync(`${path}.new`, privateKey.export({ type: "pkcs8", format: "pem" }), { mode: 0o600 });
    renameSync(`${path}.new`, path);
  }
  const key = createPrivateKey(readFileSync(path));
  writeFileSync(join(stateDir, publicKeyFile), createPublicKey(key).export({ type: "spki", format: "pem" }), {
    mode: 0o644,
  });
  return key;
}

export function signHead(head: Omit<Head, "signature">, key: KeyObject): Head {
  return { ...head, signature: sign(null, statement(head), key).toString("base64") };
}

export function headIsSigned(head: Head, key: KeyObject): boolean {
  try {
    return verify(null, statement(head), key, Buffer.from(head.signature, "base64"));
  } catch {
    return false;
  }
}

export function readHeads(path: string): Head[] {
  let text: string;
  try {
    text = readFileSync(path, "utf8");
  } catch {
    return [];
  }
  // A line without its end was being written when the agent was killed.
  const lines = text.slice(0, text.lastIndexOf("\n") + 1).split("\n");
  return lines.filter((line) => line !== "").map((line) => JSON.parse(line) as Head);
}

function statement(head: Omit<Head, "signature">): Buffer {
  return Buffer.from(`weir-head-v1\n${head.agent}\n${head.size}\n${head.link}\n${head.timeMs}\n${head.closed}\n`);
}
