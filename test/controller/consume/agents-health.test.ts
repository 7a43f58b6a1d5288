/** Who is silent, who stopped, and what is no sign of life. */
import assert from "node:assert/strict";
import { generateKeyPairSync, type KeyObject } from "node:crypto";
import { test } from "node:test";
import { type HealthWord, healthMessage } from "../../../agent/kafka/health-messages.ts";
import { AgentsHealth } from "../../../controller/consume/agents-health.ts";

const pair = generateKeyPairSync("ed25519");
const startMs = 1_800_000_000_000;
const everyMs = 10_000;

function word(more: Partial<HealthWord> = {}): HealthWord {
  return {
    ...{
      agent: "a1",
      name: "runner-1",
      version: "0.1.0",
      pid: 7,
      scope: "host",
      onFailure: "closed",
      sinceMs: startMs,
    },
    ...{ sessions: 4, memoryBytes: 1, policy: { digest: "d", mode: "enforce", follows: "default", version: 3 } },
    ...{ publish: { behind: 12, problem: "away" }, waiting: 1, firewallRestored: 0, problems: ["It is so."] },
    ...{ atMs: startMs, everyMs, stopped: false, ...more },
  };
}

function open(keys: Record<string, KeyObject>) {
  const logs: string[] = [];
  const health = new AgentsHealth({ keyOf: async (agent) => keys[agent] ?? null, log: (_, text) => logs.push(text) });
  const say = (one: HealthWord, timeMs = one.atMs, key = pair.privateKey): Promise<void> => {
    const { topic, key: name, value, headers = {} } = healthMessage(one, key);
    return health.take({ topic, key: name, value, headers, timeMs });
  };
  const at = async (ms: number) => (await health.list([], startMs + ms)).map((one) => one.health);
  return { health, say, at, logs };
}

test("one whose words do not come is silent; one that said that it ends has stopped", async () => {
  const { health, say, at } = open({ a1: pair.publicKey });
  await say(word());
  assert.deepEqual([await at(0), await at(3 * everyMs), await at(3 * everyMs + 1)], [["alive"], ["alive"], ["silent"]]);
  await say(word({ atMs: startMs + 60_000 }));
  assert.deepEqual(await at(60_000), ["alive"]);
  await say(word({ atMs: startMs + 61_000, stopped: true }));
  assert.deepEqual(health.counts(startMs), { alive: 0, silent: 0, stopped: 1 });
  assert.deepEqual(await at(900_000), ["stopped"]);
  const [one] = await health.list([], startMs);
  assert.deepEqual(
    [one?.name, one?.policy?.version, one?.publish?.behind, one?.problems],
    ["runner-1", 3, 12, ["It is so."]],
  );
});

test("an old word that is written again is no sign of life; nor is one of before the newest", async () => {
  const { health, say, at } = open({ a1: pair.publicKey });
  // As after a controller's start: the only word there is, and Kafka took it just now.
  await say(word(), startMs + 7_200_000);
  assert.deepEqual(await at(7_200_000), ["silent"]);
  await say(word({ atMs: startMs + 1, name: "newer" }));
  await say(word({ name: "older" }));
  assert.deepEqual(
    (await health.list([], startMs)).map(({ name }) => name),
    ["newer"],
  );
  // A clock that goes a little wrong is no reason.
  await say(word({ atMs: startMs + 7_000_000 }), startMs + 7_200_000);
  assert.deepEqual(await at(7_200_000), ["alive"]);
});

test("a word waits for its agent's key, and counts only when that key signed it", async () => {
  const keys: Record<string, KeyObject> = {};
  const { health, say, logs } = open(keys);
  await say(word());
  assert.deepEqual(await health.list([], startMs), []);
  keys["a1"] = pair.publicKey;
  assert.equal((await health.list([], startMs)).length, 1);
  await say(word({ atMs: startMs + 1, name: "forged" }), startMs, generateKeyPairSync("ed25519").privateKey);
  assert.equal((await health.list([], startMs))[0]?.name, "runner-1");
  assert.match(logs.join(), /in the name of a1 is not signed by it/);
});

test("what is misshapen is put aside, and an agent that never said how it is is shown by its record", async () => {
  const { health, say, logs } = open({ a1: pair.publicKey });
  const bad = [
    { pid: -1 },
    { problems: "x" },
    { problems: Array.from({ length: 17 }, () => "x") },
    { name: "x".repeat(3_000) },
    { policy: null },
    { publish: { behind: "many" } },
    { stopped: 1 },
    { atMs: 0.5 },
  ];
  for (const more of bad) await say(word(more as Partial<HealthWord>));
  assert.equal(logs.length, bad.length);
  const row = { agent: "b2", size: 9, signed: 8, missing: null, broken: "It is broken.", lastAtMs: startMs };
  const [one, ...more] = await health.list([row], startMs);
  assert.deepEqual(
    [one?.id, one?.name, one?.health, one?.record?.broken, more],
    ["b2", "b2", "unknown", "It is broken.", []],
  );
});
