/** Ends flows whose identity holds no longer: at once when it is revoked, within a second when it expires. */
import type { Flow, Identity } from "../core/flow.ts";
import type { Identities } from "./registry.ts";

const checkMs = 1_000;
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

export function guardSessions(
  identities: Identities,
  sessions: ReadonlySet<GuardedSession>,
  log: (level: "info" | "warn", message: string) => void,
): Guard {
  let seen = identities.version();
  let tidiedAtMs = performance.now();

  function check(): number {
    let ended = 0;
    for (const session of [...sessions]) {
      const reason = reasonToEnd(identities, session.flow);
      if (reason === null) continue;
      ended += 1;
      session.terminate("WEIR_IDENTITY_REVOKED", reason);
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
      log("warn", `identities: ${error instanceof Error ? error.message : String(error)}`);
    }
  }

  const timer = setInterval(look, checkMs);
  timer.unref();
  return { check, close: () => clearInterval(timer) };
}

function reasonToEnd(identities: Identities, flow: Flow): string | null {
  const refusal = identities.refusal(flow.process);
  if (refusal !== null || flow.identity === null) return refusal;
  const now = identities.of(flow.process);
  return sameIdentity(now, flow.identity) ? null : `The policy gives the identity ${flow.identity.subject} no longer.`;
}

export function sameIdentity(a: Identity | null, b: Identity | null): boolean {
  if (a === b) return true;
  if (a === null || b === null || a.subject !== b.subject || a.issuer !== b.issuer) return false;
  return a.groups.length === b.groups.length && a.groups.every((group, i) => group === b.groups[i]);
}
