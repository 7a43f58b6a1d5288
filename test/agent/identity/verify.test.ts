/** What is proof of who somebody is, and what only looks like it (RFC 8725). */
import assert from "node:assert/strict";
import { createHmac } from "node:crypto";
import { writeFileSync } from "node:fs";
import { join } from "node:path";
import { before, type TestContext, test } from "node:test";
import { CompactSign, exportSPKI, type JWTPayload } from "jose";
import type { IdentityIssuer } from "../../../agent/core/identity.ts";
import { WeirError } from "../../../agent/errors.ts";
import { createVerifier, tokenBytesMax } from "../../../agent/identity/verify.ts";
import { tempDir } from "../tls/pki.ts";
import { issuerOf, makeKey, nowMs, serve, standardClaims, type TestKey } from "./issuer.ts";

let rsa: TestKey;
let ec: TestKey;
let stranger: TestKey;
before(async () => {
  rsa = await makeKey("rsa");
  ec = await makeKey("ec", "ES256");
  stranger = await makeKey("rsa");
});

function verifierOf(t: TestContext, change: Partial<IdentityIssuer> = {}, keys = [rsa.jwk, ec.jwk]) {
  const file = join(tempDir(t), "jwks.json");
  writeFileSync(file, JSON.stringify({ keys }));
  return createVerifier({ issuers: [issuerOf({ jwks: { file }, ...change })], mappings: [] }, { now: () => nowMs });
}

const refused = (why: RegExp) => (error: unknown) => {
  assert.ok(error instanceof WeirError);
  assert.equal(error.code, "WEIR_IDENTITY_INVALID");
  assert.match(error.message, why);
  return true;
};

test("a token of the issuer proves subject, groups, session and time", async (t) => {
  const proven = await verifierOf(t).verify(`${await rsa.sign({ sid: "s1" })}\n`);
  assert.deepEqual(proven.identity, { subject: "alice", issuer: "https://issuer.test", groups: ["dba", "staff"] });
  assert.equal(proven.sid, "s1");
  assert.equal(proven.issuedAtMs, nowMs - 10_000);
  assert.equal(proven.untilMs, nowMs + 630_000, "its end and the tolerance of the clocks");
  assert.equal((await verifierOf(t).verify(await ec.sign({}))).identity.subject, "alice");
});

test("a proof has an end that the token cannot move: 30 days after it was made; one that says no time is none", async (t) => {
  const dayMs = 86_400_000;
  const long = { exp: (nowMs + 900 * dayMs) / 1000 };
  const made = (agoMs: number) => rsa.sign({ ...long, iat: (nowMs - agoMs) / 1000 });
  const week = verifierOf(t, { lifetimeMs: 7 * dayMs });
  assert.equal((await verifierOf(t).verify(await made(dayMs))).untilMs, nowMs + 29 * dayMs);
  assert.equal((await week.verify(await made(29 * dayMs))).untilMs, nowMs + dayMs);
  assert.equal((await week.verify(await made(dayMs))).untilMs, nowMs + 7 * dayMs);
  await assert.rejects(week.verify(await made(30 * dayMs)), refused(/it was made .*, more than 30 days ago/));
  await assert.rejects(week.verify(await rsa.sign({ iat: undefined })), refused(/its claim iat is missing/));
});

test("alg none, and nothing at all, are no signature", async (t) => {
  const none = [{ alg: "none" }, standardClaims()].map((part) =>
    Buffer.from(JSON.stringify(part)).toString("base64url"),
  );
  const verifier = verifierOf(t);
  await assert.rejects(verifier.verify(`${none.join(".")}.`), refused(/its algorithm is not RS256 or ES256/));
  await assert.rejects(verifier.verify(none.join(".")), refused(/no signed JWT/));
  const [head, body] = (await rsa.sign({})).split(".");
  await assert.rejects(verifier.verify(`${head}.${body}.`), refused(/its signature is wrong/));
  for (const odd of ["", " ", "x", "a.b.c", "..", "null", `${head}.${body}.!!`])
    await assert.rejects(verifier.verify(odd), refused(/not accepted/), JSON.stringify(odd));
});

test("the public key is no secret: HS256 with it is refused, however it is written", async (t) => {
  const pem = await exportSPKI(rsa.publicKey);
  for (const secret of [pem, pem.trim(), rsa.jwk.n as string, JSON.stringify(rsa.jwk)]) {
    const head = Buffer.from(JSON.stringify({ alg: "HS256", kid: "rsa" })).toString("base64url");
    const body = Buffer.from(JSON.stringify(standardClaims())).toString("base64url");
    const mac = createHmac("sha256", secret).update(`${head}.${body}`).digest("base64url");
    await assert.rejects(verifierOf(t).verify(`${head}.${body}.${mac}`), refused(/its algorithm is not/));
  }
});

const claims: readonly [string, Record<string, unknown>, RegExp][] = [
  ["another audience", { aud: "other" }, /not for weir \(aud\)/],
  ["no audience", { aud: undefined }, /not for weir|aud/],
  ["another issuer", { iss: "https://evil.test" }, /names no issuer "https:\/\/evil\.test"/],
  ["an issuer with a slash more", { iss: "https://issuer.test/" }, /names no issuer/],
  ["expired", { exp: nowMs / 1000 - 31 }, /it expired 2026-05-31T23:59:29/],
  ["without an end", { exp: undefined }, /its claim exp is missing/],
  ["not valid yet", { nbf: nowMs / 1000 + 60 }, /not valid before 2026-06-01T00:01:00/],
  ["an end that is a text", { exp: "9999999999" }, /claim exp/],
  ["no subject", { sub: undefined }, /names no subject/],
  ["an empty subject", { sub: "" }, /names no subject/],
  ["a subject that writes to terminals", { sub: "alice\u001b[2J" }, /control characters/],
  ["a subject as a list", { sub: ["alice"] }, /sub|subject/],
  ["groups that are no names", { groups: [{ admin: true }] }, /no list of names/],
  ["too many groups", { groups: Array.from({ length: 257 }, (_, i) => `g${i}`) }, /more than 256 groups/],
  ["a session that is no text", { sid: { a: 1 } }, /session \(sid\)/],
];
for (const [what, change, why] of claims) {
  test(`refused: ${what}`, async (t) => {
    await assert.rejects(verifierOf(t).verify(await rsa.sign(change)), refused(why));
  });
}

test("keys in the token's own header are not looked at", async (t) => {
  let asked = 0;
  const url = await serve(t, (_request, response) => {
    asked += 1;
    response.end(JSON.stringify({ keys: [stranger.jwk] }));
  });
  const { jwk } = stranger;
  for (const header of [{ jku: `${url}/jwks` }, { x5u: `${url}/cert` }, { jwk }, { jwk, jku: url, kid: "mine" }])
    await assert.rejects(verifierOf(t).verify(await stranger.sign({}, header)), refused(/signature|no key/));
  assert.equal(asked, 0);
});

test("a key id chooses among the issuer's own keys and means nothing else", async (t) => {
  const verifier = verifierOf(t);
  await assert.rejects(verifier.verify(await rsa.sign({}, { kid: "ec" })), refused(/no key|signature/));
  await assert.rejects(verifier.verify(await stranger.sign({})), refused(/signature is wrong/));
  for (const kid of ["../../etc/passwd", "' OR 1=1 --", "rsa\u0000", ""])
    await assert.rejects(verifier.verify(await stranger.sign({}, { kid })), refused(/no key|signature/), kid);
  // Two issuers, one key id: each token is tried with its own issuer's key only.
  const files = [tempDir(t), tempDir(t)].map((dir) => join(dir, "jwks.json"));
  for (const [i, key] of [rsa, stranger].entries())
    writeFileSync(files[i] as string, JSON.stringify({ keys: [key.jwk] }));
  const both = createVerifier(
    {
      issuers: [
        issuerOf({ jwks: { file: files[0] as string } }),
        issuerOf({ issuer: "https://second.test", jwks: { file: files[1] as string } }),
      ],
      mappings: [],
    },
    { now: () => nowMs },
  );
  assert.equal((await both.verify(await stranger.sign({ iss: "https://second.test" }))).identity.subject, "alice");
  await assert.rejects(both.verify(await stranger.sign({})), refused(/signature is wrong/));
});

test("critical extensions, unencoded payloads and other types of token are refused", async (t) => {
  const verifier = verifierOf(t);
  const payload = Buffer.from(JSON.stringify(standardClaims()));
  const unencoded = await new CompactSign(payload)
    .setProtectedHeader({ alg: "RS256", kid: "rsa", b64: true, crit: ["b64"] })
    .sign(rsa.privateKey);
  await assert.rejects(verifier.verify(unencoded.replace(/^[^.]+/, forge({ crit: ["x"], x: 1 }))), refused(/./));
  for (const typ of ["logout+jwt", "secevent+jwt", "dpop+jwt"])
    await assert.rejects(verifier.verify(await rsa.sign({}, { typ })), refused(/another type/), typ);
  for (const typ of ["JWT", "at+jwt", "application/at+jwt"])
    assert.equal((await verifier.verify(await rsa.sign({}, { typ }))).identity.subject, "alice");
});

function forge(header: object): string {
  return Buffer.from(JSON.stringify({ alg: "RS256", kid: "rsa", ...header })).toString("base64url");
}

test("a token that is too long is refused before it is read", async (t) => {
  const token = await rsa.sign({ padding: "x".repeat(tokenBytesMax) });
  await assert.rejects(verifierOf(t).verify(token), refused(/longer than 16384 bytes/));
});

test("nothing of a refused token is said but its issuer's name, cut", async (t) => {
  const secret = "canary-5f2a";
  const iss = `https://${"e".repeat(500)}`;
  for (const token of [await stranger.sign({ sub: secret, groups: [secret] }), await rsa.sign({ aud: secret })])
    await assert.rejects(verifierOf(t).verify(token), (error: Error) => !error.message.includes(secret));
  await assert.rejects(verifierOf(t).verify(await rsa.sign({ iss })), (error: Error) => error.message.length < 350);
});

test("other claims have to hold where the policy names them", async (t) => {
  const covers = (value: string): boolean => value === "acme";
  const verifier = verifierOf(t, { claims: [{ name: "org.name", wanted: "acme", covers }] });
  assert.ok(await verifier.verify(await rsa.sign({ org: { name: "acme" } })));
  await assert.rejects(verifier.verify(await rsa.sign({ org: { name: "evil" } })), refused(/org\.name is not acme/));
  await assert.rejects(verifier.verify(await rsa.sign({})), refused(/org\.name is not acme/));
  await assert.rejects(verifier.verify(await rsa.sign({ org: { name: { acme: 1 } } })), refused(/is not acme/));
});

test("groups by a path, and a lifetime of the policy's own", async (t) => {
  const verifier = verifierOf(t, { groupsClaim: "realm_access.roles", lifetimeMs: 5_000 });
  const proven = await verifier.verify(await rsa.sign({ realm_access: { roles: ["ops"] } }));
  assert.deepEqual([proven.identity.groups, proven.untilMs], [["ops"], nowMs + 5_000]);
  assert.deepEqual((await verifier.verify(await rsa.sign({}))).identity.groups, []);
});

const github: JWTPayload = {
  sub: "repo:acme/shop:environment:production",
  repository: "acme/shop",
  repository_owner: "acme",
  ref: "refs/heads/main",
  environment: "production",
  workflow: "deploy",
  workflow_ref: "acme/shop/.github/workflows/deploy.yml@refs/heads/main",
  event_name: "push",
  actor: "octocat",
  run_id: "4711",
  groups: ["dba"],
};

test("GitHub's job token gives groups with their meaning in front, and the job", async (t) => {
  const { identity, job } = await verifierOf(t, { kind: "github" }).verify(await rsa.sign(github));
  assert.ok(identity.groups.includes("repository:acme/shop") && identity.groups.includes("environment:production"));
  assert.ok(!identity.groups.includes("dba"), "a claim groups is not GitHub's");
  assert.deepEqual(job, {
    system: "github",
    ...{ id: "4711", repository: "acme/shop", workflow: "deploy", actor: "octocat", ref: "refs/heads/main" },
  });
  const branch = await verifierOf(t, { kind: "github" }).verify(
    await rsa.sign({ ...github, ref: "environment:production", environment: "" }),
  );
  assert.ok(!branch.identity.groups.includes("environment:production"), "a branch's name is no environment");
  const long = rsa.sign({ ...github, environment: "e".repeat(600) });
  await assert.rejects(verifierOf(t, { kind: "github" }).verify(await long), refused(/environment is no short text/));
});

test("GitLab's job token, with the protected ref", async (t) => {
  const claims = {
    ...{ sub: "project_path:acme/shop:ref_type:branch:ref:main", project_path: "acme/shop", namespace_path: "acme" },
    ...{ ref: "main", ref_protected: "true", job_id: 99, user_login: "bob", pipeline_source: "schedule" },
  };
  const { identity, job } = await verifierOf(t, { kind: "gitlab" }).verify(await rsa.sign(claims));
  assert.deepEqual(identity.groups, [
    ...["project:acme/shop", "namespace:acme", "ref:main", "source:schedule", "user:bob", "ref-protected"],
  ]);
  assert.deepEqual(job, { system: "gitlab", id: "99", repository: "acme/shop", actor: "bob", ref: "main" });
});
