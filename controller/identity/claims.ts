/** Who somebody is, out of what an issuer has signed. */
import { WeirError } from "../../agent/errors.ts";

export interface SignedIn {
  /** What approvers are compared by: the same as the agents make of this issuer's tokens. */
  readonly subject: string;
  readonly issuer: string;
  readonly groups: readonly string[];
  /** As it is shown; the subject where there is no better. */
  readonly name: string;
  /** The issuer's own session, by which it ends this one. */
  readonly sid: string | null;
}

/** An issuer ended the session `sid`, or all of the subject; one of them is said. */
export interface IssuerLogout {
  readonly issuer: string;
  readonly subject: string | null;
  readonly sid: string | null;
}

const groupsMax = 256;
const textCharactersMax = 512;

/** By its name, else as a path: `realm_access.roles` is Keycloak's. */
function claimOf(claims: Readonly<Record<string, unknown>>, name: string): unknown {
  if (Object.hasOwn(claims, name)) return claims[name];
  let here: unknown = claims;
  for (const step of name.split(".")) {
    if (here === null || typeof here !== "object" || !Object.hasOwn(here, step)) return undefined;
    here = (here as Readonly<Record<string, unknown>>)[step];
  }
  return here;
}

export interface ClaimNames {
  readonly issuer: string;
  readonly subjectClaim: string;
  readonly groupsClaim: string;
}

export function signedInBy(
  { issuer, subjectClaim, groupsClaim }: ClaimNames,
  claims: Readonly<Record<string, unknown>>,
): SignedIn {
  const { sid, name, email, preferred_username: preferred } = claims;
  const subject = claimOf(claims, subjectClaim);
  if (!isPlain(subject)) throw refused(`it names no subject (${subjectClaim})`);
  const found = claimOf(claims, groupsClaim) ?? [];
  const groups = [found].flat();
  if (groups.length > groupsMax || !groups.every(isPlain)) throw refused(`its ${groupsClaim} are no list of names`);
  if (sid !== undefined && !isPlain(sid)) throw refused("its session is no short text");
  const shown = [preferred, email, name].find(isPlain) ?? subject;
  return { subject, issuer, groups, name: shown, sid: sid ?? null };
}

export function isPlain(text: unknown): text is string {
  if (typeof text !== "string" || text === "" || text.length > textCharactersMax) return false;
  // biome-ignore lint/suspicious/noControlCharactersInRegex: those are what is refused
  return !/[\u0000-\u001f\u007f-\u009f]/.test(text);
}

export function refused(why: string, cause?: unknown): WeirError {
  return new WeirError("WEIR_IDENTITY_INVALID", `The sign-in was not accepted: ${why}.`, { cause });
}
