/** Each kind of value, cut at every character over two deltas, in each kind of frame that OpenAI's APIs and Ollama stream. */
import assert from "node:assert/strict";
import { test } from "node:test";
import type { DetectorName } from "../../../../agent/core/verdict.ts";
import { maskOf, run } from "./exchange.ts";
import { chatStream, responsesStream, sse } from "./openai-vectors.ts";

const letters = "ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789";
const line = `${letters}+/`.slice(0, 64);

const values: Readonly<Record<DetectorName, string>> = {
  "credit-card": "4111 1111 1111 1111",
  ssn: "078-05-1120",
  email: "ada.lovelace+x@mail.example.com",
  phone: "+1 (415) 555-2671",
  iban: "DE89 3704 0044 0532 0130 00",
  "aws-key": `AKIA${"IOSFODNN7EXAMPLE"}`,
  "openai-key": `sk-proj-${letters.slice(0, 40)}`,
  "anthropic-key": `sk-ant-api03-${letters.slice(0, 50)}`,
  "github-token": `ghp_${letters.slice(0, 36)}`,
  jwt: `eyJhbGciOiJIUzI1NiJ9.eyJzdWIiOiIxMjM0NTY3ODkwIiwibmFtZSI6IkEifQ.${letters.slice(0, 43)}`,
  "private-key": `-----BEGIN PRIVATE KEY-----\n${line}\n${line}\n-----END PRIVATE KEY-----`,
};

interface Frame {
  readonly target: string;
  readonly type: string;
  readonly protocol: "openai" | "ollama";
  stream(parts: readonly string[]): Buffer;
  /** The text as a client joins it. */
  told(out: string): string[];
}

const type = "text/event-stream";
const request = { model: "m", stream: true, messages: [] };

function events(out: string) {
  return out
    .split("\n\n")
    .flatMap((event) => event.split("\n").filter((one) => one.startsWith("data: {")))
    .map((data) => JSON.parse(data.slice(6)));
}

function inJson(text: string): string {
  return JSON.stringify(text).slice(1, -1);
}

const frames: Readonly<Record<string, Frame>> = {
  content: {
    target: "/v1/chat/completions",
    type,
    protocol: "openai",
    stream: (parts) => sse(chatStream({ content: parts })),
    told: (out) => [
      events(out)
        .map(({ choices }) => choices[0]?.delta.content ?? "")
        .join(""),
    ],
  },
  arguments: {
    target: "/v1/chat/completions",
    type,
    protocol: "openai",
    stream: (parts) => sse(chatStream({ args: ['{"v":"', ...parts.map(inJson), '"}'] })),
    told: (out) => [
      JSON.parse(
        events(out)
          .map(({ choices }) => choices[0]?.delta.tool_calls?.[0].function.arguments ?? "")
          .join(""),
      ).v,
    ],
  },
  responses: {
    target: "/v1/responses",
    type,
    protocol: "openai",
    stream: (parts) => sse(responsesStream(parts, ['{"v":"', ...parts.map(inJson), '"}']), true),
    told(out) {
      const all = events(out);
      const deltas = all.filter((event) => event.type === "response.output_text.delta").map(({ delta }) => delta);
      const { response } = all.at(-1);
      return [
        deltas.join(""),
        all.find((event) => event.type === "response.output_text.done").text,
        response.output[0].content[0].text,
        JSON.parse(response.output[1].arguments).v,
      ];
    },
  },
  ollama: {
    target: "/api/generate",
    type: "application/x-ndjson",
    protocol: "ollama",
    stream(parts) {
      const lines = parts.map((response) => ({ model: "m", response, done: false }));
      return Buffer.from(
        [...lines, { model: "m", response: "", done: true }].map((one) => `${JSON.stringify(one)}\n`).join(""),
      );
    },
    told: (out) => [
      out
        .trim()
        .split("\n")
        .map((one) => JSON.parse(one).response)
        .join(""),
    ],
  },
};

for (const [name, frame] of Object.entries(frames)) {
  test(`no value leaves in ${name}, wherever two deltas cut it`, () => {
    for (const [detector, value] of Object.entries(values)) {
      const masks = [maskOf([detector as DetectorName])];
      const hidden = `It is ${"*".repeat(value.length)} , yes`;
      // Every place of a short value; of a long one the ends and some in between.
      for (let at = 0; at <= value.length; at += at < 30 || at > value.length - 30 ? 1 : 7) {
        const parts = ["It is ", value.slice(0, at), value.slice(at), " , yes"];
        const reply = { type: frame.type, parts: [frame.stream(parts)] };
        const { out } = run(frame.target, request, reply, { masks }, frame.protocol);
        for (const told of frame.told(out.toString())) assert.equal(told, hidden, `${detector} cut at ${at}`);
      }
    }
  });
}
