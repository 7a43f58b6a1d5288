/** An issuer of tokens for tests, with keys of its own, as a file or as a server on loopback. */
import { createServer, type IncomingMessage, type ServerResponse } from "node:http";
import type { AddressInfo } from "node:net";
import type { TestContext } from "node:test";
import { type CryptoKey, exportJWK, generateKeyPair, type JWK, type JWTPayload, SignJWT } from "jose";
import type { IdentityIssuer } from "../../../agent/core/identity.ts";

export interface TestKey {
  readonly jwk: JWK;
  readonly privateKey: CryptoKey;
  readonly publicKey: CryptoKey;
  sign(claims: Record<string, unknown>, header?: Record<string, unknown>): Promise<string>;
}

export const issuerName = "https://issuer.test";
export const audience = "weir";
/** Tests tell the time. */
export const nowMs = Date.UTC(2026, 5, 1);
const nowSeconds = nowMs / 1000;

export async function makeKey(kid: string, alg = "RS256"): Promise<TestKey> {
  const { privateKey, publicKey } = await generateKeyPair(alg, { extractable: true });
  const jwk = { ...(await exportJWK(publicKey)), kid, alg, use: "sig" };
  return {
    jwk,
    privateKey,
    publicKey,
    sign: (claims, header = {}) =>
      new SignJWT({ ...standardClaims(), ...claims }).setProtectedHeader({ alg, kid, ...header }).sign(privateKey),
  };
}

export function standardClaims(): JWTPayload {
  return {
    iss: issuerName,
    aud: audience,
    sub: "alice",
    groups: ["dba", "staff"],
    iat: nowSeconds - 10,
    exp: nowSeconds + 600,
  };
}

export function issuerOf(change: Partial<IdentityIssuer> = {}): IdentityIssuer {
  return {
    kind: "oidc",
    issuer: issuerName,
    audiences: [audience],
    jwks: null,
    ca: null,
    subjectClaim: "sub",
    groupsClaim: "groups",
    algorithms: ["RS256", "ES256"],
    claims: [],
    lifetimeMs: null,
    login: null,
    ...change,
  };
}

/** A server on loopback that ends with the test. */
export async function serve(
  t: TestContext,
  answer: (request: IncomingMessage, response: ServerResponse) => void,
): Promise<string> {
  const server = createServer(answer);
  await new Promise<void>((ready) => server.listen(0, "127.0.0.1", ready));
  t.after(() => {
    server.closeAllConnections();
    server.close();
  });
  return `http://127.0.0.1:${(server.address() as AddressInfo).port}`;
}
