/** Three brokers, one killed and brought back: the others go on, and nothing that was acknowledged is lost. */
import assert from "node:assert/strict";
import { after, before, test } from "node:test";
import { createTopics } from "../../../agent/kafka/admin.ts";
import { openTransport, type TransportName } from "../../../agent/kafka/transport.ts";
import { startKafka, type TestKafka } from "../../support/kafka.ts";
import { readTopic } from "../../support/kafka-read.ts";
import { assertComplete, plan, sendAll } from "../../support/numbered.ts";

const libraries: readonly TransportName[] = ["kafkajs", "platformatic"];

let kafka: TestKafka;
before(async () => {
  kafka = await startKafka({ brokers: 3 });
  const outcomes = await createTopics(kafka.settings, { partitions: 6, replicas: 3, plans: libraries.map(plan) });
  assert.deepEqual(
    outcomes.map(({ outcome }) => outcome),
    ["created", "created"],
  );
});
after(() => kafka?.stop());

for (const [at, library] of libraries.entries()) {
  test(`${library}: a broker that is killed in mid-stream costs nothing`, async () => {
    const transport = await openTransport(kafka.settings, library);
    await transport.connect();
    const killed = new Promise<void>((resolve) => setTimeout(resolve, 200)).then(() => kafka.kill(at));
    await sendAll(transport, library, 80, 500);
    await killed;
    // Two of three are enough: this was acknowledged without the third.
    await sendAll(transport, library, 1, 40_000 / 80);
    await transport.close();
    await kafka.restart(at);
    assertComplete(await readTopic(kafka.settings, library), 40_000);
  });
}
