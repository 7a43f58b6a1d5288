/** Exchanges of a real client with a real server, see test/vectors/mcp/SOURCE.md. */
import assert from "node:assert/strict";
import { readFileSync } from "node:fs";
import { join } from "node:path";
import { test } from "node:test";
import { Headers, type RequestHead, type ResponseHead } from "../../../../agent/wire/http/message.ts";
import { mcpDialect } from "../../../../agent/wire/mcp/dialect.ts";
import { detect, makeWorld, path, replyOf, type World } from "./harness.ts";

interface Captured {
  readonly method: string;
  readonly target: string;
  readonly headers: string[];
  readonly body: string;
  readonly reply: { readonly status: number; readonly headers: string[]; readonly base64: string };
}

function load(name: string): Captured[] {
  return JSON.parse(
    readFileSync(join(import.meta.dirname, "../../../vectors/mcp", `${name}.json`), "utf8"),
  ) as Captured[];
}

function* exchanges(name: string, world: World) {
  for (const captured of load(name)) {
    const { method, target, headers, body, reply } = captured;
    const head: RequestHead = {
      ...{
        method,
        target,
        scheme: "https",
        authority: "mcp.example",
        headers: new Headers([...headers]),
        version: "1.1",
      },
      ...{ body: { kind: "none" }, raw: null },
    };
    const exchange = mcpDialect.open(head, world.context);
    assert.ok(exchange !== null, `${method} ${target}`);
    const described = exchange.describe(exchange.reads === "whole" ? Buffer.from(body) : null);
    const response: ResponseHead = {
      ...{ status: reply.status, reason: "", headers: new Headers([...reply.headers]), version: "1.1" },
      ...{ body: { kind: "chunked" }, raw: null },
    };
    yield { opened: { exchange, head, described }, captured, response, bytes: Buffer.from(reply.base64, "base64") };
  }
}

for (const name of ["streamableHttp", "sse"]) {
  test(`${name}: every message is understood, and passes byte for byte in any two pieces`, () => {
    const world = makeWorld({ masks: [detect("credit-card", "jwt", "aws-key"), path("$..no_such_member")] });
    const methods: string[] = [];
    for (const { opened, captured, response, bytes } of exchanges(name, world)) {
      methods.push(opened.described.mcp?.method ?? "");
      const traits = opened.described.traits.filter((trait) => trait !== "unknown-tool");
      assert.deepEqual(traits, [], captured.body);
      const body = Buffer.from(captured.body);
      assert.equal(opened.exchange.rewrite?.(body, world.verdict), body);
      const step = Math.max(1, Math.floor(bytes.length / 40));
      for (let at = 0; at <= bytes.length; at += step) {
        const { text, masked } = replyOf(world, opened, response, [bytes.subarray(0, at), bytes.subarray(at)]);
        assert.equal(text, bytes.toString("utf8"));
        assert.equal(masked, 0);
      }
    }
    for (const method of [
      "initialize",
      "notifications/initialized",
      "stream/open",
      "tools/list",
      "tools/call",
      "response",
      "ping",
      "prompts/get",
      "resources/read",
    ])
      assert.ok(methods.includes(method), `${method} of ${methods.join(" ")}`);
  });

  test(`${name}: a tool that is denied is in no list, and every tool called was listed`, () => {
    const world = makeWorld({ denies: ({ mcp }) => mcp?.name === "get-env" });
    let listed = false;
    for (const { opened, captured, response, bytes } of exchanges(name, world)) {
      const { text } = replyOf(world, opened, response, [bytes]);
      assert.ok(!text.includes('"get-env"'));
      listed ||= bytes.includes('"get-env"');
      if (captured.body.includes('"tools/call"') && !captured.body.includes('"nothing"'))
        assert.deepEqual(opened.described.traits, []);
    }
    assert.ok(listed);
  });
}
