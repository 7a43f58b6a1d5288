/** The outbox: in order, one send at a time, again until it is taken. */
import assert from "node:assert/strict";
import { test } from "node:test";
import { openOutbox } from "../../../agent/kafka/outbox.ts";
import type { OutMessage, Transport } from "../../../agent/kafka/transport.ts";

class FakeTransport implements Transport {
  readonly name = "kafkajs";
  readonly sent: string[][] = [];
  connected = 0;
  refusals = 0;
  #busy = false;

  async connect(): Promise<void> {
    this.connected += 1;
    await this.#alone(async () => {});
  }

  async send(batch: readonly OutMessage[]): Promise<void> {
    await this.#alone(async () => {
      if (this.refusals > 0) {
        this.refusals -= 1;
        throw new Error("no");
      }
      this.sent.push(batch.map(({ key }) => key));
    });
  }

  async close(): Promise<void> {}

  async #alone(work: () => Promise<void>): Promise<void> {
    assert.equal(this.#busy, false, "two at once");
    this.#busy = true;
    await new Promise((resolve) => setImmediate(resolve));
    try {
      await work();
    } finally {
      this.#busy = false;
    }
  }
}

const message = (key: string): OutMessage => ({ topic: "t", key, value: Buffer.from(key) });

test("it connects before there is anything to send; what comes meanwhile goes behind it", async () => {
  const transport = new FakeTransport();
  const outbox = openOutbox(transport, () => {});
  assert.equal(transport.connected, 1);
  await Promise.all([outbox.send(message("a")), outbox.send(message("b"))]);
  assert.deepEqual(transport.sent, [["a", "b"]]);
  await outbox.close();
});

test("who sends again as soon as one is acknowledged does not wait for a third", async () => {
  const transport = new FakeTransport();
  const outbox = openOutbox(transport, () => {});
  for (const key of ["a", "b", "c"]) await outbox.send(message(key));
  assert.deepEqual(transport.sent, [["a"], ["b"], ["c"]]);
  await outbox.close();
});

test("what is refused is sent again, before what came later", async () => {
  const transport = new FakeTransport();
  transport.refusals = 1;
  const said: string[] = [];
  const outbox = openOutbox(transport, (_, text) => void said.push(text));
  await Promise.all([outbox.send(message("a")), outbox.send(message("b"))]);
  assert.deepEqual(transport.sent, [["a", "b"]]);
  assert.deepEqual(said, ["approvals: no"]);
  await outbox.close();
  await assert.rejects(outbox.send(message("c")), { code: "WEIR_KAFKA_UNREACHABLE" });
});
