import assert from "node:assert/strict";
import { test } from "node:test";
import { detect, makeWorld, path, post, replyOf, responseHead, rpc } from "./harness.ts";

let seed = 11;
const next = (below: number): number => {
  seed = (seed * 1103515245 + 12345) % 2147483648;
  return seed % below;
};
const pick = <T>(list: readonly T[]): T => list[next(list.length)] as T;

const words = [
  ...["{", "}", "[", "]", ",", ":", '"', "\\", "\n", "\r", " ", "data: ", "event: ", ": ", "\n\n", "\r\n\r\n", "null"],
  ...[
    '"jsonrpc":"2.0"',
    '"id":1',
    '"method":"tools/call"',
    '"method":"ping"',
    '"params":{',
    '"name":"a"',
    '"result":{',
  ],
  ...[
    '"tools":[{"name":"drop"}]',
    '"arguments":{}',
    '"error":{"code":1}',
    '"4111 1111 1111 1111"',
    "\\u0041",
    "\ud800",
    "é",
    "1e9",
    "-",
  ],
];
const soup = (): string => Array.from({ length: next(24) }, () => pick(words)).join("");

const whole = [
  '{"jsonrpc":"2.0","id":1,"method":"tools/call","params":{"name":"a","arguments":{"x":[1,"4111 1111 1111 1111"]}}}',
  '{"jsonrpc":"2.0","id":1,"result":{"tools":[{"name":"drop","inputSchema":{}},{"name":"b"}],"content":[{"text":"4111 1111 1111 1111"}]}}',
];
/** A message with a few bytes of it changed, taken away or doubled. */
function damaged(): Buffer {
  const bytes = Buffer.from(pick(whole));
  for (let i = 0; i < 1 + next(3); i += 1)
    bytes[next(bytes.length)] = pick([0, 0x22, 0x5c, 0x7b, 0x7d, 0x2c, 0x30, 0xff, next(256)]);
  const at = next(bytes.length);
  return pick([bytes, bytes.subarray(0, at), Buffer.concat([bytes, bytes.subarray(at)]), Buffer.from(soup())]);
}

const world = makeWorld({
  masks: [detect("credit-card"), path("$..x")],
  denies: ({ mcp }) => mcp?.name === "drop",
});

test("junk from the client is described, never thrown at", () => {
  for (let round = 0; round < 3000; round += 1) {
    const body = damaged();
    const { described, exchange } = post(world, body);
    if (described.protocol === "http") continue;
    // What was understood is JSON, and says the same to any other reader.
    if (!described.traits.includes("unreadable-body") && !described.traits.includes("duplicate-keys")) {
      const value = JSON.parse(body.toString("utf8")) as { method?: string };
      assert.equal(described.mcp?.method, value.method ?? "response");
    }
    exchange.rewrite?.(body, world.verdict);
    exchange.holding()?.wrap(200, damaged());
  }
});

test("junk from the server leaves masked or not at all, whatever pieces it comes in", () => {
  for (let round = 0; round < 1500; round += 1) {
    const isStream = next(2) === 0;
    const text = Array.from({ length: 1 + next(3) }, () =>
      isStream
        ? `${pick(["data: ", "event: x\ndata:", ": ", "id: 1\n"])}${damaged().toString("utf8")}${pick(["\n\n", "\r\n\r\n", "\r\r", "\n"])}`
        : damaged().toString("utf8"),
    ).join("");
    const bytes = Buffer.from(text);
    const head = responseHead(isStream ? "text/event-stream" : pick(["application/json", "text/plain"]));
    const call = (): ReturnType<typeof post> => post(world, rpc(1, "tools/call", { name: "a" }));
    const expected = replyOf(world, call(), head, [bytes]).text;
    assert.ok(!expected.includes("4111 1111 1111 1111"), text);
    const a = next(bytes.length + 1);
    const b = a + next(bytes.length - a + 1);
    const pieces = [bytes.subarray(0, a), bytes.subarray(a, b), bytes.subarray(b)];
    // Cut inside of a CRLF, the empty lines between events may differ, and nothing else.
    const lines = (value: string): string => value.replace(/\r\n?/g, "\n").replace(/\n{2,}/g, "\n\n");
    assert.equal(lines(replyOf(world, call(), head, pieces).text), lines(expected), JSON.stringify(text));
  }
});
