/** Subject and groups out of the claims of a verified token. */
import type { JWTPayload } from "jose";

/** Some issuers put every group in; a token with more is refused, as a group left out might be the one that denies. */
const groupsMax = 256;
const textCharactersMax = 512;

/** By its name, else as a path: `realm_access.roles` is Keycloak's. */
export function claimOf(payload: JWTPayload, name: string): unknown {
  if (Object.hasOwn(payload, name)) return payload[name];
  let here: unknown = payload;
  for (const step of name.split(".")) {
    if (here === null || typeof here !== "object" || !Object.hasOwn(here, step)) return undefined;
    here = (here as Readonly<Record<string, unknown>>)[step];
  }
  return here;
}

export function subjectOf(payload: JWTPayload, claim: string, invalid: (why: string) => Error): string {
  const value = claimOf(payload, claim);
  const text = typeof value === "number" ? String(value) : value;
  if (typeof text !== "string" || text === "") throw invalid(`it names no subject (${claim})`);
  if (!isPlain(text)) throw invalid(`its subject (${claim}) is too long or holds control characters`);
  return text;
}

export function groupsOf(payload: JWTPayload, claim: string, invalid: (why: string) => Error): readonly string[] {
  const value = claimOf(payload, claim);
  if (value === undefined || value === null) return [];
  const groups = [value].flat();
  if (groups.length > groupsMax) throw invalid(`it has more than ${groupsMax} groups (${claim})`);
  for (const group of groups) {
    if (typeof group !== "string" || !isPlain(group))
      throw invalid(`its groups (${claim}) are no list of names of at most ${textCharactersMax} characters`);
  }
  return Object.freeze(groups as string[]);
}

export function isPlain(text: string): boolean {
  // biome-ignore lint/suspicious/noControlCharactersInRegex: those are what is refused
  return text.length <= textCharactersMax && !/[\u0000-\u001f\u007f-\u009f]/.test(text);
}
