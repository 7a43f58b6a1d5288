import assert from "node:assert/strict";
import { test } from "node:test";
import { maskOf, run } from "./exchange.ts";
import { card, cardNumber, chatStream, email, pieces, responsesStream, sse } from "./openai-vectors.ts";

const request = { model: "gpt-4o", stream: true, messages: [{ role: "user", content: "hi" }] };
const masks = [maskOf(["credit-card", "email", "private-key"])];
/** Holds back no word that could become an address. */
const cards = [maskOf(["credit-card"])];
const type = "text/event-stream; charset=utf-8";

interface Told {
  content: string;
  reasoning: string;
  args: string;
  reasons: unknown[];
  afterEnd: boolean;
}

/** As an SDK joins chunks of a chat. */
function chatTold(out: Buffer): Told {
  const told: Told = { content: "", reasoning: "", args: "", reasons: [], afterEnd: false };
  for (const event of out.toString("utf8").split("\n\n")) {
    if (event === "" || event === "data: [DONE]") continue;
    assert.ok(event.startsWith("data: "), event);
    const chunk = JSON.parse(event.slice(6));
    for (const { delta, finish_reason: reason } of chunk.choices) {
      if (told.reasons.length > 0 && Object.keys(delta).length > 0) told.afterEnd = true;
      told.content += delta.content ?? "";
      told.reasoning += delta.reasoning_content ?? "";
      for (const call of delta.tool_calls ?? []) told.args += call.function.arguments ?? "";
      if (reason !== null) told.reasons.push(reason);
    }
  }
  return told;
}

function stars(text: string): string {
  return text.replaceAll(email, "*".repeat(email.length)).replaceAll(card, "*".repeat(card.length));
}

test("a chat without a value passes byte for byte, also where masks are looked for", () => {
  const bytes = sse(chatStream({ content: ["Hel", "lo <b> ", "you"], args: ['{"a":', "1}"] }));
  const { out, reader } = run("/v1/chat/completions", request, { type, parts: [bytes] }, { masks: cards });
  assert.equal(out.toString(), bytes.toString());
  assert.equal(reader?.masked, 0);
  assert.deepEqual(reader?.summary(), {
    text: 'Hello <b> you\n{"a":1}',
    inputTokens: 17,
    outputTokens: 41,
    toolCalls: ["send_mail"],
    error: null,
  });
});

test("values in content, reasoning and arguments are masked, however the deltas cut them", () => {
  const said = `Write to ${email}, card ${card}, or ${email}`;
  const args = `{"to":"${email}","n":${cardNumber},"also":"a\\u0040example.com \\"x\\""}`;
  for (const size of [1, 2, 3, 5, 8, 13, 200]) {
    const texts = { content: pieces(said, size), reasoning: pieces(said, size), args: pieces(args, size) };
    const bytes = sse(chatStream(texts));
    const { out, reader } = run("/v1/chat/completions", request, { type, parts: [bytes] }, { masks });
    const told = chatTold(out);
    assert.equal(told.content, stars(said), `deltas of ${size}`);
    assert.equal(told.reasoning, stars(said));
    assert.deepEqual(JSON.parse(told.args), { to: stars(email), n: 0, also: '************* "x"' });
    assert.deepEqual(told.reasons, ["tool_calls"]);
    assert.equal(told.afterEnd, false);
    assert.equal(reader?.masked, 9);
    assert.ok(out.toString().endsWith("data: [DONE]\n\n"));
    assert.ok(!reader?.summary().text.includes(email));
  }
});

test("the bytes of a stream may be cut anywhere", () => {
  const chunk = (content: string): object => ({ choices: [{ index: 0, delta: { content } }] });
  const bytes = sse([...pieces(`é ${email} €😀 ${card}`, 9).map(chunk), "[DONE]"]);
  const whole = run("/v1/chat/completions", request, { type, parts: [bytes] }, { masks }).out.toString();
  for (let at = 0; at <= bytes.length; at += 1) {
    const parts = [bytes.subarray(0, at), bytes.subarray(at)];
    const { out, reader } = run("/v1/chat/completions", request, { type, parts }, { masks });
    assert.equal(out.toString(), whole, `cut at ${at}`);
    assert.equal(reader?.heldBytes, 0);
  }
});

test("what is held back leaves at the end, also without finish_reason, and with text in the last chunk", () => {
  const start = chatStream({ content: ["my card is 4111"] }).slice(0, 2);
  const cut = run("/v1/chat/completions", request, { type, parts: [sse(start)] }, { masks });
  assert.equal(chatTold(cut.out).content, "my card is 4111");
  const done = run("/v1/chat/completions", request, { type, parts: [sse([...start, "[DONE]"])] }, { masks });
  assert.equal(chatTold(done.out).content, "my card is 4111");
  assert.ok(done.out.toString().endsWith("data: [DONE]\n\n"));
  const [first] = start as [object];
  const last = { ...first, choices: [{ index: 0, delta: { content: "see 4111 1111" }, finish_reason: "length" }] };
  const ended = chatTold(run("/v1/chat/completions", request, { type, parts: [sse([last])] }, { masks }).out);
  assert.deepEqual([ended.content, ended.reasons], ["see 4111 1111", ["length"]]);
});

test("choices and tools are texts of their own", () => {
  const chunk = (index: number, content: string): object => ({ choices: [{ index, delta: { content } }] });
  const events = [chunk(0, "4111 1111 "), chunk(1, "nothing "), chunk(0, "1111 1111"), chunk(1, "here"), "[DONE]"];
  const { out } = run("/v1/chat/completions", request, { type, parts: [sse(events)] }, { masks });
  assert.ok(!/\d{4}/.test(out.toString()), out.toString());
  assert.equal(chatTold(out).content.replaceAll("*", ""), "nothing here");
});

test("tokens' probabilities would tell the value letter by letter, and go", () => {
  const logprobs = { content: [{ token: "ada", bytes: [97, 100, 97], logprob: -1, top_logprobs: [] }] };
  const event = { choices: [{ index: 0, delta: { content: "ada" }, logprobs, finish_reason: null }] };
  const { out } = run("/v1/chat/completions", request, { type, parts: [sse([event])] }, { masks });
  assert.ok(out.toString().includes('"logprobs":null') && !out.toString().includes("97"));
});

test("a response's deltas, its done events and its end tell the same masked text", () => {
  const said = `Write to ${email}, card ${card}`;
  const args = `{"to":"${email}","n":${cardNumber}}`;
  for (const size of [1, 4, 7, 100]) {
    const bytes = sse(responsesStream(pieces(said, size), pieces(args, size)), true);
    const { out, reader } = run("/v1/responses", request, { type, parts: [bytes] }, { masks });
    const events = out
      .toString()
      .split("\n\n")
      .filter((event) => event !== "")
      .map((event) => {
        const [name = "", data = ""] = event.split("\n");
        const parsed = JSON.parse(data.slice(6));
        assert.equal(name, `event: ${parsed.type}`);
        return parsed;
      });
    const joined = (kind: string): string =>
      events
        .filter((event) => event.type === `response.${kind}.delta`)
        .map(({ delta }) => delta)
        .join("");
    const of = (kind: string) => events.find((event) => event.type === `response.${kind}`);
    assert.equal(joined("output_text"), stars(said));
    assert.equal(of("output_text.done").text, stars(said));
    assert.equal(of("content_part.done").part.text, stars(said));
    assert.equal(joined("function_call_arguments"), of("function_call_arguments.done").arguments);
    assert.deepEqual(JSON.parse(of("function_call_arguments.done").arguments), { to: stars(email), n: 0 });
    const { output } = of("completed").response;
    assert.equal(output[0].content[0].text, stars(said));
    assert.equal(output[1].arguments, joined("function_call_arguments"));
    assert.ok(!out.toString().includes(email) && !out.toString().includes(cardNumber));
    const order = events.map((event) => event.type);
    assert.ok(order.lastIndexOf("response.output_text.delta") < order.indexOf("response.output_text.done"));
    const { inputTokens, outputTokens, toolCalls } = reader?.summary() ?? {};
    assert.deepEqual([inputTokens, outputTokens, toolCalls], [11, 22, ["send_mail"]]);
  }
});

test("a response without a value passes byte for byte", () => {
  const bytes = sse(responsesStream(["Hello ", "you"], ['{"a":', "1}"]), true);
  assert.equal(
    run("/v1/responses", request, { type, parts: [bytes] }, { masks: cards }).out.toString(),
    bytes.toString(),
  );
});

test("without masks bytes pass at once, and tokens, tools and errors are counted all the same", () => {
  const bytes = sse(chatStream({ content: ["a"], args: ["{}"] }));
  for (const record of ["statement", "result"] as const) {
    const parts = pieces(bytes.toString("latin1"), 7).map((part) => Buffer.from(part, "latin1"));
    const { out, reader } = run("/v1/chat/completions", request, { type, parts }, { record });
    assert.equal(out.toString(), bytes.toString());
    assert.equal(reader?.preservesLength, true);
    const { text, inputTokens, outputTokens, toolCalls } = reader?.summary() ?? {};
    assert.deepEqual([inputTokens, outputTokens, toolCalls], [17, 41, ["send_mail"]]);
    assert.equal(text, record === "result" ? "a\n{}" : "");
  }
  const failed = sse([{ error: { message: "overloaded", type: "server_error" } }]);
  const { reader } = run("/v1/chat/completions", request, { type, parts: [failed] }, {});
  assert.equal(reader?.summary().error, "overloaded");
});

test("a JSON path is masked in arguments, however they are cut, and in events", () => {
  const named = [maskOf(null, { json: "$..ssn" })];
  const args = '{"who":{"ssn":"123-45-6789","n":1}}';
  const bytes = sse(chatStream({ args: pieces(args, 3) }));
  const { out, reader } = run("/v1/chat/completions", request, { type, parts: [bytes] }, { masks: named });
  assert.deepEqual(JSON.parse(chatTold(out).args), { who: { ssn: "***********", n: 1 } });
  assert.equal(reader?.masked, 1);
});

test("an event above the limit ends the reply with an error that the SDK knows", () => {
  const huge = Buffer.from(`data: {"choices":[{"delta":{"content":"${"a".repeat(5 * 1024 * 1024)}`);
  const { out, reader } = run("/v1/chat/completions", request, { type, parts: [huge, huge] }, { masks });
  assert.match(JSON.parse(out.toString().slice(6)).error.message, /longer than 4194304 bytes/);
  assert.match(reader?.summary().error ?? "", /longer than/);
});
