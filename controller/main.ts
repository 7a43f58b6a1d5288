/** The embedded controller: the approval queue and the web page. */
import { randomBytes } from "node:crypto";
import { WeirError } from "../agent/errors.ts";
import { type Approval, ApprovalStore } from "./approvals/store.ts";
import { type EmbeddedAudit, startEmbeddedAudit } from "./audit/embedded.ts";
import type { WitnessName } from "./audit/witnesses.ts";
import { type Page, startPage } from "./http/server.ts";
import type { HostState } from "./http/state-routes.ts";
import type { SignInSettings } from "./identity/settings.ts";
import { createNotifier, type Notifier } from "./notify/notifier.ts";
import type { NotifySettings } from "./notify/settings.ts";
import { signInsInMemory } from "./store/sqlite-sign-ins.ts";

export type { Approval, ApprovalStore, ApprovalSummary } from "./approvals/store.ts";
export type { HostState } from "./http/state-routes.ts";
export { readSignInSettings } from "./identity/settings.ts";
export { readNotifySettings } from "./notify/settings.ts";

export interface Controller {
  readonly approvals: ApprovalStore;
  readonly audit: EmbeddedAudit;
  /** With the token in its fragment; null without a page. */
  readonly url: string | null;
  close(): Promise<void>;
}

export interface ControllerOptions {
  readonly stateDir: string;
  /** Null: the queue only. */
  readonly listen: { readonly host: string; readonly port: number } | null;
  /** What the page tells about the agents; none by default. */
  readonly state?: HostState;
  /** Who is told of what waits; nobody by default. */
  readonly notify?: NotifySettings | null;
  /** Who may sign in to the page; by default who has the printed address alone. */
  readonly signIn?: SignInSettings | null;
  readonly witnesses?: readonly WitnessName[];
  /** Told of each approval that waits or is decided. */
  readonly changed?: (approval: Approval) => void;
  readonly log?: (level: "info" | "warn", message: string) => void;
}

/** An agent with its own controller has its files at hand. */
export const noPolicies: HostState["policies"] = { latest: () => [], version: () => null };

const noState: HostState = {
  agents: () => [],
  policies: noPolicies,
  live: () => [],
  end: () => false,
  revoke: () => Promise.reject(new WeirError("WEIR_CONTROL_REFUSED", "No agent is here to revoke for.")),
  refusal: () => null,
  loggedOut: () => {},
  note: () => {},
};

export async function createController(options: ControllerOptions): Promise<Controller> {
  const { stateDir, listen, state = noState, notify = null, signIn = null, witnesses = [], log = () => {} } = options;
  const audit = startEmbeddedAudit({ stateDir, witnesses, log });
  let page: Page | null = null;
  let notifier: Notifier | null = null;
  const approvals = new ApprovalStore({
    now: Date.now,
    newId: base32Id,
    changed(approval) {
      page?.changed(approval);
      notifier?.changed(approval);
      options.changed?.(approval);
    },
  });
  if (listen !== null) {
    const token = randomBytes(24).toString("base64url");
    const signing = signIn === null ? null : { settings: signIn, store: signInsInMemory() };
    page = await startPage({ ...listen, token, approvals, stateDir, state, signIn: signing }).catch(
      async (error: unknown) => {
        await audit.close();
        throw error;
      },
    );
  }
  if (notify !== null) {
    const address = page?.url.replace(/\/#.*$/, "") ?? "";
    notifier = createNotifier({ ...notify, page: address, log });
  }
  return {
    approvals,
    audit,
    url: page?.url ?? null,
    close: async () => {
      await notifier?.close();
      await page?.close();
      await audit.close();
    },
  };
}

function base32Id(): string {
  return Array.from(randomBytes(8), (byte) => "abcdefghijklmnopqrstuvwxyz234567"[byte & 31]).join("");
}
