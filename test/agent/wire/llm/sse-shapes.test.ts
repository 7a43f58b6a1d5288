/** Server-sent events in each shape that a client reads: a value in any of their lines is hidden, however it is cut. */
import assert from "node:assert/strict";
import { test } from "node:test";
import { eventBytesMax } from "../../../../agent/wire/sse/parser.ts";
import { maskOf, open, replyHead, verdictOf } from "./exchange.ts";

const card = "4111111111111111";
const escaped = "411111111111\\u003111\\u0031";
const verdict = verdictOf({ masks: [maskOf(["credit-card"])] });

const event = (content: string): string => JSON.stringify({ id: "x", choices: [{ index: 0, delta: { content } }] });
const inEscapes = event(card).replace(card, escaped);

function reader() {
  const exchange = open("/v1/chat/completions");
  exchange.describe(Buffer.from('{"model":"m","stream":true,"messages":[]}'));
  return exchange.reply(replyHead("text/event-stream"), verdict) ?? assert.fail("it is not read");
}

/** What a client of the HTML standard reads: of each event its type, data and last id. */
function dispatched(stream: string): string[] {
  const events: string[] = [];
  let [data, name, id]: [string[], string, string] = [[], "", ""];
  for (const line of stream.replace(/^\ufeff/, "").split(/\r\n|\r|\n/)) {
    if (line === "") {
      if (data.length > 0) events.push([name, id, data.join("\n")].join("|"));
      [data, name] = [[], ""];
      continue;
    }
    const at = line.indexOf(":");
    const field = at < 0 ? line : line.slice(0, at);
    const value = at < 0 ? "" : line.slice(at + 1).replace(/^ /, "");
    if (field === "data") data.push(value);
    if (field === "event") name = value;
    if (field === "id") id = value;
  }
  return events;
}

const shapes: Readonly<Record<string, string>> = {
  "line feeds": `data: ${event(card)}\n\n`,
  "carriage returns": `data: ${event(card)}\r\rdata: ${event("on")}\r\r`,
  both: `data: ${event(card)}\r\n\r\ndata: ${event("on")}\r\n\r\n`,
  mixed: `data: ${event(card)}\n\r\n`,
  "a byte order mark": `\ufeffdata: ${event(card)}\n\n`,
  "a byte order mark, and carriage returns": `\ufeffdata: ${event(card)}\r\r`,
  "data without a colon": `data\n\ndata: ${event(card)}\n\n`,
  "no space": `data:${event(card)}\n\n`,
  "more than one space": `data:  ${event(card)}\n\n`,
  "a tab, and escapes": `data: \t${inEscapes}\n\n`,
  escapes: `data: ${inEscapes}\n\n`,
  "a list, and escapes": `data: [${inEscapes}]\n\n`,
  "a string, and escapes": `data: "${escaped}"\n\n`,
  "two lines of data": `data: {"choices":[{"index":0,\ndata: "delta":{"content":"${card}"}}]}\n\n`,
  "an id": `id: ${card}\ndata: ${event("x")}\n\n`,
  "a name": `event: ${card}\ndata: ${event("x")}\n\n`,
  "a comment": `: ${card}\n\n`,
  "a comment before": `: ${card}\ndata: ${event("x")}\n\n`,
  "a comment inside": `data: ${event("x")}\r\n: ${card}\r\n\r\n`,
  "a field that no client knows": `foo: ${card}\ndata: ${event("x")}\n\n`,
  "an id of the end": `id: ${card}\ndata: [DONE]\n\n`,
  "no empty line": `data: ${event(card)}\n`,
  "no line end": `data: ${event(card)}`,
};

for (const [name, sent] of Object.entries(shapes)) {
  test(name, () => {
    const bytes = Buffer.from(sent);
    for (let at = 0; at <= bytes.length; at += 1) {
      const one = reader();
      const parts = [one.push(bytes.subarray(0, at)), one.push(bytes.subarray(at)), one.end()];
      const out = Buffer.concat(parts).toString();
      assert.ok(!out.includes(card) && !out.includes(escaped), `${at}: ${out}`);
      assert.ok(out.includes("*".repeat(card.length)), `${at}: ${out}`);
      // What came before and after the value is still there to be read.
      const told = dispatched(out).join("\n");
      for (const word of dispatched(sent).flatMap((text) => text.match(/\b(?:on|DONE|content)\b/g) ?? []))
        assert.ok(told.includes(word), `${at}: ${word} of ${out}`);
    }
  });
}

test("deltas behind more than one space are one text, too", () => {
  const one = reader();
  const out = [card.slice(0, 7), card.slice(7)].map((piece) => one.push(Buffer.from(`data:  ${event(piece)}\n\n`)));
  const said = Buffer.concat([...out, one.end()]).toString();
  assert.doesNotMatch(said, /\d{7}/);
  assert.match(said, /\*{16}/);
});

test("names of an API's events, and events without a value, leave byte for byte", () => {
  const sent = `event: response.created\ndata: ${event("hello world ")}\nid: 7\n\n: beat\n\nretry: 10\n\ndata: [DONE]\n\n`;
  const one = reader();
  assert.equal(Buffer.concat([one.push(Buffer.from(sent)), one.end()]).toString(), sent);
});

test("an event that is longer than the limit ends the stream with the API's error, and nothing of it leaves", () => {
  const one = reader();
  const out: Buffer[] = [one.push(Buffer.from(`data: ${event("before ")}\n\ndata: {"a":"${card}`))];
  for (let sent = 0; sent < eventBytesMax; sent += 65_536) out.push(one.push(Buffer.alloc(65_536, 0x61)));
  out.push(one.push(Buffer.from(`"}\n\ndata: ${event("after")}\n\n`)), one.end());
  const said = Buffer.concat(out).toString();
  assert.match(said, /before/);
  assert.match(said, /data: \{"error":.*is longer than 4194304 bytes/);
  assert.ok(!said.includes(card) && !said.includes("after"));
  assert.equal(one.over, true);
});
