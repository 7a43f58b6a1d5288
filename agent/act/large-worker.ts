/** What runs in the thread of large-bodies.ts. */
import { parentPort } from "node:worker_threads";
import { detectorBy } from "../mask/custom.ts";
import type { Detector } from "../mask/detector.ts";
import { asBuffer, type LargeDone } from "../wire/http/large-body.ts";
import { keyOf, type Question, runLargeTask } from "../wire/large-task.ts";
import type { WorkerOrder, WorkerReport } from "./large-bodies.ts";

/** Asked at a time, so that nobody is kept from the event loop by the answers. */
const questionsMax = 200;

type Task = Extract<WorkerOrder, { type: "task" }>;

const custom = new Map<string, Detector>();
let grpcDescriptors: Buffer | null = null;
let task: Task | null = null;
let answers = new Map<string, unknown>();
/** Questions that are still to be asked, and those that were and have no answer yet. */
let open: Question[] = [];
let asked: Question[] = [];

parentPort?.on("message", (order: WorkerOrder) => {
  switch (order.type) {
    case "detectors":
      for (const name of order.gone) custom.delete(name);
      for (const recipe of order.recipes) custom.set(recipe.definition.name, detectorBy(recipe));
      return;
    case "descriptors":
      grpcDescriptors = order.bytes === null ? null : asBuffer(order.bytes);
      return;
    case "task":
      task = order;
      answers = new Map();
      run(order);
      return;
    case "answers":
      for (const [at, question] of asked.entries()) answers.set(keyOf(question), order.answers[at]);
      if (task !== null && !ask(task)) run(task);
  }
});

function run(order: Task): void {
  const result = runLargeTask(order.task, { maskKey: Buffer.from(order.maskKey), custom, grpcDescriptors, answers });
  if (!isDone(result)) {
    open = [...result];
    ask(order);
    return;
  }
  task = null;
  answers = new Map();
  tell({ type: "done", id: order.id, done: result }, "body" in result ? result.body : null);
}

/** False: everything was asked. */
function ask({ id }: Task): boolean {
  asked = open.splice(0, questionsMax);
  if (asked.length > 0) tell({ type: "questions", id, questions: asked }, null);
  return asked.length > 0;
}

function tell(report: WorkerReport, body: Uint8Array | null): void {
  const isOwn = body !== null && body.byteLength === body.buffer.byteLength;
  parentPort?.postMessage(report, isOwn ? [body.buffer as ArrayBuffer] : []);
}

function isDone(result: LargeDone | readonly Question[]): result is LargeDone {
  return !Array.isArray(result);
}
