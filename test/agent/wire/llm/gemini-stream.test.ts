/** Streamed Gemini replies: values split over chunks at every place, and the rest of the reply as it was. */
import assert from "node:assert/strict";
import { describe, test } from "node:test";
import { GeminiStream } from "../../../../agent/wire/llm/gemini-stream.ts";
import { hide, run, secrets } from "./anthropic-runs.ts";

interface Part {
  readonly text?: string;
  readonly thought?: boolean;
  readonly functionCall?: { readonly name?: string; readonly args?: object; readonly partialArgs?: readonly object[] };
}
interface Chunk {
  readonly candidates: readonly {
    readonly content?: { readonly parts: readonly Part[] };
    readonly index?: number;
    readonly finishReason?: string;
  }[];
}

const chunk = (parts: readonly Part[], more: object = {}): Chunk => ({
  candidates: [{ content: { parts, ...{ role: "model" } }, index: 0, ...more }],
});
const stop = { finishReason: "STOP" };

function textOf(out: readonly unknown[], thought = false, index = 0): string {
  return (out as Chunk[])
    .flatMap(({ candidates }) => candidates)
    .filter((candidate) => (candidate.index ?? 0) === index)
    .flatMap(({ content }) => content?.parts ?? [])
    .filter((part) => (part.thought ?? false) === thought)
    .map((part) => part.text ?? "")
    .join("");
}

describe("gemini stream", () => {
  test("a value split at every place: text, thoughts, parts of one chunk, beside a call", () => {
    for (const secret of secrets) {
      const value = `to ${secret}, or ad`;
      for (let cut = 0; cut <= value.length; cut += 1) {
        const [head, tail] = [value.slice(0, cut), value.slice(cut)];
        const shapes: [Chunk[], boolean][] = [
          [[chunk([{ text: head }]), chunk([{ text: tail }], stop)], false],
          [[chunk([{ text: head }]), chunk([{ text: tail }]), { candidates: [stop] }], false],
          [[chunk([{ text: head }]), chunk([{ text: tail }])], false],
          [
            [
              chunk([{ text: head, thought: true }]),
              chunk([{ text: "x" }]),
              chunk([{ text: tail, thought: true }], stop),
            ],
            true,
          ],
          [[chunk([{ text: head }, { text: tail }], stop)], false],
          [[chunk([{ text: head }]), chunk([{ functionCall: { name: "f", args: {} } }, { text: tail }], stop)], false],
        ];
        for (const [chunks, thought] of shapes) {
          assert.equal(textOf(run(new GeminiStream(), chunks), thought), hide(value), `cut at ${cut}`);
        }
      }
    }
  });

  test("without a match every chunk is as it came", () => {
    const chunks = [chunk([{ text: "Hello" }]), chunk([{ text: " there!" }], stop)];
    assert.deepEqual(run(new GeminiStream(), chunks), chunks);
  });

  test("candidates are runs of their own, and what is left goes into the chunk that ends each", () => {
    const [, email] = secrets;
    const both = (a: string, b: string, more: object = {}): object => ({
      candidates: [
        { content: { parts: [{ text: a }] }, index: 0, ...more },
        { content: { parts: [{ text: b }] }, index: 1, ...more },
      ],
    });
    const out = run(new GeminiStream(), [both(email.slice(0, 4), "ad"), both("x", email.slice(2, 5), stop)]);
    assert.equal(out.length, 2);
    assert.equal(textOf(out), `${email.slice(0, 4)}x`);
    assert.equal(textOf(out, false, 1), email.slice(0, 5));
  });

  test("calls: whole arguments, and arguments that stream", () => {
    const [card] = secrets;
    const whole = chunk(
      [{ functionCall: { name: "pay", args: { id: card, n: 4111111111111111, [card]: true } } }],
      stop,
    );
    const stream = new GeminiStream();
    const [out] = run(stream, [whole]) as [Chunk];
    assert.deepEqual(out.candidates[0]?.content?.parts[0]?.functionCall?.args, {
      id: hide(card),
      n: 0,
      [hide(card)]: true,
    });
    assert.deepEqual(stream.toolCalls, ["pay"]);

    for (let cut = 0; cut <= card.length; cut += 1) {
      const piece = (stringValue: string, willContinue: boolean): Chunk =>
        chunk([{ functionCall: { partialArgs: [{ jsonPath: "$.card", stringValue, willContinue }] } }]);
      const chunks = [
        chunk([{ functionCall: { name: "pay" } }]),
        piece(card.slice(0, cut), true),
        piece(`${card.slice(cut)} ad`, false),
        chunk([], stop),
      ];
      const text = JSON.stringify(run(new GeminiStream(), chunks));
      const values = [...text.matchAll(/"stringValue":"([^"]*)"/g)].map((match) => match[1]);
      assert.equal(values.join(""), `${hide(card)} ad`);
    }
  });

  test("what comes whole is masked; images, signatures and handles stay", () => {
    const [card, email] = secrets;
    const picture = card.repeat(20);
    const event = {
      candidates: [
        {
          content: {
            parts: [
              { executableCode: { code: `print("${email}")` } },
              { codeExecutionResult: { output: card } },
              { inlineData: { mimeType: "image/png", data: picture } },
              { text: "ok", thoughtSignature: card },
            ],
          },
          groundingMetadata: { webSearchQueries: [email] },
          ...stop,
        },
      ],
      responseId: card,
    };
    const [out] = run(new GeminiStream(), [event]) as [typeof event];
    assert.deepEqual(out.candidates[0]?.content.parts, [
      { executableCode: { code: `print("${hide(email)}")` } },
      { codeExecutionResult: { output: hide(card) } },
      { inlineData: { mimeType: "image/png", data: picture } },
      { text: "ok", thoughtSignature: card },
    ]);
    assert.deepEqual(out.candidates[0]?.groundingMetadata.webSearchQueries, [hide(email)]);
    assert.equal(out.responseId, card);
  });

  test("tokens and errors", () => {
    const stream = new GeminiStream();
    const usageMetadata = { promptTokenCount: 10, candidatesTokenCount: 2, thoughtsTokenCount: 3, totalTokenCount: 15 };
    run(stream, [{ usageMetadata }, { error: { code: 500, message: "gone", status: "INTERNAL" } }]);
    assert.deepEqual([stream.inputTokens, stream.outputTokens, stream.error], [10, 5, "gone"]);
  });
});
