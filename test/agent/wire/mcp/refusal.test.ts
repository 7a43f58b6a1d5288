import assert from "node:assert/strict";
import { test } from "node:test";
import { detect, makeWorld, post, refusal, replyOf, responseHead, result, rpc } from "./harness.ts";

const world = makeWorld();
const told = (body: Buffer): unknown => JSON.parse(body.toString("utf8"));

test("a request is refused by a JSON-RPC error with its own id, to the digit", () => {
  const { exchange } = post(
    world,
    '{"jsonrpc":"2.0","id":12345678901234567890,"method":"tools/call","params":{"name":"a"}}',
  );
  const { status, body, headers } = exchange.refuse({ ...refusal, approvalId: "ap1" });
  assert.equal(status, 200);
  assert.deepEqual(headers, [["content-type", "application/json"]]);
  assert.match(body.toString(), /^\{"jsonrpc":"2.0","id":12345678901234567890,"error":/);
  assert.deepEqual((told(body) as { error: unknown }).error, {
    code: -31403,
    message: refusal.message,
    data: { code: "WEIR_DENIED", rule: "r", reason: refusal.message, approval: "ap1" },
  });
});

test("what has no answer in JSON-RPC is refused by its status", () => {
  const notification = post(world, { jsonrpc: "2.0", method: "notifications/initialized" }).exchange.refuse(refusal);
  assert.equal(notification.status, 403);
  assert.equal((told(notification.body) as { id: unknown }).id, null);
  assert.equal(post(world, { jsonrpc: "2.0", id: 1, result: {} }).exchange.refuse(refusal).status, 403);
  // The old transport's client would wait on its stream for an answer that never comes.
  assert.equal(
    post(world, rpc(1, "tools/call", { name: "a" }), { accept: "*/*" }).exchange.refuse(refusal).status,
    403,
  );
  assert.equal(post(world, "{").exchange.refuse(refusal).status, 400);
  assert.equal(post(world, [rpc(1, "ping")]).exchange.refuse(refusal).status, 400);
  const mismatch = post(world, rpc(1, "ping"), { "mcp-method": "x" }).exchange.refuse(refusal);
  assert.equal(mismatch.status, 400);
  assert.equal((told(mismatch.body) as { error: { code: number } }).error.code, -32020);
  const busy = post(world, rpc(1, "ping")).exchange.refuse({ ...refusal, kind: "busy", retryAfterSeconds: 60 });
  assert.equal(busy.status, 200);
  assert.ok(busy.headers.some(([name, value]) => name === "retry-after" && value === "60"));
  const plain = post(world, { client_name: "x" }, {}, "/register").exchange.refuse(refusal);
  assert.deepEqual([plain.status, (told(plain.body) as { error: string }).error], [403, "access_denied"]);
});

test("a held call is kept by comments, or by the progress it asked for", () => {
  const quiet = post(world, rpc(1, "tools/call", { name: "a" })).exchange.holding();
  assert.equal(quiet?.head.status, 200);
  assert.match(quiet?.beat(0).toString() ?? "", /^: .*\n\n$/);
  const loud = post(world, rpc(1, "tools/call", { name: "a", _meta: { progressToken: 'x"1' } })).exchange.holding();
  const beats = [0, 1, 2].map(
    (n) =>
      told(Buffer.from((loud?.beat(n).toString() ?? "").replace(/^event: message\ndata: /, ""))) as {
        params: { progress: number; progressToken: string };
      },
  );
  assert.deepEqual(
    beats.map(({ params }) => [params.progressToken, params.progress]),
    [
      ['x"1', 0.001],
      ['x"1', 0.002],
      ['x"1', 0.003],
    ],
  );
  assert.match(
    loud?.refuse(refusal).toString() ?? "",
    /^event: message\ndata: \{"jsonrpc":"2.0","id":1,"error":\{"code":-31403/,
  );
});

test("who reads no stream, or is named by the answer's head, waits in silence", () => {
  assert.equal(
    post(world, rpc(1, "tools/call", { name: "a" }), { accept: "application/json" }).exchange.holding(),
    null,
  );
  assert.equal(post(world, rpc(1, "initialize", {})).exchange.holding(), null);
  assert.equal(post(world, { jsonrpc: "2.0", method: "notifications/x" }).exchange.holding(), null);
});

test("an answer in JSON goes into the stream that has begun, masked and on lines of data", () => {
  const masking = makeWorld({ masks: [detect("credit-card")] });
  const opened = post(masking, rpc(1, "tools/call", { name: "a" }));
  opened.exchange.rewrite?.(Buffer.from("{}"), masking.verdict);
  const answer = JSON.stringify(
    JSON.parse(result(1, { content: [{ type: "text", text: "4111 1111 1111 1111" }] })),
    null,
    1,
  );
  const wrapped = opened.exchange.holding()?.wrap(200, Buffer.from(answer)).toString() ?? "";
  assert.ok(wrapped.split("\n").every((line) => line === "" || line.startsWith("data: ") || line === "event: message"));
  const data = wrapped
    .split("\n")
    .filter((line) => line.startsWith("data: "))
    .map((line) => line.slice(6))
    .join("\n");
  assert.deepEqual(told(Buffer.from(data)), told(Buffer.from(answer.replace("4111 1111 1111 1111", "*".repeat(19)))));
  const failed = opened.exchange.holding()?.wrap(401, Buffer.from("Unauthorized 4111 1111 1111 1111")).toString() ?? "";
  assert.match(failed, /"id":1,"error":\{"code":-31502,"message":"Weir: the server answered with HTTP status 401/);
  assert.ok(!failed.includes("4111"));
  // What has been through a reader is not masked a second time.
  replyOf(masking, opened, responseHead("application/json"), [Buffer.from(answer)]);
  assert.ok(opened.exchange.holding()?.wrap(200, Buffer.from(answer)).toString().includes("4111"));
});
