/** gRPC: decided by method, refused by trailers only, masked in place at any split. */
import assert from "node:assert/strict";
import { test } from "node:test";
import type { Verdict } from "../../../../agent/core/verdict.ts";
import { grpcDialect } from "../../../../agent/wire/grpc/dialect.ts";
import type { DialectContext } from "../../../../agent/wire/http/dialect.ts";
import { Headers, type RequestHead, type ResponseHead } from "../../../../agent/wire/http/message.ts";

const context: DialectContext = {
  targetProtocol: "grpc",
  maskKey: Buffer.alloc(32),
  custom: new Map(),
  would: () => {
    throw new Error("not asked");
  },
  pin: () => null,
  pinned: () => null,
};
const head = (target: string, type = "application/grpc"): RequestHead => ({
  method: "POST",
  target,
  scheme: "https",
  authority: "api.internal",
  headers: new Headers(["content-type", type]),
  version: "2",
  body: { kind: "chunked" },
  raw: null,
});
const answer = (fields: string[] = []): ResponseHead => ({
  ...{ status: 200, reason: "", headers: new Headers(fields), version: "2", body: { kind: "chunked" }, raw: null },
});
const masking = {
  transforms: {
    masks: [{ rule: "cards", column: null, detectors: ["credit-card"], with: "redact", derived: "detect" }],
    limits: [],
  },
} as unknown as Verdict;

function frame(message: Buffer, flag = 0): Buffer {
  const bytes = Buffer.alloc(5);
  bytes[0] = flag;
  bytes.writeUInt32BE(message.length, 1);
  return Buffer.concat([bytes, message]);
}

test("a call is its service and method", () => {
  const described = grpcDialect.open(head("/grpc.testing.TestService/UnaryCall"), context)?.describe(null);
  assert.deepEqual(described?.grpc, { service: "grpc.testing.TestService", method: "UnaryCall", message: null });
  assert.deepEqual(described?.verbs, ["unarycall"]);
  assert.equal(grpcDialect.open(head("/plain"), context), null);
  assert.equal(grpcDialect.open(head("/a.B/C", "application/json"), context), null);
  assert.notEqual(grpcDialect.open(head("/a.B/C", "application/grpc+proto"), context), null);
});

test("a refusal is a status that every client reads", () => {
  const refused = grpcDialect.open(head("/a.B/C"), context)?.refuse({
    kind: "denied",
    code: "WEIR_DENIED",
    message: 'rule "x": 100% no – ever',
    rule: "x",
    approvalId: null,
    retryAfterSeconds: null,
  });
  const fields = Object.fromEntries(refused?.headers ?? []);
  assert.equal(refused?.status, 200);
  assert.equal(fields["grpc-status"], "7");
  assert.equal(decodeURIComponent(fields["grpc-message"] ?? ""), 'rule "x": 100% no – ever');
});

test("a card in a message is masked at every split, and lengths stay", () => {
  const message = Buffer.concat([Buffer.from([0x0a, 16]), Buffer.from("4111111111111111"), Buffer.from([0x10, 0x01])]);
  const stream = Buffer.concat([frame(message), frame(Buffer.alloc(0)), frame(Buffer.from("4111 1111 1111 1111"))]);
  for (let at = 0; at <= stream.length; at += 1) {
    const reader = grpcDialect.open(head("/a.B/C"), context)?.reply(answer(), masking);
    assert.ok(reader != null);
    const out = Buffer.concat([reader.push(stream.subarray(0, at)), reader.push(stream.subarray(at)), reader.end()]);
    assert.equal(out.length, stream.length);
    assert.equal(out.toString("latin1", 7, 23), "*".repeat(16), `at ${at}`);
    assert.equal(out.toString("latin1").match(/[1-9]{4}/), null);
  }
});

test("what is compressed cannot be masked, and says so", () => {
  const reader = grpcDialect.open(head("/a.B/C"), context)?.reply(answer(["grpc-encoding", "gzip"]), masking);
  assert.throws(() => reader?.push(frame(Buffer.from("x"), 1)), /WEIR_MASK_IMPOSSIBLE|compressed/);
});
