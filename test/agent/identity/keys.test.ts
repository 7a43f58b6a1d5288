/** An issuer's keys: found, kept, rotated, and bounded against a server that means no good. */
import assert from "node:assert/strict";
import { writeFileSync } from "node:fs";
import { createServer } from "node:https";
import type { AddressInfo } from "node:net";
import { join } from "node:path";
import { before, test } from "node:test";
import type { IdentityIssuer } from "../../../agent/core/identity.ts";
import { documentBytesMax, fetchJson } from "../../../agent/identity/fetch-json.ts";
import { createVerifier } from "../../../agent/identity/verify.ts";
import { tempDir, testCa } from "../tls/pki.ts";
import { issuerOf, makeKey, nowMs, serve, type TestKey } from "./issuer.ts";

let first: TestKey;
let second: TestKey;
before(async () => {
  first = await makeKey("first");
  second = await makeKey("second");
});

/** An issuer whose documents the test changes while it runs. */
function harness(change: Partial<IdentityIssuer> = {}) {
  const state = { now: nowMs, asked: [] as string[], keys: [first.jwk] as unknown, down: false, issuer: "" };
  const issuer = issuerOf(change);
  const verifier = createVerifier(
    { issuers: [issuer], mappings: [] },
    {
      now: () => state.now,
      async fetch(url) {
        state.asked.push(url);
        await Promise.resolve();
        if (state.down) throw new Error(`${url}: ECONNREFUSED`);
        if (url.endsWith("openid-configuration"))
          return { issuer: state.issuer === "" ? issuer.issuer : state.issuer, jwks_uri: `${issuer.issuer}/keys` };
        return { keys: state.keys };
      },
    },
  );
  const later = { exp: nowMs / 1000 + 100_000 };
  return { state, verify: async (key: TestKey) => verifier.verify(await key.sign(later)) };
}

test("keys are found by discovery, once for all who ask at the same time, and kept", async () => {
  const { state, verify } = harness();
  await Promise.all([verify(first), verify(first), verify(first)]);
  await verify(first);
  assert.deepEqual(state.asked, ["https://issuer.test/.well-known/openid-configuration", "https://issuer.test/keys"]);
});

test("a new key is found when the first token of it comes; made-up key ids do not hammer the issuer", async () => {
  const { state, verify } = harness({ jwks: { url: "https://issuer.test/keys" } });
  await verify(first);
  state.keys = [first.jwk, second.jwk];
  await assert.rejects(verify(second), /no key with its key id/, "too soon after the last reading");
  state.now += 30_000;
  await verify(second);
  assert.equal(state.asked.length, 2);
  const made = await makeKey("made-up");
  for (let i = 0; i < 50; i += 1) await assert.rejects(verify(made), /no key with its key id/);
  assert.equal(state.asked.length, 2);
});

test("a withdrawn key is believed no longer than ten minutes", async () => {
  const { state, verify } = harness();
  await verify(first);
  state.keys = [second.jwk];
  state.now += 10 * 60_000;
  await assert.rejects(verify(first), /no key with its key id/);
});

test("while the issuer is down its last keys go on, but not for ever", async () => {
  const { state, verify } = harness();
  await verify(first);
  state.down = true;
  state.now += 30 * 60_000;
  await verify(first);
  const asked = state.asked.length;
  await verify(first);
  assert.equal(state.asked.length, asked, "the next try waits");
  state.now += 31 * 60_000;
  await assert.rejects(verify(first), /the keys of https:\/\/issuer\.test cannot be read/);
});

test("a discovery document of another issuer, or with keys in plain text, is refused", async () => {
  const { state, verify } = harness();
  state.issuer = "https://evil.test";
  await assert.rejects(verify(first), /document of another issuer/);
  const verifier = createVerifier(
    { issuers: [issuerOf()], mappings: [] },
    { now: () => nowMs, fetch: async () => ({ issuer: "https://issuer.test", jwks_uri: "http://issuer2.test/keys" }) },
  );
  await assert.rejects(verifier.verify(await first.sign({})), /its jwks_uri is not https/);
});

test("no keys, too many keys and symmetric keys are no keys", async () => {
  for (const [keys, why] of [
    [[], /holds no keys/],
    ["keys", /holds no keys/],
    [Array.from({ length: 101 }, () => first.jwk), /more than 100 keys/],
    [[{ kty: "oct", k: "c2VjcmV0", kid: "first", alg: "HS256" }], /no key with its key id/],
    [[{ ...first.jwk, use: "enc" }], /no key with its key id/],
    [[null, 7, "x"], /cannot be read|no signed JWT/],
  ] as const) {
    const { state, verify } = harness();
    state.keys = keys;
    await assert.rejects(verify(first), why);
  }
});

test("a file is read anew each time, so that it can be rotated", async (t) => {
  const file = join(tempDir(t), "jwks.json");
  writeFileSync(file, JSON.stringify({ keys: [first.jwk] }));
  const verifier = createVerifier({ issuers: [issuerOf({ jwks: { file } })], mappings: [] }, { now: () => nowMs });
  await verifier.verify(await first.sign({}));
  writeFileSync(file, JSON.stringify({ keys: [second.jwk] }));
  await verifier.verify(await second.sign({}));
  await assert.rejects(verifier.verify(await first.sign({})), /no key with its key id/);
  writeFileSync(file, "secret-canary {");
  await assert.rejects(
    verifier.verify(await first.sign({})),
    (error: Error) => /holds no keys/.test(error.message) && !error.message.includes("canary"),
  );
});

test("a document that is huge, redirects, is no JSON or breaks off is refused, with nothing of it in the sentence", async (t) => {
  const url = await serve(t, (request, response) => {
    if (request.url === "/huge") response.end(Buffer.alloc(documentBytesMax + 1, "7"));
    else if (request.url === "/endless") {
      const more = (): void => {
        if (!response.destroyed && response.write(Buffer.alloc(65_536, "7"))) setImmediate(more);
        else response.once("drain", more);
      };
      more();
    } else if (request.url === "/moved") response.writeHead(302, { location: "/keys" }).end();
    else if (request.url === "/cut") {
      response.writeHead(200, { "content-length": "100" }).write("{");
      setImmediate(() => response.destroy());
    } else response.end("canary {");
  });
  await assert.rejects(fetchJson(`${url}/huge`, null), /longer than 262144 bytes/);
  await assert.rejects(fetchJson(`${url}/endless`, null), /longer than 262144 bytes/);
  await assert.rejects(fetchJson(`${url}/moved`, null), /it answers 302/);
  await assert.rejects(fetchJson(`${url}/cut`, null), /aborted/);
  await assert.rejects(
    fetchJson(`${url}/text`, null),
    (e: Error) => /no JSON/.test(e.message) && !/canary/.test(e.message),
  );
});

test("a server that dribbles is given up as a whole, not by its silence", async (t) => {
  const timers: NodeJS.Timeout[] = [];
  t.after(() => timers.forEach(clearInterval));
  const url = await serve(t, (_request, response) => {
    timers.push(setInterval(() => response.write(" "), 20));
  });
  await assert.rejects(fetchJson(`${url}/slow`, null, 200), /no answer within 0.2 s/);
});

test("the server of the keys has to prove itself", async (t) => {
  const ca = testCa("Keys CA");
  const server = createServer(ca.issue({ ip: ["127.0.0.1"] }), (_request, response) => response.end('{"keys":[]}'));
  await new Promise<void>((ready) => server.listen(0, "127.0.0.1", ready));
  t.after(() => {
    server.closeAllConnections();
    server.close();
  });
  const { port } = server.address() as AddressInfo;
  const file = join(tempDir(t), "ca.pem");
  writeFileSync(file, ca.pem);
  assert.deepEqual(await fetchJson(`https://127.0.0.1:${port}/`, file), { keys: [] });
  await assert.rejects(fetchJson(`https://127.0.0.1:${port}/`, null), /certificate/);
  writeFileSync(file, testCa("Another CA").pem);
  await assert.rejects(fetchJson(`https://127.0.0.1:${port}/`, file), /certificate/);
});
