/** Who is let in to a controller's page no more, by what stands on the topic. */
import assert from "node:assert/strict";
import { test } from "node:test";
import { RevokedPeople } from "../../../controller/identity/revoked-people.ts";

const issuer = "https://login.example";
const ada = { subject: "ada", issuer, groups: [], name: "Ada", sid: "s1" };
const word = { subject: "ada", issuer, revoked: true, reason: "left", by: "eve", version: 5 };
const logout = { issuer, subject: "ada", sid: null, beforeMs: 1_000, by: "the issuer" };

test("who is revoked, here or at every issuer, until he is let in again; an older word changes nothing", () => {
  const people = new RevokedPeople();
  assert.equal(people.against(ada, 1), null);
  people.revocation(word);
  assert.equal(people.against(ada, 2_000), "ada is revoked: left.");
  assert.equal(people.against({ ...ada, issuer: "https://other.example" }, 1), null);
  people.revocation({ ...word, revoked: false, version: 4 });
  assert.notEqual(people.against(ada, 1), null);
  people.revocation({ ...word, revoked: false, version: 6 });
  assert.equal(people.against(ada, 1), null);
  people.revocation({ ...word, issuer: null, reason: "" });
  assert.equal(people.against({ ...ada, issuer: "https://other.example" }, 1), "ada is revoked.");
});

test("a logout counts for sign-ins of before it, of the subject or of one session; heard again it takes nothing back", () => {
  const people = new RevokedPeople();
  people.logout(logout);
  people.logout({ ...logout, beforeMs: 500 });
  assert.equal(people.against(ada, 1_000), "ada has logged out.");
  assert.equal(people.against(ada, 1_001), null);
  people.logout({ ...logout, subject: "ada", sid: "s2", beforeMs: 9_000 });
  assert.equal(people.against(ada, 2_000), null);
  assert.notEqual(people.against({ ...ada, sid: "s2" }, 2_000), null);
});
