/** A call whose messages are described: judged, redacted and masked in whatever pieces its messages come. */
import assert from "node:assert/strict";
import { readFileSync } from "node:fs";
import { resolve } from "node:path";
import { test } from "node:test";
import { gzipSync } from "node:zlib";
import type { Verdict } from "../../../../agent/core/verdict.ts";
import { readDescriptorSet } from "../../../../agent/wire/grpc/descriptors.ts";
import { grpcDialect } from "../../../../agent/wire/grpc/dialect.ts";
import { FrameReader, frameOf } from "../../../../agent/wire/grpc/frames.ts";
import { messageJson } from "../../../../agent/wire/grpc/message-json.ts";
import type { Described, DialectContext, DialectExchange, ReplyReader } from "../../../../agent/wire/http/dialect.ts";
import { Headers, type ResponseHead } from "../../../../agent/wire/http/message.ts";
import { verdictOf } from "../mcp/harness.ts";

const vector = (name: string): Buffer => readFileSync(resolve(import.meta.dirname, "../../../vectors/grpc", name));
const kinds = vector("kinds.desc");
const testing = vector("grpc-testing.desc");
const full = vector("full.bin");
const mask = { rule: "m", column: null, detectors: ["credit-card", "email"], with: "redact", derived: "mask" } as const;
const plain = verdictOf("allow", {});
const masking = verdictOf("allow", { masks: [mask] });
const redacting = verdictOf("allow", {
  redactions: [{ rule: "r", detectors: ["credit-card", "email"], custom: [], with: "redact" }],
});

function open(descriptors: Buffer, path: string, coding = "identity", would?: (asked: Described) => Verdict) {
  const context: DialectContext = {
    targetProtocol: "grpc",
    maskKey: Buffer.alloc(32),
    custom: new Map(),
    grpcDescriptors: descriptors,
    would: would ?? (() => assert.fail("not asked")),
    pin: () => null,
    pinned: () => null,
  };
  const head = {
    ...({ method: "POST", target: path, scheme: "https", authority: "api.internal", version: "2", raw: null } as const),
    headers: new Headers(["content-type", "application/grpc", "grpc-encoding", coding]),
    body: { kind: "chunked" } as const,
  };
  return grpcDialect.open(head, context) as DialectExchange;
}

const compressed = (message: Buffer): Buffer => {
  const frame = frameOf(gzipSync(message));
  frame[0] = 1;
  return frame;
};
const answer = (coding: string): ResponseHead => ({
  ...{ status: 200, reason: "", headers: new Headers(["grpc-encoding", coding]), version: "2", raw: null },
  body: { kind: "chunked" },
});
const jsonOf = (bytes: Buffer): Record<string, unknown>[] => {
  const schema = readDescriptorSet(kinds);
  const type = schema.message("kinds.All");
  assert.ok(type !== null);
  return new FrameReader().push(bytes).map(({ message }) => messageJson(message, type, schema).value);
};

test("a call waits for its first message, and that is what rules see", () => {
  const exchange = open(kinds, "/kinds.Kinds/Get");
  const frame = frameOf(full);
  assert.equal(exchange.reads, "first");
  assert.equal(exchange.waits, true);
  assert.equal(exchange.needs?.(frame.subarray(0, 3)), 5);
  assert.equal(exchange.needs?.(frame.subarray(0, -1)), frame.length);
  assert.equal(exchange.needs?.(frame), 0);
  const described = exchange.describe(frame);
  assert.deepEqual(described.traits, []);
  assert.equal((described.grpc?.message as { aColour: string } | undefined)?.aColour, "RED");
  assert.match(described.text, /^grpc api\.internal kinds\.Kinds\/Get \{.*"aColour":"RED"/);
});

test("a message in gzip is read; what cannot be read, is not there or is not described says so", () => {
  const message = open(kinds, "/kinds.Kinds/Get", "gzip").describe(compressed(full)).grpc?.message;
  assert.equal((message as { aInt32: number } | undefined)?.aInt32, -2147483648);
  for (const [coding, body] of [
    ["snappy", compressed(full)],
    ["gzip", Buffer.from([1, 0, 0, 0, 1, 0])],
    ["identity", frameOf(full.subarray(0, 40))],
    ["identity", Buffer.alloc(0)],
    ["identity", Buffer.from([0, 0xff, 0xff, 0xff, 0xff])],
    ["identity", Buffer.from([9, 0, 0, 0, 0])],
  ] as const)
    assert.deepEqual(open(kinds, "/kinds.Kinds/Get", coding).describe(body).traits, ["unreadable-body"]);
  const unknown = open(kinds, "/kinds.Kinds/Other");
  assert.equal(unknown.reads, "head");
  assert.deepEqual(unknown.describe(null).traits, ["unknown-method"]);
  const byPath = verdictOf("allow", { masks: [{ ...mask, detectors: null, json: "$.aString" }] });
  assert.throws(() => unknown.reply(answer("identity"), byPath)?.push(frameOf(full)), /no descriptor describes/);
});

test("answers are masked by field at every split, in gzip too", () => {
  const stream = Buffer.concat([frameOf(full), frameOf(Buffer.alloc(0)), frameOf(full)]);
  const reply = (coding: string, pieces: readonly Buffer[]) => {
    const reader = open(kinds, "/kinds.Kinds/Get").reply(answer(coding), masking);
    assert.ok(reader !== null);
    const out = Buffer.concat([...pieces.map((piece) => reader.push(piece)), reader.end()]);
    return { out, masked: reader.masked };
  };
  const expected = reply("identity", [stream]);
  assert.equal(expected.masked, 4);
  const [first, empty, last] = jsonOf(expected.out);
  assert.equal(first?.["aString"], `grüezi ${"*".repeat(19)}`);
  assert.equal(empty?.["aString"], "");
  assert.deepEqual(last, first);
  for (let at = 0; at <= stream.length; at += 1)
    assert.deepEqual(reply("identity", [stream.subarray(0, at), stream.subarray(at)]), expected);
  const zipped = reply("gzip", [compressed(full)]);
  assert.deepEqual(jsonOf(zipped.out), [first]);
  assert.throws(() => reply("identity", [stream.subarray(0, 30)]), /middle of a message/);
});

test("requests are redacted at every split, and pass byte for byte without", () => {
  const stream = frameOf(full);
  for (let at = 0; at <= stream.length; at += 1) {
    const pieces = [stream.subarray(0, at), stream.subarray(at)];
    for (const verdict of [plain, redacting]) {
      const exchange = open(kinds, "/kinds.Kinds/Get");
      exchange.describe(stream);
      const reader = exchange.forward?.(verdict) as ReplyReader;
      const out = Buffer.concat(pieces.map((piece) => reader.push(piece)));
      if (verdict === plain) assert.deepEqual(out, stream);
      else assert.equal(jsonOf(out)[0]?.["aString"], `grüezi ${"*".repeat(19)}`);
    }
  }
});

test("each later message is judged, with the request's own facts; a hold counts as a denial", () => {
  // StreamingOutputCallRequest { response_parameters { size: N } }
  const sized = (size: number): Buffer => frameOf(Buffer.from([0x12, 2, 8, size]));
  for (const action of ["deny", "hold"] as const) {
    const asked: Described[] = [];
    const exchange = open(testing, "/grpc.testing.TestService/FullDuplexCall", "identity", (described) => {
      asked.push(described);
      return { ...plain, action: described.text.includes('"size":9') ? action : "allow" };
    });
    assert.equal(exchange.waits, false);
    exchange.describe(sized(7));
    const reader = exchange.forward?.(plain) as ReplyReader;
    assert.deepEqual(reader.push(sized(7)), sized(7));
    assert.equal(asked.length, 0, "the first one was decided");
    assert.deepEqual(reader.push(sized(8)), sized(8));
    assert.throws(() => reader.push(sized(9)), /A later message of the call is denied by rule "r"/);
    assert.equal(asked[0]?.http?.host, "api.internal");
  }
});
