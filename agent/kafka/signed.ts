/**
 * What people decide travels signed: who can write to a topic could else approve. The text itself is signed, with what
 * kind of text it is, so that one message is never taken for another. Ed25519 (RFC 8032).
 */
import { createPublicKey, hash, type KeyObject, sign, verify } from "node:crypto";
import { kindHeader } from "./topics.ts";
import type { OutMessage } from "./transport.ts";

export type SignedKind =
  | "approval-request"
  | "approval-decision"
  | "approval-outcome"
  | "revocation"
  | "receipt"
  | "logout"
  | "policy"
  | "agent-health";

/** Longer messages are nobody's. */
export const signedBytesMax = 256 * 1024;
/** A policy with a thousand rules is about a fifth of it. */
export const policyBytesMax = 4 * 1024 * 1024;

export function signMessage(kind: SignedKind, body: object, key: KeyObject): Buffer {
  const text = JSON.stringify(body);
  const signature = sign(null, statement(kind, text), key).toString("base64");
  return Buffer.from(JSON.stringify({ body: text, signature }));
}

/** The same on its way: `place` is the topic and the message's key in it. */
export function signedMessage(
  place: { readonly topic: string; readonly key: string },
  kind: SignedKind,
  body: object,
  key: KeyObject,
): OutMessage {
  return { ...place, value: signMessage(kind, body, key), headers: { [kindHeader]: kind } };
}

export interface SignedMessage {
  /** As it was signed. */
  readonly text: string;
  readonly body: Readonly<Record<string, unknown>>;
  isSignedBy(key: KeyObject): boolean;
}

/** Null: this is no such message. Its signature is not checked yet. */
export function readSigned(kind: SignedKind, value: Buffer | null): SignedMessage | null {
  if (value === null || value.length > (kind === "policy" ? policyBytesMax : signedBytesMax)) return null;
  try {
    const { body: text, signature } = JSON.parse(value.toString("utf8")) as { body?: unknown; signature?: unknown };
    if (typeof text !== "string" || typeof signature !== "string") return null;
    const body: unknown = JSON.parse(text);
    if (body === null || typeof body !== "object" || Array.isArray(body)) return null;
    return {
      text,
      body: body as Readonly<Record<string, unknown>>,
      isSignedBy(key) {
        try {
          return verify(null, statement(kind, text), key, Buffer.from(signature, "base64"));
        } catch {
          return false;
        }
      },
    };
  } catch {
    return null;
  }
}

/** How a key is called in records and on pages: the beginning of the SHA-256 of its SubjectPublicKeyInfo. */
export function keyName(key: KeyObject): string {
  const spki = (key.type === "private" ? createPublicKey(key) : key).export({ type: "spki", format: "der" });
  return `ed25519:${hash("sha256", spki).slice(0, keyNameCharacters)}`;
}

const keyNameCharacters = 16;

function statement(kind: SignedKind, text: string): Buffer {
  return Buffer.from(`weir-${kind}-v1\n${text}`);
}
