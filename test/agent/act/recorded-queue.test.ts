import assert from "node:assert/strict";
import { test } from "node:test";
import { createGate } from "../../../agent/act/gate.ts";
import { RecordedQueue } from "../../../agent/act/recorded-queue.ts";

const [one, two, three, four] = ["1", "2", "3", "4"].map((text) => Buffer.from(text)) as [
  Buffer,
  Buffer,
  Buffer,
  Buffer,
];

/** A gate whose writes are made by hand, and a desk that has nothing but the record. */
function opened() {
  let turnEnd: (() => void) | null = null;
  let broken: Error | null = null;
  const recorder = {
    flush() {
      if (broken !== null) throw broken;
    },
    synced: async () => {},
  };
  const gate = createGate(
    recorder,
    () => "process",
    (run) => {
      turnEnd = run;
    },
  );
  const desk = {
    recordedEpoch: 0,
    failure: null as Error | null,
    fail(error: Error) {
      desk.failure = error;
      queue.clear();
    },
  };
  const gone: string[] = [];
  const queue = new RecordedQueue(gate, desk, () => {
    for (let buffers = queue.take(); buffers !== null; buffers = queue.take())
      gone.push(Buffer.concat(buffers).toString());
  });
  return {
    queue,
    gone,
    record: () => {
      desk.recordedEpoch = gate.touch();
    },
    write(error: Error | null = null) {
      broken = error;
      const run = turnEnd;
      turnEnd = null;
      run?.();
    },
  };
}

test("bytes with nothing unwritten before them leave at once, others with the write of their entry", () => {
  const { queue, gone, record, write } = opened();
  queue.push(one);
  assert.deepEqual(queue.take(), [one]);
  record();
  queue.push(two);
  queue.push(three);
  assert.equal(queue.take(), null);
  assert.equal(queue.empty, false);
  write();
  assert.deepEqual(gone, ["23"]);
  assert.equal(queue.empty, true);
});

test("an entry behind bytes that wait needs no other write in the same turn, and one in the next turn", () => {
  const { queue, gone, record, write } = opened();
  record();
  queue.push(one);
  record();
  queue.push(two);
  write();
  assert.deepEqual(gone, ["12"]);
  record();
  queue.push(three);
  assert.deepEqual(gone, ["12"]);
  write();
  assert.deepEqual(gone, ["12", "3"]);
});

test("what was for a server that is gone goes nowhere, and holds up nothing for the next one", () => {
  const { queue, gone, record, write } = opened();
  record();
  queue.push(one);
  queue.clear();
  queue.push(two);
  write();
  record();
  queue.push(three);
  write();
  assert.deepEqual(gone, ["2", "3"]);
});

test("when the write fails nothing leaves, nor what comes behind", () => {
  const { queue, gone, record, write } = opened();
  record();
  queue.push(one);
  write(new Error("no space"));
  queue.push(two);
  record();
  queue.push(four);
  write();
  assert.deepEqual(gone, []);
  assert.equal(queue.empty, true);
});
