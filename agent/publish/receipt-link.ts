/** Receipts of the controller's audit log, as they come back over Kafka: kept beside the record, for `weir verify`. */
import type { KeyObject } from "node:crypto";
import type { FeedMessage } from "../kafka/feed.ts";
import { receiptKind } from "../kafka/receipt-messages.ts";
import { readSigned } from "../kafka/signed.ts";
import { kindHeader, topics } from "../kafka/topics.ts";
import { asReceipt, keepReceipts } from "../record/receipts.ts";

/** Those of other agents, and what no trusted controller signed, are let be. */
export function linkReceipts(options: {
  readonly agent: string;
  readonly stateDir: string;
  readonly trusted: readonly KeyObject[];
  log(level: "info" | "warn", message: string): void;
}): (message: FeedMessage) => Promise<void> {
  const { agent, stateDir, trusted, log } = options;
  return async ({ topic, key, value, headers }) => {
    if (topic !== topics.checkpoints || key !== agent || String(headers[kindHeader]) !== receiptKind) return;
    const signed = readSigned(receiptKind, value);
    const receipt = signed === null ? null : asReceipt(signed.body);
    if (signed === null || receipt === null || receipt.agent !== agent)
      return log("warn", "receipts: a message cannot be read.");
    if (!trusted.some((one) => signed.isSignedBy(one)))
      return log("warn", "receipts: one is not signed by a controller that is trusted.");
    try {
      await keepReceipts(stateDir, "controllers", [receipt]);
    } catch (error) {
      // The next one covers more.
      log("warn", `receipts: ${error instanceof Error ? error.message : String(error)}`);
    }
  };
}
