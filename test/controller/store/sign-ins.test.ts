/** What sign-in keeps, held by each store: sessions, and what comes back once. */
import assert from "node:assert/strict";
import { test } from "node:test";
import { idleMsMax, type SignInStore, sessionMsMax } from "../../../controller/identity/kept.ts";
import { keyOf } from "../../../controller/identity/pending.ts";
import { PageSessions } from "../../../controller/identity/sessions.ts";
import { stores } from "./opened.ts";

const issuer = "https://login.example";
const ada = { subject: "ada", issuer, groups: ["dba"], name: "Ada 'x' ☂", sid: "s1" };
const forEver = Number.MAX_SAFE_INTEGER;

for (const [which, open] of Object.entries(stores)) {
  test(`${which}: a session is known to whoever opens the store, by its digest alone, and ends by itself`, async (t) => {
    const { store, reopen } = await open(t);
    let now = 1_000;
    const id = await new PageSessions(store.signIns, () => now).open(ada);
    assert.equal(await store.signIns.session(id), null, "the cookie is not what it is kept under");
    await store.close();
    const { signIns } = await reopen();
    const sessions = new PageSessions(signIns, () => now);
    const first = await sessions.get(id);
    assert.deepEqual([first?.person, first?.atMs, first?.csrf === id], [ada, 1_000, false]);
    now += idleMsMax - 1;
    assert.equal((await sessions.get(id))?.csrf, first?.csrf, "the same at every controller");
    now += idleMsMax + 1;
    assert.equal(await sessions.get(id), null, "nobody came for an hour");
    const second = await sessions.open(ada);
    for (const end = now + sessionMsMax; now < end; now += idleMsMax / 2) assert.ok(await sessions.get(second));
    now += 1;
    assert.equal(await sessions.get(second), null, "twelve hours");
    assert.equal(await signIns.session(keyOf(second)), null);
    const third = await sessions.open(ada);
    assert.deepEqual(await sessions.close(third), ada);
    assert.deepEqual([await sessions.close(third), await sessions.get(third)], [null, null]);
  });

  test(`${which}: sessions end by subject, by the issuer's session, at one issuer or at all, and those begun by then`, async (t) => {
    const { signIns } = (await open(t)).store;
    const people = {
      a1: ada,
      a2: { ...ada, sid: "s2" },
      other: { ...ada, issuer: "https://other.example", sid: null },
      bob: { ...ada, subject: "bob", sid: "s1-of-bob" },
    };
    const fill = async () => {
      for (const [key, person] of Object.entries(people)) {
        await signIns.removeSession(key);
        await signIns.addSession({ key, person, atMs: 5, seenMs: 5 });
      }
    };
    const left = async () => {
      const found = await Promise.all(Object.keys(people).map(async (key) => (await signIns.session(key)) && key));
      return found.filter((key) => key !== null);
    };
    const cases: [Parameters<SignInStore["endSessions"]>[0], number, string[]][] = [
      [{ issuer, subject: "ada", sid: null }, 5, ["other", "bob"]],
      [{ issuer, subject: "ada", sid: null }, 4, ["a1", "a2", "other", "bob"]],
      [{ issuer, subject: "ada", sid: "s1" }, forEver, ["a2", "other", "bob"]],
      [{ issuer: "https://other.example", subject: null, sid: "s1" }, forEver, ["a1", "a2", "other", "bob"]],
      [{ issuer: null, subject: "ada", sid: null }, forEver, ["bob"]],
      [{ issuer: null, subject: null, sid: null }, forEver, ["a1", "a2", "other", "bob"]],
    ];
    for (const [whose, beforeMs, expected] of cases) {
      await fill();
      await signIns.endSessions(whose, beforeMs);
      assert.deepEqual(await left(), expected, JSON.stringify(whose));
    }
  });

  test(`${which}: what comes back once is one controller's, until its time`, async (t) => {
    const { signIns } = (await open(t)).store;
    const once = { kind: "oidc", key: "k", value: "v", untilMs: 100 } as const;
    assert.equal(await signIns.keep(once, 1, "evict"), true);
    assert.equal(await signIns.keep({ ...once, value: "another" }, 2, "evict"), false, "the first one stays");
    assert.equal(await signIns.kept("saml", "k", 2), null, "of another kind");
    assert.equal(await signIns.kept("oidc", "k", 2), "v");
    const taken = await Promise.all([1, 2, 3, 4].map(() => signIns.take("oidc", "k", 2)));
    assert.deepEqual(
      taken.filter((value) => value !== null),
      ["v"],
    );
    assert.equal(await signIns.keep(once, 2, "evict"), true);
    assert.deepEqual([await signIns.kept("oidc", "k", 100), await signIns.take("oidc", "k", 100)], [null, null]);
    const raced = await Promise.all([1, 2, 3, 4].map(() => signIns.keep(once, 3, "refuse")));
    assert.equal(raced.filter(Boolean).length, 1, "a replay at another controller");
    assert.equal(await signIns.keep(once, 101, "refuse"), true, "what is over is no replay");
  });

  test(`${which}: as many as there may be: of what is begun the oldest goes, what must not come twice is refused`, async (t) => {
    const { signIns } = (await open(t)).store;
    const max = 20;
    for (let n = 0; n < max; n += 1)
      await signIns.keep({ kind: "oidc", key: `k${n}`, value: "", untilMs: 1_000 + n }, 1, "evict", max);
    const next = { kind: "oidc", key: "next", value: "v", untilMs: 99_999 } as const;
    assert.equal(await signIns.keep(next, 1, "refuse", max), false);
    assert.equal(await signIns.keep(next, 1, "evict", max), true);
    assert.deepEqual([await signIns.kept("oidc", "k0", 1), await signIns.kept("oidc", "k1", 1)], [null, ""]);
    assert.equal(await signIns.keep({ ...next, kind: "saml" }, 1, "refuse", max), true, "each kind by itself");
  });

  test(`${which}: beyond as many sessions as there may be the longest idle goes, and what is over goes first`, async (t) => {
    const { signIns } = (await open(t)).store;
    const max = 20;
    const add = (key: string, atMs: number) => signIns.addSession({ key, person: ada, atMs, seenMs: atMs }, max);
    await add("over", 1);
    const start = idleMsMax + 10;
    await add("idle", start);
    await add("busy", start + 1);
    assert.equal(await signIns.session("over"), null);
    await signIns.seenSession("idle", start + 2);
    await signIns.seenSession("idle", start);
    for (let at = 2; at < max; at += 1) await add(`s${at}`, start + 10);
    assert.ok(await signIns.session("busy"));
    await add("one more", start + 11);
    assert.deepEqual(
      [(await signIns.session("busy")) === null, (await signIns.session("idle")) === null],
      [true, false],
    );
  });
}
