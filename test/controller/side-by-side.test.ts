/**
 * Two controllers over one PostgreSQL and a real broker, behind one address: who signs in at one is known at the other, and
 * what ends there ends here. Which of them gets a request is said by each test.
 */
import assert from "node:assert/strict";
import { generateKeyPairSync, type KeyObject } from "node:crypto";
import { cpSync, mkdtempSync, rmSync } from "node:fs";
import { createServer, request as httpRequest, type Server } from "node:http";
import type { AddressInfo } from "node:net";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { after, before, test } from "node:test";
import { logoutKeptMs } from "../../agent/core/identity.ts";
import { createTopics } from "../../agent/kafka/admin.ts";
import { approvalMessage } from "../../agent/kafka/approval-messages.ts";
import { kafkajsClient } from "../../agent/kafka/kafkajs.ts";
import { asLogout, type LogoutWord, logoutMessage } from "../../agent/kafka/logout-messages.ts";
import { asRevocation, revocationMessage } from "../../agent/kafka/revocation-messages.ts";
import { topics } from "../../agent/kafka/topics.ts";
import { openTransport, type Transport } from "../../agent/kafka/transport.ts";
import { linkRevocations } from "../../agent/publish/revocation-link.ts";
import { type ControllerService, startService } from "../../controller/service.ts";
import { openSigningKey } from "../../controller/signing-key.ts";
import { openStore } from "../../controller/store/store.ts";
import { sessionA } from "../agent/record/sample.ts";
import { Browser } from "../support/browser.ts";
import { startKafka, type TestKafka } from "../support/kafka.ts";
import { readTopic } from "../support/kafka-read.ts";
import { type Oidc, signIn, startOidcHere } from "../support/oidc-server.ts";
import { type Postgres, startPostgres } from "../support/postgres.ts";
import { until as untilHeld } from "../support/until.ts";
import { assertion, idpIssuer, idpPublicKey, logoutRequest, questionIn, response, signed } from "./identity/idp.ts";

type Which = 0 | 1;

let dir: string;
let kafka: TestKafka;
let postgres: Postgres;
let provider: Oidc;
let balancer: Server;
let origin: string;
let to: Which = 0;
let agentKey: KeyObject;
let forge: Transport;
const services: ControllerService[] = [];
const logs: string[] = [];
/** What the provider said to whoever asked. */
const logoutTokens: string[] = [];

before(async () => {
  dir = mkdtempSync(join(tmpdir(), "weir-side-"));
  [kafka, postgres] = await Promise.all([
    // Compaction looks at the topic all the time.
    startKafka({ settings: { "log.cleaner.backoff.ms": "100" } }),
    startPostgres({ tls: false, hba: ["host all all 127.0.0.1/32 trust"] }),
  ]);
  await createTopics(kafka.settings, { partitions: 3, replicas: 1 });
  await postgres.admin("CREATE DATABASE weir");
  balancer = await startBalancer();
  origin = `http://127.0.0.1:${(balancer.address() as AddressInfo).port}`;
  const client = {
    ...{ client_id: "page", token_endpoint_auth_method: "none", redirect_uris: [`${origin}/auth/callback`] },
    ...{ response_types: ["code"], grant_types: ["authorization_code"] },
    ...{ backchannel_logout_uri: `${origin}/auth/backchannel-logout`, backchannel_logout_session_required: true },
  };
  const groups = { alice: ["dba"], bob: ["dba"], carol: ["dba"] };
  provider = await startOidcHere({ host: "127.0.0.1", port: 0, clients: [client], groups });
  // The first makes the key that both sign with; then both make the tables at once.
  const first = join(dir, "0");
  openSigningKey(first);
  cpSync(first, join(dir, "1"), { recursive: true });
  services.push(...(await Promise.all([start(0), start(1)])));
  const pair = generateKeyPairSync("ed25519");
  agentKey = pair.privateKey;
  const store = await openStore(storeUrl());
  await store.pinKey("agent-1", pair.publicKey);
  await store.close();
  forge = await openTransport(kafka.settings);
});
after(async () => {
  await forge?.close();
  await Promise.all(services.map((service) => service.close()));
  await provider?.close();
  balancer?.closeAllConnections();
  await new Promise((closed) => (balancer ? balancer.close(closed) : closed(null)));
  await postgres?.stop();
  await kafka?.stop();
  rmSync(dir, { recursive: true, force: true });
});

function storeUrl(): string {
  return `postgres://${postgres.user}@${postgres.host}:${postgres.port}/weir`;
}

async function start(which: Which): Promise<ControllerService> {
  return startService({
    kafka: kafka.settings,
    store: await openStore(storeUrl()),
    stateDir: join(dir, String(which)),
    listen: { host: "127.0.0.1", port: 0 },
    policyDigest: () => null,
    signIn: {
      origin,
      oidc: {
        ...{ issuer: provider.issuer, clientId: "page", clientSecret: null, scope: "openid", ca: null },
        ...{ subjectClaim: "sub", groupsClaim: "groups", logoutClients: [] },
      },
      saml: {
        ...{ entryPoint: "https://idp.test/sso", idpIssuer, idpCertificates: [idpPublicKey], entityId: "weir" },
        ...{ groupsAttribute: "groups", decryption: null },
      },
      groups: [],
    },
    log: (_, message) => void logs.push(`${which}: ${message}`),
  });
}

/** Each request to the controller that its header names, else to that of `to`. */
async function startBalancer(): Promise<Server> {
  const server = createServer((request, reply) => {
    const which = Number(request.headers["x-controller"] ?? to);
    const { host, port } = new URL(String(services[which]?.url));
    const options = { port, method: request.method, path: request.url, headers: { ...request.headers, host } };
    const onward = httpRequest({ host: "127.0.0.1", ...options }, (answer) => {
      reply.writeHead(answer.statusCode ?? 502, answer.headers);
      answer.pipe(reply);
    });
    onward.on("error", () => reply.destroy());
    request.on("data", (piece: Buffer) => {
      const token = /logout_token=([^&]+)/.exec(piece.toString())?.[1];
      if (token !== undefined) logoutTokens.push(token);
      onward.write(piece);
    });
    request.on("end", () => onward.end());
  });
  await new Promise<void>((ready) => server.listen(0, "127.0.0.1", ready));
  return server;
}

function until(what: () => boolean | Promise<boolean>): Promise<void> {
  return untilHeld(what, () => logs.join("\n"));
}

function at(which: Which, browser: Browser, path: string, init: RequestInit = {}) {
  return browser.ask(`${origin}${path}`, { ...init, headers: { ...init.headers, "x-controller": String(which) } });
}

async function status(which: Which, browser: Browser): Promise<{ name: string | null; csrf: string }> {
  const { text } = await at(which, browser, "/auth/status");
  const { person, csrf } = JSON.parse(text) as { person: { subject: string } | null; csrf: string };
  return { name: person?.subject ?? null, csrf };
}

/** Begun at one and called back at the other. */
async function answerFor(begin: Which, browser: Browser, login: string): Promise<string> {
  const stopping = new Browser({ stopAt: `${origin}/auth/callback` });
  to = begin;
  const { url } = await signIn(stopping, `${origin}/auth/login`, login);
  for (const [key, cookie] of stopping.cookies) browser.cookies.set(key, cookie);
  return url.slice(origin.length);
}

async function signedIn(begin: Which, login: string): Promise<Browser> {
  const browser = new Browser();
  const answer = await answerFor(begin, browser, login);
  assert.equal((await at(begin === 0 ? 1 : 0, browser, answer)).status, 303);
  return browser;
}

const summary = {
  ...{ user: "app", database: "app", target: "orders", process: "psql[7]", cgroup: "", text: "DELETE FROM orders" },
  ...{ rule: "ask-first", reason: "", session: sessionA, protocol: "postgres", host: "build-1", job: null },
  ...{ identity: { subject: "carol", issuer: "" }, approvers: ["dba"], risks: [], highlights: [], digest: "abc" },
};

async function hold(id: string): Promise<void> {
  const asks = { ...summary, identity: { subject: "carol", issuer: provider.issuer } };
  const request = {
    ...{ agent: "agent-1", id, session: sessionA, policy: "p", createdAtMs: Date.now(), onTimeout: "deny" as const },
    ...{ expiresAtMs: Date.now() + 60_000, summary: asks },
  };
  await forge.send([approvalMessage("approval-request", request, agentKey)]);
  await until(() => services.every(({ approvals }) => approvals.get(id)?.status === "pending"));
}

test("sign in at one, approve at the other, sign out at one, and be refused at the other", async () => {
  const browser = await signedIn(0, "alice");
  const [one, other] = [await status(0, browser), await status(1, browser)];
  assert.deepEqual([one.name, other.name], ["alice", "alice"]);
  assert.equal(one.csrf, other.csrf, "a page that is open goes on, whoever answers it");
  await hold("aaaaaaaa");
  const path = "/api/approvals/aaaaaaaa/approve";
  const wrong = await at(1, browser, path, { method: "POST", headers: { "x-weir-csrf": "x".repeat(43) } });
  assert.equal(wrong.status, 403);
  const carol = await signedIn(1, "carol");
  const own = await status(0, carol);
  const refused = await at(0, carol, path, { method: "POST", headers: { "x-weir-csrf": own.csrf } });
  assert.match(refused.text, /Nobody approves his own/);
  const done = await at(1, browser, path, { method: "POST", headers: { "x-weir-csrf": one.csrf } });
  assert.equal(done.status, 200, done.text);
  await until(async () => {
    const sent = (await readTopic(kafka.settings, topics.approvals)).map(({ value }) => String(value));
    return sent.some((text) => text.includes("decision") && text.includes(`alice of ${provider.issuer}`));
  });
  const session = [...browser.cookies].find(([key]) => key.startsWith("weir-session|"));
  assert.equal(
    (await at(0, browser, "/auth/logout", { method: "POST", headers: { "x-weir-csrf": one.csrf } })).status,
    204,
  );
  // Who kept the cookie has nothing.
  browser.cookies.set(...(session as NonNullable<typeof session>));
  assert.equal((await at(1, browser, "/api/approvals")).status, 401);
  assert.equal((await status(1, browser)).name, null);
});

test("an answer counts once, though it is brought to both at once", async () => {
  const browser = new Browser();
  const answer = await answerFor(0, browser, "bob");
  const both = await Promise.all(([0, 1] as const).map((which) => at(which, browser, answer)));
  assert.deepEqual(
    both.map((page) => page.status).sort((a, b) => a - b),
    [303, 403],
  );
});

test("the issuer tells one of a logout, and the session is over at the other; the token counts once", async () => {
  const browser = await signedIn(0, "bob");
  assert.equal((await status(0, browser)).name, "bob");
  const provided = new Browser();
  for (const [key, cookie] of browser.cookies) provided.cookies.set(key, cookie);
  to = 1;
  const page = await provided.go(`${provider.issuer}/session/end`);
  await provided.submit(page, { logout: "yes" });
  await until(async () => (await status(0, browser)).name === null);
  const [token] = logoutTokens;
  const body = new URLSearchParams({ logout_token: String(token) });
  const again = await at(0, new Browser(), "/auth/backchannel-logout", { method: "POST", body });
  assert.equal(again.status, 400);
  assert.ok(logs.some((line) => line.startsWith("0: ") && line.includes("its logout token was used before")));
});

test("who is revoked by one is out at the other, is not let in again, and finds no old session when he may come back", async () => {
  const browser = await signedIn(1, "alice");
  const word = { subject: "alice", issuer: provider.issuer, by: "eve" };
  await services[0]?.revoke({ ...word, revoked: true, reason: "left" });
  await until(async () => (await status(1, browser)).name === null);
  // Each of them hears of it by itself.
  await until(async () =>
    /alice is revoked: left/.test((await at(1, browser, await answerFor(0, browser, "alice"))).text),
  );
  await services[1]?.revoke({ ...word, revoked: false, reason: "" });
  const store = await openStore(storeUrl());
  await until(async () => (await store.revocations())[0]?.message.includes('"revoked":false') === true);
  await store.close();
  assert.equal((await status(0, browser)).name, null, "the session is over, not asleep");
});

test("SAML: asked by one, answered at the other, and the answer is a replay at the first", async () => {
  const browser = new Browser({ stopAt: "https://idp.test" });
  to = 0;
  const question = questionIn((await browser.go(`${origin}/auth/saml/login?to=/here`)).url);
  const callback = `${origin}/auth/saml/acs`;
  const xml = response(question, callback, signed(assertion(question, callback, { nameId: "dora" })));
  const body = (): URLSearchParams =>
    new URLSearchParams({ SAMLResponse: Buffer.from(xml).toString("base64"), RelayState: question.relayState });
  const posts = await Promise.all(
    ([1, 0] as const).map((which) => at(which, new Browser(), "/auth/saml/acs", { method: "POST", body: body() })),
  );
  assert.deepEqual(
    posts.map((page) => page.status).sort((a, b) => a - b),
    [303, 403],
  );
  const ticket = posts.find((page) => page.status === 303)?.headers.get("location") ?? "";
  assert.equal((await at(0, browser, ticket)).headers.get("location"), "/here");
  assert.equal((await at(0, browser, ticket)).status, 403, "a ticket counts once");
  assert.equal((await status(1, browser)).name, "dora");
  const over = signed(logoutRequest(`${origin}/auth/saml/logout`, { nameId: "dora" }));
  const logout = (): URLSearchParams => new URLSearchParams({ SAMLRequest: Buffer.from(over).toString("base64") });
  const told = await Promise.all(
    ([1, 0] as const).map((which) => at(which, new Browser(), "/auth/saml/logout", { method: "POST", body: logout() })),
  );
  assert.deepEqual(
    told.map((page) => page.status).sort((a, b) => a - b),
    [200, 403],
    "of both that hear it one takes it",
  );
  assert.equal((await status(0, browser)).name, null);
});

test("a controller that starts anew keeps people signed in, but not who was revoked while it was away", async () => {
  const [carol, bob] = [await signedIn(0, "carol"), await signedIn(0, "bob")];
  await services[1]?.close();
  const store = await openStore(storeUrl());
  // As a controller leaves it that is killed between Kafka's word and the end of the session.
  const body = { subject: "bob", issuer: provider.issuer, revoked: true, reason: "", by: "eve", version: Date.now() };
  const message = JSON.stringify(body);
  await store.putRevocation({ identity: JSON.stringify([provider.issuer, "bob"]), version: body.version, message });
  await store.close();
  services[1] = await start(1);
  assert.equal((await status(1, bob)).name, null);
  assert.equal((await status(1, carol)).name, "carol");
});

test("a logout that is over goes from the topic; what holds stays there, also when it is taken away, for who comes late", async () => {
  const { privateKey, publicKey } = openSigningKey(join(dir, "0"));
  const word = (subject: string, beforeMs: number): LogoutWord => ({
    ...{ issuer: "https://late.example", subject, sid: null, beforeMs, by: "the issuer" },
  });
  const over = logoutMessage(word("over", Date.now() - logoutKeptMs - 1), privateKey);
  const live = logoutMessage(word("live", Date.now() - logoutKeptMs / 2), privateKey);
  const older = logoutMessage(word("live", Date.now() - logoutKeptMs + 60_000), privateKey);
  const [first] = services as [ControllerService];
  const revoked = await first.revoke({ subject: "rex", issuer: null, revoked: true, reason: "", by: "eve" });
  const rex = revocationMessage(revoked, privateKey);
  await forge.send([over, live, { ...live, value: null }, older, { ...rex, value: null }]);
  const lastOf = async (key: string) =>
    (await readTopic(kafka.settings, topics.revocations))
      .filter((one) => one.key === key)
      .at(-1)
      ?.value.toString();
  await until(async () => (await lastOf(over.key)) === "");
  await until(async () => (await lastOf(live.key)) === live.value?.toString());
  await until(async () => asRevocation(JSON.parse(JSON.parse((await lastOf(rex.key)) || "{}").body ?? "{}")) !== null);
  await compacted(topics.revocations, over.key);
  // An agent that comes now has nothing but this.
  const heard: string[] = [];
  const take = linkRevocations({
    ...{ path: join(dir, "late.json"), trusted: [publicKey] },
    apply: ({ subject, revoked: is }) => void heard.push(`${subject} ${is}`),
    loggedOut: ({ subject, beforeMs }) => void heard.push(`${subject} ${beforeMs}`),
    log: () => {},
  });
  for (const { key, value, headers } of await readTopic(kafka.settings, topics.revocations))
    take({ topic: topics.revocations, key, value: value.length === 0 ? null : value, headers, timeMs: 0 });
  assert.ok(
    heard.includes(`live ${asLogout(JSON.parse(JSON.parse(String(live.value)).body))?.beforeMs}`),
    heard.join(),
  );
  assert.ok(heard.includes("rex true"), heard.join());
  assert.ok(
    heard.every((line) => !line.startsWith("over")),
    heard.join(),
  );
});

/** Until the broker's cleaner has nothing of this key any more. */
async function compacted(topic: string, key: string): Promise<void> {
  const admin = kafkajsClient(kafka.settings).admin();
  await admin.connect();
  const settings = { "segment.ms": "50", "min.cleanable.dirty.ratio": "0.001", "delete.retention.ms": "0" };
  const configEntries = Object.entries({ ...settings, "cleanup.policy": "compact" }).map(([name, value]) => ({
    name,
    value,
  }));
  await admin.alterConfigs({ validateOnly: false, resources: [{ type: 2, name: topic, configEntries }] });
  await admin.disconnect();
  // The last segment is never cleaned: something has to come behind.
  await until(async () => {
    await forge.send([{ topic, key: "filler", value: null }]);
    return (await readTopic(kafka.settings, topic)).every((one) => one.key !== key);
  });
}
