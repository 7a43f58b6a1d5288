/**
 * Revoked identities over a compacted topic: the last word on each stays. Each word has a version that only grows; an
 * older one, and a tombstone, which anybody who may write could leave, change nothing.
 */
import type { KeyObject } from "node:crypto";
import { signedMessage } from "./signed.ts";
import { topics } from "./topics.ts";
import type { OutMessage } from "./transport.ts";

export interface RevocationWord {
  readonly subject: string;
  /** Null: of every issuer. */
  readonly issuer: string | null;
  /** False: it holds again. */
  readonly revoked: boolean;
  readonly reason: string;
  readonly by: string;
  /** Milliseconds since the epoch, and always above the last one. */
  readonly version: number;
}

export function revocationKey({ subject, issuer }: Pick<RevocationWord, "subject" | "issuer">): string {
  return JSON.stringify([issuer, subject]);
}

export function revocationMessage(word: RevocationWord, key: KeyObject): OutMessage {
  return signedMessage({ topic: topics.revocations, key: revocationKey(word) }, "revocation", word, key);
}

export function asRevocation(body: Readonly<Record<string, unknown>>): RevocationWord | null {
  const { subject, issuer, revoked, reason, by, version } = body;
  const good =
    typeof subject === "string" &&
    subject !== "" &&
    (issuer === null || typeof issuer === "string") &&
    typeof revoked === "boolean" &&
    typeof reason === "string" &&
    typeof by === "string" &&
    Number.isSafeInteger(version) &&
    Number(version) > 0;
  return good ? (body as unknown as RevocationWord) : null;
}
