/** Events of any shape through every reader: nothing but coded errors, and no secret that stood in one text gets out. */
import assert from "node:assert/strict";
import { test } from "node:test";
import { PeerError } from "../../../../agent/errors.ts";
import { anthropicReply, anthropicRequest } from "../../../../agent/wire/llm/anthropic.ts";
import { bedrockReply, bedrockRequest } from "../../../../agent/wire/llm/bedrock.ts";
import { BedrockFrames, writeEvent } from "../../../../agent/wire/llm/bedrock-frames.ts";
import { writeFrame, writeTextHeaders } from "../../../../agent/wire/llm/eventstream.ts";
import { geminiReply } from "../../../../agent/wire/llm/gemini.ts";
import { GeminiArray } from "../../../../agent/wire/llm/gemini-array.ts";
import { geminiRequest } from "../../../../agent/wire/llm/gemini-request.ts";
import { isHandle, type JsonObject } from "../../../../agent/wire/llm/message-leaves.ts";
import { MessageStream } from "../../../../agent/wire/llm/message-stream.ts";
import { randomOf } from "../../../support/random.ts";
import { hide, run, SecretRuns, secrets } from "./anthropic-runs.ts";

const keys = [
  ...["type", "index", "delta", "text", "content_block", "message", "usage", "input", "content", "completion", "error"],
  ...[
    "candidates",
    "parts",
    "functionCall",
    "args",
    "partialArgs",
    "jsonPath",
    "stringValue",
    "willContinue",
    "thought",
  ],
  ...[
    "finishReason",
    "contentBlockDelta",
    "contentBlockStop",
    "contentBlockIndex",
    "toolUse",
    "bytes",
    "__proto__",
    "",
  ],
];
const texts = [
  ...[
    "content_block_delta",
    "content_block_start",
    "content_block_stop",
    "message_stop",
    "text_delta",
    "error",
    "ad",
    "",
  ],
  ...secrets,
  ...secrets.map((secret) => `x ${secret} y`),
];

function value(random: (below: number) => number, depth: number): unknown {
  const kind = random(depth > 4 ? 5 : 9);
  if (kind < 2) return texts[random(texts.length)];
  if (kind === 2) return random(3);
  if (kind === 3) return random(2) === 0;
  if (kind === 4) return null;
  if (kind === 5) return Array.from({ length: random(4) }, () => value(random, depth + 1));
  return object(random, depth + 1);
}

function object(random: (below: number) => number, depth: number): JsonObject {
  const members = Array.from({ length: random(5) }, () => {
    const key = keys[random(keys.length)] as string;
    return `${JSON.stringify(key)}:${JSON.stringify(value(random, depth))}`;
  });
  return JSON.parse(`{${members.join(",")}}`) as JsonObject;
}

/** Texts that stand below a name that is no handle. */
function leaks(node: unknown, name = ""): boolean {
  if (typeof node === "string") return !isHandle(name, node) && secrets.some((secret) => node.includes(secret));
  if (typeof node !== "object" || node === null) return false;
  const own = Array.isArray(node) ? name : null;
  return Object.entries(node).some(([key, inner]) => leaks(inner, own ?? key));
}

test("events of any shape", () => {
  for (let seed = 1; seed <= 3000; seed += 1) {
    const random = randomOf(seed);
    const events = Array.from({ length: 1 + random(6) }, () => object(random, 0));
    try {
      const out = run(new MessageStream(), events);
      assert.ok(!leaks(out), `seed ${seed}: ${JSON.stringify(out)}`);
      for (const format of ["converse", "invoke"] as const) {
        const frames = new BedrockFrames(new SecretRuns(), format);
        for (const event of events) {
          const [type = "chunk"] = Object.keys(event);
          const bytes = Buffer.from(JSON.stringify(event)).toString("base64");
          frames.push(format === "invoke" ? writeEvent("chunk", { bytes }) : writeEvent(type, event[type] ?? {}));
        }
        frames.end();
      }
      const array = new GeminiArray(new SecretRuns());
      const bytes = Buffer.concat([array.push(Buffer.from(JSON.stringify(events))), array.end()]);
      assert.ok(!leaks(JSON.parse(bytes.toString())), `seed ${seed}`);
    } catch (error) {
      if (!(error instanceof PeerError)) throw new Error(`seed ${seed}`, { cause: error });
    }
    for (const event of events) {
      for (const read of [anthropicRequest, geminiRequest, anthropicReply, geminiReply]) read(event);
      for (const format of ["converse", "invoke", "other"] as const) {
        bedrockRequest(event, format);
        bedrockReply(event, format);
      }
    }
  }
});

test("a text that goes 100,000 levels deep is read without a deep stack", () => {
  let deep: unknown = secrets[0];
  for (let i = 0; i < 100_000; i += 1) deep = [deep];
  const out = new MessageStream().event({ type: "later", deep }, new SecretRuns());
  let inner: unknown = out?.[0]?.["deep"];
  while (Array.isArray(inner)) inner = inner[0];
  assert.equal(inner, "*".repeat(secrets[0].length));
  const payload = Buffer.from(
    `{"bytes":"${Buffer.from(`{"a":${"[".repeat(100_000)}"${secrets[0]}"${"]".repeat(100_000)}}`).toString("base64")}"}`,
  );
  const frame = writeFrame(writeTextHeaders([[":event-type", "chunk"]]), payload);
  const code = "WEIR_LIMIT_REACHED";
  assert.throws(() => new BedrockFrames(new SecretRuns(), "invoke").push(Buffer.from(frame)), { code });
});

test("what an unknown model's last event held back comes in one like it, and its members keep their names", () => {
  const out = run(new MessageStream(), [
    { event_type: "text-generation", text: "to ad", is_finished: false },
    {
      event_type: "stream-end",
      is_finished: true,
      response: { text: "to ad", "ada@example.com": 4111111111111111, n: 2 },
    },
  ]);
  const members = { [hide("ada@example.com")]: 0, n: 2 };
  assert.deepEqual(out.at(1), { event_type: "stream-end", is_finished: true, response: { text: "to ", ...members } });
  assert.deepEqual(out.at(-1), { event_type: "stream-end", is_finished: true, response: { text: "ad", ...members } });
});
