/**
 * Ten minutes of holding in simulated time: exchange, desk, joined holds and the queue as they are; the clock is the
 * test's. The clients are as their SDKs: MCP's gives up after 60 s without progress, OpenAI's after 600 s (its fetch
 * after 300 s without a head) and tries twice more.
 */
import assert from "node:assert/strict";
import { afterEach, beforeEach, mock, test } from "node:test";
import { openAnomalies } from "../../../agent/act/anomalies.ts";
import { Desk } from "../../../agent/act/desk.ts";
import { type Hold, joinHolds } from "../../../agent/act/joint-holds.ts";
import type { SessionPorts } from "../../../agent/act/ports.ts";
import { holdIn } from "../../../agent/commands/hold-in.ts";
import type { Flow } from "../../../agent/core/flow.ts";
import type { EntryBody } from "../../../agent/core/record.ts";
import type { Target } from "../../../agent/core/target.ts";
import { approve, decide, loadPolicy, refuse } from "../../../agent/policy/index.ts";
import type { HttpContext } from "../../../agent/wire/http/context.ts";
import { Exchange } from "../../../agent/wire/http/exchange.ts";
import type { ExchangeSink } from "../../../agent/wire/http/exchange-sink.ts";
import { Headers } from "../../../agent/wire/http/message.ts";
import { llmDialect } from "../../../agent/wire/llm/dialect.ts";
import { mcpDialect } from "../../../agent/wire/mcp/dialect.ts";
import { ApprovalStore } from "../../../controller/approvals/store.ts";

const tenMinutesMs = 600_000;
const policyText = `apiVersion: weir/v1
targets:
  mcp: { protocol: mcp, hosts: [mcp.internal] }
  openai: { protocol: openai, hosts: [api.openai.com] }
rules:
  - { name: ask, match: { target: [mcp, openai] }, verdict: hold, timeout: 15m, reason: Somebody looks at it. }
`;

const loaded = loadPolicy([{ file: "test.yaml", text: policyText }]);
if (!("policy" in loaded)) throw new Error(loaded.errors.map(String).join("\n"));
const { policy } = loaded;

const flow: Flow = {
  id: "f",
  destination: { address: "192.0.2.1", port: 443 },
  source: { address: "192.0.2.2", port: 40_000 },
  hostname: null,
  process: null,
  identity: null,
  openedAtMs: 0,
  via: "bpf",
};

/** In small steps: what is started on the way has to run on its own time. */
function pass(ms: number): void {
  for (let left = ms; left > 0; left -= 1_000) mock.timers.tick(Math.min(left, 1_000));
}

beforeEach(() => mock.timers.enable({ apis: ["setTimeout", "setImmediate", "Date"] }));
afterEach(() => mock.timers.reset());

/** The queue, and what every session shares. */
function makeAgent() {
  let named = 0;
  const store = new ApprovalStore({ now: Date.now, newId: () => `approval-${named++}`, changed: () => {} });
  const hold: Hold = joinHolds(holdIn(store));
  return { store, hold };
}

interface Asked {
  readonly sentUpstream: () => boolean;
  /** Bytes towards the client, with the time at which they came. */
  readonly heard: { readonly atMs: number; readonly text: string }[];
  readonly reply: () => { readonly status: number; readonly body: string } | null;
  /** The client goes. */
  leave(): void;
}

/** One request on a connection of its own. */
function ask({ hold }: ReturnType<typeof makeAgent>, targetName: string, body: object): Asked {
  const target = policy.targets.find(({ name }) => name === targetName) as Target;
  const heard: Asked["heard"] = [];
  let sent = false;
  let own: { status: number; body: string } | null = null;
  const records: EntryBody[] = [];
  const ports = {
    decide: (of: Flow, to: Target, operation: never) => decide(policy, { flow: of, target: to, operation }),
    approve,
    refuse,
    hold,
    record: (_session: string, entry: EntryBody) => void records.push(entry),
    gate: { touch: () => 0, touchLater: () => {} },
    anomalies: openAnomalies(null),
  } as unknown as SessionPorts;
  const desk = new Desk({
    flow,
    target,
    ports,
    decided: (event) => exchange.decided(event.decision, event.approvalId),
    recordFailed: (error) => assert.fail(error),
  });
  const bytes = Buffer.from(JSON.stringify(body));
  const context = {
    destination: { ...flow.destination, hostname: null, serverName: null, hosts: target.hosts },
    scheme: "https",
    targetProtocol: target.protocol,
    credential: null,
    maskKey: Buffer.alloc(32),
    custom: new Map(),
    named: { held: () => () => {}, giveUp: () => {} },
    pin: () => null,
    pinned: () => null,
  } as unknown as HttpContext;
  const note = (text: string): void => void heard.push({ atMs: Date.now(), text });
  const sink = {
    ask(operation: never, digest: () => string) {
      const event = desk.ask({ type: "ask", askId: 1, operation, digest });
      setImmediate(() => exchange.decided(event.decision, event.approvalId));
    },
    withdraw: (reason: string) => desk.withdraw(1, reason),
    record: (entry: EntryBody) => desk.record(entry),
    sendHead: () => {
      sent = true;
    },
    sendBody() {},
    sendEnd() {},
    replyHead: () => note(""),
    replyBody: (part: Buffer) => note(part.toString()),
    replyEnd() {},
    reply: ({ status, body: said }: { status: number; body: Buffer }) => {
      own = { status, body: said.toString() };
      note(said.toString());
    },
    wake: (ms: number) => void setTimeout(() => exchange.tick(), ms),
    done() {},
  } as unknown as ExchangeSink;
  const fields = ["content-type", "application/json", "accept", "application/json, text/event-stream"];
  const head = {
    method: "POST",
    target: targetName === "mcp" ? "/mcp" : "/v1/chat/completions",
    scheme: "https" as const,
    authority: targetName === "mcp" ? "mcp.internal" : "api.openai.com",
    headers: new Headers(fields),
    version: "1.1" as const,
    body: { kind: "length" as const, bytes: bytes.length },
    raw: null,
  };
  const dialect = (targetName === "mcp" ? mcpDialect : llmDialect).open(head, context);
  assert.ok(dialect !== null);
  const exchange: Exchange = new Exchange({ id: 1, head, dialect, context, now: Date.now, sink });
  exchange.start();
  exchange.requestBody(bytes);
  exchange.requestEnd(null);
  pass(1);
  return { sentUpstream: () => sent, heard, reply: () => own, leave: () => exchange.clientLeft("the client left") };
}

const call = (id: number, progressToken: number | null) => ({
  ...{ jsonrpc: "2.0", id, method: "tools/call" },
  params: { name: "pay", arguments: {}, ...(progressToken === null ? {} : { _meta: { progressToken } }) },
});
const chat = (stream: boolean) => ({
  ...{ model: "gpt-4o-mini", stream },
  messages: [{ role: "user", content: "hello" }],
});
const longestSilenceMs = ({ heard }: Asked): number => {
  const times = [0, ...heard.map(({ atMs }) => atMs)];
  return Math.max(...times.slice(1).map((at, i) => at - (times[i] as number)));
};

test("MCP's client hears of progress every 15 s, and what is approved after ten minutes runs", () => {
  const agent = makeAgent();
  const asked = ask(agent, "mcp", call(1, 7));
  pass(tenMinutesMs);
  assert.equal(asked.sentUpstream(), false);
  assert.ok(longestSilenceMs(asked) <= 15_000);
  const signs = asked.heard.filter(({ text }) => text.includes("notifications/progress"));
  assert.ok(signs.length >= 39, `${signs.length} signs`);
  const values = signs.map(({ text }) => Number(/"progress":([0-9.]+)/.exec(text)?.[1]));
  assert.ok(
    values.every((value, i) => value < 1 && value > (values[i - 1] ?? 0)),
    "progress only grows",
  );
  agent.store.decide("approval-0", "approved", "ann", "");
  assert.ok(asked.sentUpstream());
});

test("OpenAI's stream has a comment every 15 s, and what is denied after ten minutes never runs", () => {
  const agent = makeAgent();
  const asked = ask(agent, "openai", chat(true));
  pass(tenMinutesMs);
  assert.ok(longestSilenceMs(asked) <= 15_000);
  assert.ok(asked.heard.filter(({ text }) => text.startsWith(":")).length >= 39);
  agent.store.decide("approval-0", "denied", "ann", "not this");
  assert.equal(asked.sentUpstream(), false);
  assert.match(asked.heard.at(-1)?.text ?? "", /rule \\"ask\\": not this/);
});

test("OpenAI's client without a stream gives up twice; all three tries meet one approval, and one of them runs", () => {
  const agent = makeAgent();
  const tries: Asked[] = [];
  for (let at = 0; at < 3; at += 1) {
    const asked = ask(agent, "openai", chat(false));
    tries.push(asked);
    if (at === 2) break;
    // As long as its fetch waits for a head, and the longest pause before it tries again.
    pass(285_000);
    asked.leave();
    pass(8_000);
  }
  pass(20_000);
  assert.ok(Date.now() >= tenMinutesMs);
  assert.equal(agent.store.list().length, 1);
  agent.store.decide("approval-0", "approved", "ann", "");
  assert.deepEqual(
    tries.map((asked) => asked.sentUpstream()),
    [false, false, true],
  );
  const again = ask(agent, "openai", chat(false));
  assert.equal(agent.store.list().length, 2, "an approval is for one run");
  again.leave();
});

test("an approval between two tries waits for the next one; when nobody comes, nothing runs and it is withdrawn", () => {
  const agent = makeAgent();
  const first = ask(agent, "openai", chat(false));
  first.leave();
  pass(5_000);
  agent.store.decide("approval-0", "approved", "ann", "");
  assert.equal(first.sentUpstream(), false);
  const second = ask(agent, "openai", chat(false));
  pass(1);
  assert.ok(second.sentUpstream());

  const third = ask(agent, "openai", chat(false));
  third.leave();
  pass(31_000);
  assert.equal(agent.store.get("approval-1")?.status, "withdrawn");
  assert.equal(third.sentUpstream(), false);
});

test("nobody decides: what waited longer than its rule says is refused", () => {
  const agent = makeAgent();
  const asked = ask(agent, "openai", chat(false));
  pass(901_000);
  assert.equal(asked.sentUpstream(), false);
  assert.equal(asked.reply()?.status, 403);
  assert.match(asked.reply()?.body ?? "", /Nobody approved it in time/);
});

test("those that hold and leave, a thousand times, do not fill the queue for the others; nothing of them is left", () => {
  const agent = makeAgent();
  const pending = () => agent.store.list().filter(({ status }) => status === "pending").length;
  for (let at = 0; at < 1_200; at += 1) {
    const content = `hello ${at}`;
    ask(agent, "openai", { ...chat(false), messages: [{ role: "user", content }] }).leave();
  }
  assert.equal(pending(), 100);
  const waits = ask(agent, "mcp", call(1, null));
  assert.equal(waits.reply(), null);
  pass(31_000);
  assert.equal(pending(), 1);
});
