/** Bedrock's bidirectional stream: what each event asks for, signed or not, and values cut over events at every place. */
import assert from "node:assert/strict";
import { test } from "node:test";
import { EventSigner } from "../../../../agent/wire/http/sigv4.ts";
import { BedrockEventsIn } from "../../../../agent/wire/llm/bedrock-events-in.ts";
import { writeEvent } from "../../../../agent/wire/llm/bedrock-frames.ts";
import { SonicStream, sonicRequest } from "../../../../agent/wire/llm/bedrock-sonic.ts";
import { llmDialect } from "../../../../agent/wire/llm/dialect.ts";
import { EventStreamReader, writeFrame, writeHeaders } from "../../../../agent/wire/llm/eventstream.ts";
import { hide, run, secrets } from "./anthropic-runs.ts";
import { contextOf, redactOf, replyHead, requestHead, through, verdictOf } from "./exchange.ts";

const promptName = "4111111111111111-of-the-client";
const said = (content: string, contentId = "1") => ({ event: { textOutput: { promptName, contentId, content } } });
const chunk = (event: unknown): Buffer =>
  writeEvent("chunk", {
    bytes: Buffer.from(typeof event === "string" ? event : JSON.stringify(event)).toString("base64"),
  });
/** As the SDK frames it; nobody but AWS looks at the signature. */
const signed = (payload: Buffer): Buffer =>
  writeFrame(writeHeaders([{ name: ":chunk-signature", type: 6, value: Buffer.alloc(32, 7) }]), payload);

test("a value cut over events at every place leaves nowhere, and names stay", () => {
  for (const secret of secrets) {
    const value = `to ${secret}, or ad`;
    for (let cut = 0; cut <= value.length; cut += 1) {
      const events = [said(value.slice(0, cut)), said("aside", "2"), said(value.slice(cut))];
      for (const end of [[{ event: { contentEnd: { contentId: "1" } } }], [{ event: { completionEnd: {} } }], []]) {
        const out = run(new SonicStream(), [...events, ...end]) as ReturnType<typeof said>[];
        const text = out
          .filter(({ event }) => event.textOutput?.contentId === "1")
          .map(({ event }) => event.textOutput.content)
          .join("");
        assert.equal(text, hide(value), `cut at ${cut}`);
        assert.ok(
          out.every(({ event }) => event.textOutput === undefined || event.textOutput.promptName === promptName),
        );
      }
    }
  }
});

test("arguments of a tool are masked whole, sound passes", () => {
  const sound = { event: { audioOutput: { contentId: "3", content: "4111111111111111" } } };
  const tool = { event: { toolUse: { toolName: "f", content: '{"to":"ada@example.com"}' } } };
  const stream = new SonicStream();
  const [first, second] = run(stream, [sound, tool]);
  assert.deepEqual(first, sound);
  assert.equal((second as typeof tool).event.toolUse.content, '{"to":"***************"}');
  assert.deepEqual(stream.toolCalls, ["f"]);
});

test("each event says what it asks, whatever it is called", () => {
  const asked = (inner: object) => sonicRequest({ event: inner });
  assert.deepEqual(asked({ textInput: { promptName: "p", contentName: "c", content: "a secret" } }).facts.prompt, [
    "a secret",
  ]);
  assert.deepEqual(asked({ toolResult: { content: '{"a":"secret"}' } }).facts.prompt, ['{"a":"secret"}']);
  assert.deepEqual(asked({ later: { words: "a secret" } }).facts.prompt, ["a secret"]);
  const start = asked({
    promptStart: { toolConfiguration: { tools: [{ toolSpec: { name: "f", description: "does it" } }] } },
  });
  assert.deepEqual(start.facts.tools, ["f"]);
  assert.ok(start.facts.prompt.includes("does it"));
  assert.equal(asked({ sessionStart: { inferenceConfiguration: { maxTokens: 9 } } }).facts.outputTokensMax, 9);
  assert.equal(asked({ audioInput: { content: "QUJD" } }).isSound, true);
  assert.equal(asked({ audioInput: { content: "no sound, a secret" } }).isSound, false);
  assert.equal(asked({ textInput: {}, other: {} }).type, "");
  assert.equal(sonicRequest({ event: { textInput: {} }, other: 1 }).type, "");
});

test("frames are read at any split, signed ones too; what cannot be read says so", () => {
  const event = { event: { textInput: { content: "a secret" } } };
  const stream = Buffer.concat([chunk(event), signed(chunk(event)), signed(Buffer.alloc(0))]);
  for (let at = 0; at <= stream.length; at += 1) {
    const events = new BedrockEventsIn();
    const raws = [...events.cut(stream.subarray(0, at)), ...events.cut(stream.subarray(at))];
    const got = raws.map((raw) => events.read(raw));
    assert.deepEqual(
      got.map(({ type, facts }) => [type, facts.prompt]),
      [
        ["textInput", ["a secret"]],
        ["textInput", ["a secret"]],
        ["end", []],
      ],
    );
    assert.ok(Buffer.concat(raws).equals(stream));
  }
  const traits = (frame: Buffer): readonly string[] => new BedrockEventsIn().read(frame).traits;
  assert.deepEqual(traits(chunk('{"event":{"a":1},"event":{}}')), ["duplicate-keys"]);
  for (const frame of [
    ...[chunk("no JSON"), writeEvent("chunk", { other: 1 }), writeEvent("later", { bytes: "" }), chunk({ newer: {} })],
    ...[signed(Buffer.concat([chunk(event), chunk(event)])), signed(Buffer.from("short"))],
  ])
    assert.deepEqual(traits(frame), ["unreadable-body"]);
  assert.deepEqual(traits(chunk({ event: { audioInput: { content: "QUJD" } } })), ["body-unread"]);
});

test("a later event that is held waits with those behind it, and leaves as it came", () => {
  const verdict = verdictOf({});
  const said = (content: string): Buffer => signed(chunk({ event: { textInput: { content } } }));
  const asked: string[] = [];
  const exchange = llmDialect.open(requestHead("/model/amazon.nova-sonic-v1:0/invoke-with-bidirectional-stream"), {
    ...contextOf("bedrock"),
    would: ({ llm }) => {
      asked.push(llm?.prompt ?? "");
      return { ...verdict, action: llm?.prompt.includes("ask") === true ? "hold" : "allow" };
    },
  });
  assert.ok(exchange !== null);
  exchange.describe(said("first"));
  const reader = exchange.forward?.(verdict) ?? assert.fail("it is not forwarded");
  reader.defer?.();
  const frames = [said("first"), said("please ask"), said("third"), said("ask again"), said("last")];
  const out = [reader.push(Buffer.concat(frames))];
  assert.ok((out[0] as Buffer).equals(frames[0] as Buffer));
  assert.equal(reader.held?.()?.llm?.prompt, "please ask");
  out.push(reader.release?.() ?? assert.fail());
  assert.equal(reader.held?.()?.llm?.prompt, "ask again");
  out.push(reader.release?.() ?? assert.fail(), reader.end());
  assert.equal(reader.held?.(), null);
  assert.ok(Buffer.concat(out).equals(Buffer.concat(frames)));
  assert.deepEqual(asked, ["please ask", "third", "ask again", "last"]);
});

test("a redacted event is framed anew, and its name comes back; what the client signed is signed anew or denied", () => {
  const verdict = verdictOf({ redactions: [redactOf(["email"])] });
  const said = (content: string): Buffer => chunk({ event: { textInput: { content } } });
  const names = "ada@example.com and bob@example.com";
  const hidden = "<EMAIL_1> and <EMAIL_2>";
  const open = (signer: EventSigner | null, first: Buffer) => {
    const head = requestHead("/model/amazon.nova-sonic-v1:0/invoke-with-bidirectional-stream");
    const exchange = llmDialect.open(head, contextOf("bedrock")) ?? assert.fail("it is no call");
    exchange.describe(first);
    signer?.signHead(head);
    return { exchange, reader: exchange.forward?.(verdict, signer) ?? assert.fail("it is not forwarded") };
  };
  const textsIn = (bytes: Buffer): string[] => {
    const events = new BedrockEventsIn();
    return events.cut(bytes).flatMap((raw) => events.read(raw).facts.prompt);
  };

  const plain = open(null, said("hello"));
  plain.reader.defer?.();
  // A long one as well: a thread would not know the names.
  const long = `${"x ".repeat(120_000)}${names}`;
  const out = Buffer.concat([plain.reader.push(Buffer.concat([said("hello"), said(names), said(long)]))]);
  assert.equal(plain.reader.takeLarge?.(false), null);
  assert.deepEqual(textsIn(out), ["hello", hidden, `${"x ".repeat(120_000)}${hidden}`]);
  const reply = plain.exchange.reply(replyHead("application/vnd.amazon.eventstream"), verdict);
  const back = through(reply, [
    chunk({ event: { textOutput: { contentId: "1", content: "to <EMA" } } }),
    chunk({ event: { textOutput: { contentId: "1", content: "IL_2>." } } }),
  ]);
  const given = new EventStreamReader().push(back).map(({ payload }) => JSON.parse(String(payload)).bytes as string);
  assert.match(given.map((bytes) => Buffer.from(bytes, "base64").toString()).join(), /to .*bob@example\.com\./);

  const byClient = open(null, signed(said("hello")));
  assert.ok(byClient.reader.push(signed(said("hello"))).equals(signed(said("hello"))));
  assert.throws(() => byClient.reader.push(signed(said(names))), { code: "WEIR_DENIED" });

  const key = { accessKeyId: "AK", secretAccessKey: "s", sessionToken: null, region: "r", service: "bedrock" };
  for (const frame of [signed, (inner: Buffer) => inner]) {
    const { reader } = open(new EventSigner(key, () => 1_760_000_000_123), frame(said("hello")));
    const left = Buffer.concat([reader.push(Buffer.concat([frame(said("hello")), frame(said(names))])), reader.end()]);
    assert.deepEqual(textsIn(left), ["hello", hidden]);
    const frames = new EventStreamReader().push(left);
    assert.deepEqual(
      frames.map(({ headers }) => headers.map(({ name }) => name).join()),
      [":date,:chunk-signature", ":date,:chunk-signature", ":date,:chunk-signature"],
      "the last one is empty",
    );
    assert.equal(new Set(frames.map(({ headers }) => headers[1]?.value.toString("hex"))).size, 3);
  }
});
