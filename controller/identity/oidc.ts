/**
 * OpenID Connect, authorization code with PKCE (RFC 7636) as RFC 9700 wants it: state binds the answer to the browser,
 * nonce binds the token to the question, and the token's signature is checked although it came over TLS.
 */
import { createRemoteJWKSet, customFetch as joseFetch, jwtVerify } from "jose";
import {
  allowInsecureRequests,
  authorizationCodeGrant,
  buildAuthorizationUrl,
  type Configuration,
  calculatePKCECodeChallenge,
  customFetch,
  discovery,
  enableNonRepudiationChecks,
  None,
  randomNonce,
  randomPKCECodeVerifier,
  randomState,
} from "openid-client";
import { type IssuerLogout, isPlain, refused, type SignedIn, signedInBy } from "./claims.ts";
import { boundedFetch } from "./fetch.ts";
import type { SignInStore } from "./kept.ts";
import { keyOf, PendingSignIns } from "./pending.ts";
import type { OidcSettings } from "./settings.ts";

/** The issuer's document is read anew after this. */
const freshMs = 60 * 60_000;
const answerSeconds = 10;
/** Logout tokens are made for the moment. */
const logoutTokenSecondsMax = 5 * 60;
const logoutEvent = "http://schemas.openid.net/event/backchannel-logout";

export interface OidcSignIn {
  /** Where the browser is sent. */
  begin(browser: string, returnTo: string): Promise<string>;
  /** The browser came back to the callback's address with this query. Rejects with WEIR_IDENTITY_INVALID. */
  finish(browser: string, query: string): Promise<{ person: SignedIn; returnTo: string }>;
  /** What a back-channel logout token says. Rejects with WEIR_IDENTITY_INVALID. */
  logout(token: string): Promise<IssuerLogout>;
}

export function oidcSignIn(
  settings: OidcSettings,
  callback: string,
  store: SignInStore,
  now: () => number,
): OidcSignIn {
  const { issuer, clientId, clientSecret, scope, ca } = settings;
  const fetch = boundedFetch(ca);
  const pending = new PendingSignIns<{ nonce: string; verifier: string; returnTo: string }>(store, "oidc", now);
  let known: { config: Promise<Configuration>; atMs: number } | null = null;

  async function read(): Promise<Configuration> {
    const url = new URL(issuer);
    const execute = [enableNonRepudiationChecks, ...(url.protocol === "http:" ? [allowInsecureRequests] : [])];
    const client = clientSecret === null ? None() : undefined;
    return discovery(url, clientId, clientSecret ?? undefined, client, {
      execute,
      timeout: answerSeconds,
      [customFetch]: fetch,
    });
  }

  function configuration(): Promise<Configuration> {
    if (known === null || now() - known.atMs > freshMs) {
      const next = { config: read(), atMs: now() };
      known = next;
      // A failure is not kept.
      next.config.catch(() => {
        if (known === next) known = null;
      });
    }
    return known.config;
  }

  let logoutKeys: { keys: ReturnType<typeof createRemoteJWKSet>; url: string } | null = null;

  async function keysOf(config: Configuration): Promise<ReturnType<typeof createRemoteJWKSet>> {
    const url = config.serverMetadata().jwks_uri;
    if (url === undefined) throw refused("the issuer names no keys");
    if (logoutKeys?.url !== url) logoutKeys = { url, keys: createRemoteJWKSet(new URL(url), { [joseFetch]: fetch }) };
    return logoutKeys.keys;
  }

  async function mustBeNew(jti: string): Promise<void> {
    const untilMs = now() + logoutTokenSecondsMax * 2_000;
    // Beyond as many as are kept an old one may come again: it ends what is ended. A new one must not be refused.
    if (!(await store.keep({ kind: "used-logout", key: keyOf(jti), value: "", untilMs }, now(), "evict")))
      throw refused("its logout token was used before");
  }

  return {
    async begin(browser, returnTo) {
      const config = await configuration().catch(unreachable);
      const [state, nonce, verifier] = [randomState(), randomNonce(), randomPKCECodeVerifier()];
      await pending.add(state, browser, { nonce, verifier, returnTo });
      const challenge = await calculatePKCECodeChallenge(verifier);
      return buildAuthorizationUrl(config, {
        ...{ redirect_uri: callback, scope, state, nonce },
        ...{ code_challenge: challenge, code_challenge_method: "S256" },
      }).href;
    },
    async finish(browser, query) {
      const state = new URLSearchParams(query).getAll("state");
      const begun = state.length === 1 ? await pending.take(state[0] as string, browser) : null;
      if (begun === null) throw refused("it was not begun in this browser, or is over (state)");
      const config = await configuration().catch(unreachable);
      try {
        const answer = await authorizationCodeGrant(config, new URL(`${callback}?${query}`), {
          expectedState: state[0] as string,
          expectedNonce: begun.nonce,
          pkceCodeVerifier: begun.verifier,
          idTokenExpected: true,
        });
        const claims = answer.claims();
        if (claims === undefined) throw new Error("no id token");
        return { person: signedInBy(settings, claims), returnTo: begun.returnTo };
      } catch (error) {
        throw refused(reasonOf(error), error);
      }
    },
    async logout(token) {
      const config = await configuration().catch(unreachable);
      try {
        const { payload } = await jwtVerify(token, await keysOf(config), {
          ...{
            issuer,
            audience: [clientId, ...settings.logoutClients],
            currentDate: new Date(now()),
            clockTolerance: 30,
          },
          // Section 2.6: the same checks as of an id token; the event, and no nonce, tell the two apart.
          algorithms: ["RS256", "RS384", "RS512", "PS256", "PS384", "PS512", "ES256", "ES384", "EdDSA"],
          maxTokenAge: logoutTokenSecondsMax,
          requiredClaims: ["iat", "jti", "events"],
        });
        const { events, nonce, sub, sid, jti } = payload;
        if (events === null || typeof events !== "object" || !Object.hasOwn(events, logoutEvent) || nonce !== undefined)
          throw new Error("it is no logout token");
        if ((sub !== undefined && !isPlain(sub)) || (sid !== undefined && !isPlain(sid)) || !isPlain(jti))
          throw new Error("its claims are no short texts");
        if (sub === undefined && sid === undefined) throw new Error("it names nobody");
        // Whom it means could not be told: logout tokens have no other claim that names him.
        if (sid === undefined && settings.subjectClaim !== "sub")
          throw new Error("it names no session (sid), which subjectClaim needs");
        await mustBeNew(jti);
        return { issuer, subject: sub ?? null, sid: (sid as string | undefined) ?? null };
      } catch (error) {
        throw refused(reasonOf(error), error);
      }
    },
  };
}

function unreachable(error: unknown): never {
  throw refused(`the issuer cannot be asked (${reasonOf(error)})`, error);
}

/** The library's sentences name what failed; what the issuer wrote is not passed on. */
function reasonOf(error: unknown): string {
  if (!(error instanceof Error)) return "it cannot be read";
  const { cause } = error;
  const deeper = cause instanceof Error && cause.message !== "" ? `: ${cause.message}` : "";
  return `${error.message}${deeper}`.replace(/[^\x20-\x7e]/g, "?").slice(0, 200);
}
