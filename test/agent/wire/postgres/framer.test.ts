import assert from "node:assert/strict";
import { test } from "node:test";
import {
  type Fate,
  type FrameReader,
  Framer,
  type PartialFate,
  pass,
  stop,
  take,
} from "../../../../agent/wire/postgres/framer.ts";

function frame(type: string, body: string): Buffer {
  const bytes = Buffer.alloc(5 + body.length);
  bytes.write(type, 0, "latin1");
  bytes.writeInt32BE(4 + body.length, 1);
  bytes.write(body, 5, "latin1");
  return bytes;
}

class Reader implements FrameReader {
  readonly framer = new Framer(this);
  readonly seen: string[] = [];
  readonly slices: Buffer[] = [];
  fate: (type: string) => Fate = () => pass;
  partial: PartialFate = "collect";
  frame(type: number, bytes: Buffer, start: number, end: number): Fate {
    const fate = this.fate(String.fromCharCode(type));
    if (fate !== stop) this.seen.push(bytes.toString("latin1", start, end));
    return fate;
  }
  begin(): PartialFate {
    return this.partial;
  }
  untouched(bytes: Buffer): void {
    this.slices.push(bytes);
  }
  get output(): string {
    return Buffer.concat(this.slices).toString("latin1");
  }
}

test("a run that nobody touches leaves as the very buffer it came in", () => {
  const reader = new Reader();
  const chunk = Buffer.concat([frame("D", "one"), frame("D", "two"), frame("C", "")]);
  reader.framer.push(chunk);
  assert.equal(reader.slices.length, 1);
  assert.equal(reader.slices[0], chunk);
});

test("a taken message is cut out, the rest stays in order", () => {
  const reader = new Reader();
  reader.fate = (type) => (type === "E" ? take : pass);
  reader.framer.push(Buffer.concat([frame("D", "one"), frame("E", "bad"), frame("D", "two")]));
  assert.equal(reader.output, Buffer.concat([frame("D", "one"), frame("D", "two")]).toString("latin1"));
});

test("a stop shows the same message again and keeps what comes meanwhile", () => {
  const reader = new Reader();
  let stopped = true;
  reader.fate = (type) => (type === "Q" && stopped ? stop : pass);
  const bytes = Buffer.concat([frame("S", ""), frame("Q", "select"), frame("S", "")]);
  reader.framer.push(bytes.subarray(0, 8));
  reader.framer.push(bytes.subarray(8));
  assert.equal(reader.output, frame("S", "").toString("latin1"));
  reader.framer.push(frame("X", ""));
  assert.equal(reader.framer.heldBytes, bytes.length - 5 + 5);
  stopped = false;
  reader.framer.go();
  assert.equal(reader.output, Buffer.concat([bytes, frame("X", "")]).toString("latin1"));
  assert.equal(reader.framer.heldBytes, 0);
});

test("a message in single bytes is collected once, or passed, or dropped", () => {
  const bytes = Buffer.concat([frame("D", "x".repeat(100)), frame("C", "done")]);
  for (const partial of ["collect", "pass", "drop"] as const) {
    const reader = new Reader();
    reader.partial = partial;
    for (const byte of bytes) reader.framer.push(Buffer.from([byte]));
    assert.equal(reader.output, partial === "drop" ? "" : bytes.toString("latin1"));
    assert.deepEqual(reader.seen.length, partial === "collect" ? 2 : 0);
    assert.equal(reader.framer.atBorder, true);
  }
});

test("counted messages do not reach the reader, up to their number", () => {
  const reader = new Reader();
  reader.framer.countedType = 0x44;
  reader.framer.countedMax = 2;
  reader.framer.push(Buffer.concat([frame("D", "1"), frame("D", "2"), frame("D", "3")]));
  assert.equal(reader.framer.counted, 2);
  assert.equal(reader.framer.countedBytes, 12);
  assert.deepEqual(reader.seen, [frame("D", "3").toString("latin1")]);
});

test("lengths that cannot be are coded errors", () => {
  for (const [length, code] of [
    [0xffffffff, "WEIR_FRAME_INVALID"],
    [0, "WEIR_FRAME_INVALID"],
    [3, "WEIR_FRAME_INVALID"],
    [0x7fffffff, "WEIR_FRAME_TOO_LARGE"],
  ] as const) {
    const bytes = Buffer.from([0x51, 0, 0, 0, 0, 0]);
    bytes.writeUInt32BE(length, 1);
    assert.throws(() => new Reader().framer.push(bytes), { code });
  }
});
