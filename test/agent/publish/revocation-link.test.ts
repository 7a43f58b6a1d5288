/** Logouts on the topic of revocations: beside them, not in their place, also for who knows no logouts yet. */
import assert from "node:assert/strict";
import { generateKeyPairSync } from "node:crypto";
import { mkdtempSync, rmSync } from "node:fs";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { after, test } from "node:test";
import { asLogout, type LogoutWord, logoutMessage } from "../../../agent/kafka/logout-messages.ts";
import { asRevocation, type RevocationWord, revocationMessage } from "../../../agent/kafka/revocation-messages.ts";
import { readSigned } from "../../../agent/kafka/signed.ts";
import type { OutMessage } from "../../../agent/kafka/transport.ts";
import { linkRevocations } from "../../../agent/publish/revocation-link.ts";

const dir = mkdtempSync(join(tmpdir(), "weir-revocation-link-"));
after(() => rmSync(dir, { recursive: true, force: true }));
const keys = generateKeyPairSync("ed25519");
const logout: LogoutWord = {
  ...{ issuer: "https://login.example", subject: "ada", sid: null },
  ...{ beforeMs: 1_800_000_000_000, by: "the issuer" },
};

function open(name: string) {
  const [applied, loggedOut, logs]: [RevocationWord[], LogoutWord[], string[]] = [[], [], []];
  const link = linkRevocations({
    path: join(dir, name),
    trusted: [keys.publicKey],
    apply: (word) => applied.push(word),
    loggedOut: (word) => loggedOut.push(word),
    log: (_, message) => logs.push(message),
  });
  const take = ({ topic, key, value, headers = {} }: OutMessage): void =>
    link({ topic, key, value, headers, timeMs: 0 });
  return { take, applied, loggedOut, logs };
}

test("a logout says who and before when; what is forged, altered or under another's key says nothing", () => {
  const { take, applied, loggedOut, logs } = open("a.json");
  const message = logoutMessage(logout, keys.privateKey);
  take(message);
  assert.deepEqual([loggedOut, applied, logs], [[logout], [], []]);
  const stranger = generateKeyPairSync("ed25519").privateKey;
  const altered = Buffer.from(String(message.value).replace("ada", "eve"));
  const revocation: RevocationWord = {
    ...{ subject: "ada", issuer: null, revoked: true },
    reason: "",
    by: "",
    version: 1,
  };
  for (const bad of [
    logoutMessage(logout, stranger),
    { ...message, key: logoutMessage({ ...logout, subject: "bob" }, keys.privateKey).key },
    { ...message, value: altered, key: message.key.replace("ada", "eve") },
    { ...message, value: Buffer.from("{") },
    { ...revocationMessage(revocation, keys.privateKey), headers: { "weir-kind": "logout" } },
    logoutMessage({ ...logout, subject: null }, keys.privateKey),
    logoutMessage({ ...logout, beforeMs: 1.5 }, keys.privateKey),
    logoutMessage({ ...logout, subject: "x".repeat(1_000) }, keys.privateKey),
    { ...message, value: null },
  ])
    take(bad);
  assert.equal(loggedOut.length, 1);
  assert.equal(logs.length, 8);
});

test("in a compacted topic it neither stands in for a revocation nor is replaced by one", () => {
  const { issuer } = logout;
  const word: RevocationWord = { ...{ subject: "ada", issuer, revoked: true, reason: "left" }, by: "eve", version: 7 };
  const bySid = { ...logout, subject: null, sid: "ada" };
  const messages = [
    revocationMessage(word, keys.privateKey),
    revocationMessage({ ...word, issuer: null }, keys.privateKey),
    logoutMessage(logout, keys.privateKey),
    logoutMessage(bySid, keys.privateKey),
  ];
  assert.equal(new Set(messages.map(({ key }) => key)).size, messages.length);
  // With both, it is the same session as by its id alone.
  assert.equal(logoutMessage({ ...bySid, subject: "bob" }, keys.privateKey).key, messages[3]?.key);
  const { take, applied, loggedOut } = open("b.json");
  for (const message of [...messages, ...messages]) take(message);
  assert.deepEqual([applied.length, loggedOut.length], [2, 4]);
});

test("readers side by side: one of before logouts takes none of them for a revocation, and the other way round", () => {
  const { value } = logoutMessage(logout, keys.privateKey);
  // As such a reader does it: whatever the header says.
  const old = readSigned("revocation", value);
  assert.equal(asRevocation(old?.body ?? {}), null);
  assert.equal(old?.isSignedBy(keys.publicKey), false);
  const word: RevocationWord = { subject: "ada", issuer: null, revoked: true, reason: "", by: "eve", version: 7 };
  const message = revocationMessage(word, keys.privateKey);
  assert.equal(asLogout(readSigned("logout", message.value)?.body ?? {}), null);
  // A field that a later writer adds does not make a word unreadable.
  const { take, applied, loggedOut } = open("c.json");
  take(revocationMessage({ ...word, later: 1 } as RevocationWord, keys.privateKey));
  take(logoutMessage({ ...logout, later: 1 } as LogoutWord, keys.privateKey));
  assert.deepEqual([applied.length, loggedOut.length], [1, 1]);
});
