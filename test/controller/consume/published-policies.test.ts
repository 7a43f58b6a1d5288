/** Which policy is in force where, with its text: what agents say, joined with what was published. */
import assert from "node:assert/strict";
import { generateKeyPairSync } from "node:crypto";
import { test } from "node:test";
import { type PolicyBundle, policyMessage } from "../../../agent/kafka/policy-messages.ts";
import { keyName, policyBytesMax } from "../../../agent/kafka/signed.ts";
import { PublishedPolicies } from "../../../controller/consume/published-policies.ts";
import { policiesInForce } from "../../../controller/http/policy-routes.ts";
import type { AgentState } from "../../../controller/http/state-routes.ts";

const { privateKey, publicKey } = generateKeyPairSync("ed25519");
const digestOf = (files: PolicyBundle["files"]): string | null =>
  files[0]?.text === "bad" ? null : `of ${files[0]?.text}`;

function bundle(version: number, text: string, id = "default"): PolicyBundle {
  return { id, version, files: [{ file: "p.yaml", text }], by: "root on desk", atMs: 5 };
}

function open() {
  const logs: string[] = [];
  const policies = new PublishedPolicies({ trusted: [publicKey], digestOf, log: (_, text) => logs.push(text) });
  const take = (one: PolicyBundle, key = privateKey): void => {
    const { topic, key: name, value } = policyMessage(one, key);
    policies.take({ topic, key: name, value, headers: {}, timeMs: 0 });
  };
  return { policies, take, logs };
}

function agent(name: string, policy: Partial<NonNullable<AgentState["policy"]>>): AgentState {
  const whole = { digest: "of one", mode: "enforce", follows: "default", version: 1, files: [], ...policy };
  return { id: name, name, health: "alive", heardAtMs: 1, record: null, policy: whole };
}

const shape = (all: ReturnType<typeof policiesInForce>) =>
  all.map(({ follows, version, agents, files, problem }) => [
    `${follows} ${version}`,
    agents.map(({ name }) => name).join(),
    files.map(({ text }) => text).join(),
    problem,
  ]);

test("agents that follow a policy have its text; one that is behind, has its own files or none yet is told so", () => {
  const { policies, take } = open();
  take(bundle(1, "one"));
  take(bundle(2, "two"));
  const agents = [
    agent("a", {}),
    agent("b", { version: 2, digest: "of two" }),
    agent("c", { version: 2, digest: "of two" }),
    agent("own", { follows: null, version: null, digest: "x" }),
    agent("embedded", { follows: null, version: null, digest: "y", files: [{ file: "q.yaml", text: "q" }] }),
    agent("new", { version: null }),
    agent("old", { version: 9 }),
    { ...agent("silent", {}), policy: undefined } as unknown as AgentState,
  ];
  assert.deepEqual(shape(policiesInForce(agents, policies)), [
    ["null null", "own", "", "It is of files on the agent's host, and their text does not come here."],
    ["null null", "embedded", "q", null],
    [
      "default 9",
      "old",
      "",
      "The text of version 9 is not here: a later one has taken its place, or no key that is trusted here signed it.",
    ],
    ["default 2", "b,c", "two", null],
    ["default 1", "a", "one", null],
    ["default null", "new", "", "No version of default has reached it yet."],
  ]);
  assert.deepEqual(policiesInForce(agents, policies)[3]?.published, {
    ...{ by: "root on desk", atMs: 5, signer: keyName(privateKey) },
  });
});

test("of two with the same version the one with the agent's digest is shown; without one it is said", () => {
  const { policies, take } = open();
  take(bundle(1, "one"));
  take(bundle(1, "other"));
  assert.deepEqual(shape(policiesInForce([agent("a", {})], policies)), [["default 1", "a", "one", null]]);
  const [wrong] = policiesInForce([agent("a", { digest: "of something" })], policies);
  assert.match(wrong?.problem ?? "", /^This text gives the digest of other here: it is not what is in force/);
});

test("what was published, and nobody has yet; one that is no policy; and what a stranger wrote", () => {
  const { policies, take, logs } = open();
  take(bundle(3, "three"), generateKeyPairSync("ed25519").privateKey);
  policies.take({ topic: "", key: "default", value: null, headers: {}, timeMs: 0 });
  assert.deepEqual(policiesInForce([], policies), []);
  assert.match(logs.join(), /it is not signed by a key that is trusted/);
  take(bundle(1, "one"));
  take(bundle(2, "bad"));
  take(bundle(4, "batch", "batch-hosts"));
  assert.deepEqual(shape(policiesInForce([], policies)), [
    ["batch-hosts 4", "", "batch", null],
    ["default 2", "", "bad", "It is no policy that this version of Weir takes."],
  ]);
});

test("texts are kept up to a limit, the first go", () => {
  const { policies, take } = open();
  const text = "x".repeat(policyBytesMax / 2);
  for (let version = 1; version <= 20; version += 1) take(bundle(version, text));
  assert.equal(policies.version("default", 1, ""), null);
  assert.equal(policies.version("default", 20, "")?.version, 20);
});
