/** Revoking, the same for everybody who may: the command, the page, Kafka, the issuer's logout. Each is in the audit. */
import type { EntryBody } from "../core/record.ts";
import type { ReadonlyRoster } from "../core/roster.ts";
import { WeirError } from "../errors.ts";
import type { Guard, GuardedSession } from "./guard.ts";
import type { Identities } from "./registry.ts";

const reasonCharactersMax = 500;
const nameCharactersMax = 512;

export interface Revoke {
  /** A subject; of a session that lives here, its id (then nothing leaves any more from where it came). */
  readonly what: string;
  /** Null: a subject of every issuer. */
  readonly issuer: string | null;
  readonly reason: string;
  readonly by: string;
}

/** The issuer says that somebody logged out (OpenID Connect Back-Channel Logout 1.0): `subject` or `sid` is said. */
export interface Logout {
  readonly issuer: string;
  readonly subject: string | null;
  readonly sid: string | null;
  readonly by: string;
  /** When, where somebody else heard it; default: now. */
  readonly beforeMs?: number;
}

export interface Revoked {
  readonly kind: "subject" | "session";
  /** Flows that ended by it. */
  readonly ended: number;
}

export interface Revoker {
  /** Live flows have ended, or are ending, when it returns. */
  revoke(request: Revoke): Revoked;
  loggedOut(logout: Logout): Revoked;
  /** Throws WEIR_CONTROL_REFUSED when it was not revoked. */
  restore(request: Revoke): void;
}

export interface RevokerOptions {
  readonly identities: Identities;
  readonly guard: Guard;
  readonly sessions: ReadonlyRoster<GuardedSession>;
  note(body: EntryBody): void;
  now(): number;
}

const sessionId = /^[0-9a-f]{8}-[0-9a-f]{4}-7[0-9a-f]{3}-[0-9a-f]{4}-[0-9a-f]{12}$/;

export function createRevoker({ identities, guard, sessions, note, now }: RevokerOptions): Revoker {
  const tell = (text: string): void => note({ type: "notice", text: `WEIR_IDENTITY_REVOKED: ${text}` });

  return {
    revoke({ what, issuer, reason: long, by }) {
      const reason = long.slice(0, reasonCharactersMax);
      const because = reason === "" ? "" : ` (${reason})`;
      mustBeName(what);
      if (sessionId.test(what)) {
        const session = [...sessions].find(({ flow }) => flow.id === what);
        if (session === undefined)
          throw new WeirError("WEIR_CONTROL_REFUSED", `No session ${what} lives here; revoke its identity instead.`);
        const { process } = session.flow;
        if (process !== null) identities.block(what, process, reason, by);
        const ended = guard.check() || 1;
        // Whose it is cannot be told, so only it ends.
        if (process === null) session.terminate("WEIR_IDENTITY_REVOKED", `The session was revoked${because}.`);
        tell(`session ${what} by ${by}${because}; flows ended: ${ended}`);
        return { kind: "session", ended };
      }
      identities.revoke({ subject: what, sid: null, issuer, beforeMs: null, reason, by });
      const ended = guard.check();
      tell(`identity ${what} of ${issuer ?? "every issuer"} by ${by}${because}; flows ended: ${ended}`);
      return { kind: "subject", ended };
    },
    loggedOut({ issuer, subject, sid, by, beforeMs = now() }) {
      mustBeName(sid ?? subject ?? "");
      // With both, only this session of his ends (section 2.4).
      const who = sid === null ? { subject, sid: null } : { subject: null, sid };
      const kind = sid === null ? "subject" : "session";
      // The topic is read from its start: what it says again is not recorded again.
      if (!identities.revoke({ ...who, issuer, beforeMs, reason: "logged out at the issuer", by }))
        return { kind, ended: 0 };
      const ended = guard.check();
      tell(`logout of ${sid === null ? subject : `session ${sid}`} at ${issuer}; flows ended: ${ended}`);
      return { kind, ended };
    },
    restore({ what, issuer, reason, by }) {
      if (!identities.restore({ subject: what, sid: null, issuer }))
        throw new WeirError(
          "WEIR_CONTROL_REFUSED",
          `${what} is not revoked${issuer === null ? "" : ` for ${issuer}`}.`,
        );
      tell(`${what} of ${issuer ?? "every issuer"} is let in again by ${by}${reason === "" ? "" : ` (${reason})`}`);
    },
  };
}

function mustBeName(what: string): void {
  if (what === "" || what.length > nameCharactersMax)
    throw new WeirError("WEIR_CONTROL_REFUSED", "A subject or a session's id is expected.");
}
