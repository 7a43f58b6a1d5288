/**
 * Clients that take no certificate but their server's own. They refuse ours with an alert, time and again; so does one
 * that was never told to trust Weir, and nobody can tell the two apart from outside. Kept in memory only: after a
 * restart, or a while, a client is tried again.
 */
import type { Flow } from "../core/flow.ts";

/** One refusal may be a client that was started before the trust was installed. */
export const refusalsMin = 2;
/** Clients that are remembered; the one that refused longest ago is forgotten first. */
const clientsMax = 10_000;
const forgottenAfterMs = 24 * 60 * 60 * 1000;

export interface PinnedClients {
  /** The client refused our certificate for this server; true: so often that it counts as pinning. */
  refused(flow: Flow, server: string, nowMs: number): boolean;
  /** It took it after all. */
  accepted(flow: Flow, server: string): void;
  isPinned(flow: Flow, server: string, nowMs: number): boolean;
}

export function rememberPinnedClients(): PinnedClients {
  const known = new Map<string, { count: number; atMs: number }>();

  function recent(key: string, nowMs: number) {
    const entry = known.get(key);
    return entry !== undefined && nowMs - entry.atMs < forgottenAfterMs ? entry : null;
  }

  return {
    refused(flow, server, nowMs) {
      const key = keyOf(flow, server);
      const count = (recent(key, nowMs)?.count ?? 0) + 1;
      known.delete(key);
      const [oldest] = known.keys();
      if (known.size >= clientsMax && oldest !== undefined) known.delete(oldest);
      known.set(key, { count, atMs: nowMs });
      return count >= refusalsMin;
    },
    accepted(flow, server) {
      if (known.size > 0) known.delete(keyOf(flow, server));
    },
    isPinned: (flow, server, nowMs) => (recent(keyOf(flow, server), nowMs)?.count ?? 0) >= refusalsMin,
  };
}

/** The words of OpenSSL for the alerts of RFC 8446 §6.2 that speak of a certificate. */
export function refusesCertificate(message: string): boolean {
  return /alert (?:bad certificate|unsupported certificate|certificate (?:revoked|expired|unknown)|unknown ca)/i.test(
    message,
  );
}

/** The program, not the process: a pinning client is started anew for each try. */
function keyOf({ process, source }: Flow, server: string): string {
  return JSON.stringify([process === null ? source.address : process.exe, process?.uid ?? null, server]);
}
