import assert from "node:assert/strict";
import { test } from "node:test";
import type { Detector } from "../../../../agent/mask/detector.ts";
import { replyTextBytesMax } from "../../../../agent/wire/http/dialect.ts";
import type { ResponseHead } from "../../../../agent/wire/http/message.ts";
import { replyBytesMax } from "../../../../agent/wire/mcp/reply.ts";
import {
  detect,
  makeWorld,
  type Opened,
  path,
  post,
  type Rules,
  replyOf,
  responseHead,
  result,
  rpc,
  type World,
} from "./harness.ts";

const json = responseHead("application/json; charset=utf-8");
const stream = responseHead("text/event-stream");
const card = "4111 1111 1111 1111";
const stars = "*".repeat(card.length);

const call = (world: World) => post(world, rpc(1, "tools/call", { name: "customers" }));
/** Cut inside of the CRLF that ends an event, its LF follows as an empty line more, which says nothing. */
const emptyLinesOnce = (text: string): string => text.replace(/\r\n\r\n\n/g, "\r\n\r\n");

const whole = (text: string): Buffer[] => [Buffer.from(text)];

function splits(text: string): Buffer[][] {
  const bytes = Buffer.from(text);
  const every = bytes.length < 3000 ? 1 : 7;
  const all: Buffer[][] = [[...bytes].map((byte) => Buffer.from([byte]))];
  for (let at = 1; at < bytes.length; at += every) all.push([bytes.subarray(0, at), bytes.subarray(at)]);
  return all;
}

test("every text of a result is masked, its shape stays", () => {
  const world = makeWorld({ masks: [detect("credit-card", "email")] });
  const blob = Buffer.alloc(300, `${card} ann@example.com `).toString("base64");
  const value = {
    content: [
      { type: "text", text: `Ann pays with ${card}` },
      { type: "text", text: JSON.stringify([{ card, mail: "ann@example.com", id: 12345678901234567890n.toString() }]) },
      { type: "image", data: blob, mimeType: "image/png" },
      { type: "resource", resource: { uri: "x://1", text: `ann@example.com\n${card}` } },
    ],
    structuredContent: { customers: [{ card, number: 4111111111111111, active: true }], total: 1 },
    isError: false,
  };
  const { text, masked, kept } = replyOf(world, call(world), json, whole(result(1, value)));
  assert.equal(
    text,
    JSON.stringify({ jsonrpc: "2.0", id: 1, result: value })
      .replaceAll(card, stars)
      .replaceAll("ann@example.com", "***************")
      .replace("4111111111111111", "0               "),
  );
  assert.equal(masked, 7);
  assert.ok(!kept.includes(card));
});

test("paths begin at the message, at structuredContent, and in JSON that a text holds", () => {
  const world = makeWorld({ masks: [path("$.customers[*].name"), path("$..secret")] });
  const value = {
    content: [{ type: "text", text: '{"customers":[{"name":"Ann","id":7}]}' }],
    structuredContent: { customers: [{ name: "Ann", secret: 5 }] },
  };
  const { text } = replyOf(world, call(world), json, whole(result("a", value)));
  assert.deepEqual(JSON.parse(text), {
    jsonrpc: "2.0",
    id: "a",
    result: {
      content: [{ type: "text", text: '{"customers":[{"name":"***","id":7}]}' }],
      structuredContent: { customers: [{ name: "***", secret: 0 }] },
    },
  });
});

test("errors, progress, log messages and questions of the server are masked; handles stay", () => {
  const world = makeWorld({ masks: [detect("credit-card", "jwt"), path("$..id")] });
  const jwt = `eyJhbGciOiJIUzI1NiJ9.eyJzdWIiOiIxMjM0NTY3ODkwIn0.${"a".repeat(40)}`;
  const messages = [
    { jsonrpc: "2.0", method: "notifications/progress", params: { progressToken: jwt, progress: 1, message: card } },
    { jsonrpc: "2.0", method: "notifications/message", params: { level: "info", data: { card } } },
    {
      jsonrpc: "2.0",
      id: 3,
      method: "sampling/createMessage",
      params: { messages: [{ role: "user", content: { type: "text", text: card } }], maxTokens: 5 },
    },
    {
      jsonrpc: "2.0",
      id: 1,
      result: {
        resultType: "input_required",
        requestState: jwt,
        inputRequests: { q: { method: "elicitation/create", params: { message: card } } },
      },
    },
    { jsonrpc: "2.0", id: 1, error: { code: -32000, message: `no ${card}`, data: { card } } },
  ];
  const text = messages.map((message) => `event: message\nid: 7\ndata: ${JSON.stringify(message)}\n\n`).join("");
  const { text: out, error, kept } = replyOf(world, call(world), stream, whole(text));
  assert.equal(out, text.replaceAll(card, stars));
  assert.equal(error, "JSON-RPC error -32000");
  assert.ok(!kept.includes(jwt), "the record keeps no handle that looks like a secret");
});

test("any split of the bytes gives the same bytes", () => {
  const world = makeWorld({ masks: [detect("credit-card", "email")], denies: ({ mcp }) => mcp?.name === "drop" });
  const events = [
    `: hello\r\n\r\nevent: message\r\ndata: ${result(1, { content: [{ type: "text", text: `é ${card} ü` }] })}\r\n\r\n`,
    `\ufeffdata: {"jsonrpc":"2.0",\ndata: "method":"notifications/message","params":{"data":"${card}"}}\n\n`,
    `id: 1\ndata:\n\nretry: 500\n\ndata: {"jsonrpc":"2.0","method":"x"}\r\r: end\n\n`,
    `data: ${result(1, { tools: [{ name: "drop" }, { name: "keep" }] })}\n\n`,
  ].join("");
  const expected = replyOf(world, call(world), stream, whole(events)).text;
  assert.ok(!expected.includes(card) && !expected.includes("drop") && expected.includes("keep"));
  for (const pieces of splits(events))
    assert.equal(emptyLinesOnce(replyOf(world, call(world), stream, pieces).text), expected);
  const text = result(1, { content: [{ type: "text", text: `é ${card} ü` }] });
  for (const pieces of splits(text))
    assert.equal(replyOf(world, call(world), json, pieces).text, text.replace(card, stars));
});

test("what needs no change passes byte for byte, as soon as it is whole", () => {
  const world = makeWorld({ masks: [detect("credit-card")] });
  const text = ` { "jsonrpc":"2.0", "id" : 1.0, "result":{"n":1e400,"big":123456789012345678901234567890,"a":"\\u00e9\\/"}}\r\n`;
  assert.equal(replyOf(world, call(world), json, whole(text)).text, text);
  const reader = call(world).exchange.reply(stream, world.verdict);
  const event = `id: 1\nevent: message\ndata: ${text.trim()}\n\n`;
  assert.equal(reader?.push(Buffer.from(`: ping\n\n${event}data: {`)).toString(), `: ping\n\n${event}`);
  assert.equal(reader?.heldBytes, "data: {".length);
  assert.equal(reader?.end().toString(), "", "an event that never ended is none");
});

test("line ends of every kind leave at once", () => {
  const world = makeWorld();
  for (const end of ["\n", "\r\n", "\r"]) {
    const event = `data: {"jsonrpc":"2.0","method":"x"}${end}${end}`;
    const reader = call(world).exchange.reply(stream, world.verdict);
    let out = "";
    for (const byte of Buffer.from(event + event)) out += reader?.push(Buffer.from([byte])).toString();
    assert.equal(out, event + event, JSON.stringify(end));
  }
});

test("the old transport's endpoint passes, other events and comments are masked as text", () => {
  const world = makeWorld({ masks: [detect("credit-card", "jwt")] });
  const endpoint =
    "event: endpoint\ndata: /messages?sessionId=eyJhbGciOiJIUzI1NiJ9.eyJzdWIiOiIxMjM0NTY3ODkwIn0.abc\n\n";
  const { text } = replyOf(
    world,
    call(world),
    stream,
    whole(`${endpoint}: ${card}\n\nevent: note\ndata: ${card}\n\nevent: endpoint\ndata: {"x":"${card}"}\n\n`),
  );
  assert.ok(text.startsWith(endpoint) && !text.includes(card));
});

test("a comment inside an event is masked, its message is not touched", () => {
  const world = makeWorld({ masks: [detect("credit-card")] });
  const event = `: ${card}\nid: 1\ndata: {"jsonrpc":"2.0","method":"x"}\n\n`;
  assert.equal(replyOf(world, call(world), stream, whole(event)).text, event.replace(card, stars));
});

test("what cannot be read does not pass as it is", () => {
  const world = makeWorld({ masks: [detect("credit-card")] });
  for (const bad of [
    `{"jsonrpc":"2.0","id":1,"result":{"a":"${card}"}`,
    `{"jsonrpc":"2.0","id":1,"result":{},"result":{"a":"${card}"}}`,
    `${"[".repeat(300)}"${card}"`,
  ]) {
    const { text, error } = replyOf(world, call(world), json, whole(bad));
    const { id, error: told } = JSON.parse(text) as { id: number; error: { data: { code: string } } };
    assert.deepEqual([id, told.data.code], [1, "WEIR_MASK_IMPOSSIBLE"]);
    assert.match(error ?? "", /read/);
    assert.ok(!replyOf(world, call(world), stream, whole(`data: ${bad}\n\n`)).text.includes(card));
  }
  const { text } = replyOf(world, call(world), responseHead("text/plain", 500), whole(`Oops ${card}`));
  assert.equal(text, `Oops ${stars}`);
  assert.equal(
    replyOf(world, call(world), responseHead("application/json", 400), whole(`Bad ${card}`)).text,
    `Bad ${stars}`,
  );
});

test("a failure that cannot be read passes only where no path asks for a mask", () => {
  const text = '{"error":{"ssn":"x"},}';
  const head = responseHead("application/json", 500);
  for (const [masks, passes] of [
    [[], true],
    [[detect("ssn")], true],
    [[path("$..ssn")], false],
  ] as const) {
    const world = makeWorld({ masks });
    assert.equal(replyOf(world, call(world), head, whole(text)).text === text, passes);
  }
});

test("a reply without end is not held without end", () => {
  const world = makeWorld();
  const chunk = Buffer.alloc(1024 * 1024, 0x20);
  for (const head of [json, stream]) {
    const reader = call(world).exchange.reply(head, world.verdict);
    let out = "";
    for (let i = 0; i < 40; i += 1) {
      out += reader?.push(chunk).toString();
      assert.ok((reader?.heldBytes ?? 0) <= replyBytesMax);
    }
    assert.match(out, /WEIR_FRAME_TOO_LARGE/);
    assert.equal(reader?.end().length, 0);
  }
});

test("of a long reply the record keeps the beginning", () => {
  const world = makeWorld({ masks: [detect("credit-card")] });
  const { kept } = replyOf(
    world,
    call(world),
    json,
    whole(result(1, { content: [{ type: "text", text: `${card} `.repeat(9000) }] })),
  );
  assert.ok(Buffer.byteLength(kept) <= replyTextBytesMax && !kept.includes("4111"));
});

test("requests lose what a rule redacts, in arguments and in the headers that repeat them", () => {
  const world = makeWorld({ redactions: [{ rule: "r", detectors: ["email"], custom: [], with: "redact" }] });
  const opened = post(
    world,
    `{"jsonrpc":"2.0", "id":12345678901234567890, "method":"tools/call","params":{"name":"ann@example.com","arguments":{"to":"ann@example.com"}}}`,
    { "mcp-param-to": "ann@example.com" },
  );
  assert.ok(!opened.described.traits.includes("header-mismatch"));
  const body = Buffer.from(
    `{"jsonrpc":"2.0", "id":12345678901234567890, "method":"tools/call","params":{"name":"ann@example.com","arguments":{"to":"ann@example.com"}}}`,
  );
  assert.equal(
    opened.exchange.rewrite?.(body, world.verdict).toString(),
    body.toString().replace('"to":"ann@example.com"', '"to":"***************"'),
  );
  assert.equal(opened.head.headers.get("mcp-param-to"), "***************");
  assert.equal(opened.exchange.rewrite?.(body, makeWorld().verdict), body);
});

test("a detector of the policy's own masks", () => {
  const world = makeWorld({ masks: [{ ...detect(), custom: ["order"] }] });
  const text = result(1, { content: [{ type: "text", text: "order 77-X of Ann" }] });
  const order: Detector = {
    name: "order",
    needs: 0,
    tail: (value) => value.length,
    next(value, from, open) {
      const start = value.indexOf("77-X", from);
      return start < 0 || start >= open ? null : { start, end: start + 4 };
    },
    follow: null,
  };
  const able = { ...world, context: { ...world.context, custom: new Map([["order", order]]) } };
  assert.equal(replyOf(able, call(able), json, whole(text)).text, text.replace("77-X", "****"));
});

test("a long answer passes, masked; one of more values than may be read is refused", () => {
  const mail = "ann@example.com";
  const rows = Array.from({ length: 20_000 }, (_, id) => ({ id, name: "Ann", mail, at: [1, 2] }));
  const many = [{ mail }, ...new Array<number>(2_000_000).fill(0)];
  const masked = (text: string): string => replyOf(...asked({ masks: [detect("email")] }), [Buffer.from(text)]).text;
  const shapes = [
    (values: unknown) => ({ content: [], structuredContent: { rows: values } }),
    (values: unknown) => ({ content: [{ type: "text", text: JSON.stringify(values) }] }),
  ];
  for (const shape of shapes) {
    const text = result(1, shape(rows));
    // Whether they are equal, and not how they differ: that would be shown whole.
    assert.ok(masked(text) === text.replaceAll(mail, "*".repeat(mail.length)));
    assert.ok(replyOf(...asked({}), [Buffer.from(text)]).text === text);
    const told = masked(result(1, shape(many)));
    assert.match(told.slice(0, 1_000), /^\{"jsonrpc":"2\.0","id":1,"error":\{.*WEIR_MASK_IMPOSSIBLE/);
    assert.ok(!told.includes(mail));
  }
  const tools = Array.from({ length: 3_000 }, (_, i) => ({ name: `t${i}`, description: "d".repeat(800) }));
  const list = replyOf(...asked({}, "tools/list"), [Buffer.from(result(1, { tools }))]);
  assert.match(list.text, /WEIR_FRAME_TOO_LARGE/);
});

function asked(rules: Rules, method = "tools/call"): [World, Opened, ResponseHead] {
  const world = makeWorld(rules);
  return [world, post(world, rpc(1, method, { name: "x" })), responseHead("application/json")];
}
