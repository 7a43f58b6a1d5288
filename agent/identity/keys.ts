/**
 * An issuer's public keys: from a file, a URL, or the place that its discovery document names (OpenID Connect
 * Discovery 1.0, section 4). Kept for a while; a key that is not among them has them read anew, but not at everybody's
 * pleasure: who sends tokens with made-up key ids must not make the agent a hammer.
 */
import { readFileSync, statSync } from "node:fs";
import { createLocalJWKSet, errors, type JSONWebKeySet, type JWTVerifyGetKey } from "jose";
import type { IdentityIssuer } from "../core/identity.ts";
import { documentBytesMax, fetchJson } from "./fetch-json.ts";

/** A key that the issuer has withdrawn is believed no longer than this. */
const freshMs = 10 * 60_000;
/** While the issuer does not answer, its last keys go on for this long. */
const staleMs = 60 * 60_000;
/** An unknown key id has the keys read anew at most this often. */
const refetchMsMin = 30_000;
/** After a failure the next try waits this long. */
const retryMsMin = 5_000;
const keysMax = 100;

export interface KeySourceOptions {
  now(): number;
  fetch?(url: string, caPath: string | null): Promise<unknown>;
}

/** Finds the key for a token's header; rejects with jose's errors, or with a sentence when there are no keys. */
export function keySource(issuer: IdentityIssuer, options: KeySourceOptions): JWTVerifyGetKey {
  const { now, fetch = fetchJson } = options;
  let keys: JWTVerifyGetKey | null = null;
  let readAtMs = Number.NEGATIVE_INFINITY;
  let failedAtMs = Number.NEGATIVE_INFINITY;
  let failure = new Error("not read yet");
  let reading: Promise<JWTVerifyGetKey> | null = null;

  async function read(): Promise<JWTVerifyGetKey> {
    try {
      keys = createLocalJWKSet(await readKeySet(issuer, fetch));
      readAtMs = now();
      return keys;
    } catch (error) {
      failedAtMs = now();
      failure = error instanceof Error ? error : new Error(String(error));
      throw failure;
    } finally {
      reading = null;
    }
  }

  /** Who asks at the same time shares one reading. */
  function readOnce(): Promise<JWTVerifyGetKey> {
    if (reading === null && now() - failedAtMs < retryMsMin) return Promise.reject(failure);
    reading ??= read();
    return reading;
  }

  async function current(): Promise<JWTVerifyGetKey> {
    const age = now() - readAtMs;
    // A file costs nothing to read again.
    if (keys !== null && age < freshMs && !isFile(issuer)) return keys;
    try {
      return await readOnce();
    } catch (error) {
      if (keys !== null && age < staleMs && !isFile(issuer)) return keys;
      throw error;
    }
  }

  return async (header, token) => {
    const known = await current();
    try {
      return await known(header, token);
    } catch (error) {
      const unknown = error instanceof errors.JWKSNoMatchingKey;
      if (!unknown || now() - readAtMs < refetchMsMin) throw error;
      return (await readOnce())(header, token);
    }
  };
}

function isFile({ jwks }: IdentityIssuer): boolean {
  return jwks !== null && "file" in jwks;
}

async function readKeySet(
  { issuer, jwks, ca }: IdentityIssuer,
  fetch: NonNullable<KeySourceOptions["fetch"]>,
): Promise<JSONWebKeySet> {
  if (jwks !== null && "file" in jwks) {
    if (statSync(jwks.file).size > documentBytesMax) throw new Error(`${jwks.file} is too long`);
    return keySetOf(parsed(readFileSync(jwks.file, "utf8")), jwks.file);
  }
  const url = jwks === null ? await discovered(issuer, await fetch(discoveryUrl(issuer), ca)) : jwks.url;
  return keySetOf(await fetch(url, ca), url);
}

function discoveryUrl(issuer: string): string {
  return `${issuer.replace(/\/$/, "")}/.well-known/openid-configuration`;
}

/** Section 4.3: the document has to name the issuer it was asked for, else it is of somebody else. */
async function discovered(issuer: string, document: unknown): Promise<string> {
  const { issuer: named, jwks_uri: url } = (document ?? {}) as Readonly<Record<string, unknown>>;
  if (named !== issuer) throw new Error(`${discoveryUrl(issuer)}: it is the document of another issuer`);
  if (typeof url !== "string" || !URL.canParse(url)) throw new Error(`${discoveryUrl(issuer)}: it names no jwks_uri`);
  // As safe as the issuer itself: plain text only where the issuer is on loopback.
  const { protocol, hostname } = new URL(url);
  if (protocol !== "https:" && !(protocol === "http:" && hostname === new URL(issuer).hostname))
    throw new Error(`${discoveryUrl(issuer)}: its jwks_uri is not https`);
  return url;
}

/** V8 quotes what it cannot parse, and the sentence goes to whoever sent a token. */
function parsed(text: string): unknown {
  try {
    return JSON.parse(text);
  } catch {
    return null;
  }
}

function keySetOf(value: unknown, place: string): JSONWebKeySet {
  const keys = (value as { keys?: unknown } | null)?.keys;
  if (!Array.isArray(keys) || keys.length === 0) throw new Error(`${place}: it holds no keys`);
  if (keys.length > keysMax) throw new Error(`${place}: it holds more than ${keysMax} keys`);
  return { keys };
}
