/** The JSON array of a Gemini stream: any split, nothing lost between the elements, coded errors only. */
import assert from "node:assert/strict";
import { describe, test } from "node:test";
import { PeerError } from "../../../../agent/errors.ts";
import { geminiReply } from "../../../../agent/wire/llm/gemini.ts";
import { type ArrayPiece, GeminiArray, JsonArrayReader } from "../../../../agent/wire/llm/gemini-array.ts";
import { hide, SecretRuns, secrets } from "./anthropic-runs.ts";

const elements = ['{"a":"]},{[\\""}', '{\r\n "b": [[1], {"c": "\\\\"}]\r\n}', "{}"];
const stream = Buffer.from(`[${elements[0]}\n,\r\n${elements[1]}\n,\r\n${elements[2]}\n]\n`);

function readAll(parts: readonly Buffer[]): ArrayPiece[] {
  const reader = new JsonArrayReader();
  const pieces = parts.flatMap((part) => reader.push(part));
  reader.end();
  return pieces;
}

describe("gemini array stream", () => {
  test("every split gives the same elements and keeps every byte", () => {
    for (let cut = 0; cut <= stream.length; cut += 1) {
      const pieces = readAll([stream.subarray(0, cut), stream.subarray(cut)]);
      assert.deepEqual(Buffer.concat(pieces.map((piece) => piece.bytes)), stream);
      const found = pieces.filter((piece) => piece.kind === "element").map((piece) => piece.bytes.toString());
      assert.deepEqual(found, elements, `cut at ${cut}`);
    }
    const bytewise = readAll([...stream].map((byte) => Buffer.from([byte])));
    assert.deepEqual(Buffer.concat(bytewise.map((piece) => piece.bytes)), stream);
  });

  test("a reply: a value split at every place, the array cut at every byte, untouched bytes as they came", () => {
    const array = (pieces: readonly string[]): Buffer =>
      Buffer.from(
        `[${pieces
          .map((text, i) => {
            const last = i === pieces.length - 1 ? ',\n"finishReason": "STOP"' : "";
            return `{\n"candidates": [{"content": {"parts": [{"text": ${JSON.stringify(text)}}]}${last}}]\n}`;
          })
          .join("\n,\r\n")}]\n`,
      );
    const through = (bytes: Buffer, cut: number): Buffer => {
      const reply = new GeminiArray(new SecretRuns());
      return Buffer.concat([reply.push(bytes.subarray(0, cut)), reply.push(bytes.subarray(cut)), reply.end()]);
    };
    const textOf = (bytes: Buffer): string => geminiReply(JSON.parse(bytes.toString())).text.join("");
    for (const secret of secrets) {
      const value = `to ${secret} ad`;
      for (let cut = 0; cut <= value.length; cut += 1) {
        const bytes = array([value.slice(0, cut), value.slice(cut)]);
        assert.equal(textOf(through(bytes, bytes.length >> 1)), hide(value), `cut at ${cut}`);
      }
    }
    const quiet = array(["Hello", " there!"]);
    const loud = array([secrets[0].slice(0, 5), secrets[0].slice(5)]);
    for (let cut = 0; cut <= loud.length; cut += 1) {
      assert.equal(textOf(through(loud, cut)), hide(secrets[0]));
      assert.deepEqual(through(quiet, Math.min(cut, quiet.length)), quiet);
    }
    const open = Buffer.from('[{"candidates":[{"content":{"parts":[{"text":"ad"}]}}]}]');
    assert.equal(textOf(through(open, 9)), "ad");
  });

  test("an element leaves as soon as it is whole", () => {
    const reader = new JsonArrayReader();
    const pieces = reader.push(Buffer.from(`[${elements[0]}`));
    assert.deepEqual(
      pieces.map((piece) => piece.kind),
      ["between", "element"],
    );
    assert.equal(reader.heldBytes, 0);
  });

  test("what is no array of objects is a coded error", () => {
    for (const text of ["{}", "[1]", '["a"]', "[[]]", "[] x", "[][]", '[{"a":1', '[{"a":"}]']) {
      assert.throws(
        () => readAll([Buffer.from(text)]),
        (error) => error instanceof PeerError && error.code === "WEIR_FRAME_INVALID",
        text,
      );
    }
  });
});
