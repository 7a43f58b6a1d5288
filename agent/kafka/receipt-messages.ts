/** Receipts of a controller's audit log on their way back to the agent, signed as everything that controllers say. */
import type { KeyObject } from "node:crypto";
import type { Receipt } from "../record/receipts.ts";
import { signedMessage } from "./signed.ts";
import { topics } from "./topics.ts";
import type { OutMessage } from "./transport.ts";

export const receiptKind = "receipt";

export function receiptMessage(receipt: Receipt, key: KeyObject): OutMessage {
  return signedMessage({ topic: topics.checkpoints, key: receipt.agent }, receiptKind, receipt, key);
}
