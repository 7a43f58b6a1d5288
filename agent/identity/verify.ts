/**
 * Is this token a proof of who somebody is? RFC 7519 (JWT) and RFC 8725 (best current practices): the issuer and the
 * algorithms come from the policy, never from the token; so do the keys: `jku`, `x5u` and `jwk` headers are not looked
 * at. Every refusal says which check failed; nothing of the token but its issuer's name stands in it.
 */
import { decodeJwt, errors, type JWTPayload, type JWTVerifyGetKey, jwtVerify } from "jose";
import type { Identity, JobHint } from "../core/flow.ts";
import { type IdentityIssuer, type IdentitySettings, provenMsMax } from "../core/identity.ts";
import { WeirError } from "../errors.ts";
import { ciGroups, ciJob } from "./ci-claims.ts";
import { claimOf, groupsOf, isPlain, subjectOf } from "./claims.ts";
import { type KeySourceOptions, keySource } from "./keys.ts";

/** Tokens with hundreds of groups are about 8 KB long. */
export const tokenBytesMax = 16 * 1024;
/** Clocks of two hosts differ. */
export const clockToleranceSeconds = 30;

export interface Proven {
  readonly identity: Identity;
  /** The CI job that the token was made for; null: it is of no job. */
  readonly job: JobHint | null;
  /** When the issuer made the token; null: it does not say. Milliseconds since the Unix epoch, as `untilMs`. */
  readonly issuedAtMs: number | null;
  /** The issuer's own session (claim sid), by which it can be ended; null: it names none. */
  readonly sid: string | null;
  /** The proof ends here. */
  readonly untilMs: number;
}

export interface Verifier {
  /** Rejects with WEIR_IDENTITY_INVALID and a sentence. */
  verify(token: string): Promise<Proven>;
}

export function createVerifier(settings: IdentitySettings, options: KeySourceOptions): Verifier {
  const issuers = new Map<string, { issuer: IdentityIssuer; keys: JWTVerifyGetKey }>();
  for (const issuer of settings.issuers)
    issuers.set(issuer.issuer, { issuer, keys: keySource(issuer, { ...options }) });

  return {
    async verify(text) {
      const token = text.trim();
      if (token === "") throw invalid("there is none");
      if (token.length > tokenBytesMax) throw invalid(`it is longer than ${tokenBytesMax} bytes`);
      if (issuers.size === 0) throw invalid("the policy names no issuer: see identity.issuers");
      const named = issuerIn(token);
      const known = issuers.get(named);
      if (known === undefined) throw invalid(`the policy names no issuer ${JSON.stringify(named.slice(0, 200))}`);
      return prove(token, known.issuer, known.keys, options.now());
    },
  };
}

async function prove(token: string, issuer: IdentityIssuer, keys: JWTVerifyGetKey, nowMs: number): Promise<Proven> {
  let payload: JWTPayload;
  try {
    const verified = await jwtVerify(token, keys, {
      issuer: issuer.issuer,
      audience: [...issuer.audiences],
      algorithms: [...issuer.algorithms],
      clockTolerance: clockToleranceSeconds,
      currentDate: new Date(nowMs),
      // Without `iat` nobody knows whether a logout is about it (OpenID Connect Core, section 2: required).
      requiredClaims: ["exp", "iat"],
    });
    // A logout token has the same issuer, key and audience (RFC 8725, section 3.11).
    const type = verified.protectedHeader.typ?.toLowerCase().replace(/^application\//, "") ?? "jwt";
    if (type !== "jwt" && type !== "at+jwt") throw invalid("it is a token of another type (typ)");
    payload = verified.payload;
  } catch (error) {
    throw error instanceof WeirError ? error : invalid(sentence(error, issuer));
  }
  for (const { name, wanted, covers } of issuer.claims) {
    const value = claimOf(payload, name);
    const texts = [value].flat().filter((item) => ["string", "number", "boolean"].includes(typeof item));
    if (!texts.some((item) => covers(String(item)))) throw invalid(`its claim ${name} is not ${wanted}`);
  }
  const identity = Object.freeze({
    subject: subjectOf(payload, issuer.subjectClaim, invalid),
    issuer: issuer.issuer,
    groups:
      issuer.kind === "oidc" ? groupsOf(payload, issuer.groupsClaim, invalid) : ciGroups(issuer.kind, payload, invalid),
  });
  const sid = payload["sid"];
  if (sid !== undefined && (typeof sid !== "string" || !isPlain(sid)))
    throw invalid("its session (sid) is no short text");
  const expiresAtMs = ((payload.exp as number) + clockToleranceSeconds) * 1000;
  const issuedAtMs = (payload.iat as number) * 1000;
  const endMs = issuedAtMs + provenMsMax;
  if (endMs <= nowMs) throw invalid(`it was made ${at(payload.iat)}, more than ${provenMsMax / 86_400_000} days ago`);
  return {
    identity,
    job: ciJob(issuer.kind, payload),
    issuedAtMs,
    sid: sid ?? null,
    untilMs: Math.min(endMs, issuer.lifetimeMs === null ? expiresAtMs : nowMs + issuer.lifetimeMs),
  };
}

/** Not verified yet: it only says whose keys to try. */
function issuerIn(token: string): string {
  let payload: JWTPayload;
  try {
    payload = decodeJwt(token);
  } catch {
    throw invalid("it is no signed JWT");
  }
  if (typeof payload.iss !== "string" || payload.iss === "") throw invalid("it names no issuer (iss)");
  return payload.iss;
}

function sentence(error: unknown, { issuer, audiences, algorithms }: IdentityIssuer): string {
  if (error instanceof errors.JWTExpired) return `it expired ${at(error.payload.exp)}`;
  if (error instanceof errors.JWTClaimValidationFailed) {
    if (error.claim === "aud") return `it is not for ${audiences.join(" or ")} (aud)`;
    if (error.claim === "nbf") return `it is not valid before ${at(error.payload.nbf)}`;
    return `its claim ${/^[a-z]{1,16}$/.test(error.claim) ? error.claim : "?"} is missing or wrong`;
  }
  if (error instanceof errors.JOSEAlgNotAllowed) return `its algorithm is not ${algorithms.join(" or ")}`;
  if (error instanceof errors.JWKSNoMatchingKey) return `${issuer} has no key with its key id (kid)`;
  if (error instanceof errors.JWKSMultipleMatchingKeys)
    return `${issuer} has several keys that fit, and the token names none (kid)`;
  if (error instanceof errors.JWSSignatureVerificationFailed) return "its signature is wrong";
  if (error instanceof errors.JOSEError) return "it is no signed JWT that can be read";
  const reason = error instanceof Error ? error.message : String(error);
  return `the keys of ${issuer} cannot be read: ${reason.slice(0, 300)}`;
}

function at(seconds: unknown): string {
  const date = typeof seconds === "number" ? new Date(seconds * 1000) : null;
  return date === null || Number.isNaN(date.getTime()) ? "at no time" : date.toISOString();
}

function invalid(why: string): WeirError {
  return new WeirError("WEIR_IDENTITY_INVALID", `The identity token was not accepted: ${why}.`);
}
