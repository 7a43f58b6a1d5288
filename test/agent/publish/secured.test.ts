/** TLS, client certificates, SCRAM and access rules against a real broker that has them all. */
import assert from "node:assert/strict";
import { writeFileSync } from "node:fs";
import { join } from "node:path";
import { PassThrough } from "node:stream";
import { after, before, describe, test } from "node:test";
import { run } from "../../../agent/commands/topics.ts";
import { topicPlans, topics } from "../../../agent/kafka/topics.ts";
import { type KafkaSettings, openTransport, type TransportName } from "../../../agent/kafka/transport.ts";
import { startKafka, type TestKafka, users } from "../../support/kafka.ts";
import { readTopic } from "../../support/kafka-read.ts";

const libraries: readonly TransportName[] = ["kafkajs", "platformatic"];

let kafka: TestKafka;
let words: string[];

before(async () => {
  kafka = await startKafka({ sasl: true, tls: "mutual", acls: true });
  writeFileSync(join(kafka.dir, "password"), `${users.admin}\n`);
  words = [
    ...["--kafka", kafka.brokers.join(",")],
    ...["--kafka-ca", join(kafka.dir, "ca.crt")],
    ...["--kafka-cert", join(kafka.dir, "client.crt"), "--kafka-key", join(kafka.dir, "client.key")],
    ...["--kafka-user", "admin", "--kafka-password-file", join(kafka.dir, "password")],
  ];
});
after(() => kafka?.stop());

async function weirTopics(...args: string[]): Promise<{ code: number; out: string }> {
  const stdout = new PassThrough();
  const code = await run(args, { stdout, stderr: stdout, env: {}, stateDir: "/nowhere" });
  return { code, out: String(stdout.read() ?? "") };
}

async function send(settings: KafkaSettings, library: TransportName, topic: string): Promise<void> {
  const transport = await openTransport(settings, library);
  try {
    await transport.connect();
    await transport.send([{ topic, key: "k", value: Buffer.from("v") }]);
  } finally {
    await transport.close();
  }
}

test("weir topics ls and acls change nothing", async () => {
  const looked = await weirTopics("ls", ...words, "--replicas", "1", "--json");
  assert.equal(looked.code, 1);
  const { topics: outcomes } = JSON.parse(looked.out) as { topics: { outcome: string }[] };
  assert.ok(outcomes.length === topicPlans.length && outcomes.every(({ outcome }) => outcome === "missing"));
  const { code, out } = await weirTopics("acls", "--agent-user", "agent");
  assert.equal(code, 0);
  assert.match(out, /--allow-principal User:agent --operation write --topic weir\.sessions\.v1\n/);
  assert.match(out, /--operation read --group weir-agent- --resource-pattern-type prefixed\n/);
  assert.doesNotMatch(out, /read --topic weir\.sessions/);
});

test("weir topics create makes every topic with its settings, and says what differs later", async () => {
  const users = ["--agent-user", "agent", "--controller-user", "controller"];
  const made = await weirTopics("create", ...words, "--partitions", "3", "--replicas", "1", ...users, "--json");
  assert.equal(made.code, 0);
  const { topics: outcomes } = JSON.parse(made.out) as { topics: { topic: string; outcome: string }[] };
  assert.deepEqual(
    outcomes.map(({ topic, outcome }) => `${topic} ${outcome}`),
    topicPlans.map(({ topic }) => `${topic} created`),
  );
  const again = await weirTopics("create", ...words, "--partitions", "3", "--replicas", "1");
  assert.equal(again.code, 0);
  assert.match(again.out, /weir\.policies\.v1 +unchanged/);
  const other = await weirTopics("create", ...words, "--partitions", "4", "--replicas", "1");
  assert.equal(other.code, 1);
  assert.match(other.out, /weir\.sessions\.v1 +differs\n {2}partitions is 3, expected 4\n/);
  assert.match(other.out, /weir\.checkpoints\.v1 +unchanged/);
});

describe("a library", () => {
  for (const library of libraries) {
    test(`${library}: an agent writes its topics, and nothing else`, async () => {
      const agent = kafka.settingsFor("agent");
      await send(agent, library, topics.sessions);
      await send(agent, library, topics.checkpoints);
      await assert.rejects(send(agent, library, topics.policies), { code: "WEIR_KAFKA_UNREACHABLE" });
      await assert.rejects(send(agent, library, topics.deadLetters), { code: "WEIR_KAFKA_UNREACHABLE" });
      await send(kafka.settingsFor("controller"), library, topics.policies);
    });

    test(`${library}: a wrong password, another CA, and a client without a certificate are refused`, async () => {
      const good = kafka.settingsFor("agent");
      await assert.rejects(send(kafka.settingsFor("nobody"), library, topics.sessions), {
        code: "WEIR_KAFKA_UNREACHABLE",
      });
      const { ca, ...own } = good.tls ?? {};
      await assert.rejects(send({ ...good, tls: own }, library, topics.sessions), { code: "WEIR_KAFKA_UNREACHABLE" });
      await assert.rejects(send({ ...good, tls: { ca: ca as string } }, library, topics.sessions), {
        code: "WEIR_KAFKA_UNREACHABLE",
      });
      const { tls: _, ...plain } = good;
      await assert.rejects(send(plain, library, topics.sessions), { code: "WEIR_KAFKA_UNREACHABLE" });
    });
  }
});

test("an agent reads no record, its own included", async () => {
  await assert.rejects(readTopic(kafka.settingsFor("agent"), topics.sessions));
  assert.ok((await readTopic(kafka.settings, topics.sessions)).length >= libraries.length);
});

test("words that make no sense are refused before anything is done", async () => {
  for (const bad of [
    ["create"],
    ["create", "--kafka", "nowhere"],
    ["create", "--kafka-user", "x"],
    ["create", "--kafka", "127.0.0.1:9", "--kafka-user", "x"],
    ["create", "--kafka", "127.0.0.1:9", "--kafka-cert", "/x"],
    ["create", "--kafka", "127.0.0.1:9", "--kafka-ca", "/does/not/exist"],
    ["create", "--kafka", "127.0.0.1:9", "--partitions", "0"],
    ["remove", "--kafka", "127.0.0.1:9"],
  ])
    await assert.rejects(weirTopics(...bad), { code: "WEIR_USAGE" }, bad.join(" "));
  const plain = ["--kafka-user", "x", "--kafka-sasl", "plain", "--kafka-password-file", join(kafka.dir, "password")];
  await assert.rejects(weirTopics("create", "--kafka", "127.0.0.1:9", ...plain), /as it is/);
});
