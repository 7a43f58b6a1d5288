/** SAML sign-in: a sound answer is taken once; what wraps a signature around somebody else is refused. */
import assert from "node:assert/strict";
import { generateKeyPairSync } from "node:crypto";
import { test } from "node:test";
import { samlSignIn } from "../../../controller/identity/saml.ts";
import { signInsInMemory } from "../../../controller/store/sqlite-sign-ins.ts";
import {
  assertion,
  decryptionKey,
  digestMethod,
  type Encryption,
  encrypted,
  idpIssuer,
  idpPublicKey,
  type LogoutSaid,
  logoutRequest,
  type Question,
  questionIn,
  response,
  type Said,
  signatureOf,
  signed,
  withSignature,
} from "./idp.ts";

const callback = "https://weir.test/auth/saml/acs";
const logoutAddress = "https://weir.test/auth/saml/logout";
const browser = "b".repeat(43);

async function open(key: string | null = null) {
  const state = { skewMs: 0 };
  const method = samlSignIn(
    {
      entryPoint: "https://idp.test/sso",
      idpIssuer,
      idpCertificates: [idpPublicKey],
      entityId: "weir",
      groupsAttribute: "groups",
      decryption: key === null ? null : { key, certificate: "" },
    },
    callback,
    logoutAddress,
    signInsInMemory(),
    () => Date.now() + state.skewMs,
  );
  const question = questionIn(await method.begin(browser, "/here"));
  const answer = (xml: string, relay = question.relayState) =>
    method.answered(Buffer.from(xml).toString("base64"), relay);
  return { method, question, answer, state };
}

const sound = (question: Question, said: Said = {}): string =>
  response(question, callback, signed(assertion(question, callback, said)));
const assertionNs = "urn:oasis:names:tc:SAML:2.0:assertion";
const refused = { code: "WEIR_IDENTITY_INVALID" };

test("a sound answer: who it is, his groups, his session, and back where he wanted to go", async () => {
  const { method, question, answer } = await open();
  const { person, returnTo } = await method.finish(
    browser,
    await answer(sound(question, { groups: ["dba", "staff"] })),
  );
  assert.deepEqual(person, {
    ...{ subject: "alice", issuer: idpIssuer, groups: ["dba", "staff"], name: "alice", sid: "_session" },
  });
  assert.equal(returnTo, "/here");
});

test("a response that is signed as a whole, its assertion too, is sound as well", async () => {
  const { question, answer } = await open();
  await answer(signed(sound(question)));
});

test("an answer counts once; a ticket counts once, in the browser that asked", async () => {
  const { method, question, answer } = await open();
  const xml = sound(question);
  const ticket = await answer(xml);
  await assert.rejects(answer(xml), refused);
  await assert.rejects(method.finish("e".repeat(43), ticket), refused);
  await assert.rejects(method.finish(browser, ticket), refused);
  const second = await open();
  const good = await second.answer(sound(second.question));
  await second.method.finish(browser, good);
  await assert.rejects(second.method.finish(browser, good), refused);
});

test("the same assertion in the answer to another question is refused", async () => {
  const { method, question, answer } = await open();
  const own = signed(assertion(question, callback));
  await answer(response(question, callback, own));
  const other = questionIn(await method.begin(browser, "/"));
  await assert.rejects(answer(response(other, callback, own), other.relayState), refused);
});

test("an answer that nobody asked for, or too late, is refused", async () => {
  const { question, answer, state } = await open();
  await assert.rejects(answer(sound({ ...question, id: "_made-up" })), refused);
  await assert.rejects(answer(sound({ ...question, id: "" })), refused);
  state.skewMs = 11 * 60_000;
  await assert.rejects(answer(sound(question)), refused);
});

const wrong: readonly [string, (question: Question) => string][] = [
  ["no signature", (q) => response(q, callback, assertion(q, callback))],
  ["a signature on the response only", (q) => signed(response(q, callback, assertion(q, callback)))],
  [
    "another's key",
    (q) =>
      response(
        q,
        callback,
        withSignature(assertion(q, callback), signatureOf(assertion(q, callback), { wrongKey: true })),
      ),
  ],
  ["a subject changed afterwards", (q) => sound(q).replace(">alice<", ">admin<")],
  [
    "a group added afterwards",
    (q) => sound(q, { groups: ["a"] }).replace(">a</saml:AttributeValue>", ">admins</saml:AttributeValue>"),
  ],
  ["another audience", (q) => sound(q, { audience: "another" })],
  ["another issuer", (q) => sound(q, { issuer: "https://evil.test" })],
  ["expired", (q) => sound(q, { untilMs: Date.now() - 31_000, fromMs: Date.now() - 90_000 })],
  ["not valid yet", (q) => sound(q, { fromMs: Date.now() + 60_000 })],
  [
    "a comment that cuts the name (CVE-2017-11427 and its like)",
    (q) => sound(q, { nameId: "admin@x<!-- -->.evil.test" }),
  ],
  ["a document type", (q) => `<!DOCTYPE r [<!ENTITY e SYSTEM "file:///etc/passwd">]>${sound(q)}`],
  [
    "entities that grow",
    (q) => `<!DOCTYPE r [<!ENTITY a "aaaaaaaaaa"><!ENTITY b "&a;&a;&a;">]>${sound(q, { nameId: "&b;" })}`,
  ],
  ["CDATA in the name", (q) => sound(q, { nameId: "<![CDATA[admin]]>" })],
  ["a processing instruction in the name", (q) => sound(q, { nameId: "admin<?x y?>.evil" })],
  ["no XML", () => "hello"],
  ["nothing", () => ""],
  ["too long", (q) => sound(q, { nameId: "x".repeat(300_000) })],
];
for (const [what, make] of wrong) {
  test(`refused: ${what}`, async () => {
    const { question, answer } = await open();
    await assert.rejects(answer(make(question)), refused);
  });
}

/**
 * The eight wrappings of Somorovsky et al., "On Breaking SAML: Be Whoever You Want to Be" (USENIX Security 2012), as
 * testers number them. `good` is what the provider signed; `evil` is what the attacker wants to be read.
 */
function wrappings(q: Question): readonly [string, string][] {
  const plain = assertion(q, callback);
  const evil = assertion(q, callback, { nameId: "admin", groups: ["admins"], id: "_evil" });
  const good = signed(plain);
  const wholePlain = response(q, callback, good);
  const evilWhole = response(q, callback, evil, "_evil-response");
  const inner = (xml: string, element: string): string =>
    xml.replace("</saml:Assertion>", `${element}</saml:Assertion>`);
  const carrying = (xml: string): string => `${signatureOf(plain).replace("</ds:Signature>", `${xml}</ds:Signature>`)}`;
  return [
    [
      "1: the signed response inside the signature of the evil one",
      withSignature(evilWhole, signatureOf(wholePlain).replace("</ds:Signature>", `${wholePlain}</ds:Signature>`)),
    ],
    [
      "2: the signed response beside the signature of the evil one",
      withSignature(evilWhole, `${wholePlain}${signatureOf(wholePlain)}`),
    ],
    ["3: the evil assertion before the signed one", response(q, callback, `${evil}${good}`)],
    ["4: the signed assertion inside the evil one", response(q, callback, inner(evil, good))],
    [
      "5: the signature in the evil assertion, the signed one after it",
      response(q, callback, `${withSignature(evil, signatureOf(plain))}${plain}`),
    ],
    [
      "6: the signed assertion inside the signature of the evil one",
      response(q, callback, withSignature(evil, carrying(plain))),
    ],
    [
      "7: the evil assertion in an extension",
      response(q, callback, `<samlp:Extensions>${evil}</samlp:Extensions>${good}`),
    ],
    [
      "8: the signed assertion in an object of the signature",
      response(q, callback, withSignature(evil, signatureOf(plain, { object: `<ds:Object>${plain}</ds:Object>` }))),
    ],
  ];
}
for (let at = 0; at < 8; at += 1) {
  const [name] = wrappings({ id: "x", relayState: "" })[at] as [string, string];
  test(`signature wrapping ${name}`, async () => {
    const { question, answer } = await open();
    const [, xml] = wrappings(question)[at] as [string, string];
    await assert.rejects(answer(xml), refused);
    // The same with the names that a lenient look would miss.
    await assert.rejects(
      answer(
        xml
          .replaceAll("saml:Assertion", "s:Assertion")
          .replaceAll("xmlns:saml=", 'xmlns:s="urn:oasis:names:tc:SAML:2.0:assertion" xmlns:saml='),
      ),
      refused,
    );
    await assert.rejects(
      answer(
        xml
          .replace(/<(\/?)saml:Assertion/g, "<$1é:Assertion")
          .replaceAll("xmlns:saml=", `xmlns:é="${assertionNs}" xmlns:saml=`),
      ),
      refused,
    );
    // The question is not used up by an attack.
    await answer(sound(question, { id: "_after" }));
  });
}

test("two elements with one ID are refused", async () => {
  const { question, answer } = await open();
  await assert.rejects(answer(sound(question).replace("_response", "_assertion")), refused);
});

const rsaMgf1p = "http://www.w3.org/2001/04/xmlenc#rsa-oaep-mgf1p";
const encryptedAnswer = (q: Question, how: Encryption = {}, said: Said = {}): string =>
  response(q, callback, encrypted(signed(assertion(q, callback, said)), how));

test("an encrypted assertion is sound in the ways that providers encrypt, its response signed or not", async () => {
  const sha1 = digestMethod("http://www.w3.org/2000/09/xmldsig#sha1");
  const ways: Encryption[] = [
    {},
    { beside: true },
    { method: rsaMgf1p, inMethod: "", oaepHash: "sha1" },
    { method: rsaMgf1p, inMethod: sha1, oaepHash: "sha1" },
    { inMethod: "", oaepHash: "sha1" },
    { secretBytes: 16, cipher: "http://www.w3.org/2009/xmlenc11#aes128-gcm" },
  ];
  for (const way of ways) {
    const { method, question, answer } = await open(decryptionKey);
    const { person } = await method.finish(browser, await answer(encryptedAnswer(question, way, { groups: ["dba"] })));
    assert.deepEqual([person.subject, person.groups], ["alice", ["dba"]]);
  }
  const { question, answer } = await open(decryptionKey);
  await answer(signed(encryptedAnswer(question)));
});

const wrongly: readonly [string, (question: Question) => string, RegExp][] = [
  ["no signature inside", (q) => response(q, callback, encrypted(assertion(q, callback))), /Invalid signature/],
  [
    "a signature around it only",
    (q) => signed(response(q, callback, encrypted(assertion(q, callback)))),
    /Invalid signature/,
  ],
  ["another audience inside", (q) => encryptedAnswer(q, {}, { audience: "another" }), /audience/i],
  [
    "a changed ciphertext",
    (q) =>
      encryptedAnswer(q).replace(
        /<xenc:CipherValue>(?=[^<]*<\/xenc:CipherValue><\/xenc:CipherData><\/xenc:EncryptedData>)..../,
        "<xenc:CipherValue>AAAA",
      ),
    /not encrypted for us, or was changed/,
  ],
  [
    "a short ciphertext",
    (q) =>
      encryptedAnswer(q).replace(
        /(CipherValue>)[^<]+(<\/xenc:CipherValue><\/xenc:CipherData><\/xenc:EncryptedData>)/,
        "$1AAAA$2",
      ),
    /not encrypted for us/,
  ],
  [
    "AES-CBC",
    (q) => encryptedAnswer(q, { cipher: "http://www.w3.org/2001/04/xmlenc#aes256-cbc" }),
    /not encrypted with AES-GCM/,
  ],
  [
    "a cipher that is a property of every object",
    (q) => encryptedAnswer(q, { cipher: "constructor" }),
    /not encrypted with AES-GCM|not encrypted for us/,
  ],
  [
    "RSA 1.5",
    (q) => encryptedAnswer(q, { method: "http://www.w3.org/2001/04/xmlenc#rsa-1_5", padding: 1 }),
    /not encrypted with RSA-OAEP/,
  ],
  ["one digest said and another used", (q) => encryptedAnswer(q, { oaepHash: "sha512" }), /not encrypted for us/],
  ["an AES key of another length", (q) => encryptedAnswer(q, { secretBytes: 16 }), /not encrypted for us/],
  [
    "two of them",
    (q) => response(q, callback, encrypted(signed(assertion(q, callback))).repeat(2)),
    /not one EncryptedAssertion/,
  ],
  [
    "one beside a plain one",
    (q) => response(q, callback, encrypted(signed(assertion(q, callback))) + assertion(q, callback, { id: "_evil" })),
    /not one assertion/,
  ],
  [
    "a comment inside",
    (q) => response(q, callback, encrypted(signed(assertion(q, callback, { nameId: "admin@x<!-- -->.evil.test" })))),
    /a comment/,
  ],
  [
    "two assertions inside",
    (q) => response(q, callback, encrypted(signed(assertion(q, callback)) + assertion(q, callback, { id: "_evil" }))),
    /not one assertion/,
  ],
  [
    "an encrypted one inside",
    (q) => response(q, callback, encrypted(encrypted(signed(assertion(q, callback))))),
    /not one assertion/,
  ],
  ["a whole response inside", (q) => response(q, callback, encrypted(sound(q))), /not one response|same ID/],
  ["nothing inside", (q) => response(q, callback, encrypted("")), /not one assertion/],
];
for (const [what, make, why] of wrongly) {
  test(`refused, encrypted: ${what}`, async () => {
    const { question, answer } = await open(decryptionKey);
    await assert.rejects(answer(make(question)), { ...refused, message: why });
  });
}

test("an encrypted assertion is refused where there is no key for it, or another", async () => {
  const without = await open();
  await assert.rejects(without.answer(encryptedAnswer(without.question)), { message: /saml\.decryption is not set/ });
  const other = generateKeyPairSync("rsa", { modulusLength: 2048 }).privateKey;
  const another = await open(other.export({ type: "pkcs8", format: "pem" }) as string);
  await assert.rejects(another.answer(encryptedAnswer(another.question)), { message: /not encrypted for us/ });
});

async function openLogout() {
  const { method, state } = await open();
  const send = (xml: string) => method.logout(Buffer.from(xml).toString("base64"));
  return { send, state, soundly: (said: LogoutSaid = {}) => send(signed(logoutRequest(logoutAddress, said))) };
}

test("a logout request names the session, or all of a subject's, and counts once", async () => {
  const { soundly } = await openLogout();
  const who = { issuer: idpIssuer, subject: "alice" };
  assert.deepEqual(await soundly(), { ...who, sid: "_session" });
  await assert.rejects(soundly(), { ...refused, message: /used before/ });
  assert.deepEqual(await soundly({ id: "_2", sessions: [] }), { ...who, sid: null });
  assert.deepEqual(await soundly({ id: "_3", sessions: ["a", "b"] }), { ...who, sid: null });
});

const noLogouts: readonly [string, string, RegExp][] = [
  ["no signature", logoutRequest(logoutAddress), /not one signed/],
  [
    "another's key",
    withSignature(logoutRequest(logoutAddress), signatureOf(logoutRequest(logoutAddress), { wrongKey: true })),
    /signature/i,
  ],
  ["a name changed afterwards", signed(logoutRequest(logoutAddress)).replace(">alice<", ">admin<"), /signature/i],
  ["a session added afterwards", signed(logoutRequest(logoutAddress)).replace(">_session<", ">other<"), /signature/i],
  [
    "the signature of something else in it",
    withSignature(logoutRequest(logoutAddress), signatureOf(logoutRequest(logoutAddress, { id: "_other" }))),
    /signature/i,
  ],
  ["two names", signed(logoutRequest(logoutAddress, { nameId: "a</saml:NameID><saml:NameID>b" })), /of one name/],
  ["a comment in the name", signed(logoutRequest(logoutAddress, { nameId: "admin<!-- -->x" })), /a comment/],
  ["a document type", `<!DOCTYPE r>${signed(logoutRequest(logoutAddress))}`, /document type/],
  ["another issuer", signed(logoutRequest(logoutAddress, { issuer: "https://evil.test" })), /issuer/i],
  ["another address", signed(logoutRequest("https://other.test/logout")), /another address/],
  ["no address", signed(logoutRequest(logoutAddress).replace(/ Destination="[^"]*"/, "")), /another address/],
  ["of an hour ago", signed(logoutRequest(logoutAddress, { atMs: Date.now() - 3_600_000 })), /expired|not of now/i],
  [
    "of an hour ago, with an end to come",
    signed(logoutRequest(logoutAddress, { atMs: Date.now() - 3_600_000, untilMs: Date.now() + 60_000 })),
    /not of now/,
  ],
  ["over", signed(logoutRequest(logoutAddress, { untilMs: Date.now() - 60_000 })), /expired/i],
  ["an answer to a sign-in", sound({ id: "x", relayState: "" }), /not one signed/],
  ["a logout inside of another", `<x>${signed(logoutRequest(logoutAddress))}</x>`, /./],
  ["too long", signed(logoutRequest(logoutAddress, { nameId: "x".repeat(300_000) })), /longer than/],
  ["nothing", "", /not one signed/],
];
for (const [what, xml, why] of noLogouts) {
  test(`a logout request that is refused: ${what}`, async () => {
    const { send, soundly } = await openLogout();
    await assert.rejects(send(xml), { ...refused, message: why });
    await soundly();
  });
}
