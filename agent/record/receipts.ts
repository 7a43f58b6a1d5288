/**
 * Receipts: the audit log's signed word that a head is in it, with the proof. The agent keeps them in its state directory,
 * so that a log which forgets the head later, or shows another tree, is caught. One JSON line each.
 */
import { renameSync, statSync } from "node:fs";
import { appendFile } from "node:fs/promises";
import { join } from "node:path";
import { WeirError } from "../errors.ts";
import { readTextOf } from "../files/read-text.ts";
import type { Head } from "./heads.ts";

export interface Receipt {
  readonly agent: string;
  /** Entries that the head signs for. */
  readonly headSize: number;
  /** Where the head stands in the log. */
  readonly index: number;
  /** Hash of the leaf, base64. */
  readonly leaf: string;
  /** The signed note. */
  readonly checkpoint: string;
  /** From below, base64. */
  readonly proof: readonly string[];
}

/** Whose audit log gave them: the one beside the agent, or a controller's. */
export type ReceiptsOf = "own" | "controllers";

const files = { own: "receipts", controllers: "controller-receipts" } as const;
/** Then `receipts.jsonl` becomes `receipts.1.jsonl`, and the one before goes: a head covers all earlier entries. */
export const receiptsBytesMax = 16 * 1024 * 1024;

/** The bytes that are the leaf: a head as it stands in `heads.jsonl`. */
export function leafOf({ agent, size, link, timeMs, closed, signature }: Head): Buffer {
  return Buffer.from(JSON.stringify({ agent, size, link, timeMs, closed, signature }));
}

/** Null when these bytes are no head. */
export function headOf(leaf: Buffer): Head | null {
  try {
    const head = JSON.parse(leaf.toString("utf8")) as Partial<Head> | null;
    const isHead =
      typeof head?.agent === "string" &&
      Number.isSafeInteger(head.size) &&
      typeof head.link === "string" &&
      typeof head.timeMs === "number" &&
      typeof head.closed === "boolean" &&
      typeof head.signature === "string";
    return isHead && leafOf(head as Head).equals(leaf) ? (head as Head) : null;
  } catch {
    return null;
  }
}

export async function keepReceipts(dir: string, of: ReceiptsOf, receipts: readonly Receipt[]): Promise<void> {
  const path = join(dir, `${files[of]}.jsonl`);
  if (sizeOf(path) > receiptsBytesMax) renameSync(path, join(dir, `${files[of]}.1.jsonl`));
  // Begins with a newline: what a killed run left unfinished is a line of its own then.
  await appendFile(path, receipts.map((receipt) => `\n${JSON.stringify(receipt)}`).join(""), { mode: 0o600 });
}

/** Oldest first. Throws WEIR_SPOOL_CORRUPT for a line that is no receipt, unless it is the last one, cut short. */
export function readReceipts(dir: string, of: ReceiptsOf): Receipt[] {
  return [`${files[of]}.1.jsonl`, `${files[of]}.jsonl`].flatMap((name) => {
    const lines = (readTextOf(join(dir, name)) ?? "").split("\n");
    return lines.flatMap((line, at) => {
      if (line === "") return [];
      const receipt = parse(line);
      if (receipt === null && !line.endsWith("}")) return [];
      if (receipt === null) throw new WeirError("WEIR_SPOOL_CORRUPT", `Line ${at + 1} of ${name} cannot be read.`);
      return [receipt];
    });
  });
}

/** Null when this value is no receipt. */
export function asReceipt(value: unknown): Receipt | null {
  const receipt = value as Partial<Receipt> | null;
  const isReceipt =
    typeof receipt === "object" &&
    typeof receipt?.agent === "string" &&
    Number.isSafeInteger(receipt.headSize) &&
    Number.isSafeInteger(receipt.index) &&
    typeof receipt.leaf === "string" &&
    typeof receipt.checkpoint === "string" &&
    Array.isArray(receipt.proof) &&
    receipt.proof.every((one) => typeof one === "string");
  return isReceipt ? (receipt as Receipt) : null;
}

function parse(line: string): Receipt | null {
  try {
    return asReceipt(JSON.parse(line));
  } catch {
    return null;
  }
}

function sizeOf(path: string): number {
  return statSync(path, { throwIfNoEntry: false })?.size ?? 0;
}
