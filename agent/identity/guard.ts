/** Ends flows whose identity holds no longer: at once when it is revoked, in a moment when it expires. */
import type { Flow, Identity } from "../core/flow.ts";
import type { EntryBody } from "../core/record.ts";
import type { ReadonlyRoster } from "../core/roster.ts";
import type { Identities } from "./registry.ts";

const checkMs = 250;
/** Runs end quietly; their bindings are looked through this often. */
const tidyMs = 10_000;

export interface GuardedSession {
  readonly flow: Flow;
  terminate(code: string, reason: string): void;
}

export interface Guard {
  /** Checks every flow now. The number of those that ended. */
  check(): number;
  close(): void;
}

export interface GuardOptions {
  readonly identities: Identities;
  readonly sessions: ReadonlyRoster<GuardedSession>;
  /** Into the session's own record. */
  record(session: string, body: EntryBody): void;
  log(level: "info" | "warn", message: string): void;
}

export function guardSessions({ identities, sessions, record, log }: GuardOptions): Guard {
  let seen = identities.version();
  let tidiedAtMs = performance.now();
  /** They take a moment to go, and are told once. */
  const told = new WeakSet<GuardedSession>();

  function check(): number {
    let ended = 0;
    seen = identities.version();
    for (const session of [...sessions]) {
      const reason = told.has(session) ? null : reasonToEnd(identities, session.flow);
      if (reason === null) continue;
      ended += 1;
      told.add(session);
      const code = "WEIR_IDENTITY_REVOKED";
      try {
        record(session.flow.id, { type: "refused", code, reason, flow: null });
      } catch (error) {
        log("warn", `${session.flow.id}: WEIR_SPOOL_WRITE: ${messageOf(error)}`);
      }
      session.terminate(code, reason);
    }
    return ended;
  }

  function look(): void {
    try {
      const version = identities.version();
      if (version !== seen) {
        seen = version;
        check();
      }
      if (performance.now() - tidiedAtMs < tidyMs) return;
      tidiedAtMs = performance.now();
      identities.tidy();
    } catch (error) {
      log("warn", `identities: ${messageOf(error)}`);
    }
  }

  const timer = setInterval(look, checkMs);
  timer.unref();
  return { check, close: () => clearInterval(timer) };
}

function reasonToEnd(identities: Identities, flow: Flow): string | null {
  const refusal = identities.refusal(flow.process);
  if (refusal !== null) return refusal;
  const now = identities.of(flow.process);
  if (sameIdentity(now, flow.identity)) return null;
  // Who logs in while a flow is open begins anew with the next one; what flows already has been decided as nobody's.
  if (flow.identity === null) return null;
  return `It is not the identity ${flow.identity.subject} any more.`;
}

function sameIdentity(a: Identity | null, b: Identity | null): boolean {
  if (a === b) return true;
  if (a === null || b === null || a.subject !== b.subject || a.issuer !== b.issuer) return false;
  return a.groups.length === b.groups.length && a.groups.every((group, i) => group === b.groups[i]);
}

function messageOf(error: unknown): string {
  return error instanceof Error ? error.message : String(error);
}
