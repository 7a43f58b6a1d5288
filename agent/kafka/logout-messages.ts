/**
 * Logouts, on the topic of revocations under keys of their own: a logout does not stand in for a revocation, nor lift
 * one. What was proven before its moment counts no longer, what is proven later does, so an old word that is written
 * again does nothing. Readers that know no logouts find none of their words in it and let it be.
 */
import type { KeyObject } from "node:crypto";
import { signedMessage } from "./signed.ts";
import { topics } from "./topics.ts";
import type { OutMessage } from "./transport.ts";

export interface LogoutWord {
  readonly issuer: string;
  /** `subject` or `sid` is said; with both, only this session of his is meant. */
  readonly subject: string | null;
  readonly sid: string | null;
  readonly beforeMs: number;
  readonly by: string;
}

export const logoutKind = "logout";
const nameCharactersMax = 512;

export function logoutKey({ issuer, subject, sid }: Pick<LogoutWord, "issuer" | "subject" | "sid">): string {
  return JSON.stringify(sid === null ? [logoutKind, issuer, subject] : [logoutKind, issuer, null, sid]);
}

export function logoutMessage(word: LogoutWord, key: KeyObject): OutMessage {
  return signedMessage({ topic: topics.revocations, key: logoutKey(word) }, logoutKind, word, key);
}

export function asLogout(body: Readonly<Record<string, unknown>>): LogoutWord | null {
  const { issuer, subject, sid, beforeMs, by } = body;
  const name = (value: unknown): boolean =>
    typeof value === "string" && value !== "" && value.length <= nameCharactersMax;
  const good =
    name(issuer) &&
    (subject === null || name(subject)) &&
    (sid === null || name(sid)) &&
    (subject !== null || sid !== null) &&
    Number.isSafeInteger(beforeMs) &&
    Number(beforeMs) > 0 &&
    typeof by === "string";
  return good ? (body as unknown as LogoutWord) : null;
}
