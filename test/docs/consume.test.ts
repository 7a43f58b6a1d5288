/** The example consumer in Python over a real broker: what it prints is the record, and what does not hold it says. */
import assert from "node:assert/strict";
import { execFile, spawnSync } from "node:child_process";
import { existsSync, readFileSync } from "node:fs";
import { createServer } from "node:http";
import { join, resolve } from "node:path";
import { after, before, type TestContext, test } from "node:test";
import { createTopics } from "../../agent/kafka/admin.ts";
import { confluent, type Framing, singleObject } from "../../agent/kafka/framing.ts";
import { topics } from "../../agent/kafka/topics.ts";
import { openTransport } from "../../agent/kafka/transport.ts";
import { entryMessages, peeksOf } from "../../agent/publish/batch.ts";
import { openPublisher } from "../../agent/publish/publisher.ts";
import { readEntries } from "../../agent/record/read.ts";
import { entryType, firstEntryType } from "../../agent/record/schema.ts";
import { payloadsOf, sampleLog, sessionA, tempDir } from "../agent/record/sample.ts";
import { startKafka, type TestKafka } from "../support/kafka.ts";

const root = resolve(import.meta.dirname, "../..");
const python = join(root, "build/venv/bin/python");
const hasPython = existsSync(python) && spawnSync(python, ["-c", "import confluent_kafka, fastavro"]).status === 0;
const skip = hasPython ? false : "confluent-kafka and fastavro are not installed: run scripts/setup --dev";

let kafka: TestKafka | null = null;
before(async () => {
  if (!hasPython) return;
  kafka = await startKafka();
  await createTopics(kafka.settings, { partitions: 3, replicas: 1 });
});
after(() => kafka?.stop());

interface Ran {
  readonly code: number;
  readonly lines: Record<string, unknown>[];
  readonly error: string;
}

let group = 0;
function consume(...args: string[]): Promise<Ran> {
  group += 1;
  const words = [
    join(root, "docs/examples/consume.py"),
    ...["--kafka", (kafka as TestKafka).brokers.join(","), "--once", "--group", `example-${group}`],
    ...args,
  ];
  return new Promise((done) => {
    execFile(python, words, { maxBuffer: 1 << 26, timeout: 240_000 }, (failure, stdout, stderr) => {
      const code = failure === null ? 0 : Number(failure.code);
      done({
        code,
        lines: stdout
          .split("\n")
          .filter(Boolean)
          .map((line) => JSON.parse(line)),
        error: stderr,
      });
    });
  });
}

async function publish(t: TestContext, framing: Framing): Promise<string> {
  const dir = tempDir(t);
  await sampleLog(dir);
  const transport = await openTransport((kafka as TestKafka).settings);
  const publisher = openPublisher({ stateDir: dir, transport, framing: async () => framing });
  await publisher.close(20_000);
  return dir;
}

const ofAgent = (ran: Ran, agent: string) => ran.lines.filter((line) => line["agent"] === agent);

test("the schemas beside the script are those that agents write with", () => {
  const types = [firstEntryType, entryType];
  for (const [at, type] of types.entries()) {
    const file = JSON.parse(readFileSync(join(root, `docs/examples/weir-entry-${at + 1}.avsc`), "utf8")) as unknown;
    assert.deepEqual(file, JSON.parse(JSON.stringify(type.schema({ exportAttrs: true }))));
  }
});

test("it prints the record, each session in order, and follows its chain", { skip }, async (t) => {
  const dir = await publish(t, singleObject());
  const wanted = [...readEntries(dir)];
  const ran = await consume();
  assert.deepEqual([ran.code, ran.error], [0, ""]);
  const agent = wanted[0]?.agent ?? "";
  const got = ofAgent(ran, agent);
  assert.equal(got.length, wanted.length);
  for (const session of ["agent", sessionA]) {
    assert.deepEqual(
      got.filter((line) => line["session"] === session).map(({ seq, type }) => [seq, type]),
      wanted.filter((entry) => entry.session === session).map(({ seq, type }) => [seq, type]),
    );
  }
  const statement = got.find(({ session, type }) => session === sessionA && type === "Operation");
  const fields = statement?.["fields"] as Record<string, unknown>;
  assert.deepEqual(
    [fields["text"], fields["action"], fields["verbs"]],
    ["SELECT name FROM users", "allow", ["select"]],
  );
  const verdicts = await consume("--topic", topics.verdicts);
  assert.equal(verdicts.code, 0);
  assert.ok(verdicts.lines.some(({ fields: one }) => (one as Record<string, unknown>)["action"] === "deny"));
});

test("with a schema registry: by the schema's id", { skip }, async (t) => {
  const server = createServer((request, response) => {
    const schema = { 7: entryType, 8: firstEntryType }[Number(/\/schemas\/ids\/(\d+)$/.exec(request.url ?? "")?.[1])];
    response.writeHead(schema === undefined ? 404 : 200, { "Content-Type": "application/json" });
    response.end(JSON.stringify({ schema: JSON.stringify(schema?.schema({ exportAttrs: true })) }));
  });
  await new Promise<void>((done) => server.listen(0, "127.0.0.1", done));
  t.after(() => server.close());
  const ids = new Map([
    [entryType, 7],
    [firstEntryType, 8],
  ]);
  const dir = await publish(t, confluent(ids));
  const { port } = server.address() as { port: number };
  const ran = await consume("--registry", `http://127.0.0.1:${port}`);
  assert.deepEqual([ran.code, ran.error], [0, ""]);
  const [first] = readEntries(dir);
  assert.equal(ofAgent(ran, first?.agent ?? "").length, 12);
});

test("an entry that is missing, and one that cannot be read, are told", { skip }, async (t) => {
  const dir = tempDir(t);
  const path = await sampleLog(dir);
  const payloads = payloadsOf(path).toSpliced(5, 1);
  const transport = await openTransport((kafka as TestKafka).settings);
  t.after(() => transport.close());
  await transport.send(entryMessages(payloads, peeksOf(payloads), singleObject()));
  await transport.send([{ topic: topics.sessions, key: "x", value: Buffer.from("nonsense") }]);
  const ran = await consume();
  assert.equal(ran.code, 1);
  assert.match(ran.error, /does not go on from its entry 1 at entry 3/);
  assert.match(ran.error, /framed in neither way/);
});
