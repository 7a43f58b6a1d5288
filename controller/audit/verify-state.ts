/** A state directory as a whole, for the page: the record, the audit log beside it, and the receipts that join them. */
import { existsSync } from "node:fs";
import { join } from "node:path";
import { readReceipts } from "../../agent/record/receipts.ts";
import { type Verification, verifyLog } from "../../agent/record/verify.ts";
import { auditDir } from "./log.ts";
import { isAuditLog, type TreeVerification, verifyTree } from "./verify.ts";

export interface StateVerification extends Verification {
  /** Null: there is none, or it has signed for nothing yet. */
  readonly audit: Pick<TreeVerification, "ok" | "origin" | "size" | "receipts" | "firstBad"> | null;
}

/** `ok` and `firstBad` are of both; what is wrong with the record comes first. */
export function verifyState(stateDir: string): StateVerification {
  const dir = join(stateDir, auditDir);
  // Before the tree, which only grows: a receipt is never newer than it.
  const receipts = readReceipts(stateDir, "own");
  const tree =
    existsSync(dir) && isAuditLog(dir)
      ? verifyTree(dir, { key: null, witnesses: [], receipts, otherReceipts: [], checkpoints: new Map() })
      : null;
  const record = verifyLog(stateDir, undefined, tree?.heads ?? []);
  if (tree === null || tree.firstBad?.fault === "empty") return { ...record, audit: null };
  const { ok, origin, size, firstBad } = tree;
  const bad = firstBad === null ? null : { ...firstBad, session: null, agentSeq: null, segment: null, offset: null };
  return {
    ...record,
    ok: record.ok && ok,
    firstBad: record.firstBad ?? bad,
    audit: { ok, origin, size, receipts: tree.receipts, firstBad },
  };
}
