/** A last word goes between two frames and nowhere else. */
import assert from "node:assert/strict";
import { test } from "node:test";
import { closeFrame, FrameBorder } from "../../../../agent/wire/http/frame-border.ts";

function frame(op: number, payload: Buffer, { final = true, masked = false } = {}): Buffer {
  const length = payload.length;
  const mask = masked ? 0x80 : 0;
  const head = length < 126 ? Buffer.from([0, mask | length]) : length < 65_536 ? Buffer.alloc(4) : Buffer.alloc(10);
  head[0] = (final ? 0x80 : 0) | op;
  if (length >= 126) head[1] = mask | (length < 65_536 ? 126 : 127);
  if (length >= 126 && length < 65_536) head.writeUInt16BE(length, 2);
  if (length >= 65_536) head.writeBigUInt64BE(BigInt(length), 2);
  return Buffer.concat([head, masked ? Buffer.from([1, 2, 3, 4]) : Buffer.alloc(0), payload]);
}

test("borders are found however the bytes come", () => {
  const frames = [0, 1, 125, 126, 300, 65_535, 65_536].flatMap((size) => [
    frame(1, Buffer.alloc(size, 0x88), { final: false }),
    frame(0, Buffer.alloc(3), { masked: true }),
  ]);
  const bytes = Buffer.concat(frames);
  const ends = new Set<number>([0]);
  let end = 0;
  for (const one of frames) {
    end += one.length;
    ends.add(end);
  }
  for (const step of [1, 2, 3, 7, 1_000, bytes.length]) {
    const border = new FrameBorder();
    for (let at = 0; at < bytes.length; at += step) {
      assert.equal(border.isOpen, ends.has(at), `at ${at} by ${step}`);
      border.push(bytes.subarray(at, at + step));
    }
    assert.equal(border.isOpen, true);
  }
});

test("after a close frame nothing more is said", () => {
  const border = new FrameBorder();
  border.push(frame(8, Buffer.from([3, 232])));
  assert.equal(border.isOpen, false);
});

test("a close frame fits a control frame, and cuts no character in two", () => {
  for (const reason of ["", "revoked", "é".repeat(200), "😀".repeat(100)]) {
    const bytes = closeFrame(reason);
    assert.equal(bytes[0], 0x88);
    assert.equal(bytes[1], bytes.length - 2);
    assert.ok(bytes.length <= 127);
    assert.equal(bytes.readUInt16BE(2), 1008);
    assert.ok(
      reason.startsWith(
        bytes
          .subarray(4)
          .toString()
          .replace(/\ufffd/g, "!"),
      ),
    );
    const border = new FrameBorder();
    border.push(bytes);
    assert.equal(border.isOpen, false);
  }
});
