/** Sign-in to the page by a real provider, with a browser's cookies; and what others try on the way. */
import assert from "node:assert/strict";
import { generateKeyPairSync } from "node:crypto";
import type { AddressInfo } from "node:net";
import { type TestContext, test } from "node:test";
import fastify from "fastify";
import { SignJWT } from "jose";
import type { SignInSettings } from "../../../controller/identity/settings.ts";
import { createSignIn, type SignInOptions } from "../../../controller/identity/sign-in.ts";
import { signInsInMemory } from "../../../controller/store/sqlite-sign-ins.ts";
import { Browser } from "../../support/browser.ts";
import { signIn as fillIn, startOidcHere } from "../../support/oidc-server.ts";
import { until } from "../../support/until.ts";

/** A page with one route to read and one that changes something, as the real one has. */
async function openPage(t: TestContext, settings: (origin: string) => Promise<SignInSettings>) {
  const app = fastify({ forceCloseConnections: true });
  const said: string[] = [];
  const loggedOut: unknown[] = [];
  const state = { skewMs: 0, revoked: "" };
  const options: Omit<SignInOptions, "settings"> = {
    store: signInsInMemory(),
    now: () => Date.now() + state.skewMs,
    refusal: (person) => (state.revoked === person.subject ? "he is revoked" : null),
    loggedOut: (logout) => void loggedOut.push(logout),
    note: (text) => void said.push(text),
  };
  let signIn: ReturnType<typeof createSignIn> | null = null;
  app.addHook("onRequest", async (request, reply) => {
    if ((request.routeOptions.config as { open?: boolean }).open === true) return;
    const person = (await signIn?.personOf(request)) ?? null;
    if (person === null) return reply.code(401).send({ error: "sign in" });
    Object.assign(request, { person });
  });
  app.get("/api/me", async (request) => (request as unknown as { person: unknown }).person);
  app.post("/api/change", async () => ({ changed: true }));
  // The port has to be known before the sign-in is made, and the routes before the server listens.
  const probe = fastify();
  await probe.listen({ host: "127.0.0.1", port: 0 });
  const { port } = probe.server.address() as AddressInfo;
  await probe.close();
  const origin = `http://127.0.0.1:${port}`;
  signIn = createSignIn({ ...options, settings: await settings(origin) });
  await signIn.routes(app);
  await app.listen({ host: "127.0.0.1", port });
  t.after(() => app.close());
  return { origin, signIn, said, loggedOut, state };
}

async function withProvider(t: TestContext, change: Partial<SignInSettings> = {}) {
  const origins: string[] = [];
  const page = await openPage(t, async (origin) => {
    origins.push(origin);
    const client = {
      ...{ client_id: "page", client_secret: "a-secret-of-the-page", redirect_uris: [`${origin}/auth/callback`] },
      ...{ response_types: ["code"], grant_types: ["authorization_code"] },
      ...{ backchannel_logout_uri: `${origin}/auth/backchannel-logout`, backchannel_logout_session_required: true },
    };
    provider = await startOidcHere({
      ...{ host: "127.0.0.1", port: 0, clients: [client], groups: { alice: ["dba"], mallory: ["developers"] } },
    });
    return {
      origin,
      oidc: {
        ...{ issuer: provider.issuer, clientId: "page", clientSecret: "a-secret-of-the-page", ca: null },
        ...{ scope: "openid", subjectClaim: "sub", groupsClaim: "groups", logoutClients: [] },
      },
      ...{ saml: null, groups: [] },
      ...change,
    };
  });
  t.after(() => provider.close());
  const me = async (browser: Browser) => {
    const { status, text } = await browser.ask(`${page.origin}/api/me`);
    return status === 200 ? (JSON.parse(text) as { identity: { subject: string; groups: string[] } }) : status;
  };
  return { ...page, provider, me };
}
let provider: Awaited<ReturnType<typeof startOidcHere>>;

test("code and PKCE with a real provider: who signed in, groups included, and back where he wanted to go", async (t) => {
  const { origin, said, me } = await withProvider(t);
  const browser = new Browser({ stopAt: `${origin}/api/me?` });
  assert.equal(await me(browser), 401);
  const end = await fillIn(browser, `${origin}/auth/login?to=/api/me%3Fx%3D1`, "alice");
  assert.equal(end.url, `${origin}/api/me?x=1`);
  const person = await me(browser);
  assert.deepEqual(typeof person === "object" && person.identity, {
    ...{ subject: "alice", issuer: provider.issuer, groups: ["dba"] },
  });
  assert.ok(said.some((text) => /alice of http.* signed in to the page/.test(text)));
});

test("the way to the issuer carries PKCE, state and nonce; cookies are for this page only", async (t) => {
  const { origin } = await withProvider(t);
  const first = await fetch(`${origin}/auth/login`, { redirect: "manual" });
  const to = new URL(first.headers.get("location") ?? "");
  assert.equal(first.status, 303);
  assert.equal(to.searchParams.get("code_challenge_method"), "S256");
  for (const name of ["state", "nonce", "code_challenge"]) assert.ok((to.searchParams.get(name)?.length ?? 0) >= 43);
  const cookie = first.headers.get("set-cookie") ?? "";
  assert.match(cookie, /^weir-signin=[\w-]{43}; Max-Age=600; Path=\/; HttpOnly; SameSite=Lax$/);
});

test("over TLS the cookies are __Host- and Secure", async (t) => {
  const page = await openPage(t, async () => ({
    origin: "https://weir.example",
    oidc: null,
    saml: {
      ...{ entryPoint: "https://idp.example/sso", idpIssuer: "idp", idpCertificates: ["x"], entityId: "weir" },
      groupsAttribute: "groups",
      decryption: null,
    },
    groups: [],
  }));
  const first = await fetch(`${page.origin}/auth/saml/login`, { redirect: "manual" });
  assert.match(
    first.headers.get("set-cookie") ?? "",
    /^__Host-weir-signin=[\w-]{43}; .*HttpOnly; Secure; SameSite=Lax$/,
  );
});

/** Goes to the issuer and signs in there, but does not bring the answer back. */
async function answerFor(origin: string, browser: Browser, login: string): Promise<URL> {
  const stopping = new Browser({ stopAt: `${origin}/auth/callback` });
  for (const [key, cookie] of browser.cookies) stopping.cookies.set(key, cookie);
  const { url } = await fillIn(stopping, `${origin}/auth/login`, login);
  for (const [key, cookie] of stopping.cookies) browser.cookies.set(key, cookie);
  return new URL(url);
}

test("an answer counts once, and only in the browser that asked", async (t) => {
  const { origin, me } = await withProvider(t);
  const victim = new Browser();
  const attacker = new Browser();
  const answer = await answerFor(origin, attacker, "mallory");
  // Login CSRF: the victim is sent to the attacker's answer.
  const planted = await victim.ask(answer.href);
  assert.equal(planted.status, 403);
  assert.match(planted.text, /not begun in this browser/);
  assert.equal(await me(victim), 401);
  assert.equal((await attacker.ask(answer.href)).status, 403, "and by that it is used up");
  const own = await answerFor(origin, attacker, "mallory");
  assert.equal((await attacker.ask(own.href)).status, 303);
  assert.equal((await attacker.ask(own.href)).status, 403);
});

test("state that is wrong, doubled, missing or over is refused", async (t) => {
  const { origin, state } = await withProvider(t);
  const browser = new Browser();
  const tries: ((url: URL) => void)[] = [
    (url) => url.searchParams.set("state", "x".repeat(43)),
    (url) => url.searchParams.append("state", "another"),
    (url) => url.searchParams.delete("state"),
    () => {
      state.skewMs = 11 * 60_000;
    },
  ];
  for (const change of tries) {
    const answer = await answerFor(origin, browser, "alice");
    change(answer);
    const refused = await browser.ask(answer.href);
    assert.equal(refused.status, 403, refused.text);
    assert.ok(!refused.headers.getSetCookie().some((line) => line.startsWith("weir-session=")));
  }
});

test("a code of another issuer, a wrong code and an error of the issuer are refused in plain words", async (t) => {
  const { origin } = await withProvider(t);
  const browser = new Browser();
  for (const change of [
    (url: URL) => url.searchParams.set("iss", "https://evil.test"),
    (url: URL) => url.searchParams.set("code", "made-up"),
    (url: URL) => {
      url.searchParams.delete("code");
      url.searchParams.set("error", "access_denied");
      url.searchParams.set("error_description", "<img src=x onerror=alert(1)>");
    },
  ]) {
    const answer = await answerFor(origin, browser, "alice");
    change(answer);
    const refused = await browser.ask(answer.href);
    assert.equal(refused.status, 403);
    assert.match(refused.headers.get("content-type") ?? "", /^text\/plain/);
    assert.match(refused.text, /The sign-in was not accepted/);
    assert.ok(!refused.text.includes("<img"));
  }
});

test("who is in none of the groups does not get in", async (t) => {
  const { origin, me } = await withProvider(t, { groups: ["dba"] });
  const browser = new Browser();
  const end = await fillIn(browser, `${origin}/auth/login?to=/api/me`, "mallory");
  assert.match(end.text, /mallory.* is in none of the groups dba/);
  assert.equal(await me(browser), 401);
});

test("the way back is a path of this page", async (t) => {
  const { origin } = await withProvider(t);
  for (const to of [
    "https://evil.test/",
    "//evil.test",
    "/\\evil.test",
    "javascript:alert(1)",
    "/a\\b",
    "x",
    "/a\nb",
  ]) {
    const browser = new Browser({ stopAt: `${origin}/` });
    const login = await fillIn(
      new Browser({ stopAt: "http://nowhere" }),
      `${origin}/auth/login?to=${encodeURIComponent(to)}`,
      "alice",
    );
    assert.equal(login.url, `${origin}/`, to);
    assert.ok(browser);
  }
});

test("what changes something needs the session's token, from this page", async (t) => {
  const { origin, me } = await withProvider(t);
  const browser = new Browser();
  await fillIn(browser, `${origin}/auth/login?to=/api/me`, "alice");
  const { csrf } = JSON.parse((await browser.ask(`${origin}/auth/status`)).text) as { csrf: string };
  const change = async (headers: Record<string, string>): Promise<number> =>
    (await browser.ask(`${origin}/api/change`, { method: "POST", headers })).status;
  assert.equal(await change({}), 403);
  assert.equal(await change({ "x-weir-csrf": "x".repeat(43) }), 403);
  assert.equal(await change({ "x-weir-csrf": csrf, origin: "https://evil.test" }), 403);
  assert.equal(await change({ "x-weir-csrf": csrf, "sec-fetch-site": "cross-site" }), 403);
  assert.equal(await change({ "x-weir-csrf": csrf, origin, "sec-fetch-site": "same-origin" }), 200);
  const logout = (headers: Record<string, string>) => browser.ask(`${origin}/auth/logout`, { method: "POST", headers });
  assert.equal((await logout({})).status, 403);
  assert.notEqual(await me(browser), 401);
  assert.equal((await logout({ "x-weir-csrf": csrf })).status, 204);
  assert.equal(await me(browser), 401);
});

test("a session is new with each sign-in, says nothing, and ends by itself", async (t) => {
  const { origin, me, state } = await withProvider(t);
  const browser = new Browser();
  const key = `weir-session|${origin}|/`;
  browser.cookies.set(key, { origin, path: "/", value: "f".repeat(43) });
  await fillIn(browser, `${origin}/auth/login?to=/api/me`, "alice");
  const first = browser.cookies.get(key)?.value ?? "";
  assert.match(first, /^[\w-]{43}$/);
  assert.notEqual(first, "f".repeat(43), "a planted cookie is worth nothing");
  await fillIn(browser, `${origin}/auth/login?to=/api/me`, "alice");
  const second = browser.cookies.get(key);
  assert.notEqual(second?.value, first);
  browser.cookies.set(key, { origin, path: "/", value: first });
  assert.equal(await me(browser), 401, "the one before is over");
  browser.cookies.set(key, second as NonNullable<typeof second>);
  assert.notEqual(await me(browser), 401);
  state.skewMs = 61 * 60_000;
  assert.equal(await me(browser), 401, "nobody came for an hour");
});

test("the provider's back-channel logout ends the session here", async (t) => {
  const { origin, me, loggedOut } = await withProvider(t);
  const browser = new Browser();
  await fillIn(browser, `${origin}/auth/login?to=/api/me`, "alice");
  assert.notEqual(await me(browser), 401);
  // At the provider's own end-session page.
  let page = await browser.go(`${provider.issuer}/session/end`);
  page = await browser.submit(page, { logout: "yes" });
  await until(
    () => loggedOut.length > 0,
    () => page.text.slice(0, 300),
  );
  assert.equal(loggedOut.length, 1);
  const [{ issuer, sid }] = loggedOut as [{ issuer: string; sid: string }];
  assert.equal(issuer, provider.issuer);
  assert.ok(sid.length > 0);
  assert.equal(await me(browser), 401);
});

test("a logout token that anybody could write ends nothing", async (t) => {
  const { origin, me, loggedOut } = await withProvider(t);
  const browser = new Browser();
  await fillIn(browser, `${origin}/auth/login?to=/api/me`, "alice");
  const stranger = generateKeyPairSync("rsa", { modulusLength: 2048 }).privateKey;
  const events = { "http://schemas.openid.net/event/backchannel-logout": {} };
  const token = await new SignJWT({ events, sub: "alice" })
    .setProtectedHeader({ alg: "RS256", kid: "provider-1", typ: "logout+jwt" })
    .setIssuer(provider.issuer)
    .setAudience("page")
    .setIssuedAt()
    .setJti("1")
    .sign(stranger);
  const idToken = await provider.token("alice");
  for (const logout_token of [token, idToken, "", "x.y.z", undefined]) {
    const body = new URLSearchParams(logout_token === undefined ? {} : { logout_token });
    const answer = await fetch(`${origin}/auth/backchannel-logout`, { method: "POST", body });
    assert.equal(answer.status, 400);
    assert.equal(answer.headers.get("cache-control"), "no-store");
  }
  assert.equal(loggedOut.length, 0);
  assert.notEqual(await me(browser), 401);
});

test("who is revoked is out at once, and does not get in again", async (t) => {
  const { origin, me, state } = await withProvider(t);
  const browser = new Browser();
  await fillIn(browser, `${origin}/auth/login?to=/api/me`, "alice");
  assert.notEqual(await me(browser), 401);
  state.revoked = "alice";
  assert.equal(await me(browser), 401);
  const again = await fillIn(browser, `${origin}/auth/login?to=/api/me`, "alice");
  assert.match(again.text, /he is revoked/);
  state.revoked = "";
  assert.equal(await me(browser), 401, "the session is over, not asleep");
});

test("an issuer that is not there is said so, and nothing is kept of the failure", async (t) => {
  const { origin } = await openPage(t, async (own) => ({
    origin: own,
    oidc: {
      ...{ issuer: "http://127.0.0.1:1", clientId: "page", clientSecret: null, scope: "openid" },
      ...{ subjectClaim: "sub", groupsClaim: "groups", logoutClients: [], ca: null },
    },
    ...{ saml: null, groups: [] },
  }));
  const answer = await fetch(`${origin}/auth/login`, { redirect: "manual" });
  assert.equal(answer.status, 403);
  assert.match(await answer.text(), /the issuer cannot be asked/);
});
