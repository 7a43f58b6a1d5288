/** What a token endpoint may answer and must not be believed: an issuer of the test's own that says what it likes. */
import assert from "node:assert/strict";
import { type TestContext, test } from "node:test";
import { UnsecuredJWT } from "jose";
import { oidcSignIn } from "../../../controller/identity/oidc.ts";
import type { OidcSettings } from "../../../controller/identity/settings.ts";
import { signInsInMemory } from "../../../controller/store/sqlite-sign-ins.ts";
import { makeKey, serve, type TestKey } from "../../agent/identity/issuer.ts";

const callback = "http://127.0.0.1:1/auth/callback";
const browser = "b".repeat(43);
const refused = { code: "WEIR_IDENTITY_INVALID" };

interface Issuer {
  url: string;
  key: TestKey;
  document: Record<string, unknown>;
  idToken: (nonce: string) => Promise<string>;
  logoutKey: TestKey;
}

async function open(t: TestContext, change: Partial<OidcSettings> = {}) {
  const key = await makeKey("k");
  const issuer: Issuer = { url: "", key, document: {}, logoutKey: key, idToken: async () => "" };
  let nonce = "";
  issuer.url = await serve(t, (request, response) => {
    response.setHeader("content-type", "application/json");
    const { url } = issuer;
    if (request.url === "/.well-known/openid-configuration")
      response.end(
        JSON.stringify({
          ...{
            issuer: url,
            authorization_endpoint: `${url}/auth`,
            token_endpoint: `${url}/token`,
            jwks_uri: `${url}/keys`,
          },
          ...issuer.document,
        }),
      );
    else if (request.url === "/keys") response.end(JSON.stringify({ keys: [key.jwk] }));
    else
      void issuer.idToken(nonce).then((token) => {
        response.end(JSON.stringify({ access_token: "a", token_type: "bearer", expires_in: 60, id_token: token }));
      });
  });
  const claims = (change: Record<string, unknown> = {}): Record<string, unknown> => {
    const seconds = Math.floor(Date.now() / 1000);
    return {
      iss: issuer.url,
      aud: "page",
      sub: "alice",
      groups: ["dba"],
      nonce,
      iat: seconds,
      exp: seconds + 60,
      ...change,
    };
  };
  issuer.idToken = () => key.sign(claims());
  const method = oidcSignIn(
    {
      issuer: issuer.url,
      clientId: "page",
      clientSecret: "s".repeat(32),
      scope: "openid",
      subjectClaim: "sub",
      groupsClaim: "groups",
      logoutClients: [],
      ca: null,
      ...change,
    },
    callback,
    signInsInMemory(),
    Date.now,
  );
  const attempt = async () => {
    const to = new URL(await method.begin(browser, "/"));
    nonce = to.searchParams.get("nonce") ?? "";
    return method.finish(browser, `code=c&state=${to.searchParams.get("state")}`);
  };
  return { issuer, key, claims, method, attempt };
}

test("what the issuer signs for this question is believed", async (t) => {
  const { attempt } = await open(t);
  assert.equal((await attempt()).person.subject, "alice");
});

test("a token of an earlier sign-in, or of another person's, is refused by its nonce", async (t) => {
  const { issuer, claims, key, attempt } = await open(t);
  const earlier = await key.sign(claims({ nonce: "earlier" }));
  for (const token of [earlier, await key.sign(claims({ nonce: undefined }))]) {
    issuer.idToken = async () => token;
    await assert.rejects(attempt(), refused);
  }
});

test("wrong audience, issuer, time, key and algorithm are refused, although the token came over the back channel", async (t) => {
  const { issuer, claims, key, attempt } = await open(t);
  const stranger = await makeKey("k");
  const tokens: (() => Promise<string>)[] = [
    () => key.sign(claims({ aud: "another" })),
    () => key.sign(claims({ aud: ["page", "another"], azp: "another" })),
    () => key.sign(claims({ iss: "https://evil.test" })),
    () => key.sign(claims({ exp: 1 })),
    () => key.sign(claims({ exp: undefined })),
    () => key.sign(claims({ sub: undefined })),
    () => key.sign(claims({ sub: "admin\u001b[2J" })),
    () => key.sign(claims({ groups: [{}] })),
    () => stranger.sign(claims()),
    async () => new UnsecuredJWT(claims()).encode(),
    async () => "",
  ];
  for (const token of tokens) {
    issuer.idToken = token;
    await assert.rejects(attempt(), refused);
  }
});

test("a discovery document of another issuer, or one that is huge, is refused", async (t) => {
  for (const document of [{ issuer: "https://evil.test" }, { padding: "x".repeat(300_000) }, { token_endpoint: "x" }]) {
    const { issuer, attempt } = await open(t);
    issuer.document = document;
    await assert.rejects(attempt(), refused);
  }
});

const event = { "http://schemas.openid.net/event/backchannel-logout": {} };

test("a logout token counts once, for the moment, and is told from an id token", async (t) => {
  const { key, claims, method } = await open(t);
  const logout = (change: Record<string, unknown>) =>
    key.sign(claims({ nonce: undefined, events: event, jti: String(Math.random()), sid: "s1", ...change }));
  const token = await logout({});
  assert.deepEqual(await method.logout(token), {
    issuer: (claims() as { iss: string }).iss,
    subject: "alice",
    sid: "s1",
  });
  await assert.rejects(method.logout(token), refused, "a replay");
  const seconds = Math.floor(Date.now() / 1000);
  for (const change of [
    { nonce: "n" },
    { events: {} },
    { events: undefined },
    { jti: undefined },
    { iat: seconds - 600 },
    { iat: undefined },
    { aud: "another" },
    { iss: "https://evil.test" },
    { sub: undefined, sid: undefined },
    { exp: seconds - 60 },
  ])
    await assert.rejects(method.logout(await logout(change)), refused, JSON.stringify(change));
});

test("logout tokens for the clients that are named are believed, no others; a named subject claim wants a session", async (t) => {
  const { key, claims, method } = await open(t, { logoutClients: ["weir"], subjectClaim: "preferred_username" });
  const logout = (change: Record<string, unknown>) =>
    key.sign(claims({ nonce: undefined, events: event, jti: String(Math.random()), sid: "s1", ...change }));
  assert.equal((await method.logout(await logout({ aud: "weir" }))).sid, "s1");
  assert.equal((await method.logout(await logout({ aud: "page" }))).sid, "s1");
  await assert.rejects(method.logout(await logout({ aud: "another" })), refused);
  // `sub` names him in a way that nobody is known by here.
  await assert.rejects(method.logout(await logout({ sid: undefined })), { message: /names no session \(sid\)/ });
});

test("the subject is the claim that the settings name, and nothing else in its place", async (t) => {
  const { issuer, key, claims, attempt } = await open(t, { subjectClaim: "preferred_username" });
  await assert.rejects(attempt(), { message: /names no subject \(preferred_username\)/ });
  issuer.idToken = () => key.sign(claims({ sub: "7f1c", preferred_username: "alice" }));
  assert.equal((await attempt()).person.subject, "alice");
});
