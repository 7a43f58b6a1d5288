/** Both implementations keep the same promises, against a real broker that is killed and cut off. */
import assert from "node:assert/strict";
import { after, before, describe, test } from "node:test";
import { createTopics } from "../../../agent/kafka/admin.ts";
import { murmur2 } from "../../../agent/kafka/murmur2.ts";
import { type KafkaSettings, openTransport, type TransportName } from "../../../agent/kafka/transport.ts";
import { type CuttingProxy, startCuttingProxy } from "../../support/cutting-proxy.ts";
import { freePorts } from "../../support/free-ports.ts";
import { startKafka, type TestKafka } from "../../support/kafka.ts";
import { readTopic } from "../../support/kafka-read.ts";
import { assertComplete, numbered, plan, sendAll } from "../../support/numbered.ts";

const names: readonly TransportName[] = ["kafkajs", "platformatic"];
const partitions = 4;
describe("one broker", () => {
  let kafka: TestKafka;
  let proxy: CuttingProxy;
  /** Through the proxy; `kafka.settings` goes there, too, once the broker has named its address. */
  let settings: KafkaSettings;

  before(async () => {
    const [port] = await freePorts(1);
    kafka = await startKafka({ advertise: [port as number] });
    proxy = await startCuttingProxy(port as number, () => kafka.ports[0] as number);
    settings = { brokers: [`127.0.0.1:${port}`] };
    const plans = names.flatMap((name) => [plan(`plain-${name}`), plan(`cut-${name}`), plan(`killed-${name}`)]);
    await createTopics(settings, { partitions, replicas: 1, plans });
  });
  after(async () => {
    await proxy?.close();
    await kafka?.stop();
  });

  for (const name of names) {
    test(`${name}: messages arrive once, in order, where Kafka's own clients would put them`, async () => {
      const transport = await openTransport(settings, name);
      const topic = `plain-${name}`;
      await transport.connect();
      assert.equal(await sendAll(transport, topic, 5, 400), 0);
      await transport.close();
      const messages = await readTopic(settings, topic);
      assert.equal(assertComplete(messages, 2_000), 0);
      for (const { key, partition, headers } of messages) {
        assert.equal(partition, murmur2(Buffer.from(key)) % partitions);
        assert.deepEqual(headers, { "weir-kind": "test" });
      }
    });

    test(`${name}: a second send is refused while one is outstanding, and a closed one sends nothing`, async () => {
      const transport = await openTransport(settings, name);
      await transport.connect();
      const first = transport.send(numbered(`plain-${name}`, 10_000, 10));
      await assert.rejects(transport.send(numbered(`plain-${name}`, 10_010, 10)), { code: "WEIR_INTERNAL" });
      await first;
      await transport.close();
      await assert.rejects(transport.send(numbered(`plain-${name}`, 10_020, 10)), { code: "WEIR_SHUTDOWN" });
    });

    test(`${name}: connections cut after the broker's answer lose nothing`, async () => {
      const topic = `cut-${name}`;
      const transport = await openTransport(settings, name);
      await transport.connect();
      proxy.every = 5;
      const before = proxy.cuts;
      await sendAll(transport, topic, 40, 250);
      proxy.every = 0;
      await transport.close();
      assert.ok(proxy.cuts - before >= 5, `${proxy.cuts - before} cuts`);
      assertComplete(await readTopic(settings, topic), 10_000);
    });

    test(`${name}: kill -9 of the broker in mid-stream loses nothing`, async () => {
      const topic = `killed-${name}`;
      const transport = await openTransport(settings, name);
      await transport.connect();
      const sending = sendAll(transport, topic, 60, 500);
      await new Promise((resolve) => setTimeout(resolve, 150));
      await kafka.kill(0);
      await kafka.restart(0);
      await sending;
      await transport.close();
      assertComplete(await readTopic(settings, topic), 30_000);
    });

    test(`${name}: a topic that is not there, and a broker that is not there, are rejections`, async () => {
      const transport = await openTransport(settings, name);
      await assert.rejects(transport.send(numbered("never-made", 0, 1)), { code: "WEIR_KAFKA_UNREACHABLE" });
      await transport.close();
      const [port] = await freePorts(1);
      const nowhere = await openTransport({ brokers: [`127.0.0.1:${port}`] }, name);
      await assert.rejects(nowhere.connect(), { code: "WEIR_KAFKA_UNREACHABLE" });
      await nowhere.close();
    });
  }
});
