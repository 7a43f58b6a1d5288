/**
 * An encrypted SAML assertion (XML Encryption 1.1) put in the clear where it stands in its response, so that whatever
 * looks at the answer afterwards sees one and the same text. That somebody encrypted for us proves nothing: the
 * assertion's own signature still has to.
 *
 * AES-GCM and RSA-OAEP only: with AES-CBC, which nothing proves unaltered, and with RSA 1.5, who has an old answer reads
 * it by asking again and again what we make of changed ones.
 */
import { type CipherGCMTypes, constants, createDecipheriv, privateDecrypt } from "node:crypto";
import { refused } from "./claims.ts";

const ivBytes = 12;
const tagBytes = 16;
const xmlenc = "http://www.w3.org/2001/04/xmlenc#";
const xmlenc11 = "http://www.w3.org/2009/xmlenc11#";
const dsig = "http://www.w3.org/2000/09/xmldsig#";

const ciphers = new Map<string, { readonly name: CipherGCMTypes; readonly keyBytes: number }>([
  [`${xmlenc11}aes128-gcm`, { name: "aes-128-gcm", keyBytes: 16 }],
  [`${xmlenc11}aes192-gcm`, { name: "aes-192-gcm", keyBytes: 24 }],
  [`${xmlenc11}aes256-gcm`, { name: "aes-256-gcm", keyBytes: 32 }],
]);
/** The digest of OAEP, and the mask function that goes with it here: OpenSSL takes one for both. */
const digests = new Map([
  [`${dsig}sha1`, { name: "sha1", mask: `${xmlenc11}mgf1sha1` }],
  [`${xmlenc}sha256`, { name: "sha256", mask: `${xmlenc11}mgf1sha256` }],
  [`${xmlenc}sha512`, { name: "sha512", mask: `${xmlenc11}mgf1sha512` }],
]);

/** Null: nothing in it is encrypted. Throws WEIR_IDENTITY_INVALID. */
export function decryptedResponse(xml: string, key: string | null): string | null {
  if (!/<(?:[^\s<>/:"'=]+:)?EncryptedAssertion[\s/>]/.test(xml)) return null;
  if (key === null) throw refused("its assertion is encrypted, and saml.decryption is not set");
  const whole = only(xml, "EncryptedAssertion");
  const wrapped = only(whole, "EncryptedKey");
  // The key stands within the data's own KeyInfo, or beside the data.
  const data = only(whole.replace(wrapped, ""), "EncryptedData");
  const secret = unwrap(wrapped, key);
  const cipher = ciphers.get(algorithmOf(data, "EncryptionMethod") ?? "");
  if (cipher === undefined) throw refused("its assertion is not encrypted with AES-GCM");
  const bytes = cipherBytes(data);
  if (secret.length !== cipher.keyBytes || bytes.length < ivBytes + tagBytes) throw undecipherable();
  let text: string;
  try {
    const decipher = createDecipheriv(cipher.name, secret, bytes.subarray(0, ivBytes), { authTagLength: tagBytes });
    decipher.setAuthTag(bytes.subarray(-tagBytes));
    const plain = Buffer.concat([decipher.update(bytes.subarray(ivBytes, -tagBytes)), decipher.final()]);
    text = new TextDecoder("utf-8", { fatal: true }).decode(plain);
  } catch (error) {
    throw undecipherable(error);
  }
  // A function: `$&` in what came is no pattern.
  return xml.replace(whole, () => text.replace(/^<\?xml\s[^>]*\?>\s*/, ""));
}

function unwrap(wrapped: string, key: string): Buffer {
  const method = algorithmOf(wrapped, "EncryptionMethod");
  const digest = digests.get(algorithmOf(wrapped, "DigestMethod") ?? `${dsig}sha1`);
  // `rsa-oaep-mgf1p` has SHA-1 in its mask function, whatever its digest is.
  const mgf1 = `${xmlenc11}mgf1sha1`;
  const mask = method === `${xmlenc11}rsa-oaep` ? (algorithmOf(wrapped, "MGF") ?? mgf1) : mgf1;
  const oaep = method === `${xmlenc}rsa-oaep-mgf1p` || method === `${xmlenc11}rsa-oaep`;
  if (!oaep || digest === undefined || digest.mask !== mask || /OAEPparams/.test(wrapped))
    throw refused("the key of its assertion is not encrypted with RSA-OAEP, with one digest for all of it");
  try {
    const padding = constants.RSA_PKCS1_OAEP_PADDING;
    return privateDecrypt({ key, padding, oaepHash: digest.name }, cipherBytes(wrapped));
  } catch (error) {
    throw undecipherable(error);
  }
}

/** One sentence for whatever was wrong. */
function undecipherable(error?: unknown): Error {
  return refused("its assertion is not encrypted for us, or was changed", error);
}

/** The element of this name with all that is in it; there has to be one. */
function only(xml: string, name: string): string {
  const tag = `(?:[^\\s<>/:"'=]+:)?${name}`;
  const count = xml.match(new RegExp(`<${tag}[\\s/>]`, "g"))?.length;
  // Only then is it looked for, or many openings without an end would cost their square.
  const [element] = count === 1 ? (new RegExp(`<${tag}[\\s>].*</${tag}\\s*>`, "s").exec(xml) ?? []) : [];
  if (element === undefined) throw refused(`it has not one ${name}`);
  return element;
}

function algorithmOf(xml: string, name: string): string | undefined {
  return new RegExp(`<(?:[^\\s<>/:"'=]+:)?${name}\\s(?:[^<>]*\\s)?Algorithm\\s*=\\s*["']([^"'<>]*)["']`).exec(xml)?.[1];
}

function cipherBytes(xml: string): Buffer {
  const [, text = ""] = /^<[^<>]*>([^<>]*)</.exec(only(xml, "CipherValue")) ?? [];
  return Buffer.from(text, "base64");
}
