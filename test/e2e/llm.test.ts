/**
 * The providers' own SDKs through the agent, with no base URL, no proxy variable and no change: against the same mock
 * they get the same as direct; under a policy what is masked never arrives, and refusals are the SDK's own errors.
 */
import assert from "node:assert/strict";
import { execFile } from "node:child_process";
import { after, before, describe, test } from "node:test";
import { promisify } from "node:util";
import { filesWith, startTestAgent, type TestAgent } from "../support/agent.ts";
import {
  type Aimock,
  providerNames,
  readLines,
  type SdkLine,
  type SdkScript,
  sdkKeys,
  sdkMissing,
  sdkWords,
  startAimock,
} from "../support/aimock.ts";
import { secrets } from "../support/aimock-fixtures.ts";
import { makeNamespacePair, type NamespacePair } from "../support/namespace.ts";

const exec = promisify(execFile);
const upstreamKey = "sk-upstream-0123456789abcdef";
const scripts: readonly SdkScript[] = [
  "openai.mjs",
  "anthropic.mjs",
  "genai.mjs",
  "bedrock.mjs",
  "ollama.mjs",
  "openai_client.py",
  "anthropic_client.py",
  "bedrock_client.py",
];

const targets = (ca: string): string => `
  openai: { protocol: openai, hosts: [api.openai.com], tls: { ca: ${ca} }, credential: { bearer: { env: WEIR_TEST_OPENAI } } }
  azure: { protocol: openai, hosts: [weir-test.openai.azure.com], tls: { ca: ${ca} } }
  anthropic: { protocol: anthropic, hosts: [api.anthropic.com], tls: { ca: ${ca} } }
  gemini: { protocol: gemini, hosts: [generativelanguage.googleapis.com], tls: { ca: ${ca} } }
  bedrock: { protocol: bedrock, hosts: ["bedrock-runtime.us-east-1.amazonaws.com"], tls: { ca: ${ca} } }
  ollama: { protocol: ollama, hosts: [ollama.internal], ports: [11434], tls: { verify: none } }`;

const skip = process.getuid?.() === 0 ? (sdkMissing() ?? false) : "needs root";

describe("SDKs of the model providers", { skip }, () => {
  let net: NamespacePair;
  let mock: Aimock;
  let agent: TestAgent;

  before(async () => {
    net = await makeNamespacePair("llm");
    mock = await startAimock(net.b);
  });

  after(async () => {
    await agent?.remove();
    await mock?.stop();
    await net?.remove();
  });

  const govern = async (rules: string): Promise<void> => {
    await agent?.remove();
    agent = await startTestAgent({
      namespace: net.a,
      wrap: mock.withNames([]),
      env: { WEIR_TEST_OPENAI: upstreamKey },
      policy: `apiVersion: weir/v1\ntargets:${targets(mock.caFile)}\nrules:\n${rules}`,
    });
  };
  const through = async (script: SdkScript, ...calls: string[]): Promise<SdkLine[]> => {
    const ran = await agent.run(sdkWords(script, calls), { env: { ...process.env, ...sdkKeys } });
    const lines = readLines(ran.stdout);
    assert.ok(lines.length > 0, `${script} said nothing:\n${ran.stderr}`);
    return lines;
  };
  const direct = async (script: SdkScript, ...calls: string[]): Promise<SdkLine[]> => {
    const words = mock.withNames(sdkWords(script, calls));
    const { stdout } = await exec("nsenter", [`--net=/run/netns/${net.a.name}`, "--", ...words], {
      env: { ...process.env, ...sdkKeys, ...mock.trust },
    });
    return readLines(stdout);
  };

  describe("with a policy that allows", () => {
    before(() => govern("  - { name: all, match: { protocol: llm }, verdict: allow }\n"));

    for (const script of scripts)
      test(`${script} gets the same as direct`, async () => {
        const expected = await direct(script);
        await mock.clear();
        const got = await through(script);
        assert.deepEqual(got, expected);
        assert.ok((await mock.requests()).length > 0);
      });

    test("the upstream sees Weir's key, and nobody else does", async () => {
      await mock.clear();
      await through("openai.mjs", "chat");
      const [request] = await mock.requests();
      assert.match(JSON.stringify(request), new RegExp(upstreamKey));
      assert.ok(!JSON.stringify(request).includes(sdkKeys["OPENAI_API_KEY"] as string));
      assert.deepEqual(filesWith(agent.stateDir, upstreamKey), []);
    });

    test("the record tells provider, model and tokens", async () => {
      const { stdout } = await agent.weir(["export"]);
      const entries = stdout
        .trim()
        .split("\n")
        .map((line) => JSON.parse(line) as { type: string; fields: Record<string, unknown> });
      const calls = entries.filter(({ type, fields }) => type === "Operation" && fields["protocol"] === "llm");
      assert.ok(calls.length > scripts.length, `${calls.length} calls`);
      assert.ok(calls.some(({ fields }) => JSON.stringify(fields["details"]).includes("gpt-4o-mini")));
      const results = entries.filter(({ type }) => type === "Result");
      assert.ok(results.some(({ fields }) => JSON.stringify(fields["details"]).includes("outputTokens")));
    });
  });

  describe("with masks on replies", () => {
    before(() =>
      govern("  - { name: mask, match: { protocol: llm }, mask: [{ detector: [credit-card, email, aws-key] }] }\n"),
    );

    for (const script of scripts)
      test(`${script}: what is masked does not arrive, however the stream is cut`, async () => {
        const expected = await direct(script);
        assert.ok(JSON.stringify(expected).includes(secrets.email) || JSON.stringify(expected).includes(secrets.card));
        const got = await through(script);
        const text = JSON.stringify(got);
        for (const secret of Object.values(secrets)) assert.ok(!text.includes(secret), `${secret} in ${text}`);
        assert.equal(got.length, expected.length);
        for (const [at, line] of got.entries()) assert.equal(line.ok, expected[at]?.ok, JSON.stringify(line));
      });

    test("nothing of it is below the state directory", () => {
      for (const secret of Object.values(secrets)) assert.deepEqual(filesWith(agent.stateDir, secret), []);
    });
  });

  describe("with a policy that denies", () => {
    before(() =>
      govern("  - { name: not-today, match: { protocol: llm }, verdict: deny, reason: No models on Sundays. }\n"),
    );

    for (const script of scripts)
      test(`${script} raises its own error, with rule and reason`, async () => {
        await mock.clear();
        const lines = await through(script, "chat");
        assert.equal((await mock.requests()).length, 0);
        for (const line of lines) {
          assert.equal(line.ok, false, JSON.stringify(line));
          assert.match(line.error?.message ?? "", /not-today/, JSON.stringify(line));
          assert.match(line.error?.message ?? "", /No models on Sundays/);
        }
      });
  });

  describe("a realtime session over a WebSocket", () => {
    const rule = (words: string): Promise<void> => govern(`  - { name: r, match: { protocol: llm }, ${words} }\n`);

    test("the SDK gets the same as direct, and each of its events is recorded", async () => {
      await rule("verdict: allow");
      const expected = await direct("realtime.mjs");
      assert.match(JSON.stringify(expected), new RegExp(secrets.email));
      assert.deepEqual(await through("realtime.mjs"), expected);
      const { stdout } = await agent.weir(["export"]);
      for (const type of ["session.update", "conversation.item.create", "response.create"])
        assert.ok(stdout.includes(`gpt-realtime ${type}`), type);
    });

    test("what the model says is masked", async () => {
      await rule("mask: [{ detector: [credit-card, email] }]");
      const [line] = await through("realtime.mjs");
      assert.equal(line?.ok, true, JSON.stringify(line));
      for (const secret of [secrets.email, secrets.card]) assert.ok(!JSON.stringify(line).includes(secret));
      assert.match(JSON.stringify(line), /grüße, bye/);
    });

    test("a forbidden prompt is the SDK's own error, with rule and reason", async () => {
      await govern(
        "  - { name: no-customers, match: { when: 'op.prompt.contains(\"customer\")' }, verdict: deny, reason: Not here. }\n",
      );
      const [line] = await through("realtime.mjs");
      assert.equal(line?.ok, false);
      assert.match(line?.error?.message ?? "", /no-customers.*Not here/);
    });
  });

  describe("a session of Gemini's Live API", () => {
    const rule = (words: string): Promise<void> => govern(`  - { name: r, match: { protocol: llm }, ${words} }\n`);

    test("the SDK gets the same as direct, and each message is recorded with its model", async () => {
      await rule("verdict: allow");
      const expected = await direct("live.mjs");
      assert.match(JSON.stringify(expected), new RegExp(secrets.email));
      assert.deepEqual(await through("live.mjs"), expected);
      const { stdout } = await agent.weir(["export"]);
      for (const type of ["setup", "clientContent"]) assert.ok(stdout.includes(`gemini-live-2.5-flash ${type}`), type);
    });

    test("what the model says, and what it calls tools with, is masked", async () => {
      await rule("mask: [{ detector: [credit-card, email] }]");
      const lines = await through("live.mjs");
      for (const line of lines) assert.equal(line.ok, true, JSON.stringify(line));
      for (const secret of [secrets.email, secrets.card]) assert.ok(!JSON.stringify(lines).includes(secret));
      assert.match(JSON.stringify(lines), /grüße, bye/);
      assert.match(JSON.stringify(lines), /get_weather/);
    });

    test("a forbidden prompt closes the session, as the API does, with rule and reason", async () => {
      await govern(
        "  - { name: no-customers, match: { when: 'op.prompt.contains(\"customer\")' }, verdict: deny, reason: Not here. }\n",
      );
      const [line, other] = await through("live.mjs");
      assert.equal(line?.ok, false);
      assert.match(line?.error?.message ?? "", /closed with 1008: .*no-customers.*Not here/);
      assert.equal(other?.ok, true, JSON.stringify(other));
    });
  });

  describe("a session in Bedrock's bidirectional stream", () => {
    const rule = (words: string): Promise<void> => govern(`  - { name: r, match: { protocol: llm }, ${words} }\n`);

    test("the SDK gets the same as direct", async () => {
      await rule("verdict: allow");
      const expected = await direct("bedrock-sonic.mjs");
      assert.match(JSON.stringify(expected), new RegExp(secrets.email));
      assert.deepEqual(await through("bedrock-sonic.mjs"), expected);
      const { stdout } = await agent.weir(["export"]);
      assert.ok(stdout.includes("amazon.nova-sonic-v1:0 sessionStart"));
      assert.match(stdout, /outputTokens\\?":7/);
    });

    test("what the model says is masked over its events", async () => {
      await rule("mask: [{ detector: [credit-card, email] }]");
      const lines = await through("bedrock-sonic.mjs");
      for (const line of lines) assert.equal(line.ok, true, JSON.stringify(line));
      for (const secret of [secrets.email, secrets.card]) assert.ok(!JSON.stringify(lines).includes(secret));
      assert.match(JSON.stringify(lines), /grüße, bye.*0e8a4111-1111-4111-8111-111111111111/);
    });

    test("a prompt is denied when it comes: before the answer as the API's error, after it the call ends", async () => {
      await govern(
        "  - { name: no-customers, match: { when: 'op.prompt.contains(\"customer\")' }, verdict: deny, reason: Not here. }\n",
      );
      await mock.clear();
      const lines = await through("bedrock-sonic.mjs");
      assert.deepEqual(
        lines.map(({ ok }) => ok),
        [false, false],
        JSON.stringify(lines),
      );
      const prompts = (await mock.requests()).filter(({ method }) => method === "EVENT").map(({ body }) => body);
      assert.deepEqual(prompts, ["hello"], "what was denied did not arrive");
      const { stdout } = await agent.weir(["export"]);
      assert.match(stdout, /A later event of the call is denied by rule \\"no-customers\\": Not here/);
    });
  });

  test("every name of a provider was tried", () => {
    assert.ok(providerNames.length >= 4);
  });
});
