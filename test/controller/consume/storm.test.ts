/**
 * Records of four agents while the broker and an agent are killed, connections are cut after the broker's answers, and
 * the store breaks after it has stored: nothing lost, nothing doubled, each session in order, each chain whole.
 */
import assert from "node:assert/strict";
import { type ChildProcess, spawn } from "node:child_process";
import { mkdtempSync, rmSync } from "node:fs";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { after, before, test } from "node:test";
import { createTopics } from "../../../agent/kafka/admin.ts";
import { topics } from "../../../agent/kafka/topics.ts";
import type { KafkaSettings } from "../../../agent/kafka/transport.ts";
import { bodyOf, decodeEntry } from "../../../agent/record/chain.ts";
import { readFrames, segmentsOf } from "../../../agent/record/segment.ts";
import { type RecordConsumer, startConsumer } from "../../../controller/consume/consumer.ts";
import { type CheckedBatch, MemorySink, nameOf } from "../../../controller/consume/sink.ts";
import { type CuttingProxy, startCuttingProxy } from "../../support/cutting-proxy.ts";
import { freePorts, startKafka, type TestKafka } from "../../support/kafka.ts";
import { readTopic } from "../../support/kafka-read.ts";
import type { PublishingAgent } from "../../support/publishing-agent.ts";

const agents = 4;
/** Each agent records them twice, for it is started twice. 25000 makes 200,000 records of all agents. */
const operations = Number(process.env["WEIR_TEST_STORM"] ?? 5_000);
const sessions = 20;

/** Breaks after every fifth batch that it has stored, so that the offset is never committed. */
class BreakingSink extends MemorySink {
  #stores = 0;
  breaks = true;
  override async store(batch: CheckedBatch): Promise<void> {
    await super.store(batch);
    this.#stores += 1;
    if (this.breaks && this.#stores % 5 === 0) throw new Error("the store went away after it had stored");
  }
}

let dir: string;
let kafka: TestKafka;
let proxy: CuttingProxy;
let settings: KafkaSettings;
const children: ChildProcess[] = [];

before(async () => {
  dir = mkdtempSync(join(tmpdir(), "weir-storm-"));
  const [port] = await freePorts(1);
  kafka = await startKafka({ advertise: [port as number] });
  proxy = await startCuttingProxy(port as number, () => kafka.ports[0] as number);
  settings = { brokers: [`127.0.0.1:${port}`] };
  await createTopics(settings, { partitions: 6, replicas: 1 });
});
after(async () => {
  await Promise.all(children.map((child) => ended(child, "SIGKILL")));
  await proxy?.close();
  await kafka?.stop();
  rmSync(dir, { recursive: true, force: true });
});

function startAgent(number: number): { child: ChildProcess; recorded: Promise<void> } {
  const wish: PublishingAgent = {
    stateDir: join(dir, `agent-${number}`),
    kafka: settings,
    count: operations,
    sessions,
    transport: number % 2 === 0 ? "kafkajs" : "platformatic",
  };
  const script = join(import.meta.dirname, "../../support/publishing-agent.ts");
  const child = spawn(process.execPath, ["--disable-warning=ExperimentalWarning", script, JSON.stringify(wish)], {
    stdio: ["ignore", "pipe", "ignore"],
  });
  children.push(child);
  return { child, recorded: new Promise((resolve) => child.stdout?.once("data", () => resolve())) };
}

async function ended(child: ChildProcess, signal: NodeJS.Signals): Promise<void> {
  if (child.exitCode !== null || child.signalCode !== null) return;
  const gone = new Promise<void>((resolve) => child.once("exit", () => resolve()));
  child.kill(signal);
  await gone;
}

/** The truth: what stands in an agent's spool, by session. */
function spooled(number: number): Map<string, Buffer[]> {
  const found = new Map<string, Buffer[]>();
  for (const path of segmentsOf(join(dir, `agent-${number}`, "spool"))) {
    for (const { payload } of readFrames(path)) {
      const name = nameOf(decodeEntry(payload));
      const list = found.get(name) ?? [];
      list.push(Buffer.from(payload));
      found.set(name, list);
    }
  }
  return found;
}

function delay(ms: number): Promise<void> {
  return new Promise((resolve) => setTimeout(resolve, ms));
}

test("nothing is lost, doubled or out of order, whatever is killed", async () => {
  const sink = new BreakingSink();
  let consumer: RecordConsumer = await startConsumer({ kafka: settings, sink });
  proxy.every = 2;
  const first = Array.from({ length: agents }, (_, number) => startAgent(number));
  await delay(1_500);
  await ended((first[0] as { child: ChildProcess }).child, "SIGKILL");
  await kafka.kill(0);
  await kafka.restart(0);
  await consumer.close();
  await Promise.all(first.slice(1).map(({ recorded }) => recorded));
  // The others end in order and start again, as at an upgrade; the first goes on after kill -9.
  await Promise.all(first.slice(1).map(({ child }) => ended(child, "SIGTERM")));
  const second = Array.from({ length: agents }, (_, number) => startAgent(number));
  consumer = await startConsumer({ kafka: settings, sink });
  await Promise.all(second.map(({ recorded }) => recorded));
  proxy.every = 0;
  sink.breaks = false;
  await Promise.all(second.map(({ child }) => ended(child, "SIGTERM")));

  const truth = Array.from({ length: agents }, (_, number) => spooled(number));
  const total = truth.reduce((sum, of) => sum + [...of.values()].reduce((all, list) => all + list.length, 0), 0);
  for (let tries = 0; tries < 1_200; tries += 1) {
    const there = [...sink.agents.values()].reduce((sum, { signed }) => sum + signed, 0);
    if (there === total) break;
    await delay(50);
  }
  await consumer.close();

  assert.deepEqual(sink.faults, []);
  assert.equal(sink.agents.size, agents);
  assert.ok(proxy.cuts > 0, `${proxy.cuts} cuts`);
  let compared = 0;
  for (const of of truth) {
    for (const [name, payloads] of of) {
      const stored = sink.sessions.get(name) ?? [];
      assert.equal(stored.length, payloads.length, `session ${name}`);
      for (const [at, payload] of payloads.entries()) assert.ok(stored[at]?.payload.equals(payload));
      compared += payloads.length;
    }
  }
  assert.ok(compared > agents * operations, `${compared} entries`);
  assert.equal(
    [...sink.agents.values()].reduce((sum, { signed }) => sum + signed, 0),
    compared,
  );

  // A verdict that is no plain allow is a message of its own, too: as many different ones as were recorded.
  const denied = new Set((await readTopic(settings, topics.verdicts)).map(({ value }) => value.toString("latin1")));
  const recorded = truth
    .flatMap((of) => [...of.values()].flat())
    .filter((payload) => bodyOf(decodeEntry(payload)).fields["action"] === "deny");
  assert.equal(denied.size, recorded.length);
});
