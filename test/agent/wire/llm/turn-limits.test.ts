/** What one turn of the event loop takes of a stream: an event cannot be worked on by another thread, so it is bounded. */
import assert from "node:assert/strict";
import { test } from "node:test";
import { turnCharactersMax } from "../../../../agent/wire/llm/runs.ts";
import { maskOf, open, replyHead, verdictOf } from "./exchange.ts";

const email = "ada.lovelace@example.com";
const event = (delta: object): Buffer =>
  Buffer.from(`data: ${JSON.stringify({ id: "x", choices: [{ index: 0, delta }] })}\n\n`);

function masked(frames: readonly Buffer[]): string {
  const exchange = open("/v1/chat/completions");
  exchange.describe(Buffer.from('{"model":"m","stream":true,"messages":[]}'));
  const reader = exchange.reply(replyHead("text/event-stream"), verdictOf({ masks: [maskOf(["email"])] }));
  assert.ok(reader !== null);
  return Buffer.concat([...frames.map((frame) => reader.push(frame)), reader.end()]).toString();
}

test("a text as long as a turn takes is masked, also in each of several turns", () => {
  const text = `${email} ${"x".repeat(turnCharactersMax - 200)}`;
  const out = masked([event({ content: text }), event({ content: text })]);
  assert.doesNotMatch(out, /lovelace|error/);
  assert.ok(out.length > 2 * text.length);
});

test("an event with more text than that ends the stream with the error of the API", () => {
  const out = masked([event({ content: `${email} ${"x".repeat(turnCharactersMax)}` }), event({ content: "after" })]);
  assert.match(out, /^data: \{"error":.*more text than is looked through at once/);
  assert.doesNotMatch(out, /lovelace|after/);
});

test("JSON counts twice", () => {
  const text = JSON.stringify({ a: "x".repeat(turnCharactersMax * 0.6) });
  const call = { tool_calls: [{ index: 0, function: { arguments: text } }] };
  assert.match(masked([event(call)]), /more text than is looked through at once/);
  assert.doesNotMatch(masked([event({ content: "x".repeat(text.length) })]), /error/);
});

test("an event of too many values ends the stream, and is not taken for a text", () => {
  const out = masked([event({ list: new Array(200_000).fill(1), mail: email })]);
  assert.match(out, /has more than 200000 values/);
  assert.doesNotMatch(out, /lovelace/);
});

test("a long list in an event takes time as it is long, not by its square", () => {
  const spent = (length: number): number => {
    const frame = event({ list: new Array(length).fill(1) });
    let least = Number.POSITIVE_INFINITY;
    for (let run = 0; run < 3; run += 1) {
      const before = process.threadCpuUsage().user;
      masked([frame]);
      least = Math.min(least, process.threadCpuUsage().user - before);
    }
    return least;
  };
  spent(1_000);
  assert.ok(spent(190_000) < 40 * Math.max(1_000, spent(19_000)));
});
