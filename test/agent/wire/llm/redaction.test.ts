import assert from "node:assert/strict";
import { test } from "node:test";
import type { RedactSpec } from "../../../../agent/core/verdict.ts";
import { redactBody } from "../../../../agent/wire/llm/redaction.ts";
import { contextOf, redactOf, verdictOf } from "./exchange.ts";

const email = "ada@example.com";
const card = "4111111111111111";
const redact = (body: string, ...redactions: RedactSpec[]): string =>
  redactBody(Buffer.from(body), verdictOf({ redactions }), contextOf("openai"))?.body.toString() ?? body;

test("no redaction, no work: the verdict says so", () => {
  assert.equal(redactBody(Buffer.from("{}"), verdictOf({}), contextOf("openai")), null);
  const body = Buffer.from('{"a":"nothing"}');
  assert.equal(redactBody(body, verdictOf({ redactions: [redactOf(["email"])] }), contextOf("openai"))?.body, body);
});

test("only the strings change: spaces, order and numbers beyond 2^53 stay", () => {
  const body = `{ "seed" : 12345678901234567890,\n "messages":[ {"content":"to ${email}."} ] }`;
  assert.equal(redact(body, redactOf(["email"])), body.replace(email, "<EMAIL_1>"));
});

test("a value behind escapes is found", () => {
  const body = '{"messages":[{"content":"ada\\u0040example\\u002ecom"}]}';
  assert.deepEqual(JSON.parse(redact(body, redactOf(["email"]))), { messages: [{ content: "<EMAIL_1>" }] });
});

test("arguments of a tool are JSON in a string, and stay JSON", () => {
  const inner = JSON.stringify({ to: email, card: Number(card), deep: JSON.stringify({ cc: email }) });
  const body = JSON.stringify({ messages: [{ tool_calls: [{ function: { name: "f", arguments: inner } }] }] });
  const sent = JSON.parse(redact(body, redactOf(["email", "credit-card"])));
  const args = JSON.parse(sent.messages[0].tool_calls[0].function.arguments);
  assert.deepEqual({ ...args, deep: JSON.parse(args.deep) }, { to: "<EMAIL_1>", card: 0, deep: { cc: "<EMAIL_1>" } });
});

test("ids, types and pictures are no text; a document's data is", () => {
  const picture = `data:image/png;base64,${Buffer.from(email.repeat(20)).toString("base64")}`;
  const body = JSON.stringify({
    messages: [{ role: "tool", tool_call_id: "call_4111111111111111", content: picture }],
    documents: [{ data: `mail ${email}` }],
  });
  const sent = JSON.parse(redact(body, redactOf(["email", "credit-card"])));
  assert.equal(sent.messages[0].tool_call_id, "call_4111111111111111");
  assert.equal(sent.messages[0].content, picture);
  assert.equal(sent.documents[0].data, "mail <EMAIL_1>");
});

test("a style without a name cannot come back", () => {
  const body = JSON.stringify({ messages: [{ content: `${email} pays with ${card}` }] });
  const sent = redact(body, { ...redactOf(["credit-card"]), with: "last4" }, redactOf(["email"]));
  assert.equal(JSON.parse(sent).messages[0].content, "<EMAIL_1> pays with ************1111");
});

test("of overlapping values each character is hidden once", () => {
  const body = JSON.stringify({ input: `${card}@example.com and ${email}` });
  const sent = redact(body, redactOf(["credit-card", "email"]));
  assert.ok(!sent.includes(card) && !sent.includes(email), sent);
  assert.doesNotThrow(() => JSON.parse(sent));
});
