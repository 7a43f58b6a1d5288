import assert from "node:assert/strict";
import { test } from "node:test";
import { mcpDialect } from "../../../../agent/wire/mcp/dialect.ts";
import { makeWorld, post, requestHead, rpc } from "./harness.ts";

const world = makeWorld();

test("a tool's call is named with its arguments, and writes", () => {
  const { described } = post(world, rpc(1, "tools/call", { name: "get_customers", arguments: { limit: 10 } }));
  assert.deepEqual(described, {
    protocol: "mcp",
    text: 'tools/call get_customers {"limit":10}',
    verbs: ["tools/call"],
    writes: true,
    traits: ["unknown-tool"],
    mcp: { method: "tools/call", name: "get_customers", arguments: { limit: 10 } },
  });
});

test("what is read, listed or told writes nothing; what is not known does", () => {
  const cases: readonly (readonly [Record<string, unknown>, string, boolean, readonly string[]])[] = [
    [rpc(1, "initialize", { protocolVersion: "2025-11-25" }), "", false, []],
    [rpc(1, "ping"), "", false, []],
    [rpc(1, "tools/list", {}), "", false, []],
    [rpc(1, "resources/read", { uri: "file:///x" }), "file:///x", false, []],
    [rpc(1, "prompts/get", { name: "p", arguments: { a: "b" } }), "p", false, []],
    [rpc(1, "completion/complete", { ref: { type: "ref/prompt", name: "p" }, argument: {} }), "p", false, []],
    [rpc(1, "server/discover", {}), "", false, []],
    [rpc(1, "subscriptions/listen", { notifications: {} }), "", false, []],
    [rpc(1, "tasks/cancel", { taskId: "t" }), "t", true, []],
    [{ jsonrpc: "2.0", method: "notifications/initialized" }, "", false, []],
    [rpc(1, "tools/uninstall", { name: "x" }), "", true, ["unknown-method"]],
    [rpc(1, "Tools/Call", { name: "x" }), "", true, ["unknown-method"]],
    [rpc(1, "constructor", {}), "", true, ["unknown-method"]],
  ];
  for (const [message, name, writes, traits] of cases) {
    const { described } = post(world, message);
    assert.deepEqual(
      [described.mcp?.name, described.writes, described.traits],
      [name, writes, traits],
      String(message["method"]),
    );
    assert.deepEqual(described.verbs, [String(message["method"]).toLowerCase()]);
  }
});

test("answers of the client are operations too", () => {
  const { described } = post(world, { jsonrpc: "2.0", id: 7, result: { action: "accept", content: { name: "Ann" } } });
  assert.equal(described.mcp?.method, "response");
  assert.deepEqual(described.mcp?.arguments, { action: "accept", content: { name: "Ann" } });
  assert.equal(
    post(world, { jsonrpc: "2.0", id: 7, error: { code: -1, message: "no" } }).described.mcp?.method,
    "response",
  );
});

test("what two parsers could read in two ways is not read", () => {
  const unreadable: readonly string[] = [
    ...["{", "null", "1", '"x"', "\ufeff{}", "[]x", '{"jsonrpc":"2.0","id":1}', '{"jsonrpc":"2.0","method":1,"id":1}'],
    ...[
      '{"jsonrpc":"1.0","method":"ping","id":1}',
      '{"method":"ping","id":1}',
      '{"jsonrpc":"2.0","method":"ping","id":null}',
    ],
    ...['{"jsonrpc":"2.0","method":"ping","id":{}}', '{"jsonrpc":"2.0","method":"ping","result":{},"id":1}'],
    ...['{"jsonrpc":"2.0","method":"tools/call","id":1,"params":["x"]}', '{"jsonrpc":"2.0","method":"","id":1}'],
    ...[
      '{"jsonrpc":"2.0","method":"tools/call","id":1,"params":{"name":["a"]}}',
      '{"jsonrpc":"2.0","method":"tools/call","id":1}',
    ],
    `{"jsonrpc":"2.0","method":"tools/call","id":1,"params":{"name":"a","arguments":${"[".repeat(300)}${"]".repeat(300)}}}`,
  ];
  for (const text of unreadable)
    assert.ok(post(world, text).described.traits.includes("unreadable-body"), text.slice(0, 100));
  const twice: readonly string[] = [
    '{"jsonrpc":"2.0","id":1,"method":"ping","method":"tools/call"}',
    '{"jsonrpc":"2.0","id":1,"method":"ping","\\u006dethod":"tools/call"}',
    '{"jsonrpc":"2.0","id":1,"method":"tools/call","params":{"name":"a","arguments":{"x":{"y":1,"y":2}}}}',
    '{"jsonrpc":"2.0","id":1,"method":"ping","Method":"tools/call"}',
    '{"jsonrpc":"2.0","id":1,"method":"tools/call","params":{"name":"a","NAME":"b"}}',
    '{"jsonrpc":"2.0","id":1,"method":"tools/call","paramſ":{"name":"b"},"params":{"name":"a"}}',
    '{"Jsonrpc":"2.0","Id":1,"Method":"tools/call"}',
    '{"jsonrpc":"2.0","id":1,"method":"tools/call","params":{"name":"a","arguments":{"limit":1,"Limit":99}}}',
  ];
  for (const text of twice) assert.deepEqual(post(world, text).described.traits, ["duplicate-keys"], text);
  const deeper = { name: "a", arguments: { env: { path: 1, PATH: 2 } } };
  assert.deepEqual(post(world, rpc(1, "tools/call", deeper)).described.traits, ["unknown-tool"]);
  const invalid = Buffer.concat([
    Buffer.from('{"jsonrpc":"2.0","id":1,"method":"'),
    Buffer.from([0xff]),
    Buffer.from('"}'),
  ]);
  assert.deepEqual(post(world, invalid).described.traits, ["unreadable-body"]);
});

test("a batch is one unreadable operation", () => {
  const { described } = post(world, [rpc(1, "ping"), rpc(2, "tools/call", { name: "x" })]);
  assert.deepEqual(described.traits, ["batch", "unreadable-body"]);
  assert.equal(described.writes, true);
});

test("headers that repeat the body have to agree with it", () => {
  const call = rpc(1, "tools/call", { name: "a", arguments: { region: "us-west1", n: 42 } });
  const modern = (more: Record<string, string>): readonly string[] =>
    post(
      world,
      {
        ...call,
        params: { ...(call["params"] as object), _meta: { "io.modelcontextprotocol/protocolVersion": "2026-07-28" } },
      },
      more,
    ).described.traits;
  const all = { "mcp-protocol-version": "2026-07-28", "mcp-method": "tools/call", "mcp-name": "a" };
  assert.deepEqual(modern(all), ["unknown-tool"]);
  for (const headers of [
    {},
    { ...all, "mcp-method": "tools/list" },
    { ...all, "mcp-name": "b" },
    { ...all, "mcp-protocol-version": "2025-11-25" },
    { "mcp-protocol-version": "2026-07-28", "mcp-method": "tools/call" },
    { "mcp-protocol-version": "2026-07-28", "mcp-name": "a" },
    { ...all, "mcp-param-region": "eu" },
    { ...all, "Mcp-Name": "=?base64?YQ=?=" + "=" },
  ])
    assert.ok(modern(headers).includes("header-mismatch"), JSON.stringify(headers));
  assert.deepEqual(
    modern({ ...all, "mcp-name": "=?base64?YQ==?=", "mcp-param-Region": "us-west1", "mcp-param-N": "42.0" }),
    ["unknown-tool"],
  );
  assert.deepEqual(post(world, call, { "mcp-protocol-version": "2025-11-25" }).described.traits, ["unknown-tool"]);
  assert.ok(post(world, call, { "mcp-method": "tools/list" }).described.traits.includes("header-mismatch"));
});

test("streams and goodbyes have names; OAuth's requests on the same host are plain", () => {
  const open = (method: string, headers: Record<string, string>, target?: string) =>
    mcpDialect.open(requestHead(method, headers, target), world.context);
  const stream = open("GET", { accept: "text/event-stream" });
  assert.equal(stream?.reads, "head");
  assert.equal(stream?.describe(null).mcp?.method, "stream/open");
  assert.equal(open("DELETE", { "mcp-session-id": "s" })?.describe(null).mcp?.method, "session/close");
  assert.equal(open("GET", { accept: "application/json" }, "/.well-known/oauth-protected-resource"), null);
  assert.equal(open("OPTIONS", {}), null);
  const form = post(
    world,
    "grant_type=authorization_code&code=x%2F",
    { "content-type": "application/x-www-form-urlencoded" },
    "/token",
  );
  assert.deepEqual(
    [form.described.protocol, form.described.verbs, form.described.text],
    ["http", ["post"], "POST /token"],
  );
  const registration = post(world, { client_name: "c", redirect_uris: [] }, {}, "/register");
  assert.equal(registration.described.protocol, "http");
  for (const body of ['{"jsonrpc":"2.0","id":1,"method":"ping"}', "[]", "\0{"]) {
    const { described } = post(world, body, { "content-type": "application/x-www-form-urlencoded" });
    assert.equal(described.protocol, "mcp", body);
  }
  assert.equal(post(world, rpc(1, "ping"), { "content-type": "text/plain" }).described.mcp?.method, "ping");
});

test("a cancellation names the request that it gives up, within its session", () => {
  const call = post(world, rpc(5, "tools/call", { name: "a" }), { "mcp-session-id": "s1" });
  const cancel = (requestId: unknown, session: string) =>
    post(
      world,
      { jsonrpc: "2.0", method: "notifications/cancelled", params: { requestId } },
      { "mcp-session-id": session },
    ).exchange;
  assert.equal(cancel(5, "s1").cancels, call.exchange.cancelName);
  assert.notEqual(cancel("5", "s1").cancels, call.exchange.cancelName);
  assert.notEqual(cancel(5, "s2").cancels, call.exchange.cancelName);
});

test("a retry has another id and progress token, and is known by the rest", () => {
  const key = (id: unknown, token: unknown, given: string): string | null | undefined =>
    post(
      world,
      `{"jsonrpc":"2.0","id":${JSON.stringify(id)},"method":"tools/call","params":{"name":"a","_meta":{"progressToken":${JSON.stringify(token)},"dry":true},"arguments":${given}}}`,
    ).exchange.retryKey;
  const first = key(1, 1, '{"n":12345678901234567890}');
  assert.equal(key("two", 2, '{"n":12345678901234567890}'), first);
  assert.notEqual(key(1, 1, '{"n":12345678901234567891}'), first);
  assert.equal(post(world, { jsonrpc: "2.0", method: "notifications/x" }).exchange.retryKey, null);
});
