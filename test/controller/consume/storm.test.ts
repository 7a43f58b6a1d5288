/**
 * Records of four agents while the broker, an agent and controllers are killed, and connections are cut after the broker's
 * answers: one controller on SQLite, two side by side on PostgreSQL. Nothing lost, nothing doubled, each session in order,
 * each chain whole.
 */
import assert from "node:assert/strict";
import { type ChildProcess, spawn } from "node:child_process";
import { mkdtempSync, rmSync } from "node:fs";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { DatabaseSync } from "node:sqlite";
import { after, before, test } from "node:test";
import { createTopics } from "../../../agent/kafka/admin.ts";
import { topics } from "../../../agent/kafka/topics.ts";
import type { KafkaSettings } from "../../../agent/kafka/transport.ts";
import { bodyOf, decodeEntry } from "../../../agent/record/chain.ts";
import { simplify } from "../../../agent/record/read.ts";
import { readFrames, segmentsOf } from "../../../agent/record/segment.ts";
import { nameOf } from "../../../controller/consume/sink.ts";
import { openStore, type Store } from "../../../controller/store/store.ts";
import { type CuttingProxy, startCuttingProxy } from "../../support/cutting-proxy.ts";
import { freePorts } from "../../support/free-ports.ts";
import { startKafka, type TestKafka } from "../../support/kafka.ts";
import { readTopic } from "../../support/kafka-read.ts";
import { type Postgres, startPostgres } from "../../support/postgres.ts";
import type { PublishingAgent } from "../../support/publishing-agent.ts";

const agents = 4;
/** Each agent records them twice, for it is started twice. 25000 makes 200,000 records of all agents. */
const operations = Number(process.env["WEIR_TEST_STORM"] ?? 3_000);
const sessions = 20;

let dir: string;
let kafka: TestKafka;
let proxy: CuttingProxy;
let postgres: Postgres;
let settings: KafkaSettings;
const cli = join(import.meta.dirname, "../../../agent/cli.ts");
const logs: string[] = [];
const children: ChildProcess[] = [];

before(async () => {
  dir = mkdtempSync(join(tmpdir(), "weir-storm-"));
  const [port] = await freePorts(1);
  postgres = await startPostgres({ tls: false, hba: ["host all all 127.0.0.1/32 trust"] });
  kafka = await startKafka({ advertise: [port as number] });
  proxy = await startCuttingProxy(port as number, () => kafka.ports[0] as number);
  settings = { brokers: [`127.0.0.1:${port}`] };
  await createTopics(settings, { partitions: 6, replicas: 1 });
});
after(async () => {
  await Promise.all(children.map((child) => ended(child, "SIGKILL")));
  await proxy?.close();
  await kafka?.stop();
  await postgres?.stop();
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
    stdio: ["ignore", "pipe", "pipe"],
  });
  child.stderr?.on("data", (text) => logs.push(`agent ${number}: ${text}`));
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

function startController(group: string, store: readonly string[]): ChildProcess {
  const words = ["controller", "--kafka", settings.brokers.join(","), "--group", group, "--no-ui", ...store];
  const child = spawn(process.execPath, ["--disable-warning=ExperimentalWarning", cli, ...words], {
    stdio: ["ignore", "ignore", "pipe"],
  });
  child.stderr?.on("data", (text) => logs.push(String(text)));
  children.push(child);
  return child;
}

/** Looks into a SQLite store that a controller has open. */
async function readToEnd(store: string, total: number): Promise<void> {
  const reader = new DatabaseSync(join(store, "controller.sqlite"), { readOnly: true });
  try {
    for (let tries = 0; ; tries += 1) {
      const row = reader.prepare("SELECT count(*) AS there FROM entries").get() as { there: number };
      const heads = reader.prepare("SELECT sum(signed) AS signed FROM agents").get() as { signed: number };
      if (heads.signed === total) return;
      assert.ok(tries < 1_200, `${row.there} of ${total} entries are here\n${logs.slice(-40).join("")}`);
      await delay(100);
    }
  } finally {
    reader.close();
  }
}

async function complete(store: Store, total: number): Promise<void> {
  for (let tries = 0; ; tries += 1) {
    await store.advance();
    const there = (await store.agents()).reduce((sum, { signed }) => sum + signed, 0);
    if (there === total) return;
    assert.ok(tries < 1_200, `${there} of ${total} entries are here and signed for\n${logs.slice(-40).join("")}`);
    await delay(100);
  }
}

test("nothing is lost, doubled or out of order, whatever is killed", async (t) => {
  await postgres.admin("CREATE DATABASE store");
  const url = `postgres://${postgres.user}@${postgres.host}:${postgres.port}/store`;
  const state = (name: string): string[] => ["--state", join(dir, name)];
  const alone = (): ChildProcess => startController("weir-controllers", state("alone"));
  const shared = (name: string): ChildProcess =>
    startController("weir-controllers-shared", [...state(name), "--store", url]);
  let [one, two, three] = [alone(), shared("shared-1"), shared("shared-2")];
  proxy.every = 2;
  const first = Array.from({ length: agents }, (_, number) => startAgent(number));
  await delay(2_500);
  await ended((first[0] as { child: ChildProcess }).child, "SIGKILL");
  await Promise.all([ended(one, "SIGKILL"), ended(two, "SIGKILL")]);
  await kafka.kill(0);
  [one, two] = [alone(), shared("shared-1")];
  await kafka.restart(0);
  await Promise.all(first.slice(1).map(({ recorded }) => recorded));
  // The others end in order and start again, as at an upgrade; the first goes on after kill -9.
  await Promise.all(first.slice(1).map(({ child }) => ended(child, "SIGTERM")));
  const second = Array.from({ length: agents }, (_, number) => startAgent(number));
  await delay(500);
  await Promise.all([ended(one, "SIGKILL"), ended(three, "SIGKILL")]);
  [one, three] = [alone(), shared("shared-2")];
  await Promise.all(second.map(({ recorded }) => recorded));
  proxy.every = 0;
  await Promise.all(second.map(({ child }) => ended(child, "SIGTERM")));

  const truth = Array.from({ length: agents }, (_, number) => spooled(number));
  const total = truth.reduce((sum, of) => sum + [...of.values()].reduce((all, list) => all + list.length, 0), 0);
  const shares = await openStore(url);
  t.after(() => shares.close());
  await complete(shares, total);
  // Only one process may open the other store: what it has not read yet, it reads at its next start.
  await readToEnd(join(dir, "alone/store"), total);
  await Promise.all([one, two, three].map((child) => ended(child, "SIGTERM")));
  const own = await openStore(join(dir, "alone/store"));
  t.after(() => own.close());
  await complete(own, total);

  assert.ok(proxy.cuts > 0, `${proxy.cuts} cuts`);
  for (const [name, store] of Object.entries({ own, shares })) {
    assert.deepEqual(await store.faults(), [], name);
    assert.equal((await store.agents()).length, agents);
    let compared = 0;
    for (const of of truth) {
      for (const payloads of of.values()) {
        const wanted = payloads.map((payload) => simplify(decodeEntry(payload)));
        const { agent = "", session = "" } = wanted[0] ?? {};
        assert.deepEqual(await store.entries(session, { agent, limit: 5_000 }), wanted.slice(0, 5_000), name);
        assert.equal((await store.session(session, agent))?.entries, wanted.length);
        compared += wanted.length;
      }
    }
    assert.ok(compared > agents * operations, `${compared} entries`);
  }

  // A verdict that is no plain allow is a message of its own, too: as many different ones as were recorded.
  const denied = new Set((await readTopic(settings, topics.verdicts)).map(({ value }) => value.toString("latin1")));
  const recorded = truth
    .flatMap((of) => [...of.values()].flat())
    .filter((payload) => bodyOf(decodeEntry(payload)).fields["action"] === "deny");
  assert.equal(denied.size, recorded.length);
});
