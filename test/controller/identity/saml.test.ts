/** SAML sign-in: a sound answer is taken once; what wraps a signature around somebody else is refused. */
import assert from "node:assert/strict";
import { test } from "node:test";
import { samlSignIn } from "../../../controller/identity/saml.ts";
import {
  assertion,
  idpIssuer,
  idpPublicKey,
  type Question,
  questionIn,
  response,
  type Said,
  signatureOf,
  signed,
  withSignature,
} from "./idp.ts";

const callback = "https://weir.test/auth/saml/acs";
const browser = "b".repeat(43);

async function open() {
  const state = { skewMs: 0 };
  const method = samlSignIn(
    {
      entryPoint: "https://idp.test/sso",
      idpIssuer,
      idpCertificates: [idpPublicKey],
      entityId: "weir",
      groupsAttribute: "groups",
    },
    callback,
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
  const { person, returnTo } = method.finish(browser, await answer(sound(question, { groups: ["dba", "staff"] })));
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
  assert.throws(() => method.finish("e".repeat(43), ticket), refused);
  assert.throws(() => method.finish(browser, ticket), refused);
  const second = await open();
  const good = await second.answer(sound(second.question));
  second.method.finish(browser, good);
  assert.throws(() => second.method.finish(browser, good), refused);
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
