/** A secret in what a server sends over a WebSocket is hidden wherever it is cut: in reads, frames and messages. */
import assert from "node:assert/strict";
import { test } from "node:test";
import { tunnelScrubberFor } from "../../../../agent/wire/http/credential.ts";
import type { ReplyReader } from "../../../../agent/wire/http/dialect.ts";
import { MessageReader } from "../../../../agent/wire/websocket/messages.ts";
import { rawFrame as frame } from "../websocket/frames.ts";

const token = "sk-canary-0123456789";
/** What may stand of a secret that ends a message: fewer letters than are told from other text. */
const shownMax = 5;

function scrubber(): ReplyReader {
  const made = tunnelScrubberFor({ kind: "bearer", token }, "websocket");
  assert.ok(made !== null);
  return made;
}

/** All payloads, in order; throws where frames are broken. */
function told(bytes: Buffer): string {
  const reader = new MessageReader(false);
  const parts = reader.push(bytes);
  assert.equal(reader.heldBytes, 0);
  return parts
    .map((part) => (part.kind === "message" ? part.payload.toString() : `(${part.raw.subarray(2).toString()})`))
    .join("");
}

function through(bytes: Buffer, step = bytes.length): string {
  const scrubbed = scrubber();
  const out: Buffer[] = [];
  for (let at = 0; at < bytes.length; at += step)
    out.push(Buffer.from(scrubbed.push(Buffer.from(bytes.subarray(at, at + step)))));
  out.push(scrubbed.end());
  const all = Buffer.concat(out);
  assert.equal(all.length, bytes.length);
  return told(all);
}

test("cut over two and three frames of one message at every byte, in reads of every size", () => {
  const text = `key ${token} end`;
  const expected = `key ${"*".repeat(token.length)} end`;
  for (let first = 0; first <= text.length; first += 1) {
    const two = Buffer.concat([frame(1, text.slice(0, first), false), frame(0, text.slice(first))]);
    for (const step of [1, 2, 3, 5, 11, two.length]) assert.equal(through(two, step), expected, `${first} by ${step}`);
    for (let second = first; second <= text.length; second += 3) {
      const whole = Buffer.concat([
        ...[frame(1, text.slice(0, first), false), frame(9, "ping")],
        ...[frame(0, text.slice(first, second), false), frame(0, text.slice(second)), frame(2, "next")],
      ]);
      assert.equal(through(whole).replace("(ping)", ""), `${expected}next`, `${first} and ${second}`);
      assert.equal(through(whole, 1).replace("(ping)", ""), `${expected}next`, `${first} and ${second}`);
    }
  }
});

test("cut over messages at every byte: no message waits, and less than what tells a secret stands", () => {
  const text = `key ${token} end`;
  for (let cut = 4; cut <= 4 + token.length; cut += 1) {
    const scrubbed = scrubber();
    const first = frame(1, text.slice(0, cut));
    const second = frame(1, text.slice(cut));
    const out = Buffer.from(scrubbed.push(Buffer.from(first)));
    assert.equal(out.length, first.length, "a message that has ended leaves");
    const all = told(Buffer.concat([out, scrubbed.push(Buffer.from(second))]));
    const left = all.slice(4, 4 + token.length).replaceAll("*", "");
    assert.ok(left.length <= shownMax && token.startsWith(left), `${cut}: ${all}`);
    assert.ok(all.startsWith("key ") && all.endsWith(" end"));
  }
});

test("a message for each byte shows no more", () => {
  const bytes = Buffer.concat([...`key ${token} end`].map((letter) => frame(1, letter)));
  assert.equal(through(bytes), `key ${token.slice(0, shownMax)}${"*".repeat(token.length - shownMax)} end`);
});

test("what only begins as a secret is told in whole inside of a message, and goes on in the next", () => {
  assert.equal(through(Buffer.concat([frame(1, "sk-can", false), frame(0, "oe")])), "sk-canoe");
  assert.equal(through(Buffer.concat([frame(1, "the sk"), frame(1, "y")])), "the sky");
  assert.equal(through(Buffer.concat([frame(1, "sk-"), frame(1, "ca"), frame(1, "noe")])), "sk-canoe");
});

test("pings and the reason of a close are looked at too", () => {
  const bytes = Buffer.concat([frame(9, token), frame(1, "text"), frame(8, `\x03\xe8${token}`)]);
  const said = through(bytes, 1);
  assert.ok(!said.includes("canary"));
  assert.match(said, /^\(\*{20}\)text/);
});

test("frames that cannot be read end the connection", () => {
  assert.throws(() => scrubber().push(Buffer.from([0xc1, 0x01, 0x61])), /extension/);
  assert.throws(() => scrubber().push(Buffer.from([0x81, 0x81, 0, 0, 0, 0, 0x61])), /masking key/);
  assert.throws(() => scrubber().push(Buffer.from([0x89, 126, 0, 200])), /control frame/);
  assert.throws(() => scrubber().push(Buffer.from([0x82, 127, 0xff, 0, 0, 0, 0, 0, 0, 0])), /valid length/);
});
