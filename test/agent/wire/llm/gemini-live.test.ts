/** Gemini's Live API: what each message asks for, and values cut over messages at every place. */
import assert from "node:assert/strict";
import { test } from "node:test";
import { geminiRoute } from "../../../../agent/wire/llm/gemini.ts";
import { GeminiLiveStream, geminiLive } from "../../../../agent/wire/llm/gemini-live.ts";
import { hide, run, secrets } from "./anthropic-runs.ts";

interface Content {
  readonly modelTurn?: { readonly parts: readonly { readonly text?: string; readonly thought?: boolean }[] };
  readonly inputTranscription?: { readonly text: string };
  readonly outputTranscription?: { readonly text: string };
  readonly turnComplete?: boolean;
}

const text = (value: string, thought = false) => ({
  serverContent: { modelTurn: { parts: [thought ? { text: value, thought } : { text: value }] } },
});
const contents = (out: readonly unknown[]): Content[] =>
  (out as { serverContent?: Content }[]).map(({ serverContent }) => serverContent ?? {});
const said = (out: readonly unknown[], thought = false): string =>
  contents(out)
    .flatMap(({ modelTurn }) => modelTurn?.parts ?? [])
    .filter((part) => (part.thought ?? false) === thought)
    .map((part) => part.text ?? "")
    .join("");

test("the paths of the API and of Vertex AI are realtime", () => {
  for (const path of [
    "/ws/google.ai.generativelanguage.v1beta.GenerativeService.BidiGenerateContent",
    "//ws/google.ai.generativelanguage.v1alpha.GenerativeService.BidiGenerateContentConstrained",
    "/ws/google.cloud.aiplatform.v1beta1.LlmBidiService/BidiGenerateContent",
  ])
    assert.equal(geminiRoute("GET", path, "")?.api, "realtime", path);
});

test("a value cut over messages at every place leaves nowhere: text, thoughts, transcripts of both sides", () => {
  for (const secret of secrets) {
    const value = `to ${secret}, or ad`;
    for (let cut = 0; cut <= value.length; cut += 1) {
      const [head, tail] = [value.slice(0, cut), value.slice(cut)];
      const between = { serverContent: { outputTranscription: { text: "aside" } } };
      for (const end of [
        [{ serverContent: { turnComplete: true }, usageMetadata: { responseTokenCount: 3 } }],
        [{ serverContent: { interrupted: true } }],
        [{ toolCall: { functionCalls: [{ id: "1", name: "f", args: { to: secret } }] } }],
        [],
      ]) {
        const plain = run(new GeminiLiveStream(), [text(head), between, text(tail), ...end]);
        assert.equal(said(plain), hide(value), `cut at ${cut}`);
        assert.ok(!JSON.stringify(plain).includes(JSON.stringify(secret).slice(1, -1)));
      }
      const thought = run(new GeminiLiveStream(), [text(head, true), text("x"), text(tail, true)]);
      assert.equal(said(thought, true), hide(value));
      const last = run(new GeminiLiveStream(), [
        text(head),
        { serverContent: { modelTurn: { parts: [{ text: tail }] }, turnComplete: true } },
      ]);
      assert.equal(said(last), hide(value), "what the last message says comes before what was held");
      assert.equal(contents(last).at(-1)?.turnComplete, true);
      for (const key of ["inputTranscription", "outputTranscription"] as const) {
        const out = run(new GeminiLiveStream(), [
          { serverContent: { [key]: { text: head } } },
          { serverContent: { [key]: { text: tail, finished: true } } },
          { serverContent: { turnComplete: true } },
        ]);
        const joined = contents(out).reduce((all, content) => all + (content[key]?.text ?? ""), "");
        assert.equal(joined, hide(value), `${key} cut at ${cut}`);
      }
    }
  }
});

test("what is not text passes as it came", () => {
  const stream = new GeminiLiveStream();
  const events = [
    { setupComplete: {} },
    { serverContent: { modelTurn: { parts: [{ inlineData: { mimeType: "audio/pcm", data: "QUJD".repeat(200) } }] } } },
    { goAway: { timeLeft: "5s" } },
    { serverContent: { generationComplete: true } },
  ];
  assert.deepEqual(run(stream, events), events);
});

test("each message of the client says what it asks", () => {
  const setup = geminiLive.asked({
    setup: {
      model: "models/gemini-live",
      systemInstruction: { parts: [{ text: "be kind" }] },
      tools: [{ functionDeclarations: [{ name: "f", description: "does it" }] }, { googleSearch: {} }],
    },
  });
  assert.deepEqual([setup.type, setup.kind, setup.answered], ["setup", "prompt", false]);
  assert.deepEqual([setup.facts.model, setup.facts.tools], ["gemini-live", ["f", "googleSearch"]]);
  assert.deepEqual(setup.facts.prompt, ["be kind", "does it"]);
  for (const content of [
    { clientContent: { turns: [{ role: "user", parts: [{ text: "a secret" }] }], turnComplete: true } },
    { client_content: { turns: [{ role: "user", parts: [{ text: "a secret" }] }], turn_complete: true } },
  ]) {
    const { type, kind, facts, answered } = geminiLive.asked(content);
    assert.deepEqual([type, kind, facts.prompt, answered], ["clientContent", "prompt", ["a secret"], true]);
  }
  const half = geminiLive.asked({ clientContent: { turns: [], turnComplete: false } });
  assert.equal(half.answered, false);
  const tool = geminiLive.asked({ toolResponse: { functionResponses: [{ id: "1", response: { it: "a secret" } }] } });
  assert.deepEqual([tool.kind, tool.facts.prompt], ["prompt", ["a secret", "it"]]);
});

test("sound, pictures and signs of speech are one kind; words beside them, and what nobody knows, are not", () => {
  const audio = { mimeType: "audio/pcm;rate=16000", data: "QUJD".repeat(100) };
  const kind = (input: object) => geminiLive.asked({ realtimeInput: input }).kind;
  for (const input of [
    { audio },
    { mediaChunks: [audio, { mime_type: "image/jpeg", data: "x" }] },
    { activityStart: {} },
  ])
    assert.equal(kind(input), "sound");
  for (const input of [
    ...[{ text: "a secret" }, { audio, text: "a secret" }, { mediaChunks: [{ mimeType: "text/plain", data: "eA==" }] }],
    ...[{ audio: { ...audio, note: "a secret" } }, { later: "a secret" }],
  ])
    assert.equal(kind(input), "prompt", JSON.stringify(input));
  assert.deepEqual(geminiLive.asked({ realtimeInput: { text: "a secret" } }).facts.prompt, ["a secret"]);
  assert.equal(geminiLive.asked({ clientContent: {}, other: "a secret" }).type, "");
  assert.equal(geminiLive.asked({ newer: { text: "a secret" } }).type, "");
});

test("what a turn has cost is told at its end", () => {
  const usageMetadata = { promptTokenCount: 5, responseTokenCount: 7, thoughtsTokenCount: 1 };
  assert.equal(geminiLive.spent({ serverContent: { modelTurn: {} } }), null);
  const told = geminiLive.spent({ serverContent: { turnComplete: true }, usageMetadata });
  assert.deepEqual(told, { inputTokens: 5, outputTokens: 8 });
  assert.deepEqual(geminiLive.spent({ toolCall: {} }), { inputTokens: null, outputTokens: null });
});
