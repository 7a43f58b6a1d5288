/**
 * Held for 90 s of real time, longer than the 60 s after which MCP's SDKs give up by themselves: unmodified clients,
 * as anyone would use them. All cases wait side by side, so that the file takes little more than the one wait.
 */
import assert from "node:assert/strict";
import { existsSync } from "node:fs";
import { join } from "node:path";
import { after, before, describe, test } from "node:test";
import { setTimeout as sleep } from "node:timers/promises";
import { type Ran, startTestAgent, type TestAgent } from "../support/agent.ts";
import { type Aimock, sdkDir, sdkKeys, sdkMissing, startAimock } from "../support/aimock.ts";
import { type McpLine, type McpServers, mcpMissing, mcpUrls, mcpWords, startMcpServers } from "../support/mcp.ts";
import { makeNamespacePair, type NamespacePair } from "../support/namespace.ts";

const skip = process.getuid?.() === 0 ? (sdkMissing() ?? mcpMissing() ?? false) : "needs root";
const holdMs = 90_000;

interface Approval {
  readonly id: string;
  readonly status: string;
  readonly text: string;
}

/** The queue of an agent, asked for once a second however many wait for it. */
function watchApprovals(agent: () => TestAgent) {
  let last: Promise<Approval[]> = Promise.resolve([]);
  let asked = 0;
  const list = (): Promise<Approval[]> => {
    if (Date.now() - asked < 1_000) return last;
    asked = Date.now();
    last = agent()
      .weir(["approvals", "ls", "--json"])
      .then(({ stdout }) => JSON.parse(stdout === "" ? "[]" : stdout) as Approval[]);
    return last;
  };
  /** All approvals whose text has the word, once there is one. */
  const of = async (word: string): Promise<Approval[]> => {
    for (let at = 0; at < 60; at += 1) {
      const found = (await list()).filter(({ text }) => text.includes(word));
      if (found.length > 0) return found;
      await sleep(1_000);
    }
    throw new Error(`no approval of ${word}:\n${agent().output()}`);
  };
  const status = async (id: string): Promise<string> => {
    await sleep(1_100);
    return (await list()).find((one) => one.id === id)?.status ?? "gone";
  };
  return { of, status };
}

const linesOf = ({ stdout, stderr }: Ran): McpLine[] => {
  const lines = stdout.split("\n").filter((line) => line.startsWith("{"));
  assert.ok(lines.length > 0, stderr);
  return lines.map((line) => JSON.parse(line) as McpLine).filter(({ call }) => call !== "version");
};

describe("a hold of 90 s", { skip, concurrency: true }, () => {
  describe("clients of MCP", { concurrency: true }, () => {
    let net: NamespacePair;
    let servers: McpServers;
    let agent: TestAgent;
    const approvals = watchApprovals(() => agent);

    before(async () => {
      net = await makeNamespacePair("holdmcp");
      servers = await startMcpServers(net.b);
      agent = await startTestAgent({
        namespace: net.a,
        wrap: servers.withNames([]),
        policy: `apiVersion: weir/v1
targets:
  mcp: { protocol: mcp, hosts: [mcp.internal], ports: [443], tls: { verify: full, ca: ${servers.caFile} } }
rules:
  - { name: ask, match: { tool: describe_customer }, verdict: hold, reason: Somebody looks at it. }
`,
      });
    });

    after(async () => {
      await agent?.remove();
      await servers?.stop();
      await net?.remove();
    });

    type Script = Parameters<typeof mcpWords>[0];
    const given = (word: string): string => JSON.stringify({ id: 2, note: word });
    const start = (script: Script, ...words: string[]): Promise<Ran> =>
      agent.start(servers.withNames(mcpWords(script, mcpUrls.customers, words))).done;
    const ran = async (word: string): Promise<number> =>
      (await servers.seen()).filter(({ body }) => body.includes(word)).length;

    for (const [name, script, flags] of [
      ["SDK 1", "mcp-sdk1.mjs", []],
      ["SDK 2, revision 2025-11-25", "mcp-sdk2.mjs", ["--mode", "legacy"]],
      ["SDK 2, revision 2026-07-28", "mcp-sdk2.mjs", []],
    ] as const) {
      const tag = `${script}${flags.length}`;
      test(`${name}: approved, it runs once`, async () => {
        const done = start(script, ...flags, "progress", "describe_customer", given(`approve-${tag}`));
        const [held] = await approvals.of(`approve-${tag}`);
        await sleep(holdMs);
        await agent.weir(["approvals", "approve", held?.id as string]);
        const [line] = linesOf(await done);
        assert.match(JSON.stringify(line?.result ?? line), /Bob Baker/);
        const seen = (line?.result as { seen?: unknown[] } | undefined)?.seen ?? [];
        assert.ok(seen.length >= 5, "signs of life");
        assert.equal(await ran(`approve-${tag}`), 1);
      });

      test(`${name}: denied, it never runs`, async () => {
        const done = start(script, ...flags, "progress", "describe_customer", given(`deny-${tag}`));
        const [held] = await approvals.of(`deny-${tag}`);
        await sleep(holdMs);
        await agent.weir(["approvals", "deny", held?.id as string, "--reason", "Not Bob."]);
        const [line] = linesOf(await done);
        assert.equal(line?.error?.code, -31403);
        assert.match(line?.error?.message ?? "", /Not Bob\./);
        assert.equal(await ran(`deny-${tag}`), 0);
      });
    }

    test("one that gives up after 60 s is gone: an approval that comes too late runs nothing", async () => {
      const done = start("mcp-sdk1.mjs", "call", "describe_customer", given("leave-late"));
      const [held] = await approvals.of("leave-late");
      const [line] = linesOf(await done);
      assert.match(line?.error?.message ?? "", /timed out/);
      await agent.weir(["approvals", "approve", held?.id as string]);
      await sleep(2_000);
      assert.equal(await ran("leave-late"), 0);
    });

    test("one that gives up and does not come back withdraws its approval", async () => {
      const done = start(
        "mcp-sdk2.mjs",
        "--mode",
        "legacy",
        "--timeout",
        "5000",
        "call",
        "describe_customer",
        given("leave"),
      );
      const [held] = await approvals.of('leave"');
      await done;
      await sleep(40_000);
      assert.equal(await approvals.status(held?.id as string), "withdrawn");
      assert.equal((await agent.weir(["approvals", "approve", held?.id as string])).code, 1);
      assert.equal(await ran('leave"'), 0);
    });

    test("one that asks again meets the same approval", async () => {
      const call = ["call", "describe_customer", given("retry")];
      const done = start("mcp-sdk1.mjs", "--timeout", "40000", ...call, ...call, ...call);
      const [held] = await approvals.of("retry");
      await sleep(holdMs);
      assert.equal((await approvals.of("retry")).length, 1);
      await agent.weir(["approvals", "approve", held?.id as string]);
      const lines = linesOf(await done);
      assert.deepEqual(
        lines.map(({ ok }) => ok),
        [false, false, true],
        JSON.stringify(lines),
      );
      assert.match(JSON.stringify(lines[2]?.result), /Bob Baker/);
      assert.equal(await ran("retry"), 1);
    });
  });

  describe("clients of OpenAI", { concurrency: true }, () => {
    let net: NamespacePair;
    let mock: Aimock;
    let agent: TestAgent;
    const approvals = watchApprovals(() => agent);

    before(async () => {
      net = await makeNamespacePair("holdllm");
      mock = await startAimock(net.b);
      agent = await startTestAgent({
        namespace: net.a,
        wrap: mock.withNames([]),
        policy: `apiVersion: weir/v1
targets:
  openai: { protocol: openai, hosts: [api.openai.com], tls: { ca: ${mock.caFile} } }
rules:
  - { name: ask, match: { when: 'op.prompt.contains("echo")' }, verdict: hold, reason: Somebody looks at it. }
`,
      });
    });

    after(async () => {
      await agent?.remove();
      await mock?.stop();
      await net?.remove();
    });

    interface Line {
      readonly ok: boolean;
      readonly tries: number;
      readonly result?: { readonly text: string };
      readonly error?: { readonly type: string; readonly status: number | null; readonly message: string };
    }
    const started = (...words: string[]) =>
      agent.start([process.execPath, join(sdkDir, "openai-held.mjs"), ...words], {
        env: { ...process.env, ...sdkKeys },
      });
    const lineOf = async (done: Promise<Ran>): Promise<Line> => linesOf(await done)[0] as unknown as Line;
    const ran = async (word: string): Promise<number> =>
      (await mock.requests()).filter(({ body }) => body.includes(word)).length;

    test("the client program is in its place", () => assert.ok(existsSync(join(sdkDir, "openai-held.mjs"))));

    for (const call of ["chat", "stream"]) {
      test(`${call}: approved, it runs once`, async () => {
        const { done } = started(call, `echo approve-${call}`);
        const [held] = await approvals.of(`approve-${call}`);
        await sleep(holdMs);
        await agent.weir(["approvals", "approve", held?.id as string]);
        const line = await lineOf(done);
        assert.deepEqual(line, { call, tries: 1, ok: true, result: { text: "Noted." } });
        assert.equal(await ran(`approve-${call}`), 1);
      });

      test(`${call}: denied, it never runs`, async () => {
        const { done } = started(call, `echo deny-${call}`);
        const [held] = await approvals.of(`deny-${call}`);
        await sleep(holdMs);
        await agent.weir(["approvals", "deny", held?.id as string, "--reason", "Not this."]);
        const { ok, tries, error } = await lineOf(done);
        assert.deepEqual({ ok, tries }, { ok: false, tries: 1 });
        // A stream has begun with status 200: its error comes as an event.
        assert.equal(error?.type, call === "chat" ? "PermissionDeniedError" : "APIError");
        assert.match(error?.message ?? "", /rule "ask"/);
        assert.equal(await ran(`deny-${call}`), 0);
      });

      test(`${call}: one that leaves withdraws its approval`, async () => {
        const { child, done } = started(call, `echo leave-${call}`);
        const [held] = await approvals.of(`leave-${call}`);
        child.kill("SIGTERM");
        await done;
        await sleep(40_000);
        assert.equal(await approvals.status(held?.id as string), "withdrawn");
        assert.equal((await agent.weir(["approvals", "approve", held?.id as string])).code, 1);
        assert.equal(await ran(`leave-${call}`), 0);
      });
    }

    test("chat: the SDK's two retries meet one approval", async () => {
      const { done } = started("chat", "echo retry", "40000");
      const [held] = await approvals.of("echo retry");
      await sleep(holdMs);
      assert.equal((await approvals.of("echo retry")).length, 1);
      await agent.weir(["approvals", "approve", held?.id as string]);
      assert.deepEqual(await lineOf(done), { call: "chat", tries: 3, ok: true, result: { text: "Noted." } });
      assert.equal(await ran("echo retry"), 1);
    });
  });
});
