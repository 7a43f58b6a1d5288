/** Messages by their descriptors: as JSON like Go's own library says it, masked in place, and junk refused. */
import assert from "node:assert/strict";
import { readFileSync } from "node:fs";
import { resolve } from "node:path";
import { test } from "node:test";
import { WeirError } from "../../../../agent/errors.ts";
import { maskerOf } from "../../../../agent/mask/masker.ts";
import { compileMaskPlan } from "../../../../agent/mask/plan.ts";
import { type GrpcSchema, type MessageType, readDescriptorSet } from "../../../../agent/wire/grpc/descriptors.ts";
import { messageJson } from "../../../../agent/wire/grpc/message-json.ts";
import { maskMessage } from "../../../../agent/wire/grpc/message-mask.ts";
import { fieldsOf } from "../../../../agent/wire/grpc/protobuf.ts";
import { compileJsonPath, type JsonPath } from "../../../../agent/wire/http/json-path.ts";

const vector = (name: string): Buffer => readFileSync(resolve(import.meta.dirname, "../../../vectors/grpc", name));
const kinds = readDescriptorSet(vector("kinds.desc"));
const testing = readDescriptorSet(vector("grpc-testing.desc"));
const typeOf = (schema: GrpcSchema, name: string): MessageType => schema.message(name) as MessageType;
const all = typeOf(kinds, "kinds.All");

/** Whole numbers of 64 bits are text to Go, and numbers to a policy where these are exact. */
function asNumbers(value: unknown, key = ""): unknown {
  if (Array.isArray(value)) return value.map((one) => asNumbers(one, key));
  if (typeof value === "object" && value !== null) {
    const out = {};
    for (const [name, inner] of Object.entries(value))
      Object.defineProperty(out, name, { value: asNumbers(inner, name), enumerable: true });
    return out;
  }
  const isWhole = /^(?:a|many)(?:U|S|Sf|F)?i(?:nt|xed)64$/i.test(key);
  return isWhole && typeof value === "string" && Number.isSafeInteger(Number(value)) ? Number(value) : value;
}

for (const name of ["full", "empty", "one"])
  test(`${name}: the JSON view is what Go's library writes`, () => {
    const { value, hasUnknown } = messageJson(vector(`${name}.bin`), all, kinds);
    assert.equal(hasUnknown, false);
    const expected = asNumbers(JSON.parse(vector(`${name}.json`).toString()));
    assert.deepEqual(asNumbers(JSON.parse(JSON.stringify(value))), expected);
  });

test("a descriptor set describes itself", () => {
  const bytes = vector("grpc-testing.desc");
  const { value } = messageJson(bytes, typeOf(testing, "google.protobuf.FileDescriptorSet"), testing);
  const files = (value as { file: { name: string; service: { name: string; method: { name: string }[] }[] }[] }).file;
  const service = files.find(({ name }) => name === "grpc/testing/test.proto")?.service[0];
  assert.equal(service?.name, "TestService");
  assert.deepEqual(
    service?.method.map((method) => method.name),
    [
      ...["EmptyCall", "UnaryCall", "CacheableUnaryCall", "StreamingOutputCall"],
      ...["StreamingInputCall", "FullDuplexCall", "HalfDuplexCall", "UnimplementedCall"],
    ],
  );
  assert.equal(testing.method("grpc.testing.TestService", "FullDuplexCall")?.clientStreams, true);
  assert.equal(testing.method("grpc.testing.TestService", "UnaryCall")?.clientStreams, false);
  assert.equal(testing.method("grpc.testing.TestService", "Nothing"), null);
});

test("a message in two pieces is joined, the last of two scalars counts, and unknown fields are told", () => {
  // inner { a_int32: 5 } inner { a_bool: true } a_int32: 1 a_int32: 2, and field 999.
  const bytes = Buffer.from("fa01022805fa010240012801280" + "2b83e01", "hex");
  const { value, hasUnknown } = messageJson(bytes, all, kinds);
  const inner = value["inner"] as Record<string, unknown>;
  assert.deepEqual([inner["aInt32"], inner["aBool"], value["aInt32"]], [5, true, 2]);
  assert.equal(hasUnknown, true);
});

const path = (text: string): JsonPath => compileJsonPath(text) as JsonPath;
const masked = (paths: readonly string[], detectors: readonly ("credit-card" | "ssn" | "email")[] = []) => {
  const plan = detectors.length === 0 ? null : compileMaskPlan([{ detectors, with: "redact" }], Buffer.alloc(32));
  const bytes = vector("full.bin");
  const count = maskMessage(bytes, all, kinds, {
    masker: plan === null ? null : maskerOf(plan),
    paths: paths.map((text) => ({ path: path(text), with: "redact" as const })),
    key: Buffer.alloc(32),
  });
  return { bytes, count, value: messageJson(bytes, all, kinds).value };
};

test("a path masks its field and nothing else, and every length stays", () => {
  const before = vector("full.bin");
  const plain = messageJson(before, all, kinds).value;
  const { bytes, count, value } = masked(["$.byName.x.aString", "$.manyInt32[1]", "$.inner..aInt32", "$.aSint64"]);
  assert.equal(bytes.length, before.length);
  assert.equal(count, 4);
  const expected = structuredClone(plain) as {
    byName: { x: { aString: string } };
    manyInt32: number[];
    inner: { inner: { aInt32: number } };
  };
  expected.byName.x.aString = "*".repeat(11);
  expected.manyInt32[1] = 0;
  expected.inner.inner.aInt32 = 0;
  assert.deepEqual(value, { ...expected, aSint64: 0 });
});

test("a path to a message masks all of it", () => {
  const { value } = masked(["$.byNumber", "$.inner"]);
  assert.deepEqual(value["byNumber"], { "-3": "*****", "4": "****" });
  assert.equal((value["inner"] as Record<string, unknown>)["aString"], "**");
});

test("detectors look at each text by itself, and never at what stands between", () => {
  const { value, count } = masked([], ["credit-card", "ssn", "email"]);
  assert.equal(count, 3);
  assert.equal(value["aString"], `grüezi ${"*".repeat(19)}`);
  assert.deepEqual(value["manyString"], ["", "*".repeat(15)]);
  assert.equal((value["byName"] as Record<string, Record<string, unknown>>)["x"]?.["aString"], "*".repeat(11));
});

test("whatever is cut off or changed is read, or refused with a code, and never goes on for long", () => {
  const bytes = vector("full.bin");
  const masks = { masker: null, paths: [{ path: path("$..*"), with: "redact" as const }], key: Buffer.alloc(32) };
  let refused = 0;
  const attempt = (changed: Buffer): void => {
    for (const run of [
      () => messageJson(changed, all, kinds),
      () => maskMessage(Buffer.from(changed), all, kinds, masks),
      () => readDescriptorSet(Buffer.from(changed)),
    ])
      try {
        run();
      } catch (error) {
        assert.ok(error instanceof WeirError, String(error));
        refused += 1;
      }
  };
  for (let at = 0; at <= bytes.length; at += 1) attempt(bytes.subarray(0, at));
  for (let at = 0; at < bytes.length; at += 1)
    for (const value of [0, 0x7f, 0x80, 0xff]) {
      const changed = Buffer.from(bytes);
      changed[at] = value;
      attempt(changed);
    }
  assert.ok(refused > 100);
});

test("messages and groups a hundred deep are the end", () => {
  let deep = Buffer.alloc(0);
  for (let at = 0; at < 110; at += 1)
    deep = Buffer.concat([Buffer.from([0xfa, 0x01, (deep.length & 0x7f) | 0x80, deep.length >> 7]), deep]);
  assert.throws(() => messageJson(deep, all, kinds), /100 deep/);
  const groups = Buffer.concat([Buffer.alloc(1000, 0x0b), Buffer.alloc(1000, 0x0c)]);
  assert.throws(() => messageJson(groups, all, kinds), /100 deep/);
});

test("a set without its imports is refused, and says which one is missing", () => {
  const set = vector("grpc-testing.desc");
  const files = [...fieldsOf(set)];
  const without = (name: string): Buffer => {
    // From the end of the one before to its own: tag and length too.
    const at = files.findIndex(({ start }) => set.toString("utf8", start, start + 30).includes(name));
    assert.ok(at > 0);
    return Buffer.concat([set.subarray(0, files[at - 1]?.end), set.subarray(files[at]?.end)]);
  };
  assert.throws(() => readDescriptorSet(without("grpc/testing/messages.proto")), /lacks .*--include_imports/);
  assert.throws(() => readDescriptorSet(Buffer.alloc(0)), /no file/);
  assert.throws(() => readDescriptorSet(Buffer.from("not a set")), /no descriptor set/);
});
