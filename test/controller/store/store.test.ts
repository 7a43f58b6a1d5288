/** One set of promises, held by each store. */
import assert from "node:assert/strict";
import { generateKeyPairSync } from "node:crypto";
import { test } from "node:test";
import type { EntryBody } from "../../../agent/core/record.ts";
import type { CheckedEntry } from "../../../controller/consume/sink.ts";
import { parseSearch } from "../../../controller/store/search.ts";
import { flow, operation, result, sessionEnd } from "../../agent/record/sample.ts";
import { batch, Writer } from "./checked.ts";
import { stores } from "./opened.ts";

const ada = { subject: "ada@example.com", issuer: "https://login.example", groups: [] };

function start(session: string, target = "orders-db"): EntryBody {
  return { type: "session-start", flow: { ...flow(session), identity: ada }, target, protocol: "postgres" };
}

function name(at: number): string {
  return `019a0000-0000-7000-8000-${String(at).padStart(12, "0")}`;
}

function sessionOf(writer: Writer, session: string, text: string, target?: string): CheckedEntry[] {
  return [
    writer.append(session, start(session, target)),
    writer.append(session, operation(1, text)),
    writer.append(session, result(1, 3)),
    writer.append(session, operation(2, `DROP TABLE ${text.split(" ").at(-1)}`, { action: "deny", rule: "no-drop" })),
    writer.append(session, sessionEnd),
  ];
}

for (const [which, open] of Object.entries(stores)) {
  test(`${which}: what is stored comes back, once, however often it comes`, async (t) => {
    const { store, reopen } = await open(t);
    const writer = new Writer("host-1");
    const entries = [...sessionOf(writer, name(1), "SELECT 1 FROM users"), writer.append("agent", note("start"))];
    assert.deepEqual(await store.tailsOf([{ agent: "host-1", session: name(1) }]), [null]);
    await store.store(batch(entries.slice(0, 3)));
    await store.store(batch(entries));
    await store.store(batch(entries.slice(2)));
    const row = await store.session(name(1));
    assert.deepEqual(
      [row?.agent, row?.target, row?.operations, row?.denied, row?.entries, row?.identity, row?.job, row?.end],
      ["host-1", "orders-db", 2, 1, 5, "ada@example.com", "github:12", "the client closed"],
    );
    const read = await store.entries(name(1));
    assert.deepEqual(
      read.map(({ seq, type }) => `${seq} ${type}`),
      ["0 SessionStart", "1 Operation", "2 Result", "3 Operation", "4 SessionEnd"],
    );
    assert.equal(read[1]?.fields["text"], "SELECT 1 FROM users");
    assert.deepEqual(
      (await store.entries(name(1), { from: 2, limit: 2 })).map(({ seq }) => seq),
      [2, 3],
    );
    assert.deepEqual(await store.entries(name(2)), []);
    assert.equal(await store.session(name(2)), null);
    await store.close();
    const again = await reopen();
    const [tail] = await again.tailsOf([{ agent: "host-1", session: name(1) }]);
    assert.deepEqual([tail?.seq, tail?.link.equals(entries[4]?.link as Buffer)], [4, true]);
    await again.store(batch(entries));
    assert.equal((await again.entries(name(1))).length, 5);
  });

  test(`${which}: an agent's chain closes in whatever order its sessions come, and its heads are held against it`, async (t) => {
    const { store } = await open(t);
    const writer = new Writer("host-1");
    const sessions = [1, 2, 3].map((at) => sessionOf(writer, name(at), "SELECT 1 FROM users"));
    const size = writer.chain.agentSeq;
    const head = {
      agent: "host-1",
      size,
      link: writer.chain.link.toString("hex"),
      timeMs: 1,
      closed: true,
      signature: "",
    };
    await store.store({ entries: sessions[2] ?? [], heads: [head], faults: [] });
    await store.advance();
    const [before] = await store.agents();
    assert.deepEqual([before?.size, before?.signed, before?.missing], [0, 0, 0]);
    await store.store(batch(sessions[0] ?? []));
    await store.advance();
    assert.deepEqual(
      (await store.agents()).map(({ size: n, missing }) => [n, missing]),
      [[5, 5]],
    );
    await store.store(batch(sessions[1] ?? []));
    await store.advance();
    const [after] = await store.agents();
    assert.deepEqual([after?.size, after?.signed, after?.missing, after?.broken], [15, 15, null, null]);
    await store.store({ entries: [], heads: [{ ...head, size: 7, link: "00" }], faults: [] });
    await store.advance();
    assert.match(
      String((await store.agents())[0]?.broken),
      /Entry 6 of agent host-1 is not the one that the agent signed/,
    );
    assert.equal((await store.faults())[0]?.kind, "altered");
  });

  test(`${which}: who takes an entry's number before the agent does changes nothing`, async (t) => {
    const { store } = await open(t);
    const forger = new Writer("host-1");
    const writer = new Writer("host-1");
    const forged = sessionOf(forger, name(66), "SELECT 'forged'");
    const entries = sessionOf(writer, name(1), "SELECT 1 FROM users");
    await store.store(
      batch(forged.slice(1).map((one) => ({ ...one, entry: { ...one.entry, seq: one.entry.seq - 1 } }))),
    );
    await store.advance();
    await store.store(batch(entries));
    await store.advance();
    const [agent] = await store.agents();
    assert.deepEqual([agent?.size, agent?.broken, agent?.missing], [5, null, null]);
  });

  test(`${which}: sessions are found by words, facets and time, in pages`, async (t) => {
    const { store } = await open(t);
    const writers = [new Writer("host-1"), new Writer("host-2", 1_790_100_000_000)];
    for (let at = 0; at < 40; at += 1) {
      const target = at % 2 === 0 ? "orders-db" : "crm";
      await store.store(
        batch(sessionOf(writers[at % 4 === 0 ? 0 : 1] as Writer, name(at), `SELECT x${at} FROM users`, target)),
      );
    }
    const ids = async (line: string, more = {}) => {
      const { sessions } = await store.sessions({ ...parseSearch(line), ...more });
      return sessions.map(({ id }) => Number(id.slice(-12))).sort((a, b) => a - b);
    };
    assert.deepEqual(await ids("x7"), [7]);
    assert.deepEqual(await ids("X7 users select"), [7]);
    assert.deepEqual(await ids("x1*"), [1, 10, 11, 12, 13, 14, 15, 16, 17, 18, 19]);
    // One letter is the beginning of half of all words: looked for as it stands.
    assert.deepEqual(await ids("x*"), []);
    assert.deepEqual(await ids("x7 target:orders-db"), []);
    assert.deepEqual(await ids("host:HOST-1", { limit: 100 }), [0, 4, 8, 12, 16, 20, 24, 28, 32, 36]);
    assert.deepEqual(await ids("host:db.example x3 job:12 identity:ada@example.com user:root"), []);
    assert.deepEqual(await ids("host:db.example x3 job:github:12 identity:ada@example.com"), [3]);
    // The verdict is that of the statement with the words.
    assert.deepEqual(await ids("verdict:deny x9"), []);
    assert.deepEqual(await ids("verdict:deny drop users host:host-1 target:crm"), []);
    assert.equal((await ids("verdict:deny drop", { limit: 100 })).length, 40);
    assert.equal((await ids("select", { fromMs: 1_790_100_000_000, toMs: 1_790_200_000_000, limit: 100 })).length, 30);
    assert.deepEqual(await ids("'\"; DROP TABLE -- (", {}), await ids("drop table"));
    for (const line of ["", "users"]) {
      const all: string[] = [];
      let cursor: string | null = null;
      let pages = 0;
      do {
        const page = await store.sessions({ ...parseSearch(line), cursor, limit: 7 });
        all.push(...page.sessions.map(({ id }) => id));
        cursor = page.next;
        pages += 1;
      } while (cursor !== null && pages < 50);
      assert.equal(new Set(all).size, 40, line);
      if (line === "") assert.equal(all.length, 40);
    }
    const newest = (await store.sessions({ limit: 3 })).sessions.map(({ startedAtMs }) => startedAtMs);
    assert.deepEqual(
      newest,
      [...newest].sort((a, b) => b - a),
    );
  });

  test(`${which}: keys, faults, approvals and revocations are kept`, async (t) => {
    const { store, reopen } = await open(t);
    assert.equal(await store.keyOf("host-1"), null);
    const { publicKey } = generateKeyPairSync("ed25519");
    await store.pinKey("host-1", publicKey);
    const fault = { kind: "gap", agent: "host-1", session: name(1), sentence: "After entry 3 comes entry 5." } as const;
    await store.store({ entries: [], heads: [], faults: [fault, fault] });
    const approval = {
      id: "abcdefgh",
      agent: "host-1",
      session: name(1),
      status: "pending",
      createdAtMs: 5,
      expiresAtMs: 50,
      decidedBy: null,
      decidedReason: null,
      request: "{}",
    };
    await store.putApproval(approval);
    await store.putApproval({ ...approval, status: "approved", decidedBy: "eve", decidedReason: "fine" });
    await store.putApproval(approval);
    const revoked = { identity: "ada", version: 7, message: "{}" };
    assert.equal(await store.putRevocation(revoked), true);
    assert.equal(await store.putRevocation({ ...revoked, version: 6 }), false);
    assert.equal(await store.putRevocation(revoked), false);
    await store.close();
    const again = await reopen();
    assert.equal((await again.keyOf("host-1"))?.equals(publicKey), true);
    assert.deepEqual(
      (await again.faults()).map(({ sentence }) => sentence),
      [fault.sentence],
    );
    assert.deepEqual(await again.approvals(), [
      { ...approval, status: "approved", decidedBy: "eve", decidedReason: "fine" },
    ]);
    assert.equal((await again.approval("host-1", "abcdefgh"))?.status, "approved");
    assert.deepEqual(await again.revocations(), [revoked]);
  });

  test(`${which}: a batch that fails leaves nothing behind`, async (t) => {
    const { store } = await open(t);
    const writer = new Writer("host-1");
    const entries = sessionOf(writer, name(1), "SELECT 1 FROM users");
    const broken = { ...(entries[4] as CheckedEntry), payload: null as unknown as Buffer };
    await assert.rejects(store.store(batch([...entries.slice(0, 4), broken])));
    assert.equal(await store.session(name(1)), null);
    await store.store(batch(entries));
    assert.equal((await store.session(name(1)))?.entries, 5);
    assert.equal((await store.sessions({ text: "users" })).sessions.length, 1);
  });
}

function note(event: "start" | "stop"): EntryBody {
  return { type: "agent", event, detail: "" };
}

test("postgres: controllers side by side that have the same entries store them once", async (t) => {
  const { store, reopen } = await (stores["postgres"] as (typeof stores)[string])(t);
  const others = [await reopen(), await reopen()];
  // The last one is closed by who opened it.
  t.after(() => Promise.all([store.close(), others[0]?.close() ?? Promise.resolve()]));
  const writers = ["host-1", "host-2"].map((agent) => new Writer(agent));
  const sessions = Array.from({ length: 30 }, (_, at) =>
    sessionOf(writers[at % 2] as Writer, name(at), `SELECT x${at} FROM users`),
  );
  const shuffled = [sessions.flat(), [...sessions].reverse().flat(), sessions.slice(10).flat()];
  await Promise.all([store, ...others].map((one, at) => one.store(batch(shuffled[at] ?? []))));
  await Promise.all([store, ...others].map((one) => one.advance()));
  for (let at = 0; at < 30; at += 1) assert.equal((await store.entries(name(at))).length, 5);
  assert.deepEqual(
    (await store.agents()).map(({ size, broken }) => [size, broken]),
    [
      [75, null],
      [75, null],
    ],
  );
  assert.equal((await store.sessions({ text: "users", limit: 100 })).sessions.length, 30);
});
