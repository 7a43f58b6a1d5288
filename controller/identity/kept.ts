/**
 * What sign-in keeps: who is signed in, and what has to come back once. In the store, so that each of several controllers
 * knows it (store/sqlite-sign-ins.ts, store/postgres-sign-ins.ts). A key is a digest: who reads the store has no cookie.
 */
import type { SignedIn } from "./claims.ts";

export interface KeptSession {
  readonly key: string;
  readonly person: SignedIn;
  readonly atMs: number;
  readonly seenMs: number;
}

/** What is known once, and of which kind: the same key may be of several. */
export interface KeptOnce {
  readonly kind: "oidc" | "saml" | "saml-request" | "saml-ticket" | "used-assertion" | "used-logout";
  readonly key: string;
  readonly value: string;
  readonly untilMs: number;
}

export interface Ended {
  /** Null: of every issuer. */
  readonly issuer: string | null;
  /** With both said, only that session ends (Back-Channel Logout 1.0, section 2.4). */
  readonly subject: string | null;
  readonly sid: string | null;
}

/** How long a session lives, and how long while nobody comes. */
export const sessionMsMax = 12 * 3_600_000;
export const idleMsMax = 3_600_000;
/** Beyond this the longest idle goes. */
export const sessionsMax = 10_000;
/** Of one kind. */
export const keptMax = 10_000;

export interface SignInStore {
  addSession(session: KeptSession, max?: number): Promise<void>;
  session(key: string): Promise<KeptSession | null>;
  seenSession(key: string, seenMs: number): Promise<void>;
  /** Answers with whose it was. */
  removeSession(key: string): Promise<SignedIn | null>;
  /** Those that began by then. */
  endSessions(whose: Ended, beforeMs: number): Promise<void>;
  /**
   * False: it is kept already, or there are too many. With `evict` the oldest go instead: right for what somebody begins,
   * wrong for what must not come twice.
   */
  keep(once: KeptOnce, nowMs: number, full: "evict" | "refuse", max?: number): Promise<boolean>;
  kept(kind: KeptOnce["kind"], key: string, nowMs: number): Promise<string | null>;
  /** To one who asks, whichever controller is asked. */
  take(kind: KeptOnce["kind"], key: string, nowMs: number): Promise<string | null>;
}

/** As a store has it. */
export function personIn(text: unknown): SignedIn {
  return JSON.parse(String(text)) as SignedIn;
}
