import assert from "node:assert/strict";
import { test } from "node:test";
import { readEvent, withData, writeEvent } from "../../../../agent/wire/sse/event.ts";
import { SseParser } from "../../../../agent/wire/sse/parser.ts";

/** Blocks that a stream has, fed in these parts. */
function blocks(parts: readonly Buffer[]): { raw: string; isEvent: boolean }[] {
  const parser = new SseParser();
  const out = parts.flatMap((part) => parser.push(part));
  const last = parser.end();
  if (last !== null) out.push(last);
  return out.map(({ raw, isEvent }) => ({ raw: raw.toString("latin1"), isEvent }));
}

const stream =
  '\ufeff: hello\n\nid: 7\nevent: delta\ndata: {"a":"ä€😀"}\nretry: 10\nx-own: 1\n\n: beat\ndata\ndata:  two\r\n\r\ndata: three\r\rdata: [DONE]\n\n';

function told(parts: readonly Buffer[]): unknown[] {
  return blocks(parts)
    .filter(({ isEvent }) => isEvent)
    .map(({ raw }) => readEvent(Buffer.from(raw, "latin1")))
    .filter(({ data }) => data !== null);
}

const expected = [
  { name: "delta", data: '{"a":"ä€😀"}' },
  { name: "", data: "\n two" },
  { name: "", data: "three" },
  { name: "", data: "[DONE]" },
];

test("a stream cut at every byte gives the same events, and every byte is in one block", () => {
  const bytes = Buffer.from(stream, "utf8");
  assert.deepEqual(told([bytes]), expected);
  for (let at = 0; at <= bytes.length; at += 1) {
    const parts = [bytes.subarray(0, at), bytes.subarray(at)];
    assert.deepEqual(told(parts), expected, `cut at ${at}`);
    assert.equal(
      blocks(parts)
        .map(({ raw }) => raw)
        .join(""),
      bytes.toString("latin1"),
    );
  }
  const single = [...bytes].map((byte) => Buffer.from([byte]));
  assert.deepEqual(told(single), expected);
});

test("a comment leaves at once, and an event when its empty line comes", () => {
  const parser = new SseParser();
  assert.equal(parser.push(Buffer.from(": wait\n"))[0]?.raw.toString(), ": wait\n");
  assert.deepEqual(parser.push(Buffer.from("data: x\n")), []);
  assert.equal(parser.heldBytes, 8);
  assert.equal(parser.push(Buffer.from("\n"))[0]?.isEvent, true);
  assert.equal(parser.heldBytes, 0);
});

test("an event longer than the limit is an error, not growth", () => {
  const parser = new SseParser(64);
  parser.push(Buffer.from(`data: ${"a".repeat(50)}`));
  assert.throws(() => parser.push(Buffer.from("a".repeat(20))), { code: "WEIR_FRAME_TOO_LARGE" });
});

test("other data stands where the data stood; fields, comments and line ends stay", () => {
  const raw = Buffer.from("id: 7\r\n: c\r\ndata: one\r\ndata: two\r\nx: y\r\n\r\n");
  assert.equal(withData(raw, "three\nfour").toString(), "id: 7\r\n: c\r\ndata: three\r\ndata: four\r\nx: y\r\n\r\n");
  assert.equal(withData(Buffer.from("data: a\n\n"), "b").toString(), "data: b\n\n");
  assert.equal(writeEvent("error", "{}").toString(), "event: error\ndata: {}\n\n");
});
