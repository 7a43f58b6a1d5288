/**
 * What a policy's own detectors are for, through a real agent and the unmodified OpenAI SDK: a compromised build step
 * sends proprietary code in a prompt, and it is held, then denied; lists, expressions, names of members, placeholders.
 */
import assert from "node:assert/strict";
import { spawn } from "node:child_process";
import { mkdirSync, mkdtempSync, rmSync, writeFileSync } from "node:fs";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { after, before, describe, test } from "node:test";
import { collect, filesWith, startTestAgent, type TestAgent, weirCommand } from "../support/agent.ts";
import {
  type Aimock,
  readLines,
  type SdkLine,
  type SdkScript,
  sdkKeys,
  sdkMissing,
  sdkWords,
  startAimock,
} from "../support/aimock.ts";
import { makeNamespacePair, type NamespacePair } from "../support/namespace.ts";
import { until } from "../support/until.ts";

/** A pricing rule that nobody outside of the house is to see. */
const proprietary = `export function quote(customer, basket, season) {
  const floor = basket.reduce((sum, item) => sum + item.cost * item.count, 0) * marginOf(customer.tier);
  let price = floor;
  for (const rule of rebates.filter(({ from, to }) => from <= season && season < to)) {
    if (rule.tiers.includes(customer.tier)) price -= price * rule.share;
  }
  return Math.max(floor, Math.round(price * 100) / 100);
}

function marginOf(tier) {
  return { gold: 1.07, silver: 1.12, bronze: 1.19 }[tier] ?? 1.31;
}
`;
const customer = "CUS-10083";
const project = "PRJ-204417";
const email = "grace.hopper@example.org";
const password = "correct-horse-9";

const policy = (ca: string, dir: string): string => `apiVersion: weir/v1
detectors:
  our-code: { source: { fingerprints: ${dir}/our-code.fingerprints } }
  customer: { words: { file: ${dir}/customers.txt } }
  project: { regex: '\\bPRJ-[0-9]{6}\\b' }
  login: { keys: [password, "*_token"] }
targets:
  openai: { protocol: openai, hosts: [api.openai.com], tls: { ca: ${ca} } }
  bedrock: { protocol: bedrock, hosts: [bedrock-runtime.us-east-1.amazonaws.com], tls: { ca: ${ca} } }
rules:
  - name: our-code-is-looked-at
    match: { protocol: llm, detector: our-code }
    verdict: hold
    timeout: 1m
    reason: The prompt holds code of the company.
  - name: no-customers
    match: { protocol: llm, detector: customer }
    verdict: deny
    reason: The prompt names a customer.
  - name: prompts
    match: { protocol: llm }
    redact: [ { detector: email }, { detector: login, with: redact } ]
    mask: [ { detector: project, with: last4 } ]
    record: result
`;

interface Pending {
  readonly id: string;
  readonly rule: string;
  readonly text: string;
}

const skip = process.getuid?.() === 0 ? (sdkMissing() ?? false) : "needs root";

describe("stories of prompts", { skip }, () => {
  const dir = mkdtempSync(join(tmpdir(), "weir-stories-"));
  let net: NamespacePair;
  let mock: Aimock;
  let agent: TestAgent;

  before(async () => {
    mkdirSync(join(dir, "repo"));
    writeFileSync(join(dir, "repo/quote.js"), proprietary);
    const known = Array.from({ length: 5_000 }, (_, id) => `CUS-${id + 10_000}\n`);
    writeFileSync(join(dir, "customers.txt"), known.join(""));
    const made = await collect(spawn(weirCommand, ["policy", "fingerprint", join(dir, "repo")]));
    assert.equal(made.code, 0, made.stderr);
    assert.match(made.stderr, /^[0-9]+ fingerprints of 1 files, /);
    writeFileSync(join(dir, "our-code.fingerprints"), made.stdout);
    net = await makeNamespacePair("stories");
    mock = await startAimock(net.b);
    agent = await startTestAgent({ namespace: net.a, wrap: mock.withNames([]), policy: policy(mock.caFile, dir) });
  });

  after(async () => {
    await agent?.remove();
    await mock?.stop();
    await net?.remove();
    rmSync(dir, { recursive: true });
  });

  const env = { ...process.env, ...sdkKeys };
  const ask = async (script: SdkScript, call: string, prompt: string): Promise<SdkLine> => {
    // Not on the command line: that is in the record, as the process that asked.
    writeFileSync(join(dir, "prompt.txt"), prompt);
    const ran = await agent.run(sdkWords(script, [`${call}=@${dir}/prompt.txt`]), { env });
    const [line] = readLines(ran.stdout);
    assert.ok(line !== undefined, ran.stderr);
    return line;
  };
  const seen = async (): Promise<string> => JSON.stringify((await mock.requests()).map(({ body }) => body));

  test("a compromised build step sends proprietary code in a prompt: held, then denied", async () => {
    await mock.clear();
    const build = join(dir, "build.sh");
    const words = sdkWords("openai_client.py", ['chat="$PROMPT"']);
    writeFileSync(
      build,
      `#!/bin/sh\nPROMPT="echo Port this to Go, briefly: $(cat ${dir}/repo/quote.js)"\nexec ${words.join(" ")}\n`,
    );
    const { done } = agent.start(["sh", build], { env });
    let pending: Pending | undefined;
    await until(async () => {
      const { stdout } = await agent.weir(["approvals", "ls", "--json"]);
      [pending] = JSON.parse(stdout === "" ? "[]" : stdout) as Pending[];
      return pending !== undefined;
    }, agent.output);
    assert.ok(pending !== undefined);
    assert.equal(pending.rule, "our-code-is-looked-at");
    assert.match(pending.text, /Port this to Go/);
    assert.deepEqual(await mock.requests(), [], "nothing leaves while it is held");
    await agent.weir(["approvals", "deny", pending.id, "--reason", "Not our code, please."]);
    const [line] = readLines((await done).stdout);
    assert.equal(line?.ok, false);
    assert.equal(line?.error?.status, 403);
    assert.match(line?.error?.message ?? "", /our-code-is-looked-at.*Not our code, please\./);
    assert.deepEqual(await mock.requests(), [], "nothing left at all");
    const { stdout } = await agent.weir(["export"]);
    assert.match(stdout, /our-code-is-looked-at/);
  });

  test("code of others passes", async () => {
    const other = proprietary
      .replaceAll("customer", "guest")
      .replace(/rule|floor|basket|season/g, (word) => `${word}s`);
    const line = await ask("openai.mjs", "chat", `hello ${other.slice(0, 200)}`);
    assert.equal(line.ok, true, JSON.stringify(line));
  });

  test("a word of a list is denied", async () => {
    await mock.clear();
    const line = await ask("openai.mjs", "stream", `hello, what did ${customer} order?`);
    assert.equal(line.ok, false);
    assert.match(line.error?.message ?? "", /no-customers/);
    assert.deepEqual(await mock.requests(), []);
    assert.equal((await ask("openai.mjs", "chat", "hello, what did CUS-1008 order?")).ok, true);
  });

  // The second speaks HTTP/2.
  for (const script of ["openai.mjs", "bedrock.mjs"] as const)
    test(`${script}: a word at the end of 600 KB is denied, and without it the prompt passes`, async () => {
      const long = "hello. This was said in the meeting. ".repeat(16_000);
      const line = await ask(script, "chat", `${long} Write to ${customer}.`);
      assert.match(line.error?.message ?? "", /no-customers/);
      const passed = await ask(script, "chat", long);
      assert.equal(passed.ok, true, JSON.stringify(passed));
    });

  for (const [script, call] of [
    ["openai.mjs", "stream"],
    ["openai.mjs", "responses-stream"],
    ["openai_client.py", "stream"],
    ["openai.mjs", "chat"],
  ] as const) {
    test(`${script} ${call}: an expression is masked in the answer, and an address comes back as it was`, async () => {
      await mock.clear();
      const line = await ask(script, call, `repeat ${project} for ${email}, "password": "${password}".`);
      const { text } = line.result as { text: string };
      assert.equal(
        text,
        `You said: repeat ******4417 for ${email}, "password": "${"*".repeat(password.length)}".`,
        JSON.stringify(line),
      );
      const asked = await seen();
      assert.ok(asked.includes("<EMAIL_1>") && asked.includes(project), asked);
      for (const secret of [email, password]) assert.ok(!asked.includes(secret), asked);
    });
  }

  for (const call of ["tools", "stream-tools"]) {
    test(`${call}: a placeholder in a tool's arguments becomes the value again`, async () => {
      await mock.clear();
      const line = await ask("openai.mjs", call, `invite ${email}`);
      assert.deepEqual((line.result as { arguments: unknown }).arguments, { city: "Paris", contact: email });
      assert.match(await seen(), /invite <EMAIL_1>/);
    });
  }

  test("of what is taken out nothing is written", () => {
    for (const secret of [email, password]) assert.deepEqual(filesWith(agent.stateDir, secret), []);
  });
});
