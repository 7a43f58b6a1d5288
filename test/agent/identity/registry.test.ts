/** Who stands behind a process, what ends that, and that it stays ended. */
import assert from "node:assert/strict";
import { writeFileSync } from "node:fs";
import { join } from "node:path";
import { before, type TestContext, test } from "node:test";
import type { Flow, ProcessInfo } from "../../../agent/core/flow.ts";
import { type IdentitySettings, logoutKeptMs, policyIssuer, provenMsMax } from "../../../agent/core/identity.ts";
import type { EntryBody } from "../../../agent/core/record.ts";
import { WeirError } from "../../../agent/errors.ts";
import { type GuardedSession, guardSessions } from "../../../agent/identity/guard.ts";
import { openIdentities } from "../../../agent/identity/registry.ts";
import { createRevoker } from "../../../agent/identity/revoke.ts";
import type { Proven } from "../../../agent/identity/verify.ts";
import { until } from "../../support/until.ts";
import { tempDir } from "../tls/pki.ts";
import { issuerName, issuerOf, makeKey, nowMs, type TestKey } from "./issuer.ts";

let key: TestKey;
before(async () => {
  key = await makeKey("k");
});

function processIn(cgroup: string, change: Partial<ProcessInfo> = {}): ProcessInfo {
  return {
    ...{ pid: 10, ppid: 1, uid: 1000, gid: 1000, comm: "psql", exe: "/usr/bin/psql", commandLine: [], startTicks: 5 },
    cgroup,
    ...change,
  };
}

function proven(subject: string, change: Partial<Proven> = {}): Proven {
  return {
    identity: { subject, issuer: issuerName, groups: ["staff"] },
    ...{ job: null, issuedAtMs: nowMs - 1_000, sid: null, untilMs: nowMs + 60_000 },
    ...change,
  };
}

const mapped: IdentitySettings["mappings"] = [
  {
    identity: { subject: "nightly", issuer: policyIssuer, groups: ["batch"] },
    covers: ({ uid }) => uid === 33,
  },
];

function open(t: TestContext, dir = tempDir(t)) {
  const jwks = join(dir, "jwks.json");
  writeFileSync(jwks, JSON.stringify({ keys: [key.jwk] }));
  const state = {
    now: nowMs,
    settings: { issuers: [issuerOf({ jwks: { file: jwks } })], mappings: mapped } as IdentitySettings,
    ids: new Map<string, string>([
      ["/run-1", "a"],
      ["/run-2", "b"],
      ["/user.slice", "c"],
      ["/", "root"],
    ]),
    inhabited: () => true,
  };
  const identities = openIdentities({
    settings: () => state.settings,
    cgroups: { idOf: (path) => state.ids.get(path) ?? null, inhabited: () => state.inhabited() },
    path: join(dir, "identities.json"),
    now: () => state.now,
  });
  return { identities, state, dir };
}

test("a run's cgroup and all below it are its identity; others are nobody", (t) => {
  const { identities } = open(t);
  identities.bind("/run-1", proven("alice"));
  assert.equal(identities.of(processIn("/run-1"))?.subject, "alice");
  assert.equal(identities.of(processIn("/run-1/child/deep"))?.subject, "alice");
  for (const other of ["/run-10", "/run", "/", "", "/x/run-1"]) assert.equal(identities.of(processIn(other)), null);
  assert.equal(identities.of(null), null);
  assert.throws(() => identities.bind("/gone", proven("alice")), /is gone/);
});

test("a run before a login before a mapping", (t) => {
  const { identities } = open(t);
  assert.equal(identities.of(processIn("/user.slice", { uid: 33 }))?.subject, "nightly");
  identities.login(33, proven("bob"));
  assert.equal(identities.of(processIn("/user.slice", { uid: 33 }))?.subject, "bob");
  identities.bind("/run-1", proven("alice"));
  assert.equal(identities.of(processIn("/run-1", { uid: 33 }))?.subject, "alice");
  assert.equal(identities.logout(33)?.identity.subject, "bob");
  assert.equal(identities.logout(33), null);
  assert.equal(identities.of(processIn("/user.slice", { uid: 33 }))?.subject, "nightly");
});

test("what expired is refused, and is not nobody", (t) => {
  const { identities, state } = open(t);
  identities.bind("/run-1", proven("alice"));
  identities.login(1000, proven("bob"));
  const before = identities.version();
  state.now += 60_000;
  assert.notEqual(identities.version(), before);
  for (const cgroup of ["/run-1", "/user.slice"]) {
    assert.equal(identities.of(processIn(cgroup)), null);
    assert.match(identities.refusal(processIn(cgroup)) ?? "", /expired 2026-06-01T00:01:00/);
  }
  assert.equal(identities.refusal(processIn("/user.slice", { uid: 5 })), null);
});

test("a process that is gone is not taken for nobody where others have identities", (t) => {
  const { identities } = open(t);
  assert.equal(identities.refusal(null), null);
  identities.bind("/run-1", proven("alice"));
  assert.match(identities.refusal(null) ?? "", /is gone/);
  assert.match(identities.refusal(processIn("")) ?? "", /is gone/);
});

test("a run within a run has its identity, and no run begins within one that is refused", async (t) => {
  const { identities } = open(t);
  identities.bind("/run-1", proven("alice", { sid: "s" }));
  const inherited = identities.inherited(processIn("/run-1/sub"));
  assert.equal(inherited?.sid, "s");
  identities.bind("/run-2", inherited as Proven);
  identities.revoke({ subject: "alice", sid: null, issuer: null, beforeMs: null, reason: "left", by: "test" });
  assert.match(identities.refusal(processIn("/run-2")) ?? "", /The identity alice is revoked: left/);
  assert.throws(
    () => identities.inherited(processIn("/run-1")),
    (e: unknown) => e instanceof WeirError,
  );
  await assert.rejects(identities.verify(await key.sign({})), { code: "WEIR_IDENTITY_REVOKED" });
});

test("revoked of one issuer, of every issuer, and by mapping; let in again only as it was revoked", (t) => {
  const { identities } = open(t);
  identities.bind("/run-1", proven("alice"));
  const revocation = { subject: "alice", sid: null, beforeMs: null, reason: "", by: "test" };
  identities.revoke({ ...revocation, issuer: "https://other.test" });
  assert.equal(identities.refusal(processIn("/run-1")), null);
  identities.revoke({ ...revocation, issuer: issuerName });
  assert.match(identities.refusal(processIn("/run-1")) ?? "", /alice is revoked/);
  assert.equal(identities.restore({ subject: "alice", sid: null, issuer: null }), false);
  assert.equal(identities.restore({ subject: "alice", sid: null, issuer: issuerName }), true);
  assert.equal(identities.refusal(processIn("/run-1")), null);
  identities.revoke({ ...revocation, subject: "nightly", issuer: null });
  assert.equal(identities.of(processIn("/x", { uid: 33 })), null);
  assert.match(identities.refusal(processIn("/x", { uid: 33 })) ?? "", /nightly is revoked/);
});

test("a logout ends what was made before it, and a new token is believed", async (t) => {
  const { identities, state } = open(t);
  identities.bind("/run-1", proven("alice", { sid: "s1" }));
  identities.bind("/run-2", proven("alice", { sid: "s2" }));
  const logout = { issuer: issuerName, beforeMs: nowMs, reason: "", by: "issuer" };
  identities.revoke({ ...logout, subject: null, sid: "s1" });
  assert.match(identities.refusal(processIn("/run-1")) ?? "", /alice has logged out/);
  assert.equal(identities.refusal(processIn("/run-2")), null);
  identities.revoke({ ...logout, subject: "alice", sid: null });
  assert.match(identities.refusal(processIn("/run-2")) ?? "", /alice has logged out/);
  await assert.rejects(identities.verify(await key.sign({})), { code: "WEIR_IDENTITY_REVOKED" });
  state.now += 5_000;
  await identities.verify(await key.sign({ iat: nowMs / 1000 + 2 }));
  // One of before, that is heard again, takes nothing back and shuts nobody out.
  assert.equal(identities.revoke({ ...logout, subject: "alice", sid: null, beforeMs: nowMs - 60_000 }), false);
  await assert.rejects(identities.verify(await key.sign({})), { code: "WEIR_IDENTITY_REVOKED" });
  identities.revoke({ subject: "alice", sid: null, issuer: issuerName, beforeMs: null, reason: "", by: "root" });
  identities.revoke({ ...logout, subject: "alice", sid: null, beforeMs: nowMs + 1_000 });
  await assert.rejects(identities.verify(await key.sign({ iat: nowMs / 1000 + 2 })), /is revoked/, "for good");
});

test("a logout is forgotten when no proof of before it counts any more, and does not come back", (t) => {
  const { identities, state, dir } = open(t);
  const logout = { issuer: issuerName, beforeMs: nowMs, reason: "", by: "issuer", subject: "alice", sid: null };
  identities.bind("/run-1", proven("bob", { untilMs: nowMs + 900 * 86_400_000, issuedAtMs: nowMs }));
  assert.equal(identities.revoke(logout), true);
  assert.equal(identities.revoke({ ...logout, subject: "old", beforeMs: nowMs - logoutKeptMs }), false);
  state.now += logoutKeptMs - 1;
  identities.revoke({ ...logout, subject: "carol", beforeMs: state.now });
  assert.equal(identities.revocations().length, 2);
  state.now += 1;
  identities.revoke({ ...logout, subject: "dora", beforeMs: state.now });
  assert.deepEqual(
    identities.revocations().map(({ subject }) => subject),
    ["carol", "dora"],
  );
  assert.equal(identities.revoke(logout), false, "the topic says it again");
  // An earlier version of Weir bound it for as long as the token said.
  const again = open(t, dir);
  again.state.now = nowMs + provenMsMax;
  assert.match(again.identities.refusal(processIn("/run-1")) ?? "", /bob expired/);
});

test("it all outlives the agent; a cgroup of the same name that is another is not bound", (t) => {
  const { identities, dir } = open(t);
  identities.bind("/run-1", proven("alice"));
  identities.bind("/run-2", proven("carol"));
  identities.login(1000, proven("bob"));
  identities.revoke({ subject: "bob", sid: null, issuer: null, beforeMs: null, reason: "left", by: "uid 0" });
  identities.block("s", processIn("/user.slice"), "odd", "uid 0");
  const again = open(t, dir);
  assert.equal(again.identities.of(processIn("/run-1"))?.subject, "alice");
  assert.match(again.identities.refusal(processIn("/elsewhere")) ?? "", /bob is revoked: left/);
  assert.match(again.identities.refusal(processIn("/user.slice/x")) ?? "", /session s was revoked: odd/);
  const state = { ...again.state, ids: new Map([["/run-1", "another"]]) };
  const third = openIdentities({
    settings: () => state.settings,
    cgroups: { idOf: (path) => state.ids.get(path) ?? null, inhabited: () => true },
    path: join(dir, "identities.json"),
    now: () => nowMs,
  });
  assert.deepEqual(third.bindings(), []);
});

test("a state that cannot be read keeps the agent from starting", (t) => {
  const dir = tempDir(t);
  for (const text of ["", "{", "[]", '{"revocations":[],"bindings":[]}']) {
    writeFileSync(join(dir, "identities.json"), text);
    assert.throws(() => open(t, dir), /nobody knows who is revoked/, text);
  }
});

test("a policy that drops an issuer drops its runs", (t) => {
  const { identities, state } = open(t);
  identities.bind("/run-1", proven("alice"));
  const before = identities.version();
  state.settings = { issuers: [], mappings: [] };
  assert.notEqual(identities.version(), before);
  assert.match(identities.refusal(processIn("/run-1")) ?? "", /believes https:\/\/issuer\.test no longer/);
});

test("a job that was proven is known of the run", (t) => {
  const { identities } = open(t);
  identities.bind("/run-1", proven("repo:acme", { job: { system: "github", id: "1" } }));
  assert.deepEqual(identities.jobOf(processIn("/run-1/x")), { system: "github", id: "1" });
  assert.equal(identities.jobOf(processIn("/")), null);
});

function flowOf(id: string, process: ProcessInfo | null, identity: Flow["identity"]): Flow {
  const place = { address: "10.0.0.1", port: 5432 };
  return { id, destination: place, source: place, hostname: null, process, identity, openedAtMs: nowMs, via: "bpf" };
}

function guarded(t: TestContext) {
  const opened = open(t);
  const ended: string[] = [];
  const entries: [string, EntryBody][] = [];
  const notes: string[] = [];
  const sessions = new Set<GuardedSession>();
  const { identities } = opened;
  const guard = guardSessions({
    identities,
    sessions,
    record: (id, body) => void entries.push([id, body]),
    log: () => {},
  });
  t.after(() => guard.close());
  const note = (body: EntryBody): void => void notes.push(body.type === "notice" ? body.text : body.type);
  const revoker = createRevoker({ identities, guard, sessions, note, now: () => opened.state.now });
  const add = (id: string, process: ProcessInfo | null): void => {
    const flow = flowOf(id, process, identities.of(process));
    sessions.add({ flow, terminate: (code, reason) => void ended.push(`${id} ${code} ${reason}`) });
  };
  return { ...opened, guard, revoker, sessions, ended, entries, notes, add };
}

const sessionId = "01999999-0000-7000-8000-000000000001";

test("revoking a subject ends his flows and no others, once, and both records say so", (t) => {
  const { identities, revoker, guard, ended, entries, notes, add } = guarded(t);
  identities.bind("/run-1", proven("alice"));
  identities.bind("/run-2", proven("bob"));
  add("a", processIn("/run-1"));
  add("b", processIn("/run-2"));
  add("c", processIn("/x"));
  assert.deepEqual(revoker.revoke({ what: "alice", issuer: null, reason: "left", by: "uid 0" }), {
    kind: "subject",
    ended: 1,
  });
  assert.deepEqual(ended, ["a WEIR_IDENTITY_REVOKED The identity alice is revoked: left."]);
  assert.deepEqual(entries, [
    [
      "a",
      { type: "refused", code: "WEIR_IDENTITY_REVOKED", reason: "The identity alice is revoked: left.", flow: null },
    ],
  ]);
  assert.match(notes[0] ?? "", /identity alice of every issuer by uid 0 \(left\); flows ended: 1/);
  assert.equal(guard.check(), 0);
});

test("revoking a session ends it, and what comes from its run", (t) => {
  const { identities, revoker, ended, add } = guarded(t);
  identities.bind("/run-1", proven("alice"));
  add(sessionId, processIn("/run-1"));
  assert.deepEqual(revoker.revoke({ what: sessionId, issuer: null, reason: "", by: "page" }), {
    kind: "session",
    ended: 1,
  });
  assert.equal(ended.length, 1);
  assert.match(identities.refusal(processIn("/run-1/more")) ?? "", /session .* was revoked/);
  assert.equal(identities.refusal(processIn("/run-2")), null);
  revoker.restore({ what: sessionId, issuer: null, reason: "", by: "page" });
  assert.equal(identities.refusal(processIn("/run-1/more")), null);
});

test("a session in everybody's cgroup: only its process is meant; of an unknown process: only itself", (t) => {
  const { identities, revoker, ended, add } = guarded(t);
  add(sessionId, processIn("/"));
  revoker.revoke({ what: sessionId, issuer: null, reason: "", by: "page" });
  assert.match(identities.refusal(processIn("/")) ?? "", /was revoked/);
  assert.equal(identities.refusal(processIn("/", { pid: 11 })), null);
  assert.equal(identities.refusal(processIn("/", { startTicks: 6 })), null, "another process of the same id");
  const other = guarded(t);
  other.add(sessionId, null);
  assert.equal(other.revoker.revoke({ what: sessionId, issuer: null, reason: "", by: "page" }).ended, 1);
  assert.deepEqual([ended.length, other.ended.length], [1, 1]);
});

test("what is not there is refused", (t) => {
  const { revoker } = guarded(t);
  const request = { issuer: null, reason: "", by: "x" };
  assert.throws(() => revoker.revoke({ what: sessionId, ...request }), /No session .* lives here/);
  assert.throws(() => revoker.revoke({ what: "", ...request }), /is expected/);
  assert.throws(() => revoker.revoke({ what: "x".repeat(513), ...request }), /is expected/);
  assert.throws(() => revoker.restore({ what: "alice", ...request }), /alice is not revoked/);
});

test("an identity that expires ends its flows by itself, and who logs in does not end his", async (t) => {
  const { identities, ended, state, add } = guarded(t);
  identities.login(1000, proven("bob"));
  add("a", processIn("/user.slice"));
  add("b", processIn("/user.slice", { uid: 7 }));
  identities.login(7, proven("carol", { untilMs: nowMs + 600_000 }));
  await new Promise((done) => setTimeout(done, 300));
  assert.equal(ended.length, 0);
  state.now += 60_000;
  await until(() => ended.length > 0);
  assert.deepEqual(
    ended.map((line) => line.split(" ")[0]),
    ["a"],
  );
});
