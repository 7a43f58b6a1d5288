/**
 * Each kind of value in each kind of frame, cut over two events at every place, brought one character at a time, and with
 * the bytes of the reply cut at every one: no part of it leaves, every frame can be read, all the rest stays.
 */
import assert from "node:assert/strict";
import { describe, test } from "node:test";
import { detectorNames, samples } from "../../mask/values.ts";
import { maskOf, open, verdictOf } from "./exchange.ts";
import { type Frame, kinds, readerOf } from "./split-frames.ts";

const rules = { masks: [maskOf(detectorNames)] };
const head = "Here it is: ";
const tail = " — and so on.";
/** A longer value is cut at its ends everywhere, and at some places between; one character at a time at all of them. */
const everyPlaceMax = 80;

const inJson = (text: string): string => JSON.stringify(text).slice(1, -1);
const starsOf = (value: string): string => "*".repeat(value.length);

/** What leaves after each part of a reply. */
function pass(frame: Frame, parts: readonly Buffer[]): Buffer[] {
  const exchange = open(frame.target, frame.protocol);
  const verdict = verdictOf(rules);
  exchange.describe(Buffer.from("{}"));
  exchange.rewrite?.(Buffer.from("{}"), verdict);
  const reader = readerOf(frame, exchange, verdict);
  return [...parts.map((part) => Buffer.from(reader.push(Buffer.from(part)))), Buffer.from(reader.end())];
}

/** The text as the frame takes it: as it is, or in a string of JSON. */
function textOf(frame: Frame, text: string): string {
  return frame.inJson ? `{"to":"x","v":"${inJson(text)}","n":17}` : text;
}

function check(frame: Frame, sent: Buffer, left: Buffer, text: string, what: string): void {
  const events = frame.events(left);
  for (const told of frame.told(events)) assert.equal(told, textOf(frame, text), what);
  const rest = (all: object[]): object[] => all.filter((event) => !frame.brings(event));
  const [before, after] = [rest(frame.events(sent)), rest(events)];
  // Events that tell the text once more were looked at above.
  assert.equal(after.length, before.length, what);
  assert.deepEqual(
    after.map((event) => Object.keys(event)),
    before.map((event) => Object.keys(event)),
    what,
  );
}

/** Places to cut a text that has the value from `start` to `end`. */
function* places(text: string, start: number, end: number): Generator<number> {
  for (let at = 0; at <= text.length; at += 1) {
    const inside = Math.min(at - start, end - at);
    if (end - start <= everyPlaceMax || inside < everyPlaceMax / 2 || at % 97 === 0) yield at;
  }
}

for (const [name, frame] of Object.entries(kinds)) {
  describe(name, () => {
    for (const { name: sample, value, before = "" } of samples) {
      const text = textOf(frame, `${head}${before}${value}${tail}`);
      const hidden = `${head}${before}${starsOf(value)}${tail}`;
      const start = text.indexOf(frame.inJson ? inJson(value) : value);
      const end = start + (frame.inJson ? inJson(value) : value).length;

      test(`${sample}, over two events`, () => {
        for (const cut of places(text, start, end)) {
          const sent = frame.write([text.slice(0, cut), text.slice(cut)]);
          check(frame, sent, Buffer.concat(pass(frame, [sent])), hidden, `cut at ${cut}`);
        }
      });

      test(`${sample}, a character at a time`, () => {
        const sent = frame.write([...text]);
        check(frame, sent, Buffer.concat(pass(frame, [sent])), hidden, "a character at a time");
      });
    }

    test("the reply's bytes cut at every one: what has left is never more than what may", () => {
      const values = samples.filter(({ value }) => value.length <= everyPlaceMax);
      const { name: sample, value, before = "" } = values[name.length % values.length] as (typeof values)[number];
      const text = textOf(frame, `${head}${before}${value}${tail}`);
      const middle = text.indexOf(frame.inJson ? inJson(value) : value) + Math.ceil(value.length / 2);
      const sent = frame.write([text.slice(0, middle), text.slice(middle)]);
      const whole = Buffer.concat(pass(frame, [sent]));
      check(frame, sent, whole, `${head}${before}${starsOf(value)}${tail}`, sample);
      for (let cut = 0; cut <= sent.length; cut += 1) {
        const left = pass(frame, [sent.subarray(0, cut), sent.subarray(cut)]);
        assert.ok(Buffer.concat(left).equals(whole), `${sample}, cut at byte ${cut}`);
      }
      const single = pass(
        frame,
        [...sent].map((byte) => Buffer.from([byte])),
      );
      assert.ok(Buffer.concat(single).equals(whole), `${sample}, byte by byte`);
    });
  });
}
