/** Frames keep their heads and their order; values cut over frames and reads are masked. */
import assert from "node:assert/strict";
import { test } from "node:test";
import { compileMaskPlan, type MaskPlan } from "../../../../agent/mask/plan.ts";
import { MessageReader } from "../../../../agent/wire/websocket/messages.ts";
import { WebSocketReply, waitingHeadsMax } from "../../../../agent/wire/websocket/reply.ts";
import { detectorNames, samples } from "../../mask/values.ts";
import { rawFrame } from "./frames.ts";

const plan = compileMaskPlan([{ detectors: ["credit-card", "email"], with: "redact" }], Buffer.alloc(32)) as MaskPlan;

function frame(op: number, text: string, final = true): Buffer {
  return rawFrame(op, Buffer.from(text, "utf8").toString("latin1"), final);
}

const stream = Buffer.concat([
  frame(1, '{"card":"4111111111111111","n":4111111111111111}'),
  frame(1, "the card is 41111", false),
  frame(9, "ping"),
  frame(0, "1111111", false),
  frame(0, "1111 of a@example.org", false),
  frame(0, ""),
  frame(2, "x".repeat(300)),
  frame(8, "\x03\xe8"),
]);
const expected = Buffer.concat([
  frame(1, '{"card":"****************","n":1000000000000000}'),
  frame(1, "the card is *****", false),
  frame(9, "ping"),
  frame(0, "*******", false),
  frame(0, "**** of *************", false),
  frame(0, ""),
  frame(2, "x".repeat(300)),
  frame(8, "\x03\xe8"),
]);

test("every split of the bytes gives the same masked frames", () => {
  for (let at = 0; at <= stream.length; at += 1) {
    const reply = new WebSocketReply(plan);
    const out = Buffer.concat([
      reply.push(Buffer.from(stream.subarray(0, at))),
      reply.push(Buffer.from(stream.subarray(at))),
      reply.end(),
    ]);
    assert.equal(out.length, stream.length);
    assert.equal(out.toString("latin1"), expected.toString("latin1"), `at ${at}`);
    assert.equal(reply.masked, 4);
  }
  const single = new WebSocketReply(plan);
  const out = Buffer.concat([...[...stream].map((byte) => single.push(Buffer.from([byte]))), single.end()]);
  assert.equal(out.toString("latin1"), expected.toString("latin1"));
});

test("a control frame never stands inside of a frame whose end is held back", () => {
  for (const step of [1, 2, 5, 19, 1_000]) {
    const reply = new WebSocketReply(plan);
    const reader = new MessageReader(false);
    const got: string[] = [];
    const take = (bytes: Buffer): void => {
      for (const part of reader.push(bytes)) got.push(part.kind === "message" ? part.payload.toString() : part.kind);
    };
    for (let at = 0; at < stream.length; at += step) take(reply.push(Buffer.from(stream.subarray(at, at + step))));
    take(reply.end());
    assert.equal(reader.heldBytes, 0);
    const spoken = got.filter((text) => text !== "control");
    assert.equal(spoken[1], "the card is **************** of *************", `by ${step}`);
    assert.equal(got.length, 5);
  }
});

test("what begins like JSON and is none keeps its own stars", () => {
  const reply = new WebSocketReply(plan);
  const out = reply.push(frame(1, "[info] 3 * 4 * 5"));
  assert.equal(Buffer.concat([out, reply.end()]).toString(), frame(1, "[info] 3 * 4 * 5").toString());
});

test("each kind of value, cut over two frames of one message at every byte", () => {
  const all = compileMaskPlan([{ detectors: detectorNames, with: "redact" }], Buffer.alloc(32)) as MaskPlan;
  for (const { name, value, before = "" } of samples) {
    const text = Buffer.from(`see ${before}${value} there`);
    const from = Buffer.byteLength(`see ${before}`);
    const hidden = Buffer.from(text);
    hidden.fill("*", from, from + Buffer.byteLength(value));
    // Of a value of some KiB every place near its ends, and some between.
    const step = value.length > 200 ? 41 : 1;
    for (let cut = 0; cut <= text.length; cut += cut < 60 || cut > text.length - 60 ? 1 : step) {
      const [first, second] = [text.toString("latin1", 0, cut), text.toString("latin1", cut)];
      const reply = new WebSocketReply(all);
      const sent = Buffer.concat([rawFrame(1, first, false), rawFrame(0, second)]);
      const out = Buffer.concat([reply.push(Buffer.from(sent)), reply.end()]);
      const masked = hidden.toString("latin1");
      const expected = Buffer.concat([rawFrame(1, masked.slice(0, cut), false), rawFrame(0, masked.slice(cut))]);
      assert.ok(out.equals(expected), `${name}, cut at ${cut}`);
    }
  }
});

test("what cannot be read is refused", () => {
  assert.throws(() => new WebSocketReply(plan).push(Buffer.from([0xc1, 0x01, 0x00])), /extension/);
  assert.throws(() => new WebSocketReply(plan).push(Buffer.from([0x81, 0x81, 0, 0, 0, 0, 0])), /masking key/);
  assert.throws(() => new WebSocketReply(plan).push(Buffer.from([0x80, 0x01, 0x00])), /never began/);
});

test("what two clients could understand differently ends the connection, and nothing of it passes", () => {
  const card = "4111111111111111";
  for (const frames of [
    ...[[frame(3, card)], [frame(7, card)], [frame(0x0b, card)], [frame(0x0f, card)]],
    [frame(9, card, false)],
    [frame(1, "4111", false), frame(1, card)],
    [frame(1, "4111", false), frame(2, card)],
    [frame(1, "done"), frame(0, card)],
    [frame(8, "\x03\xe8"), frame(1, card)],
    [Buffer.concat([Buffer.from([0x81, 0x90, 1, 2, 3, 4]), Buffer.from(card)])],
    [Buffer.concat([Buffer.from([0xc1, 0x10]), Buffer.from(card)])],
    [Buffer.concat([Buffer.from([0x89, 126, 0, 126]), Buffer.alloc(110, 0x20), Buffer.from(card)])],
  ]) {
    const reply = new WebSocketReply(plan);
    const out: Buffer[] = [];
    assert.throws(() => {
      for (const one of frames) out.push(reply.push(one));
      out.push(reply.end());
    }, /WebSocket/);
    assert.ok(!Buffer.concat(out).includes(card));
  }
});

test("pings, pongs and reasons of a close are masked, and keep their place", () => {
  const said = `${"4111111111111111"} a@example.org`;
  const sent = Buffer.concat([
    frame(9, said),
    frame(1, "41111111", false),
    frame(10, said),
    frame(0, "11111111"),
    rawFrame(8, `\x03\xe8${said}`),
  ]);
  const hidden = said.replace(/[^ ]/g, "*");
  const masked = Buffer.concat([
    frame(9, hidden),
    frame(1, "********", false),
    frame(10, hidden),
    frame(0, "********"),
    rawFrame(8, `\x03\xe8${hidden}`),
  ]);
  for (let at = 0; at <= sent.length; at += 1) {
    const reply = new WebSocketReply(plan);
    const out = [
      reply.push(Buffer.from(sent.subarray(0, at))),
      reply.push(Buffer.from(sent.subarray(at))),
      reply.end(),
    ];
    assert.equal(Buffer.concat(out).toString("latin1"), masked.toString("latin1"), `at ${at}`);
  }
});

test("frames without end behind a value that goes on are an error, not growth", () => {
  const reply = new WebSocketReply(plan);
  const empty = frame(0, "", false);
  reply.push(frame(1, "4111", false));
  for (let i = 0; i < waitingHeadsMax - 1; i += 1) reply.push(empty);
  assert.throws(() => reply.push(Buffer.concat([empty, empty])), /wait for a value's end/);
});
