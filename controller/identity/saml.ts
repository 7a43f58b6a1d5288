/**
 * SAML 2.0, web browser SSO (profile 4.1): the request by redirect, the answer by POST. node-saml reads and verifies;
 * before it does, what no sound answer has is refused (several responses or assertions, document types, comments that
 * cut names), which takes the ground from signature wrapping. Answers that nobody asked for are refused. An encrypted
 * assertion is decrypted before all that.
 */
import { type CacheProvider, type Profile, SAML, ValidateInResponseTo } from "@node-saml/node-saml";
import { type IssuerLogout, isPlain, refused, type SignedIn } from "./claims.ts";
import { decryptedResponse } from "./decrypt.ts";
import type { SignInStore } from "./kept.ts";
import { keyOf, PendingSignIns, randomText } from "./pending.ts";
import type { SamlSettings } from "./settings.ts";

const responseBytesMax = 256 * 1024;
const requestMsMax = 10 * 60_000;
const assertionMsMax = 10 * 60_000;
/** Logout requests are made for the moment. */
const logoutMsMax = 5 * 60_000;
const clockSkewMs = 30_000;

export interface SamlSignIn {
  /** Where the browser is sent. */
  begin(browser: string, returnTo: string): Promise<string>;
  /**
   * What the identity provider had the browser POST. Its cookies do not come along with a form of another site, so the
   * answer is a ticket for `finish`, which the browser then asks for itself.
   */
  answered(response: string, relayState: string): Promise<string>;
  finish(browser: string, ticket: string): Promise<{ person: SignedIn; returnTo: string }>;
  /** What a logout request says that the identity provider POSTed, by its server or through the browser. */
  logout(request: string): Promise<IssuerLogout>;
}

export function samlSignIn(
  settings: SamlSettings,
  callback: string,
  /** Where the identity provider POSTs its logout requests. */
  logoutAddress: string,
  store: SignInStore,
  now: () => number,
): SamlSignIn {
  const pending = new PendingSignIns<string>(store, "saml", now);
  const saml = new SAML({
    callbackUrl: callback,
    entryPoint: settings.entryPoint,
    issuer: settings.entityId,
    audience: settings.entityId,
    idpIssuer: settings.idpIssuer,
    idpCert: [...settings.idpCertificates],
    identifierFormat: null,
    disableRequestedAuthnContext: true,
    // One signature has to cover the assertion itself, whatever else is signed.
    wantAssertionsSigned: true,
    wantAuthnResponseSigned: false,
    validateInResponseTo: ValidateInResponseTo.always,
    requestIdExpirationPeriodMs: requestMsMax,
    maxAssertionAgeMs: assertionMsMax,
    acceptedClockSkewMs: clockSkewMs,
    cacheProvider: requestCache(store, now),
  });

  return {
    async begin(browser, returnTo) {
      const relayState = randomText();
      await pending.add(relayState, browser, returnTo);
      return saml.getAuthorizeUrlAsync(relayState, undefined, {});
    },
    async answered(response, relayState) {
      const plain = plainResponse(response, settings.decryption?.key ?? null);
      let profile: Profile | null = null;
      try {
        ({ profile } = await saml.validatePostResponseAsync({ SAMLResponse: plain }));
      } catch (error) {
        throw refused(error instanceof Error ? error.message.slice(0, 200) : "it cannot be read", error);
      }
      if (profile === null) throw refused("it holds no assertion");
      await mustBeNew(assertionId(profile));
      const ticket = randomText();
      const value = JSON.stringify({ person: personOf(profile), relayState } satisfies Ticket);
      const untilMs = now() + requestMsMax;
      await store.keep({ kind: "saml-ticket", key: keyOf(ticket), value, untilMs }, now(), "evict");
      return ticket;
    },
    async finish(browser, ticket) {
      const text = await store.take("saml-ticket", keyOf(ticket), now());
      const found = text === null ? null : (JSON.parse(text) as Ticket);
      const returnTo = found === null ? null : await pending.take(found.relayState, browser);
      if (found === null || returnTo === null) throw refused("it was not begun in this browser, or is over");
      return { person: found.person, returnTo };
    },
    logout,
  };

  async function logout(request: string): Promise<IssuerLogout> {
    const xml = textOf(request);
    mustBeInert(xml);
    if (count(xml, "LogoutRequest") !== 1 || count(xml, "NameID") !== 1 || count(xml, "Signature") !== 1)
      throw refused("it is not one signed logout request of one name");
    const [, root = ""] = /^\s*(?:<\?xml\s[^>]*>\s*)?<(?:[^\s<>/:"'=]+:)?LogoutRequest(\s[^>]*)>/.exec(xml) ?? [];
    const attribute = (name: string): string => new RegExp(`\\s${name}\\s*=\\s*["']([^"']*)["']`).exec(root)?.[1] ?? "";
    let profile: Profile | null = null;
    try {
      ({ profile } = await saml.validatePostRequestAsync({ SAMLRequest: Buffer.from(xml).toString("base64") }));
    } catch (error) {
      throw refused(error instanceof Error ? error.message.slice(0, 200) : "it cannot be read", error);
    }
    // SAML bindings, section 3.5.5.2: what is signed names where it is for.
    if (attribute("Destination") !== logoutAddress) throw refused("its logout request is for another address");
    // The library asks for an end, which need not be there.
    if (!(Math.abs(now() - Date.parse(attribute("IssueInstant"))) <= logoutMsMax))
      throw refused("its logout request is not of now");
    const { nameID, sessionIndex, ID: id } = profile as Profile;
    if (!isPlain(nameID) || !isPlain(id)) throw refused("its logout request names nobody");
    const untilMs = now() + 2 * logoutMsMax;
    if (!(await store.keep({ kind: "used-logout", key: keyOf(`saml ${id}`), value: "", untilMs }, now(), "evict")))
      throw refused("its logout request was used before");
    // Of several sessions the library reads the first: then all of his end.
    const sid = count(xml, "SessionIndex") === 1 && isPlain(sessionIndex) ? sessionIndex : null;
    return { issuer: settings.idpIssuer, subject: nameID, sid };
  }

  async function mustBeNew(id: unknown): Promise<void> {
    if (!isPlain(id)) throw refused("its assertion has no ID");
    const untilMs = now() + 2 * assertionMsMax;
    // Two controllers may have the same answer at the same time: one of them is first here.
    if (!(await store.keep({ kind: "used-assertion", key: keyOf(id), value: "", untilMs }, now(), "refuse")))
      throw refused("its assertion was used before");
  }

  function personOf(profile: Profile): SignedIn {
    const { nameID, sessionIndex } = profile;
    if (profile.issuer !== settings.idpIssuer) throw refused("its assertion is of another issuer");
    if (!isPlain(nameID)) throw refused("it names no subject");
    const attributes = profile["attributes"];
    const own = attributes !== null && typeof attributes === "object" ? (attributes as Record<string, unknown>) : {};
    const found = Object.hasOwn(own, settings.groupsAttribute) ? own[settings.groupsAttribute] : [];
    const groups = [found].flat();
    if (!groups.every(isPlain)) throw refused(`its ${settings.groupsAttribute} are no list of names`);
    const sid = isPlain(sessionIndex) ? sessionIndex : null;
    return { subject: nameID, issuer: settings.idpIssuer, groups, name: nameID, sid };
  }
}

/**
 * Wrapping works where the one that verifies and the one that reads find different elements. So there is one response
 * with one assertion, no element of ours anywhere else, and nothing that parsers read in different ways.
 */
function plainResponse(response: string, decryptionKey: string | null): string {
  const received = textOf(response);
  mustBePlain(received);
  const xml = decryptedResponse(received, decryptionKey) ?? received;
  if (xml !== received) mustBePlain(xml);
  if (count(xml, "Assertion") !== 1) throw refused("it has not one assertion");
  if (count(xml, "EncryptedData") !== 0) throw refused("a part of its assertion is encrypted");
  if (count(xml, "Subject") !== 1 || count(xml, "NameID") !== 1) throw refused("it names not one subject");
  return Buffer.from(xml).toString("base64");
}

function textOf(message: string): string {
  if (message.length > responseBytesMax) throw refused(`it is longer than ${responseBytesMax} bytes`);
  return Buffer.from(message, "base64").toString("utf8");
}

function mustBePlain(xml: string): void {
  mustBeInert(xml);
  if (count(xml, "Response") !== 1) throw refused("it is not one response");
}

/** Nothing that parsers read in different ways. */
function mustBeInert(xml: string): void {
  // Java writes the line ends of a signature as references.
  if (/<!|<\?(?!xml\s)|&#(?!13;|xD;)/.test(xml))
    throw refused("it holds a document type, a comment, CDATA, a processing instruction or a character reference");
  if (count(xml, "Object") !== 0) throw refused("a signature in it carries an object");
  const ids = [...xml.matchAll(/\sID\s*=\s*["']([^"']*)["']/gi)].map(([, id]) => id);
  if (new Set(ids).size !== ids.length) throw refused("two of its elements have the same ID");
}

function count(xml: string, name: string): number {
  return xml.match(new RegExp(`<(?:[^\\s<>/:"'=]+:)?${name}[\\s/>]`, "g"))?.length ?? 0;
}

/** Of the assertion that was verified, not of what stands around it. */
function assertionId(profile: Profile): unknown {
  const verified = profile.getAssertion?.() as { Assertion?: { $?: { ID?: unknown } } } | undefined;
  return verified?.Assertion?.$?.ID;
}

/** Who came, until his browser asks for it. */
interface Ticket {
  readonly person: SignedIn;
  readonly relayState: string;
}

/** Requests that wait for their answer: node-saml looks them up by InResponseTo, and each is answered once. */
function requestCache(store: SignInStore, now: () => number): CacheProvider {
  const kind = "saml-request";
  return {
    async saveAsync(id, value) {
      const createdAt = now();
      await store.keep({ kind, key: keyOf(id), value, untilMs: createdAt + requestMsMax }, createdAt, "evict");
      return { value, createdAt };
    },
    getAsync: (id) => store.kept(kind, keyOf(id), now()),
    removeAsync: async (id) => (id !== null && (await store.take(kind, keyOf(id), now())) !== null ? id : null),
  };
}
