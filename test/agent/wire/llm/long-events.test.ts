/** A long event of a stream is worked on elsewhere: it goes on in the texts that stand before it, and they in it. */
import assert from "node:assert/strict";
import { describe, test } from "node:test";
import type { TargetProtocol } from "../../../../agent/core/operation.ts";
import type { Verdict } from "../../../../agent/core/verdict.ts";
import { customDetector } from "../../../../agent/mask/custom.ts";
import type { DialectExchange, ReplyReader } from "../../../../agent/wire/http/dialect.ts";
import {
  headData,
  type LargeReply,
  type LargeTask,
  largeBodyBytesMin,
  replyHeadData,
} from "../../../../agent/wire/http/large-body.ts";
import { ReplyBody } from "../../../../agent/wire/http/reply-body.ts";
import { runLargeTask } from "../../../../agent/wire/large-task.ts";
import { EventStreamReader } from "../../../../agent/wire/llm/eventstream.ts";
import { NdjsonSplitter } from "../../../../agent/wire/llm/ndjson.ts";
import { SseParser } from "../../../../agent/wire/sse/parser.ts";
import { MessageReader, writeMessage } from "../../../../agent/wire/websocket/messages.ts";
import { maskOf, open, redactOf, replyHead, requestHead, verdictOf } from "./exchange.ts";
import { type Frame, kinds, readerOf } from "./split-frames.ts";

const email = "ada.lovelace@example.com";
const jwt = `eyJhbGciOiJIUzI1NiJ9.${"eyJzdWIiOiIxMjM0NTY3ODkwIn0".repeat(4)}.${"c2lnbmF0dXJl".repeat(4)}`;
const place = { file: "p.yaml", line: 1, column: 1 };
const own = customDetector({ kind: "keys", name: "secret", place, keys: ["pass*"] }, {});
const custom = new Map([[own.name, own]]);

const rules: Readonly<Record<string, Verdict>> = {
  detectors: verdictOf({ masks: [maskOf(["email", "jwt", "credit-card"])] }),
  "a style that needs the value whole": verdictOf({ masks: [maskOf(["email", "jwt"], { with: "hash" })] }),
  "paths, and names of members": verdictOf({
    masks: [maskOf(["email"]), maskOf(null, { json: "$..p" }), { ...maskOf(null), custom: ["secret"] }],
  }),
  "placeholders that come back": verdictOf({
    masks: [maskOf(["credit-card"])],
    redactions: [redactOf(["email"])],
    record: "result",
  }),
};

/** The client's prompt names a value, so that the reply may speak of its placeholder. */
function opened(target: string, protocol: TargetProtocol, verdict: Verdict, own = custom): DialectExchange {
  const exchange = open(target, protocol, [], own);
  const prompt = Buffer.from(JSON.stringify({ model: "m", stream: true, prompt: `for ${email}`, messages: [] }));
  exchange.describe(prompt);
  exchange.rewrite?.(prompt, verdict);
  return exchange;
}

function partsOf(frame: Frame, sent: Buffer): readonly Buffer[] {
  if (frame.tunnel) return new MessageReader(false).push(sent).map(({ raw }) => raw);
  if (frame.type === "text/event-stream") return new SseParser().push(sent).map(({ raw }) => raw);
  if (frame.type.includes("ndjson")) return new NdjsonSplitter().push(sent);
  return new EventStreamReader().push(sent).map(({ raw }) => raw);
}

const inJson = (text: string): string => JSON.stringify(text).slice(1, -1);
/** Texts with something in them that one rule or another hides or brings back. */
const said = [`Write to ${email}, or <EMAIL_1>; ${jwt} ends.`, `card 4111 1111 1111 1111, \\u0061da and ä😀 <EMA`];

for (const [name, frame] of Object.entries(kinds)) {
  describe(name, () => {
    for (const [rule, verdict] of Object.entries(rules)) {
      test(`${rule}: between any two events another reader goes on`, () => {
        for (const text of said) {
          const whole = frame.inJson ? `{"to":"x","password":"${inJson(text)}","v":"${inJson(text)}","n":17}` : text;
          const cuts = [1, 12, 20, 60, whole.length - 3];
          const ways = [[...whole], ...cuts.map((at) => [whole.slice(0, at), whole.slice(at)])];
          for (const pieces of ways) {
            const sent = frame.write(pieces);
            const read = (): ReplyReader => readerOf(frame, opened(frame.target, frame.protocol, verdict), verdict);
            const alone = read();
            const expected = Buffer.concat([alone.push(sent), alone.end()]);
            let reader = read();
            const out: Buffer[] = [];
            for (const part of partsOf(frame, sent)) {
              const next = read();
              next.restore?.(structuredClone(reader.save?.()));
              reader = next;
              out.push(reader.part?.(part) ?? assert.fail("it has no parts"));
            }
            out.push(reader.end());
            assert.equal(Buffer.concat(out).toString("latin1"), expected.toString("latin1"));
            assert.deepEqual(reader.summary(), alone.summary());
            assert.equal(reader.masked, alone.masked);
          }
        }
      });
    }
  });
}

interface Handed {
  readonly out: Buffer;
  readonly tasks: number;
  readonly reader: ReplyReader;
}

/** As an exchange does it, and by a twin over the border that a thread is. `fails`: the thread dies of the first. */
function handedOut(
  exchange: DialectExchange,
  reader: ReplyReader,
  chunks: readonly Buffer[],
  { verdict, target, reply }: { verdict: Verdict; target: string; reply: string | null },
  fails = false,
): Handed {
  const out: Buffer[] = [];
  const waiting: { body: Buffer; stream: unknown }[] = [];
  let tasks = 0;
  const body = new ReplyBody({
    reader,
    scrubber: null,
    handOut: (part, stream) => waiting.push({ body: part, stream }),
    out: (bytes) => out.push(Buffer.from(bytes)),
  });
  const work = (): void => {
    for (let next = waiting.shift(); next !== undefined; next = waiting.shift()) {
      tasks += 1;
      if (fails) {
        body.worked({ is: "failed", of: "reply", code: "WEIR_LIMIT_REACHED", message: "It died." });
        continue;
      }
      const { twin } = exchange;
      const task: LargeTask = structuredClone({
        family: "llm" as const,
        targetProtocol: "llm" as const,
        head: headData(requestHead(target)),
        state: twin?.save(),
        body: next.body,
        step: {
          do: "reply" as const,
          verdict,
          reply: reply === null ? null : replyHeadData(replyHead(reply)),
          stream: next.stream,
        },
      });
      const done = runLargeTask(task, { maskKey: Buffer.from("key"), custom: new Map(), answers: new Map() });
      assert.ok(!Array.isArray(done));
      body.worked(structuredClone(done) as { is: "reply" } & LargeReply);
    }
  };
  for (const [at, chunk] of chunks.entries()) {
    if (body.over) break;
    body.push(chunk);
    // Sometimes more comes before it is back.
    if (at % 3 !== 0) work();
  }
  work();
  if (!body.over) body.end();
  work();
  return { out: Buffer.concat(out), tasks, reader };
}

const filler = "words of prose, ".repeat(largeBodyBytesMin / 16);
const chunked = (bytes: Buffer): Buffer[] =>
  Array.from({ length: Math.ceil(bytes.length / 65_536) }, (_, i) => bytes.subarray(i * 65_536, (i + 1) * 65_536));

describe("long events", () => {
  const verdict = verdictOf({ masks: [maskOf(["email", "jwt"])], redactions: [redactOf(["email"])] });
  const wanted = [
    "OpenAI, text",
    "Responses, arguments of a tool",
    "Anthropic, text",
    "Bedrock Invoke, text",
    "Ollama, NDJSON",
  ];

  for (const name of wanted) {
    const frame = kinds[name] as Frame;

    test(`${name}: they leave as they would have at once, in their order`, () => {
      const text = `${email} ${filler}${email}, <EMAIL_1> short ${filler} ${jwt} ${filler}`;
      const whole = frame.inJson ? `{"v":"${text}"}` : text;
      const long = whole.indexOf(email, 100);
      const later = whole.indexOf(jwt);
      for (const cuts of [
        [long + 5, long + 40, later + 30],
        [5, later + 1],
        [long + email.length + 4, later + jwt.length - 2],
      ]) {
        const pieces = [0, ...cuts].map((from, i) => whole.slice(from, cuts[i]));
        const chunks = chunked(frame.write(pieces));
        const [here, there] = [0, 1].map(() => opened(frame.target, frame.protocol, verdict, new Map()));
        const at = (exchange?: DialectExchange): ReplyReader =>
          exchange?.reply(replyHead(frame.type), verdict) as ReplyReader;
        const alone = at(here);
        const expected = Buffer.concat([...chunks.map((chunk) => alone.push(chunk)), alone.end()]);
        const reader = at(there);
        const { out, tasks } = handedOut(there as DialectExchange, reader, chunks, {
          ...{ verdict, target: frame.target, reply: frame.type },
        });
        assert.ok(tasks >= 2, `${tasks} were handed out`);
        assert.ok(out.equals(expected), `cut at ${cuts}`);
        assert.deepEqual(reader.summary(), alone.summary());
        assert.equal(reader.masked, alone.masked);
        // The client's own value comes back; the server's other ones do not.
        assert.equal(frame.told(frame.events(out))[0]?.includes(jwt), false);
      }
    });

    test(`${name}: one that the thread dies of ends the reply with an error, and nothing of it leaves`, () => {
      const chunks = chunked(frame.write(["before. ", `${jwt} ${filler}`, "after"]));
      const exchange = opened(frame.target, frame.protocol, verdict, new Map());
      const reader = exchange.reply(replyHead(frame.type), verdict) as ReplyReader;
      const { out } = handedOut(exchange, reader, chunks, { verdict, target: frame.target, reply: frame.type }, true);
      assert.match(out.toString("latin1"), /It died/);
      assert.ok(!out.includes(jwt) && !out.includes("after"));
      assert.equal(reader.over, true);
      assert.match(reader.summary().error ?? "", /It died/);
    });
  }

  test("elements of Gemini's array", () => {
    const chunk = (text: string, more: object = {}): object => ({
      candidates: [{ index: 0, content: { role: "model", parts: [{ text }] }, ...more }],
    });
    const target = "/v1beta/models/gemini-2.5-pro:streamGenerateContent";
    const sent = Buffer.from(
      `[${[
        chunk("mail ada.love"),
        chunk(`lace@example.com ${filler} ${jwt.slice(0, 40)}`),
        chunk(`${jwt.slice(40)}.`, { finishReason: "STOP" }),
      ]
        .map((one) => JSON.stringify(one))
        .join(",\r\n")}]`,
    );
    const masks = verdictOf({ masks: [maskOf(["email", "jwt"])] });
    const [here, there] = [0, 1].map(() => opened(target, "gemini", masks, new Map()));
    const at = (exchange?: DialectExchange): ReplyReader =>
      exchange?.reply(replyHead("application/json"), masks) as ReplyReader;
    const alone = at(here);
    const expected = Buffer.concat([alone.push(sent), alone.end()]);
    const { out, tasks } = handedOut(there as DialectExchange, at(there), chunked(sent), {
      ...{ verdict: masks, target, reply: "application/json" },
    });
    assert.equal(tasks, 1);
    assert.equal(out.toString(), expected.toString());
    assert.doesNotMatch(out.toString(), /lovelace|eyJhbG/);
  });

  test("messages of a realtime session, with names that are given while it goes on", () => {
    const target = "/v1/realtime?model=gpt-realtime";
    const exchange = open(target, "openai");
    const delta = (text: string): Buffer =>
      writeMessage(
        1,
        Buffer.from(
          JSON.stringify({
            type: "response.output_text.delta",
            response_id: "r",
            item_id: "i",
            output_index: 0,
            content_index: 0,
            delta: text,
          }),
        ),
        null,
      );
    const tunnel = exchange.tunnel?.(verdict) ?? assert.fail("it is not read");
    const item = { type: "message", role: "user", content: [{ type: "input_text", text: `I am ${email}.` }] };
    tunnel.push(
      writeMessage(
        1,
        Buffer.from(JSON.stringify({ type: "conversation.item.create", item })),
        Buffer.from([1, 2, 3, 4]),
      ),
    );
    const step = tunnel.next(false);
    assert.ok(step?.type === "ask");
    step.send(verdict);
    const done = writeMessage(
      1,
      Buffer.from('{"type":"response.output_text.done","item_id":"i","output_index":0,"content_index":0}'),
      null,
    );
    const ping = Buffer.from([0x89, 0]);
    const sent = Buffer.concat([
      ...[delta(`${jwt.slice(0, 60)}`), delta(`${jwt.slice(60)} <EMA`), ping, delta(`IL_1> ${filler} bob@exa`), ping],
      ...[delta("mple.com."), done],
    ]);
    const { out, tasks } = handedOut(exchange, tunnel.reply, chunked(sent), { verdict, target, reply: null });
    assert.equal(tasks, 1);
    const text = out.toString();
    assert.ok(!text.includes("bob@") && !text.includes("mple.com.") && !text.includes(jwt.slice(60)));
    assert.ok(text.includes(email), "the client's own value comes back");
    assert.equal(
      out.indexOf(ping) > 0 && out.indexOf(ping) < out.indexOf(email),
      true,
      "what is short keeps its place",
    );
  });

  test("an event that is nested too deep, or has too many values, ends the stream", () => {
    for (const [text, why] of [
      [
        `{"a":${"[".repeat(300)}"ada\\u0040example.com"${"]".repeat(300)},"pad":"${"x".repeat(400)}"}`,
        /nested too deep/,
      ],
      [`{"a":[${"1,".repeat(2_000_001)}"ada\\u0040example.com"]}`, /more than 2000000 values/],
    ] as const) {
      const exchange = opened("/v1/chat/completions", "openai", verdict, new Map());
      const reader = exchange.reply(replyHead("text/event-stream"), verdict) as ReplyReader;
      const sent = Buffer.from(`data: ${text}\n\n`);
      const { out } = handedOut(exchange, reader, chunked(sent), {
        ...{ verdict, target: "/v1/chat/completions", reply: "text/event-stream" },
      });
      assert.match(out.toString().slice(0, 400), /^data: \{"error"/);
      assert.match(out.toString().slice(0, 400), why);
    }
  });

  test("a long list in an event takes time as it is long, not by its square", () => {
    /** As many values in all, however long each list is: by its square, one long list would take ten times as much. */
    const spent = (lists: number): number => {
      const list = new Array(200_000 / lists).fill(1);
      const frame = Buffer.from(`data: ${JSON.stringify({ choices: [{ delta: { list } }] })}\n\n`);
      let least = Number.POSITIVE_INFINITY;
      for (let run = 0; run < 5; run += 1) {
        const before = process.threadCpuUsage();
        for (let at = 0; at < lists; at += 1)
          opened("/v1/chat/completions", "openai", verdict).reply(replyHead("text/event-stream"), verdict)?.push(frame);
        const { user, system } = process.threadCpuUsage(before);
        least = Math.min(least, user + system);
      }
      return least;
    };
    spent(10);
    const [one, ten] = [spent(1), spent(10)];
    assert.ok(one < 5 * ten, `${one} and ${ten} µs`);
  });
});
