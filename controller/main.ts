/** The embedded controller: the approval queue and the web page. */
import { randomBytes } from "node:crypto";
import { ApprovalStore } from "./approvals/store.ts";
import { type Page, startPage } from "./http/server.ts";

export type { Approval, ApprovalStore } from "./approvals/store.ts";

export interface Controller {
  readonly approvals: ApprovalStore;
  /** With the token in its fragment; null without a page. */
  readonly url: string | null;
  close(): Promise<void>;
}

export interface ControllerOptions {
  readonly stateDir: string;
  /** Null: the queue only. */
  readonly listen: { readonly host: string; readonly port: number } | null;
}

export async function createController({ stateDir, listen }: ControllerOptions): Promise<Controller> {
  let page: Page | null = null;
  const approvals = new ApprovalStore({
    now: Date.now,
    newId: base32Id,
    changed: (approval) => page?.changed(approval),
  });
  if (listen !== null) {
    page = await startPage({ ...listen, token: randomBytes(24).toString("base64url"), approvals, stateDir });
  }
  return {
    approvals,
    url: page?.url ?? null,
    close: async () => {
      await page?.close();
    },
  };
}

function base32Id(): string {
  return Array.from(randomBytes(8), (byte) => "abcdefghijklmnopqrstuvwxyz234567"[byte & 31]).join("");
}
