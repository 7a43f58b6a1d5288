/**
 * SCRAM-SHA-256 and SCRAM-SHA-256-PLUS, both ends, as pure steps (RFC 5802, RFC 7677, RFC 5929 tls-server-end-point).
 * PostgreSQL takes the user from the startup packet and leaves the one in SCRAM empty (docs §55.3).
 */
import { createHash, createHmac, pbkdf2Sync, timingSafeEqual, X509Certificate } from "node:crypto";
import { PeerError } from "../../errors.ts";
import { saslprep } from "./saslprep.ts";

export const scramPlain = "SCRAM-SHA-256";
export const scramPlus = "SCRAM-SHA-256-PLUS";
/** RFC 7677 asks for at least 4096; a server that asks for more than this would stall the agent. */
const iterationsMax = 200_000;
const iterationsMin = 4_096;
const nonceBytes = 18;
const saltBytes = 16;

export interface ChannelBinding {
  /** `y`: we could bind, the server does not offer it; `n`: not at all; `p`: bound. */
  readonly flag: "n" | "y" | "p";
  readonly data: Buffer | null;
}

/**
 * The hash of the certificate by its own signature's hash; MD5 and SHA-1 count as SHA-256 (RFC 5929 §4.1).
 * Null when the certificate's signature names no hash (Ed25519), which cannot be bound.
 */
export function endPointBinding(certificate: Buffer): Buffer | null {
  const algorithm = new X509Certificate(certificate).signatureAlgorithm ?? "";
  const found = /sha-?(1|224|256|384|512)\b|sha(1|224|256|384|512)with|md5/i.exec(algorithm);
  if (found === null) return null;
  const bits = found[1] ?? found[2] ?? "1";
  return createHash(bits === "1" ? "sha256" : `sha${bits}`)
    .update(certificate)
    .digest();
}

function gs2Header(binding: ChannelBinding): string {
  return binding.flag === "p" ? "p=tls-server-end-point,," : `${binding.flag},,`;
}

export class ScramClient {
  readonly mechanism: string;
  readonly first: string;
  #bare: string;
  #nonce: string;
  #password: string | Buffer;
  #binding: ChannelBinding;
  #serverSignature: Buffer | null = null;

  constructor(
    password: string | Buffer,
    binding: ChannelBinding,
    random: (bytes: number) => Buffer,
    user = "",
    nonce = random(nonceBytes).toString("base64"),
  ) {
    this.mechanism = binding.flag === "p" ? scramPlus : scramPlain;
    this.#password = password;
    this.#binding = binding;
    this.#nonce = nonce;
    this.#bare = `n=${user},r=${nonce}`;
    this.first = gs2Header(binding) + this.#bare;
  }

  /** Takes server-first-message, gives client-final-message. */
  final(serverFirst: string): string {
    const found = /^r=([\x21-\x2b\x2d-\x7e]+),s=([A-Za-z0-9+/=]+),i=([1-9][0-9]{0,9})(,.*)?$/.exec(serverFirst);
    if (found === null) throw upstream("the server's first SCRAM message is malformed");
    const [, nonce = "", salt = "", count = ""] = found;
    const iterations = Number(count);
    if (!nonce.startsWith(this.#nonce) || nonce.length === this.#nonce.length)
      throw upstream("the server's SCRAM nonce does not continue ours");
    if (iterations > iterationsMax) throw upstream(`the server asks for ${count} SCRAM iterations`);
    const head = Buffer.from(gs2Header(this.#binding), "latin1");
    const channel = this.#binding.data === null ? head : Buffer.concat([head, this.#binding.data]);
    const withoutProof = `c=${channel.toString("base64")},r=${nonce}`;
    const text = `${this.#bare},${serverFirst},${withoutProof}`;
    const salted = saltedPassword(this.#password, Buffer.from(salt, "base64"), iterations);
    const clientKey = hmac(salted, "Client Key");
    this.#serverSignature = hmac(hmac(salted, "Server Key"), text);
    const proof = xor(clientKey, hmac(sha256(clientKey), text));
    return `${withoutProof},p=${proof.toString("base64")}`;
  }

  /** Takes server-final-message; throws unless the server knows the password as well. */
  verify(serverFinal: string): void {
    const found = /^v=([A-Za-z0-9+/=]+)(,.*)?$/.exec(serverFinal);
    const given = Buffer.from(found?.[1] ?? "", "base64");
    const expected = this.#serverSignature;
    if (expected === null || given.length !== expected.length || !timingSafeEqual(given, expected))
      throw upstream("the server could not prove that it knows the password");
  }
}

export interface ScramServerOptions {
  readonly password: string;
  /** Of the certificate that we show the client; null without TLS. */
  readonly binding: Buffer | null;
  readonly random: (bytes: number) => Buffer;
}

/** Our end towards a client. Every way to fail gives the same answer: the client's secret is wrong. */
export class ScramServer {
  readonly mechanisms: readonly string[];
  #options: ScramServerOptions;
  #clientBare = "";
  #serverFirst = "";
  #nonce = "";
  #head = "";
  #bound = false;
  #salt: Buffer;

  constructor(options: ScramServerOptions) {
    this.#options = options;
    this.#salt = options.random(saltBytes);
    this.mechanisms = options.binding === null ? [scramPlain] : [scramPlus, scramPlain];
  }

  /** Takes the mechanism and client-first-message, gives server-first-message. */
  first(mechanism: string, clientFirst: string): string {
    if (!this.mechanisms.includes(mechanism)) throw wrong(`the mechanism ${mechanism} was not offered`);
    const found = /^(n|y|p=([A-Za-z0-9.-]+)),(a=[^,]*)?,(([^,]*),r=([\x21-\x2b\x2d-\x7e]+)(,.*)?)$/.exec(clientFirst);
    if (found === null) throw wrong("the client's first SCRAM message is malformed");
    const [, flag = "", bindingName, authorization = "", bare = "", , nonce = ""] = found;
    if (bare.startsWith("m=")) throw wrong("the client asks for an unknown SCRAM extension");
    this.#bound = flag.startsWith("p=");
    if (this.#bound !== (mechanism === scramPlus)) throw wrong("channel binding and mechanism do not fit");
    if (this.#bound && bindingName !== "tls-server-end-point")
      throw wrong(`the channel binding ${bindingName} is not known`);
    // RFC 5802 §6: a client that could bind but was offered no -PLUS was talked down on the way.
    if (flag === "y" && this.#options.binding !== null) throw wrong("channel binding was talked down");
    this.#head = `${flag},${authorization},`;
    this.#clientBare = bare;
    this.#nonce = nonce + this.#options.random(nonceBytes).toString("base64");
    this.#serverFirst = `r=${this.#nonce},s=${this.#salt.toString("base64")},i=${iterationsMin}`;
    return this.#serverFirst;
  }

  /** Takes client-final-message, gives server-final-message; throws when the secret is wrong. */
  final(clientFinal: string): string {
    const found = /^(c=([A-Za-z0-9+/=]+),r=([^,]+)),p=([A-Za-z0-9+/=]+)$/.exec(clientFinal);
    if (found === null) throw wrong("the client's last SCRAM message is malformed");
    const [, withoutProof = "", channel = "", nonce = "", proof = ""] = found;
    const head = Buffer.from(this.#head, "latin1");
    const expected =
      this.#bound && this.#options.binding !== null ? Buffer.concat([head, this.#options.binding]) : head;
    if (!Buffer.from(channel, "base64").equals(expected)) throw wrong("the channel binding does not match");
    if (nonce !== this.#nonce) throw wrong("the SCRAM nonce does not match");
    const text = `${this.#clientBare},${this.#serverFirst},${withoutProof}`;
    const salted = saltedPassword(this.#options.password, this.#salt, iterationsMin);
    const stored = sha256(hmac(salted, "Client Key"));
    const given = Buffer.from(proof, "base64");
    if (given.length !== stored.length || !timingSafeEqual(sha256(xor(given, hmac(stored, text))), stored))
      throw wrong("the secret is wrong");
    return `v=${hmac(hmac(salted, "Server Key"), text).toString("base64")}`;
  }
}

function saltedPassword(password: string | Buffer, salt: Buffer, iterations: number): Buffer {
  return pbkdf2Sync(saslprep(password), salt, iterations, 32, "sha256");
}

function hmac(key: Buffer, text: string): Buffer {
  return createHmac("sha256", key).update(text, "utf8").digest();
}

function sha256(bytes: Buffer): Buffer {
  return createHash("sha256").update(bytes).digest();
}

function xor(left: Buffer, right: Buffer): Buffer {
  const result = Buffer.allocUnsafe(left.length);
  for (let index = 0; index < left.length; index += 1)
    result[index] = (left[index] as number) ^ (right[index] as number);
  return result;
}

function upstream(message: string): PeerError {
  return new PeerError("WEIR_UPSTREAM_AUTH", message);
}

function wrong(message: string): PeerError {
  return new PeerError("WEIR_CLIENT_AUTH", message);
}
