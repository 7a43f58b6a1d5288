/**
 * Identities that controllers revoked, and who logged out, from the compacted topic. Versions are kept on the disk: who writes an older word
 * to the topic, or takes one away, gives nobody back what he lost.
 */
import type { KeyObject } from "node:crypto";
import { WeirError, whyUnread } from "../errors.ts";
import { readTextOf } from "../files/read-text.ts";
import { replaceFile } from "../files/replace-file.ts";
import type { FeedMessage } from "../kafka/feed.ts";
import { asLogout, type LogoutWord, logoutKey, logoutKind } from "../kafka/logout-messages.ts";
import { asRevocation, type RevocationWord, revocationKey } from "../kafka/revocation-messages.ts";
import { readSigned } from "../kafka/signed.ts";
import { kindHeader, topics } from "../kafka/topics.ts";

export interface RevocationLinkOptions {
  /** Where versions are kept. */
  readonly path: string;
  readonly trusted: readonly KeyObject[];
  /** Takes effect at once. */
  apply(word: RevocationWord): void;
  loggedOut(word: LogoutWord): void;
  log(level: "info" | "warn", message: string): void;
}

/** Identities whose version is remembered. */
const identitiesMax = 100_000;

export function linkRevocations(options: RevocationLinkOptions): (message: FeedMessage) => void {
  const { path, trusted, apply, log } = options;
  const versions = readVersions(path);

  /** It has no version: its moment says what it is about, and an earlier one adds nothing. */
  function logout({ key, value }: FeedMessage): void {
    const signed = readSigned(logoutKind, value);
    const word = signed === null ? null : asLogout(signed.body);
    if (signed === null || word === null || logoutKey(word) !== key) {
      log("warn", "revocations: a logout cannot be read.");
      return;
    }
    if (!trusted.some((one) => signed.isSignedBy(one))) {
      log("warn", "revocations: a logout is not signed by a controller that is trusted.");
      return;
    }
    try {
      options.loggedOut(word);
    } catch (error) {
      log("warn", `revocations: a logout: ${error instanceof Error ? error.message : String(error)}`);
    }
  }

  return (message) => {
    const { topic, key, value, headers } = message;
    if (topic !== topics.revocations || value === null) return;
    if (String(headers[kindHeader]) === logoutKind) return logout(message);
    const signed = readSigned("revocation", value);
    const word = signed === null ? null : asRevocation(signed.body);
    if (signed === null || word === null || revocationKey(word) !== key)
      return log("warn", "revocations: a message cannot be read.");
    if (word.version <= (versions.get(key) ?? 0)) return;
    if (!trusted.some((one) => signed.isSignedBy(one)))
      return log("warn", `revocations: a word on ${word.subject} is not signed by a controller that is trusted.`);
    if (versions.size >= identitiesMax && !versions.has(key))
      return log("warn", `revocations: there are more than ${identitiesMax}.`);
    // First what it says, then that it was said: killed in between, it is applied again.
    try {
      apply(word);
    } catch (error) {
      // The next start tries it again; what comes behind it must not wait.
      return log("warn", `revocations: ${word.subject}: ${error instanceof Error ? error.message : String(error)}`);
    }
    versions.set(key, word.version);
    writeVersions(path, versions);
    log("info", `revocations: ${word.subject} ${word.revoked ? "is revoked" : "holds again"} (${word.by})`);
  };
}

function readVersions(path: string): Map<string, number> {
  const text = readTextOf(path);
  if (text === null) return new Map();
  try {
    return new Map(Object.entries(JSON.parse(text) as Record<string, number>));
  } catch (cause) {
    // Without it an older word would count again.
    throw new WeirError("WEIR_CONFIG_INVALID", `${path} cannot be read: ${whyUnread(cause)}.`, { cause });
  }
}

function writeVersions(path: string, versions: ReadonlyMap<string, number>): void {
  replaceFile(path, JSON.stringify(Object.fromEntries(versions)));
}
