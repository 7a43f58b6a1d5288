/** Writes X.509 v3 certificates (RFC 5280) over EC P-256 keys; signs with node:crypto. */
import { createHash, createPublicKey, type KeyObject, randomBytes, sign } from "node:crypto";
import { parseAddress } from "../core/address.ts";
import { bits, integer, octets, oid, sequence, set, tagged, time, utf8, yes } from "./der.ts";

export interface CertificateRequest {
  readonly subject: string;
  readonly issuer: string;
  /** Key of the subject; only its public half is used. */
  readonly key: KeyObject;
  readonly issuerKey: KeyObject;
  readonly notBeforeMs: number;
  readonly notAfterMs: number;
  readonly authority: boolean;
  readonly dns: readonly string[];
  readonly ip: readonly string[];
}

/** X.520 upper bound of a common name, in characters. */
const commonNameCharactersMax = 64;
const ecdsaWithSha256 = sequence(oid("1.2.840.10045.4.3.2"));

/** DER of the signed certificate. */
export function writeCertificate(request: CertificateRequest): Buffer {
  const publicKey = spki(request.key);
  const body = sequence(
    tagged(0xa0, integer(Buffer.from([2]))),
    // 16 random bytes with the top bit clear: positive, and never the same twice (RFC 5280 §4.1.2.2).
    integer(positive(randomBytes(16))),
    ecdsaWithSha256,
    name(request.issuer),
    sequence(time(request.notBeforeMs), time(request.notAfterMs)),
    name(request.subject),
    publicKey,
    tagged(0xa3, sequence(...extensions(request, publicKey))),
  );
  return sequence(body, ecdsaWithSha256, bits(sign("sha256", body, request.issuerKey)));
}

export function toPem(der: Buffer): string {
  const lines = der.toString("base64").match(/.{1,64}/g) ?? [];
  return `-----BEGIN CERTIFICATE-----\n${lines.join("\n")}\n-----END CERTIFICATE-----\n`;
}

function extensions(request: CertificateRequest, publicKey: Buffer): Buffer[] {
  const list = [
    extension("2.5.29.14", octets(keyIdentifier(publicKey))),
    // Python 3.13 refuses a certificate without the authority key identifier.
    extension("2.5.29.35", sequence(tagged(0x80, keyIdentifier(spki(request.issuerKey))))),
  ];
  if (request.authority) {
    list.push(extension("2.5.29.19", sequence(yes, integer(Buffer.from([0]))), true));
    // keyCertSign and cRLSign: bits 5 and 6.
    list.push(extension("2.5.29.15", bits(Buffer.from([0x06]), 1), true));
    return list;
  }
  list.push(extension("2.5.29.19", sequence(), true));
  // digitalSignature: bit 0.
  list.push(extension("2.5.29.15", bits(Buffer.from([0x80]), 7), true));
  list.push(extension("2.5.29.37", sequence(oid("1.3.6.1.5.5.7.3.1"))));
  const names = [
    ...request.dns.map((dns) => tagged(0x82, Buffer.from(dns, "latin1"))),
    ...request.ip.map((ip) => tagged(0x87, addressBytes(ip))),
  ];
  if (names.length > 0) list.push(extension("2.5.29.17", sequence(...names)));
  return list;
}

function extension(id: string, value: Buffer, critical = false): Buffer {
  return critical ? sequence(oid(id), yes, octets(value)) : sequence(oid(id), octets(value));
}

function name(commonName: string): Buffer {
  return sequence(set(sequence(oid("2.5.4.3"), utf8(commonName.slice(0, commonNameCharactersMax)))));
}

/** An authority signs for one key of its own with another: they are the same each time. */
const written = new WeakMap<KeyObject, Buffer>();

function spki(key: KeyObject): Buffer {
  const known = written.get(key);
  if (known !== undefined) return known;
  const publicKey = key.type === "private" ? createPublicKey(key) : key;
  const bytes = publicKey.export({ type: "spki", format: "der" });
  written.set(key, bytes);
  return bytes;
}

/** SHA-1 over the public key bits (RFC 5280 §4.2.1.2, method 1); a name, not a protection. */
function keyIdentifier(publicKey: Buffer): Buffer {
  // A P-256 SubjectPublicKeyInfo ends with the 65 bytes of the uncompressed point.
  return createHash("sha1").update(publicKey.subarray(-65)).digest();
}

function positive(bytes: Buffer): Buffer {
  bytes[0] = ((bytes[0] as number) & 0x7f) | 0x40;
  return bytes;
}

/** A mapped one stays the sixteen bytes that it is in the server's certificate. */
function addressBytes(ip: string): Buffer {
  const bytes = parseAddress(ip);
  if (bytes === null) throw new TypeError(`not an address: ${ip}`);
  return Buffer.from(bytes);
}
