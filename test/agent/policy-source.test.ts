/** What an agent starts with that follows a policy over Kafka. */
import assert from "node:assert/strict";
import { generateKeyPairSync } from "node:crypto";
import { mkdtempSync, rmSync, writeFileSync } from "node:fs";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { after, beforeEach, test } from "node:test";
import type { PolicyInForce, PolicySource } from "../../agent/act/policy-in-force.ts";
import { type AgentConfig, readConfig, readPolicyFiles } from "../../agent/config.ts";
import { policyMessage } from "../../agent/kafka/policy-messages.ts";
import { givenBy, openStartPolicy } from "../../agent/policy-source.ts";
import { until } from "../support/until.ts";

const keys = generateKeyPairSync("ed25519");
const open: PolicyInForce[] = [];
const dirs: string[] = [];
let dir = "";
let config: AgentConfig;
let told: string[] = [];

beforeEach(() => {
  dir = mkdtempSync(join(tmpdir(), "weir-policy-source-"));
  dirs.push(dir);
  writeFileSync(join(dir, "key.pem"), keys.publicKey.export({ type: "spki", format: "pem" }));
  told = [];
  config = configOf("--policy", "kafka");
});
after(() => {
  for (const policy of open) policy.close();
  for (const one of dirs) rmSync(one, { recursive: true, force: true });
});

function configOf(...args: string[]): AgentConfig {
  const words = ["--state", dir, "--kafka", "127.0.0.1:1", "--policy-key", join(dir, "key.pem"), ...args];
  return readConfig(words, { policyDir: "/nowhere", env: {} });
}

async function start(): Promise<{ policy: PolicyInForce; problem: string | null }> {
  const source: PolicySource = {
    paths: config.policyPaths,
    read: readPolicyFiles,
    prepared() {},
    loaded: ({ digest }, origin) => told.push(`${digest.slice(0, 8)} ${origin?.version}`),
    rejected: (problems) => told.push(problems),
  };
  const started = await openStartPolicy(config, source);
  open.push(started.policy);
  started.policy.follow();
  return started;
}

const text = (target: string): string =>
  `apiVersion: weir/v1\ntargets: { ${target}: { protocol: postgres, hosts: [10.0.0.1], ports: [5432] } }\n`;

function keep(version: number, ...files: { file: string; text: string }[]): void {
  const bundle = { id: "default", version, files, by: "eve", atMs: 1 };
  const { value } = policyMessage(bundle, keys.privateKey);
  writeFileSync(join(dir, "policy-from-kafka.default.json"), value ?? "");
}

const targets = ({ policy }: { policy: PolicyInForce }): string[] => policy.current.targets.map(({ name }) => name);

test("nothing is let out until the first one comes; it is put in force as a reload is", async () => {
  const started = await start();
  assert.deepEqual([targets(started), started.policy.current.defaults.egress], [[], "deny"]);
  assert.deepEqual([started.policy.origin, started.problem], [null, null]);
  const bundle = { id: "default", version: 3, files: [{ file: "a.yaml", text: text("orders") }], by: "eve", atMs: 1 };
  await started.policy.use(givenBy(bundle, "ed25519:00"));
  assert.deepEqual([targets(started), started.policy.origin?.version], [["orders"], 3]);
  assert.equal(told.length, 1);
  await assert.rejects(
    started.policy.use(givenBy({ ...bundle, version: 4, files: [{ file: "a.yaml", text: "x: 1" }] }, "")),
    {
      code: "WEIR_POLICY_INVALID",
    },
  );
  assert.deepEqual([targets(started), started.policy.origin?.version], [["orders"], 3]);
});

test("the host's own files count until the first one comes, and not behind it", async () => {
  const file = join(dir, "own.yaml");
  writeFileSync(file, text("own"));
  config = configOf("--policy", file, "--policy", "kafka");
  assert.deepEqual(targets(await start()), ["own"]);
  const list = join(dir, "list.txt");
  writeFileSync(list, "ada\n");
  keep(2, { file: "a.yaml", text: `${text("orders")}detectors: { names: { words: { file: ${list} } } }\n` });
  const again = await start();
  assert.deepEqual([targets(again), again.policy.origin?.version, again.problem], [["orders"], 2, null]);
  // A list that it names with its whole path is read anew when it changes; the host's own policy is not.
  writeFileSync(file, text("other"));
  writeFileSync(list, "ada\neve\n");
  await until(() => told.some((line) => line.endsWith(" 2")));
  assert.deepEqual(targets(again), ["orders"]);
});

test("one that was kept and cannot be used any more lets nothing out, and says so", async () => {
  keep(2, { file: "a.yaml", text: "apiVersion: weir/v1\nfuture: true\n" });
  const started = await start();
  assert.deepEqual(targets(started), []);
  assert.match(String(started.problem), /version 2 of policy default.*cannot be used.*future/s);
  const other = generateKeyPairSync("ed25519").publicKey;
  writeFileSync(join(dir, "key.pem"), other.export({ type: "spki", format: "pem" }));
  config = configOf("--policy", "kafka");
  keep(2, { file: "a.yaml", text: text("orders") });
  const untrusted = await start();
  assert.deepEqual(targets(untrusted), []);
  assert.match(String(untrusted.problem), /signed by no key that is trusted/);
});

test("a detector's file is never looked for where the publisher had it, relative to anything", async () => {
  const started = await start();
  const detectors = "detectors: { names: { words: { file: list.txt } } }\n";
  const files = [{ file: "a.yaml", text: `${text("orders")}${detectors}` }];
  const bundle = { id: "default", version: 3, files, by: "eve", atMs: 1 };
  await assert.rejects(started.policy.use(givenBy(bundle, "")), /kafka:default\/list\.txt/);
});

test("settings that say nothing, or leave open whose policies count, are refused", () => {
  const wrong = (...words: string[]) => {
    assert.throws(() => readConfig(["--state", dir, ...words], { policyDir: dir, env: {} }), { code: "WEIR_USAGE" });
  };
  const [kafka, key] = [
    ["--kafka", "127.0.0.1:1"],
    ["--policy-key", join(dir, "key.pem")],
  ];
  wrong("--policy", "kafka");
  wrong("--policy", "kafka", ...kafka);
  wrong(...kafka, ...key);
  wrong(...key);
  wrong("--policy", "kafka:UP", ...kafka, ...key);
  wrong("--policy", "kafka", "--policy", "kafka:b", ...kafka, ...key);
  const byFile = join(dir, "agent.yaml");
  writeFileSync(byFile, `policy: [kafka:edge]\nkafka: 127.0.0.1:1\npolicyKey: ${join(dir, "key.pem")}\n`);
  const { policyPaths, kafka: read } = readConfig(["--config", byFile], { policyDir: dir, env: {} });
  assert.deepEqual([policyPaths, read?.policy?.id, read?.policy?.keys.length], [[], "edge", 1]);
});

test("how much may wait for Kafka is said in bytes, or is 50 GiB; without Kafka there is nothing to wait for", () => {
  assert.equal(configOf("--policy", "kafka").spoolBytesMax, 50 * 2 ** 30);
  assert.equal(configOf("--policy", "kafka", "--spool-max", "512MiB").spoolBytesMax, 512 * 2 ** 20);
  for (const size of ["0MiB", "12", "5kB", "-1GiB", ""])
    assert.throws(() => configOf("--policy", "kafka", "--spool-max", size), { code: "WEIR_USAGE" }, size);
  const alone = ["--state", dir, "--spool-max", "1GiB"];
  assert.throws(() => readConfig(alone, { policyDir: "/nowhere", env: {} }), { code: "WEIR_USAGE" });
  const file = join(dir, "weir.yaml");
  writeFileSync(file, "spoolMax: 2GiB\n");
  assert.equal(configOf("--policy", "kafka", "--config", file).spoolBytesMax, 2 * 2 ** 30);
});
