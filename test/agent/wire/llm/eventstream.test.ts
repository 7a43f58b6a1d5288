/** Event stream frames: any split, both checksums, limits, and frames byte for byte as another codec writes them. */
import assert from "node:assert/strict";
import { createRequire } from "node:module";
import { join } from "node:path";
import { describe, test } from "node:test";
import { crc32 } from "node:zlib";
import { PeerError } from "../../../../agent/errors.ts";
import {
  type EventFrame,
  type EventHeader,
  EventStreamReader,
  frameBytesMax,
  headerText,
  textHeader,
  withPayload,
  writeFrame,
  writeHeaders,
  writeTextHeaders,
} from "../../../../agent/wire/llm/eventstream.ts";
import { sdkDir } from "../../../support/aimock.ts";

/** One header of each type. */
const everyType: readonly EventHeader[] = [
  { name: "yes", type: 0, value: Buffer.alloc(0) },
  { name: "no", type: 1, value: Buffer.alloc(0) },
  { name: "byte", type: 2, value: Buffer.from([0xff]) },
  { name: "short", type: 3, value: Buffer.from([0x80, 1]) },
  { name: "integer", type: 4, value: Buffer.from([1, 2, 3, 4]) },
  { name: "long", type: 5, value: Buffer.from([0, 0, 0, 0, 0, 1, 2, 3]) },
  { name: "bytes", type: 6, value: Buffer.from([0, 1, 2]) },
  { name: ":event-type", type: textHeader, value: Buffer.from("chunk é") },
  { name: "time", type: 8, value: Buffer.from([0, 0, 1, 0x99, 0, 0, 0, 0]) },
  { name: "uuid", type: 9, value: Buffer.alloc(16, 7) },
];
const frames = [
  writeFrame(writeHeaders(everyType), Buffer.from('{"a":1}')),
  writeFrame(Buffer.alloc(0), Buffer.alloc(0)),
  writeFrame(writeTextHeaders([[":message-type", "event"]]), Buffer.alloc(300, 0x61)),
];
const stream = Buffer.concat(frames);

function readAll(parts: readonly Buffer[]): EventFrame[] {
  const reader = new EventStreamReader();
  const read = parts.flatMap((part) => reader.push(part));
  reader.end();
  assert.equal(reader.heldBytes, 0);
  return read;
}

function code(run: () => unknown): string {
  try {
    run();
  } catch (error) {
    assert.ok(error instanceof PeerError, String(error));
    return error.code;
  }
  return "none";
}

interface Codec {
  encode(message: { readonly headers: object; readonly body: Uint8Array }): Uint8Array;
  decode(frame: Uint8Array): { readonly body: Uint8Array };
}

function sdkCodec(): Codec | null {
  try {
    const load = createRequire(join(sdkDir, "package.json"));
    const { EventStreamCodec } = load("@smithy/core/event-streams") as {
      EventStreamCodec: new (toText: (bytes: Uint8Array) => string, toBytes: (text: string) => Uint8Array) => Codec;
    };
    return new EventStreamCodec(
      (bytes) => Buffer.from(bytes).toString("utf8"),
      (text) => Buffer.from(text, "utf8"),
    );
  } catch {
    return null;
  }
}

describe("event stream", () => {
  test("every split gives the same frames, untouched", () => {
    for (let cut = 0; cut <= stream.length; cut += 1) {
      const read = readAll([stream.subarray(0, cut), stream.subarray(cut)]);
      assert.deepEqual(Buffer.concat(read.map((frame) => frame.raw)), stream, `cut at ${cut}`);
      assert.equal(read.length, 3);
    }
    const bytewise = readAll([...stream].map((byte) => Buffer.from([byte])));
    assert.deepEqual(Buffer.concat(bytewise.map((frame) => frame.raw)), stream);
  });

  test("headers of every type keep their bytes", () => {
    const [frame] = readAll([stream]) as [EventFrame];
    assert.deepEqual(frame.headers, everyType);
    assert.equal(headerText(frame, ":event-type"), "chunk é");
    assert.equal(headerText(frame, "bytes"), null, "only text is text");
    assert.equal(frame.payload.toString(), '{"a":1}');
  });

  test("another payload: the headers stay, the length and both checksums are right", () => {
    const [frame] = readAll([stream]) as [EventFrame];
    const changed = withPayload(frame, Buffer.from('{"a":"longer"}'));
    const [again] = readAll([changed]) as [EventFrame];
    assert.deepEqual(again.headers, everyType);
    assert.equal(again.payload.toString(), '{"a":"longer"}');
  });

  test("any changed byte is noticed, and none gives more than a coded error", () => {
    for (let at = 0; at < frames[0]!.length; at += 1) {
      for (const bit of [0x01, 0x80]) {
        const broken = Buffer.from(frames[0]!);
        broken[at]! ^= bit;
        assert.match(
          code(() => readAll([broken])),
          /^WEIR_FRAME_(INVALID|TOO_LARGE)$/,
          `byte ${at}`,
        );
      }
    }
  });

  test("a frame that ends early is an error at the end, and held bytes are told", () => {
    const reader = new EventStreamReader();
    assert.deepEqual(reader.push(stream.subarray(0, 40)), []);
    assert.equal(reader.heldBytes, 40);
    assert.equal(
      code(() => reader.end()),
      "WEIR_FRAME_INVALID",
    );
  });

  test("limits come before the bytes: a prelude is enough", () => {
    const prelude = (total: number, headers: number): Buffer => {
      const bytes = Buffer.alloc(12);
      bytes.writeUInt32BE(total, 0);
      bytes.writeUInt32BE(headers, 4);
      bytes.writeUInt32BE(crc32(bytes.subarray(0, 8)), 8);
      return bytes;
    };
    const push = (bytes: Buffer) => code(() => new EventStreamReader().push(bytes));
    assert.equal(push(prelude(frameBytesMax + 1, 0)), "WEIR_FRAME_TOO_LARGE");
    assert.equal(push(prelude(frameBytesMax, 0)), "none");
    assert.equal(push(prelude(1024 * 1024, 512 * 1024)), "WEIR_FRAME_TOO_LARGE");
    assert.equal(push(prelude(15, 0)), "WEIR_FRAME_INVALID");
    assert.equal(push(prelude(20, 5)), "WEIR_FRAME_INVALID");
    assert.equal(push(Buffer.alloc(12)), "WEIR_FRAME_INVALID");
  });

  test("headers that lie about their length or type are errors", () => {
    for (const headers of [
      Buffer.from([200, 0x61]),
      Buffer.from([1, 0x61]),
      Buffer.from([1, 0x61, 10]),
      Buffer.from([1, 0x61, 7, 0]),
      Buffer.from([1, 0x61, 7, 0, 9, 1]),
      Buffer.from([1, 0x61, 9, 0]),
    ]) {
      assert.equal(
        code(() => readAll([writeFrame(headers, Buffer.alloc(0))])),
        "WEIR_FRAME_INVALID",
      );
    }
  });

  test("the AWS SDK's codec and this one agree, on right frames and on broken ones", (t) => {
    const codec = sdkCodec();
    if (codec === null) {
      t.skip("the SDKs are not installed: test/e2e/sdk/install");
      return;
    }
    let seed = 20_261_121;
    const random = (below: number): number => {
      seed = (Math.imul(seed, 1_103_515_245) + 12_345) & 0x7fffffff;
      return (seed >>> 8) % below;
    };
    for (let run = 0; run < 500; run += 1) {
      const headers: Record<string, object> = {};
      for (let i = random(5); i > 0; i -= 1) {
        const kinds = [
          { type: "boolean", value: random(2) === 1 },
          { type: "integer", value: random(1e6) },
          { type: "string", value: `é${"x".repeat(random(300))}` },
          { type: "binary", value: Buffer.alloc(random(300), random(256)) },
          { type: "timestamp", value: new Date(random(1e6) * 1000) },
        ];
        headers[`h${random(1000)}`] = kinds[random(kinds.length)] as object;
      }
      const theirs: Buffer = Buffer.from(codec.encode({ headers, body: Buffer.alloc(random(500), random(256)) }));
      const [frame] = readAll([theirs]) as [EventFrame];
      assert.deepEqual(writeFrame(writeHeaders(frame.headers), frame.payload), theirs, `run ${run}`);
      const changed = withPayload(frame, Buffer.from("other"));
      assert.equal(Buffer.from(codec.decode(changed).body).toString(), "other");
      const broken = Buffer.from(theirs);
      broken[random(broken.length)]! ^= 1 + random(255);
      assert.throws(() => codec.decode(broken), `run ${run}`);
      assert.throws(() => readAll([broken]), PeerError, `run ${run}`);
    }
  });

  test("frames of another writer", () => {
    // Header "a" of type int32 1, payload "x"; written by @smithy/eventstream-codec 4.5.2.
    const foreign = Buffer.from("0000001800000007abd6968901610400000001785615faf4", "hex");
    const [frame] = readAll([foreign]) as [EventFrame];
    assert.deepEqual(writeFrame(writeHeaders(frame.headers), frame.payload), foreign);
    assert.deepEqual(frame.headers, [{ name: "a", type: 4, value: Buffer.from([0, 0, 0, 1]) }]);
  });
});
