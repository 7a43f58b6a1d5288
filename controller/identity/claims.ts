/** Who somebody is, out of what an issuer has signed. */
import { WeirError } from "../../agent/errors.ts";

export interface SignedIn {
  readonly subject: string;
  readonly issuer: string;
  readonly groups: readonly string[];
  /** As it is shown; the subject where there is no better. */
  readonly name: string;
  /** The issuer's own session, by which it ends this one. */
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

export function signedInBy(issuer: string, claims: Readonly<Record<string, unknown>>, groupsClaim: string): SignedIn {
  const { sub, sid, name, email, preferred_username: preferred } = claims;
  if (!isPlain(sub)) throw refused("it names no subject");
  const found = claimOf(claims, groupsClaim) ?? [];
  const groups = [found].flat();
  if (groups.length > groupsMax || !groups.every(isPlain)) throw refused(`its ${groupsClaim} are no list of names`);
  if (sid !== undefined && !isPlain(sid)) throw refused("its session is no short text");
  return { subject: sub, issuer, groups, name: [preferred, email, name].find(isPlain) ?? sub, sid: sid ?? null };
}

export function isPlain(text: unknown): text is string {
  if (typeof text !== "string" || text === "" || text.length > textCharactersMax) return false;
  // biome-ignore lint/suspicious/noControlCharactersInRegex: those are what is refused
  return !/[\u0000-\u001f\u007f-\u009f]/.test(text);
}

export function refused(why: string, cause?: unknown): WeirError {
  return new WeirError("WEIR_IDENTITY_INVALID", `The sign-in was not accepted: ${why}.`, { cause });
}
