/** Receipts of a controller's audit log on their way back to the agent, signed as everything that controllers say. */
import type { KeyObject } from "node:crypto";
import type { Receipt } from "../record/receipts.ts";
import { signMessage } from "./signed.ts";
import { kindHeader, topics } from "./topics.ts";
import type { OutMessage } from "./transport.ts";

export const receiptKind = "receipt";

export function receiptMessage(receipt: Receipt, key: KeyObject): OutMessage {
  return {
    topic: topics.checkpoints,
    key: receipt.agent,
    value: signMessage(receiptKind, receipt, key),
    headers: { [kindHeader]: receiptKind },
  };
}
