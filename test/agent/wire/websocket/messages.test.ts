import assert from "node:assert/strict";
import { test } from "node:test";
import { PeerError } from "../../../../agent/errors.ts";
import {
  closeFrame,
  MessageReader,
  messageBytesMax,
  messageFramesMax,
  opText,
  type WebSocketPart,
  writeMessage,
} from "../../../../agent/wire/websocket/messages.ts";

const key = Buffer.from([0x37, 0xfa, 0x21, 0x3d]);

function told(parts: readonly WebSocketPart[]): string[] {
  return parts.map((part) => (part.kind === "message" ? `${part.op} ${part.payload}` : `control ${part.isLast}`));
}

/** RFC 6455 §5.7, "a fragmented masked text message", with a ping between. */
function clientStream(): Buffer {
  const hel = writeMessage(opText, Buffer.from("Hel"), key);
  hel[0] = opText;
  const lo = writeMessage(0, Buffer.from("lo"), key);
  return Buffer.concat([
    writeMessage(opText, Buffer.from("Hello"), key),
    hel,
    writeMessage(9, Buffer.from("?"), key),
    lo,
    writeMessage(2, Buffer.alloc(300, 1), key),
    writeMessage(2, Buffer.alloc(70_000, 2), key),
    writeMessage(8, Buffer.from([3, 232]), key),
  ]);
}

test("frames are written as the specification shows them", () => {
  assert.equal(writeMessage(opText, Buffer.from("Hello"), null).toString("hex"), "810548656c6c6f");
  assert.equal(writeMessage(opText, Buffer.from("Hello"), key).toString("hex"), "818537fa213d7f9f4d5158");
  assert.equal(closeFrame(1000, "").toString("hex"), "880203e8");
  assert.equal(closeFrame(1008, "x".repeat(500)).length, 127);
});

test("any split of the bytes gives the same messages, with the bytes of their frames", () => {
  const stream = clientStream();
  const expected = new MessageReader(true).push(stream);
  assert.deepEqual(told(expected).slice(0, 3), ["1 Hello", "control false", "1 Hello"]);
  assert.equal(told(expected).at(-1), "control true");
  const raws = expected.reduce((sum, { raw }) => sum + raw.length, 0);
  assert.equal(raws, stream.length);
  for (let at = 0; at < 420; at += 1) {
    const reader = new MessageReader(true);
    const parts = [...reader.push(stream.subarray(0, at)), ...reader.push(stream.subarray(at))];
    assert.deepEqual(told(parts), told(expected), `at ${at}`);
    assert.equal(reader.heldBytes, 0);
  }
  const single = new MessageReader(true);
  const one = Array.from(stream.subarray(0, 60), (byte) => single.push(Buffer.from([byte]))).flat();
  assert.deepEqual(told(one), told(expected).slice(0, 3));
});

test("what two readers could understand differently is refused", () => {
  const refused = (fromClient: boolean, ...bytes: number[]): void =>
    assert.throws(() => new MessageReader(fromClient).push(Buffer.from(bytes)), PeerError);
  refused(false, 0xc1, 0x01, 0x61);
  refused(false, 0x81, 0x81, 0, 0, 0, 0, 0x61);
  refused(true, 0x81, 0x01, 0x61);
  refused(false, 0x83, 0x00);
  refused(false, 0x8b, 0x00);
  refused(false, 0x80, 0x00);
  refused(false, 0x01, 0x00, 0x81, 0x00);
  refused(false, 0x09, 0x00);
  refused(false, 0x89, 0x7e, 0x00, 0x7e, ...Array.from({ length: 126 }, () => 0));
  refused(false, 0x88, 0x00, 0x81, 0x00);
});

test("a message above the limit is refused at its head, in one frame or in many", () => {
  const head = Buffer.from([0x81, 127, 0, 0, 0, 0, 0, 0, 0, 0]);
  head.writeBigUInt64BE(BigInt(messageBytesMax + 1), 2);
  assert.throws(() => new MessageReader(false).push(head), /longer than/);
  head.writeBigUInt64BE(2n ** 63n, 2);
  assert.throws(() => new MessageReader(false).push(head), /longer than/);
  const reader = new MessageReader(false);
  const part = writeMessage(opText, Buffer.alloc(1024 * 1024), null);
  part[0] = opText;
  reader.push(part);
  part[0] = 0;
  assert.throws(() => {
    for (let at = 0; at < 20; at += 1) reader.push(part);
  }, /longer than/);
});

test("a message in very many frames is refused", () => {
  const reader = new MessageReader(false);
  const first = Buffer.from([0x01, 0]);
  const some = Buffer.concat(Array.from({ length: 4096 }, () => Buffer.from([0, 0])));
  reader.push(first);
  assert.throws(() => {
    for (let at = 0; at <= messageFramesMax; at += 4096) reader.push(some);
  }, /more than 65536 frames/);
});
