/** What the consumer takes, drops and puts aside: repetitions, forgeries, poison, and an agent that is another. */
import assert from "node:assert/strict";
import { createPrivateKey, generateKeyPairSync } from "node:crypto";
import { readFileSync } from "node:fs";
import { join } from "node:path";
import { type TestContext, test } from "node:test";
import { singleObject } from "../../../agent/kafka/framing.ts";
import { topics } from "../../../agent/kafka/topics.ts";
import type { OutMessage } from "../../../agent/kafka/transport.ts";
import { agentMessage, entryMessages, headMessage, peeksOf } from "../../../agent/publish/batch.ts";
import { Chain, decodeEntry } from "../../../agent/record/chain.ts";
import { headIsSigned, readHeads, signHead } from "../../../agent/record/heads.ts";
import { entryType, firstEntryType } from "../../../agent/record/schema.ts";
import { Intake, type RawMessage } from "../../../controller/consume/intake.ts";
import { EntrySchemas } from "../../../controller/consume/schemas.ts";
import { operation, payloadsOf, result, sampleLog, tempDir } from "../../agent/record/sample.ts";
import { MemorySink } from "../../support/memory-sink.ts";

const framing = singleObject();

function raw(message: OutMessage, offset: number): RawMessage {
  return {
    topic: message.topic,
    partition: 0,
    offset: String(offset),
    key: Buffer.from(message.key),
    value: message.value,
    headers: Object.fromEntries(Object.entries(message.headers ?? {}).map(([name, text]) => [name, Buffer.from(text)])),
  };
}

function entriesOf(payloads: readonly Buffer[]): RawMessage[] {
  return entryMessages(payloads, peeksOf(payloads), framing)
    .filter(({ topic }) => topic === topics.sessions)
    .map(raw);
}

interface Controller {
  readonly sink: MemorySink;
  /** Checks and stores; answers with what was put aside, as `reason: sentence`. */
  take(messages: readonly RawMessage[], intake?: Intake): Promise<string[]>;
}

function controller(schemas = new EntrySchemas()): Controller {
  const sink = new MemorySink();
  const first = new Intake(sink, schemas);
  return {
    sink,
    async take(messages, intake = first) {
      const { batch, deadLetters, stored } = await intake.check(messages);
      await sink.store(batch);
      stored();
      return deadLetters.map(({ headers }) => `${headers?.["weir-reason"]}: ${headers?.["weir-sentence"]}`);
    },
  };
}

async function sample(
  t: TestContext,
): Promise<{ dir: string; payloads: Buffer[]; checkpoints: RawMessage[]; agent: string }> {
  const dir = tempDir(t);
  const payloads = payloadsOf(await sampleLog(dir));
  const agent = decodeEntry(payloads[0] as Buffer).agent;
  const lines = readFileSync(join(dir, "heads.jsonl"), "utf8").trim().split("\n");
  const key = readFileSync(join(dir, "agent-key.pub.pem"), "utf8");
  const heads = lines.map((line) => headMessage(agent, { line }));
  return { dir, payloads, agent, checkpoints: [agentMessage(agent, key, ""), ...heads].map(raw) };
}

test("entries and heads of an agent are taken once, however often and in whatever pieces they come", async (t) => {
  const { payloads, checkpoints, agent } = await sample(t);
  const { sink, take } = controller();
  const messages = entriesOf(payloads);
  await take(messages.slice(0, 5));
  await take(messages.slice(2, 9));
  // Another controller after a rebalance: it knows no tails and asks the store.
  await take(messages, new Intake(sink, new EntrySchemas()));
  await take(checkpoints);
  await take(checkpoints);
  assert.deepEqual(sink.faults, []);
  assert.equal([...sink.sessions.values()].flat().length, payloads.length);
  assert.equal(sink.agents.get(agent)?.signed, payloads.length);
});

test("sessions may overtake one another; the agent's chain closes when the last one is there", async (t) => {
  const { payloads, checkpoints, agent } = await sample(t);
  const { sink, take } = controller();
  const bySession = Map.groupBy(entriesOf(payloads), ({ key }) => String(key));
  const [first, ...others] = [...bySession.values()];
  await take(checkpoints);
  for (const messages of others) await take(messages);
  assert.equal(sink.agents.get(agent)?.missing, 0);
  assert.equal(sink.agents.get(agent)?.signed, 0);
  await take(first as RawMessage[]);
  assert.equal(sink.agents.get(agent)?.missing, null);
  assert.equal(sink.agents.get(agent)?.signed, payloads.length);
  assert.deepEqual(sink.faults, []);
});

test("a gap, a fork and an altered entry are put aside with the reason, and what is true goes on", async (t) => {
  const { payloads } = await sample(t);
  const { sink, take } = controller();
  const chain = new Chain("host-1");
  const own = Array.from({ length: 5 }, (_, at) => Buffer.from(chain.append("s", operation(at, `SELECT ${at}`), 1)));
  const other = new Chain("host-1");
  const forged = Array.from({ length: 5 }, (_, at) => Buffer.from(other.append("s", operation(at, `DROP ${at}`), 1)));
  const messages = entriesOf(own);
  const lies = entriesOf(forged);
  await take(messages.slice(0, 2));
  assert.deepEqual(await take([messages[3] as RawMessage]), ["gap: After entry 1 of session s comes entry 3."]);
  assert.deepEqual(await take([lies[1] as RawMessage]), ["fork: Session s has two different entries 1."]);
  assert.deepEqual(await take([lies[2] as RawMessage]), [
    "altered: Entry 2 of session s does not follow from the one before it.",
  ]);
  assert.deepEqual(await take([lies[4] as RawMessage]), ["gap: After entry 1 of session s comes entry 4."]);
  assert.deepEqual(await take(messages), []);
  assert.deepEqual(
    sink.sessions.get("host-1\ns")?.map(({ payload }) => payload),
    own,
  );
  assert.equal(sink.faults.length, 4);
  assert.deepEqual(await take(entriesOf(payloads)), []);
});

test("a session whose beginning is not in the topic any more is taken from where it begins, and says so", async () => {
  const { sink, take } = controller();
  const chain = new Chain("host-1");
  const own = Array.from({ length: 3 }, (_, at) => Buffer.from(chain.append("s", result(at, 1), 1)));
  assert.deepEqual(await take(entriesOf(own.slice(1))), []);
  assert.deepEqual(
    sink.faults.map(({ kind }) => kind),
    ["late"],
  );
});

test("poison is put aside byte for byte, with where it came from, and stops nothing", async (t) => {
  const { payloads } = await sample(t);
  const sink = new MemorySink();
  const intake = new Intake(sink, new EntrySchemas());
  const good = entriesOf(payloads);
  const cut = framing(entryType);
  const bad: (Buffer | null)[] = [
    null,
    Buffer.alloc(0),
    Buffer.from("hello"),
    Buffer.concat([cut, Buffer.from("no entry")]),
    Buffer.concat([cut, (payloads[0] as Buffer).subarray(0, -1)]),
    Buffer.concat([cut, payloads[0] as Buffer, Buffer.from([0])]),
    Buffer.concat([Buffer.from([0xc3, 1, 1, 2, 3, 4, 5, 6, 7, 8]), payloads[0] as Buffer]),
    Buffer.concat([Buffer.from([0, 0, 0, 0, 9]), payloads[0] as Buffer]),
    // Names that a store may not hold, or that lend another's.
    ...["a\0b", "a\nb", "", "x".repeat(300)].map((session) =>
      Buffer.concat([cut, new Chain("host").append(session, operation(1, "SELECT 1"), 1)]),
    ),
    // A length that is beyond all memory.
    Buffer.concat([cut, Buffer.from("feffffffffffffff7f", "hex")]),
    Buffer.concat([cut, Buffer.alloc(1 << 16, 0xff)]),
  ];
  const poison = bad.map((value, at) => ({ ...raw({ topic: topics.sessions, key: "k", value }, 900 + at) }));
  const { batch, deadLetters } = await intake.check([...poison.slice(0, 5), ...good, ...poison.slice(5)]);
  assert.equal(batch.entries.length, payloads.length);
  assert.deepEqual(
    deadLetters.map(({ value }) => value),
    bad,
  );
  for (const [at, { topic, headers }] of deadLetters.entries()) {
    assert.equal(topic, topics.deadLetters);
    assert.equal(headers?.["weir-reason"], "unreadable");
    assert.equal(headers?.["weir-topic"], topics.sessions);
    assert.equal(headers?.["weir-offset"], String(900 + at));
  }
});

test("an agent's key is pinned: another key and a head that it has not signed change nothing", async (t) => {
  const { dir, payloads, agent, checkpoints } = await sample(t);
  const { sink, take } = controller();
  const [head] = readHeads(dir);
  assert.ok(head);
  assert.deepEqual(await take(checkpoints.slice(1, 2)), [`unknown-agent: Nobody knows the key of agent ${agent}.`]);
  await take(checkpoints);
  await take(entriesOf(payloads));
  const { privateKey, publicKey } = generateKeyPairSync("ed25519");
  const pem = publicKey.export({ type: "spki", format: "pem" }).toString();
  assert.match((await take([raw(agentMessage(agent, pem, ""), 1)]))[0] ?? "", /^wrong-key: .* another key/);
  const forged = signHead({ ...head, size: 3 }, privateKey);
  const line = { line: JSON.stringify(forged) };
  assert.match((await take([raw(headMessage(agent, line), 2)]))[0] ?? "", /^wrong-key: .* not signed by its key/);
  assert.ok(headIsSigned(head, (await sink.keyOf(agent)) ?? publicKey));
  // One that the true key signed over another history is a fault of the agent's chain.
  const own = createPrivateKey(readFileSync(join(dir, "agent-key.pem")));
  const other = signHead({ ...head, size: payloads.length, link: "00".repeat(32) }, own);
  await take([raw(headMessage(agent, { line: JSON.stringify(other) }), 3)]);
  assert.equal(sink.faults.at(-1)?.kind, "altered");
  for (const text of ["", "{", "[]", "null", '{"agent":1}', '{"agent":"x","publicKey":"no key"}'])
    for (const kind of ["head", "agent"]) {
      const letter = raw(
        { topic: topics.checkpoints, key: "x", value: Buffer.from(text), headers: { "weir-kind": kind } },
        4,
      );
      assert.match((await take([letter]))[0] ?? "", /^unreadable: /, `${kind} ${text}`);
    }
});

test("entries of the schema before, by fingerprint, and of a later one, by a registry, are read", async () => {
  const old = firstEntryType.toBuffer({
    agent: "host-1",
    agentSeq: 0,
    session: "s",
    seq: 0,
    timeMs: 1,
    previous: Buffer.alloc(32),
    sessionPrevious: Buffer.alloc(32),
    body: {
      "weir.v1.Result": { operationId: 1, tag: "SELECT 1", rows: 1, bytes: 2, masked: 0, durationMs: 1, error: null },
    },
  });
  const before = controller();
  assert.deepEqual(await before.take(entriesOf([old])), []);
  const later = JSON.parse(JSON.stringify(entryType.schema({ exportAttrs: true }))) as {
    fields: { name: string; type: unknown; default?: unknown }[];
  };
  later.fields.push({ name: "host", type: "string", default: "" });
  const asked: number[] = [];
  const after = controller(
    new EntrySchemas(async (id) => {
      asked.push(id);
      return id === 7 ? JSON.stringify(later) : null;
    }),
  );
  const payload = new Chain("host-1").append("s", result(1, 1), 1);
  // The later writer's own field, at the end of the entry.
  const written = Buffer.concat([Buffer.from([0, 0, 0, 0, 7]), payload, Buffer.from([2, 65])]);
  assert.deepEqual(await after.take([raw({ topic: topics.sessions, key: "s", value: written }, 1)]), []);
  assert.equal(after.sink.sessions.get("host-1\ns")?.length, 1);
  written.writeUInt32BE(8, 1);
  const unknown = raw({ topic: topics.sessions, key: "s", value: written }, 2);
  assert.match((await after.take([unknown, unknown]))[0] ?? "", /schema 8 is not known here/);
  assert.deepEqual(asked, [7, 8]);
});
