/** Signed heads: the agent's Ed25519 key says how long the chain is and what its last link is. One JSON line each. */
import { createPrivateKey, createPublicKey, generateKeyPairSync, type KeyObject, sign, verify } from "node:crypto";
import {
  closeSync,
  existsSync,
  fstatSync,
  openSync,
  readFileSync,
  readSync,
  statSync,
  truncateSync,
  writeFileSync,
} from "node:fs";
import { join } from "node:path";
import { readFileOr, WeirError } from "../errors.ts";
import { replaceFile } from "../files/replace-file.ts";

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
/** The one before it (heads-file.ts). */
export const earlierHeadsFile = "heads.1.jsonl";
/** Of the file's end: a line is some 300 bytes, and an agent's name is short. */
const lastHeadBytes = 64 * 1024;
export const publicKeyFile = "agent-key.pub.pem";

/** The key that signs, made at first start; and the heads are made ready for the next one. */
export function openAgentKey(stateDir: string): KeyObject {
  cutUnfinishedLine(join(stateDir, headsFile));
  const path = join(stateDir, "agent-key.pem");
  if (!existsSync(path)) {
    const { privateKey } = generateKeyPairSync("ed25519");
    replaceFile(path, privateKey.export({ type: "pkcs8", format: "pem" }));
  }
  const anew = `Restore it, or move ${stateDir} away to begin another record.`;
  const key = readFileOr("WEIR_STATE_DAMAGED", path, anew, () => createPrivateKey(readFileSync(path)));
  writeFileSync(join(stateDir, publicKeyFile), createPublicKey(key).export({ type: "spki", format: "pem" }), {
    mode: 0o644,
  });
  return key;
}

/** Of whose record is checked. Throws WEIR_USAGE. */
export function readPublicKey(path: string): KeyObject {
  try {
    return createPublicKey(readFileSync(path));
  } catch (cause) {
    const reason = cause instanceof Error ? cause.message : String(cause);
    throw new WeirError("WEIR_USAGE", `${path} is not a public key that can be read: ${reason}.`, { cause });
  }
}

export function signHead(head: Omit<Head, "signature">, key: KeyObject): Head {
  return { ...head, signature: sign(null, statement(head), key).toString("base64") };
}

export function headIsSigned(head: Head, key: KeyObject): boolean {
  try {
    const signature = Buffer.from(head.signature, "base64");
    // Base64 has several texts for the same bytes; only the one that we write is ours.
    return signature.toString("base64") === head.signature && verify(null, statement(head), key, signature);
  } catch {
    return false;
  }
}

/** All that are kept, oldest first. Throws WEIR_SPOOL_CORRUPT with the number of a line that cannot be read. */
export function readHeads(stateDir: string): Head[] {
  const inode = (name: string): number | undefined => statSync(join(stateDir, name), { throwIfNoEntry: false })?.ino;
  // Killed while the one became the other, both are the same.
  const names = inode(earlierHeadsFile) === inode(headsFile) ? [headsFile] : [earlierHeadsFile, headsFile];
  return names.flatMap((name) => headsOf(stateDir, name));
}

function headsOf(stateDir: string, name: string): Head[] {
  const path = join(stateDir, name);
  const text = readOrEmpty(path).toString("utf8");
  // A line without its end was being written when the agent was killed.
  const lines = text.slice(0, text.lastIndexOf("\n") + 1).split("\n");
  lines.pop();
  return lines.map((line, at) => {
    try {
      return JSON.parse(line) as Head;
    } catch (cause) {
      throw new WeirError("WEIR_SPOOL_CORRUPT", `Line ${at + 1} of ${name} cannot be read.`, { cause });
    }
  });
}

/** The last whole line, without reading the others: a busy agent has 26 MB of them a day. */
export function readLastHead(path: string): Head | null {
  const tail = tailOf(path, lastHeadBytes);
  const lines = tail.slice(0, tail.lastIndexOf("\n") + 1).trimEnd();
  const last = lines.slice(lines.lastIndexOf("\n") + 1);
  if (last === "") return null;
  try {
    return JSON.parse(last) as Head;
  } catch (cause) {
    throw new WeirError("WEIR_SPOOL_CORRUPT", `The last line of ${headsFile} cannot be read.`, { cause });
  }
}

/** Else the next head would be written onto what a killed run left, and both were lost. */
function cutUnfinishedLine(path: string): void {
  const size = statSync(path, { throwIfNoEntry: false })?.size ?? 0;
  const tail = Buffer.from(tailOf(path, lastHeadBytes), "latin1");
  const end = tail.lastIndexOf(10) + 1;
  if (end < tail.length) truncateSync(path, size - tail.length + end);
}

/** As latin1: heads are ASCII. */
function tailOf(path: string, bytesMax: number): string {
  if (!existsSync(path)) return "";
  const fd = openSync(path, "r");
  try {
    const { size } = fstatSync(fd);
    const bytes = Buffer.alloc(Math.min(size, bytesMax));
    readSync(fd, bytes, 0, bytes.length, size - bytes.length);
    return bytes.toString("latin1");
  } finally {
    closeSync(fd);
  }
}

function readOrEmpty(path: string): Buffer {
  try {
    return readFileSync(path);
  } catch (error) {
    if ((error as NodeJS.ErrnoException).code === "ENOENT") return Buffer.alloc(0);
    throw error;
  }
}

function statement(head: Omit<Head, "signature">): Buffer {
  return Buffer.from(`weir-head-v1\n${head.agent}\n${head.size}\n${head.link}\n${head.timeMs}\n${head.closed}\n`);
}
