/**
 * A SAML identity provider's answers. Everything is written in the canonical form (exclusive C14N) already, so that a
 * digest over the text is the digest over the element.
 */
import {
  constants,
  createCipheriv,
  createHash,
  createSign,
  generateKeyPairSync,
  publicEncrypt,
  randomBytes,
} from "node:crypto";
import { inflateRawSync } from "node:zlib";

const pair = generateKeyPairSync("rsa", { modulusLength: 2048 });
export const idpPublicKey = pair.publicKey.export({ type: "spki", format: "pem" }) as string;
export const idpIssuer = "https://idp.test/metadata";
const stranger = generateKeyPairSync("rsa", { modulusLength: 2048 }).privateKey;

const assertionNs = 'xmlns:saml="urn:oasis:names:tc:SAML:2.0:assertion"';
const signatureNs = 'xmlns:ds="http://www.w3.org/2000/09/xmldsig#"';

export interface Said {
  readonly nameId?: string;
  readonly groups?: readonly string[];
  readonly audience?: string;
  readonly issuer?: string;
  readonly untilMs?: number;
  readonly fromMs?: number;
  readonly id?: string;
}

export interface Question {
  readonly id: string;
  readonly relayState: string;
}

export function questionIn(location: string): Question {
  const url = new URL(location);
  const xml = inflateRawSync(Buffer.from(url.searchParams.get("SAMLRequest") ?? "", "base64")).toString();
  return { id: /\sID="([^"]+)"/.exec(xml)?.[1] ?? "", relayState: url.searchParams.get("RelayState") ?? "" };
}

const at = (ms: number): string => new Date(ms).toISOString();

export function assertion({ id: request }: Question, callback: string, said: Said = {}): string {
  const now = Date.now();
  const { nameId = "alice", groups = ["dba"], audience = "weir", issuer = idpIssuer } = said;
  const { untilMs = now + 60_000, fromMs = now - 1_000, id = "_assertion" } = said;
  const values = groups.map((group) => `<saml:AttributeValue>${group}</saml:AttributeValue>`).join("");
  return (
    `<saml:Assertion ${assertionNs} ID="${id}" IssueInstant="${at(fromMs)}" Version="2.0"><saml:Issuer>${issuer}</saml:Issuer>` +
    `<saml:Subject><saml:NameID>${nameId}</saml:NameID><saml:SubjectConfirmation Method="urn:oasis:names:tc:SAML:2.0:cm:bearer">` +
    `<saml:SubjectConfirmationData InResponseTo="${request}" NotOnOrAfter="${at(untilMs)}" Recipient="${callback}"></saml:SubjectConfirmationData>` +
    `</saml:SubjectConfirmation></saml:Subject><saml:Conditions NotBefore="${at(fromMs)}" NotOnOrAfter="${at(untilMs)}">` +
    `<saml:AudienceRestriction><saml:Audience>${audience}</saml:Audience></saml:AudienceRestriction></saml:Conditions>` +
    `<saml:AuthnStatement AuthnInstant="${at(fromMs)}" SessionIndex="_session"></saml:AuthnStatement>` +
    `<saml:AttributeStatement><saml:Attribute Name="groups">${values}</saml:Attribute></saml:AttributeStatement></saml:Assertion>`
  );
}

export function response({ id: request }: Question, callback: string, inside: string, id = "_response"): string {
  return (
    `<samlp:Response xmlns:samlp="urn:oasis:names:tc:SAML:2.0:protocol" Destination="${callback}" ID="${id}" InResponseTo="${request}" IssueInstant="${at(Date.now())}" Version="2.0">` +
    `<saml:Issuer ${assertionNs}>${idpIssuer}</saml:Issuer><samlp:Status><samlp:StatusCode Value="urn:oasis:names:tc:SAML:2.0:status:Success"></samlp:StatusCode></samlp:Status>` +
    `${inside}</samlp:Response>`
  );
}

export interface LogoutSaid {
  readonly nameId?: string;
  readonly issuer?: string;
  readonly id?: string;
  readonly atMs?: number;
  readonly untilMs?: number;
  readonly sessions?: readonly string[];
}

export function logoutRequest(address: string, said: LogoutSaid = {}): string {
  const { nameId = "alice", issuer = idpIssuer, id = "_logout", atMs = Date.now(), untilMs = atMs + 60_000 } = said;
  const sessions = (said.sessions ?? ["_session"]).map((one) => `<samlp:SessionIndex>${one}</samlp:SessionIndex>`);
  return (
    `<samlp:LogoutRequest xmlns:samlp="urn:oasis:names:tc:SAML:2.0:protocol" Destination="${address}" ID="${id}" IssueInstant="${at(atMs)}" NotOnOrAfter="${at(untilMs)}" Version="2.0">` +
    `<saml:Issuer ${assertionNs}>${issuer}</saml:Issuer><saml:NameID ${assertionNs}>${nameId}</saml:NameID>${sessions.join("")}</samlp:LogoutRequest>`
  );
}

/** The signature over an element with this ID, as it stands after its Issuer. */
export function signatureOf(xml: string, { wrongKey = false, object = "" } = {}): string {
  const id = /\sID="([^"]+)"/.exec(xml)?.[1];
  const digest = createHash("sha256").update(xml).digest("base64");
  const info =
    `<ds:SignedInfo ${signatureNs}><ds:CanonicalizationMethod Algorithm="http://www.w3.org/2001/10/xml-exc-c14n#"></ds:CanonicalizationMethod>` +
    `<ds:SignatureMethod Algorithm="http://www.w3.org/2001/04/xmldsig-more#rsa-sha256"></ds:SignatureMethod><ds:Reference URI="#${id}"><ds:Transforms>` +
    `<ds:Transform Algorithm="http://www.w3.org/2000/09/xmldsig#enveloped-signature"></ds:Transform>` +
    `<ds:Transform Algorithm="http://www.w3.org/2001/10/xml-exc-c14n#"></ds:Transform></ds:Transforms>` +
    `<ds:DigestMethod Algorithm="http://www.w3.org/2001/04/xmlenc#sha256"></ds:DigestMethod><ds:DigestValue>${digest}</ds:DigestValue></ds:Reference></ds:SignedInfo>`;
  const value = createSign("sha256")
    .update(info)
    .sign(wrongKey ? stranger : pair.privateKey, "base64");
  return `<ds:Signature ${signatureNs}>${info}<ds:SignatureValue>${value}</ds:SignatureValue>${object}</ds:Signature>`;
}

export function withSignature(xml: string, signature: string): string {
  return xml.replace("</saml:Issuer>", `</saml:Issuer>${signature}`);
}

export const signed = (xml: string): string => withSignature(xml, signatureOf(xml));

const ours = generateKeyPairSync("rsa", { modulusLength: 2048 });
export const decryptionKey = ours.privateKey.export({ type: "pkcs8", format: "pem" }) as string;

export interface Encryption {
  readonly cipher?: string;
  readonly method?: string;
  /** What stands in the method of the key: digest and mask function. */
  readonly inMethod?: string;
  readonly oaepHash?: string;
  readonly padding?: number;
  /** The key beside the data, not in its KeyInfo. */
  readonly beside?: boolean;
  readonly secretBytes?: number;
}

/** As anybody could write it who has our certificate. */
export function encrypted(xml: string, how: Encryption = {}): string {
  const { cipher = "http://www.w3.org/2009/xmlenc11#aes256-gcm", oaepHash = "sha256", secretBytes = 32 } = how;
  const { method = "http://www.w3.org/2009/xmlenc11#rsa-oaep", padding = constants.RSA_PKCS1_OAEP_PADDING } = how;
  const inMethod = how.inMethod ?? digestMethod("http://www.w3.org/2001/04/xmlenc#sha256") + mask("mgf1sha256");
  const [secret, iv] = [randomBytes(secretBytes), randomBytes(12)];
  const bits = ({ 16: "128", 24: "192", 32: "256" }[secretBytes] ?? "256") as "128" | "192" | "256";
  const aes = createCipheriv(`aes-${bits}-gcm`, secret, iv);
  const data = Buffer.concat([iv, aes.update(xml), aes.final(), aes.getAuthTag()]).toString("base64");
  const wrapped = publicEncrypt({ key: ours.publicKey, padding, oaepHash }, secret).toString("base64");
  const key = `<xenc:EncryptedKey xmlns:xenc="http://www.w3.org/2001/04/xmlenc#"><xenc:EncryptionMethod Algorithm="${method}">${inMethod}</xenc:EncryptionMethod><xenc:CipherData><xenc:CipherValue>${wrapped}</xenc:CipherValue></xenc:CipherData></xenc:EncryptedKey>`;
  const inside = how.beside === true ? "" : `<ds:KeyInfo ${signatureNs}>${key}</ds:KeyInfo>`;
  return (
    `<saml:EncryptedAssertion ${assertionNs}><xenc:EncryptedData xmlns:xenc="http://www.w3.org/2001/04/xmlenc#">` +
    `<xenc:EncryptionMethod Algorithm="${cipher}"/>${inside}<xenc:CipherData><xenc:CipherValue>${data}</xenc:CipherValue></xenc:CipherData>` +
    `</xenc:EncryptedData>${how.beside === true ? key : ""}</saml:EncryptedAssertion>`
  );
}

export const digestMethod = (name: string): string => `<ds:DigestMethod ${signatureNs} Algorithm="${name}"/>`;
const mask = (name: string): string =>
  `<xenc11:MGF xmlns:xenc11="http://www.w3.org/2009/xmlenc11#" Algorithm="http://www.w3.org/2009/xmlenc11#${name}"/>`;
