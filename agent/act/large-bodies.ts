/**
 * Long bodies are worked on in a thread of their own, one after the other, so that the event loop goes on with everybody
 * else's. The thread is there while there is something to do; bytes go there and back without a copy. When it dies, or
 * takes too long, the body at hand fails, and its exchange tells its client so: nothing passes unread.
 */
import { setImmediate as nextTurn } from "node:timers/promises";
import { Worker } from "node:worker_threads";
import { type DetectorRecipe, recipeOf } from "../mask/custom.ts";
import type { Detector } from "../mask/detector.ts";
import type { HttpContext } from "../wire/http/context.ts";
import type { LargeDone, LargeTask } from "../wire/http/large-body.ts";
import { answerTo, type Question } from "../wire/large-task.ts";

/** Without work for so long the thread ends, and gives its memory back. */
const idleMsDefault = 120_000;
/** One body may take so long; 32 MiB of any kind take some seconds. */
const workMsMax = 60_000;
/** Bodies that wait for their turn; above it the next one fails. */
const waitingBytesMax = 512 * 1024 * 1024;
/** A body of 32 MiB as a tree of two million values, and what is made of it. */
const oldHeapMbMax = 1024;

export interface LargeBodies {
  /** `done` is called once and never at once, unless the function that is returned is called before: nobody waits any more. */
  work(task: LargeTask, context: HttpContext, done: (result: LargeDone) => void): () => void;
  /** There is a thread now. */
  readonly isRunning: boolean;
  close(): Promise<void>;
}

export interface LargeBodiesOptions {
  log(level: "info" | "warn", message: string): void;
  readonly idleMs?: number;
  readonly workMs?: number;
  readonly oldHeapMb?: number;
}

/** To the thread. */
export type WorkerOrder =
  | { readonly type: "detectors"; readonly recipes: readonly DetectorRecipe[]; readonly gone: readonly string[] }
  | { readonly type: "descriptors"; readonly bytes: Uint8Array | null }
  | { readonly type: "task"; readonly id: number; readonly task: LargeTask; readonly maskKey: Uint8Array }
  /** In the order of the questions. */
  | { readonly type: "answers"; readonly id: number; readonly answers: readonly unknown[] };

/** From the thread. */
export type WorkerReport =
  | { readonly type: "done"; readonly id: number; readonly done: LargeDone }
  | { readonly type: "questions"; readonly id: number; readonly questions: readonly Question[] };

interface Job {
  readonly id: number;
  readonly bytes: number;
  readonly task: LargeTask;
  readonly context: HttpContext;
  done: ((result: LargeDone) => void) | null;
}

export function openLargeBodies({ log, ...given }: LargeBodiesOptions): LargeBodies {
  const { idleMs = idleMsDefault, workMs = workMsMax, oldHeapMb = oldHeapMbMax } = given;
  let jobs = 0;
  let waiting: Job[] = [];
  let waitingBytes = 0;
  let current: Job | null = null;
  let worker: Worker | null = null;
  /** Detectors that the thread has, by name. */
  let known = new Map<string, Detector>();
  let knownDescriptors: Buffer | null = null;
  let timer: NodeJS.Timeout | null = null;

  function start(): Worker {
    const started = new Worker(new URL("./large-worker.ts", import.meta.url), {
      resourceLimits: { maxOldGenerationSizeMb: oldHeapMb },
    });
    known = new Map();
    knownDescriptors = null;
    started.on("message", (report: WorkerReport) => {
      if (started === worker) void take(started, report);
    });
    started.on("error", (error) => {
      const isFull = (error as { code?: unknown }).code === "ERR_WORKER_OUT_OF_MEMORY";
      const what = isFull ? "it takes too much memory" : `the thread that reads it failed: ${error.message}`;
      ended(started, isFull ? "WEIR_LIMIT_REACHED" : "WEIR_INTERNAL", what);
    });
    started.on("exit", () => ended(started, "WEIR_INTERNAL", "the thread that reads it ended"));
    return started;
  }

  function next(): void {
    if (current !== null) return;
    const job = waiting.shift();
    after(job === undefined ? idleMs : workMs);
    if (job === undefined) {
      worker?.unref();
      return;
    }
    current = job;
    waitingBytes -= job.bytes;
    worker ??= start();
    worker.ref();
    const { id, task, context } = job;
    teach(worker, context.custom);
    if (task.family === "grpc") describe(worker, context.grpcDescriptors ?? null);
    const body = ownMemory(task.body);
    const order: WorkerOrder = { type: "task", id, task: { ...task, body }, maskKey: context.maskKey };
    try {
      worker.postMessage(order, [body.buffer]);
    } catch (error) {
      // What is nested too deep cannot be sent.
      const message = `The body cannot be handed out: ${error instanceof Error ? error.message : error}`;
      setImmediate(() => finish(job, failure(job, "WEIR_LIMIT_REACHED", message)));
    }
  }

  /** The thread has the detectors of the policy in force before it gets the body. */
  function teach(to: Worker, custom: ReadonlyMap<string, Detector>): void {
    const gone = [...known.keys()].filter((name) => !custom.has(name));
    const recipes: DetectorRecipe[] = [];
    for (const [name, detector] of custom) {
      const recipe = known.get(name) === detector ? null : recipeOf(detector);
      if (recipe !== null) recipes.push(recipe);
    }
    if (gone.length === 0 && recipes.length === 0) return;
    known = new Map(custom);
    to.postMessage({ type: "detectors", recipes, gone } satisfies WorkerOrder);
  }

  /** What a call's messages are; the buffer of a set is the same as long as the set is. */
  function describe(to: Worker, descriptors: Buffer | null): void {
    if (descriptors === knownDescriptors) return;
    knownDescriptors = descriptors;
    to.postMessage({ type: "descriptors", bytes: descriptors } satisfies WorkerOrder);
  }

  async function take(from: Worker, report: WorkerReport): Promise<void> {
    const job = current;
    if (job === null || report.id !== job.id) return;
    if (report.type === "questions") {
      // What is asked has an answer in microseconds each; the thread asks for some of them at a time.
      try {
        const answers = report.questions.map((question) => answerTo(question, job.context));
        await nextTurn();
        if (from === worker) from.postMessage({ type: "answers", id: job.id, answers } satisfies WorkerOrder);
      } catch (error) {
        finish(job, failure(job, "WEIR_INTERNAL", error instanceof Error ? error.message : `${error}`));
      }
      return;
    }
    finish(job, report.done);
  }

  function finish(job: Job, result: LargeDone): void {
    current = null;
    if (result.is === "failed" && result.code === "WEIR_INTERNAL") log("warn", `WEIR_INTERNAL: ${result.message}`);
    try {
      job.done?.(result);
    } finally {
      next();
    }
  }

  function ended(which: Worker, code: string, what: string): void {
    if (which !== worker) return;
    worker = null;
    const job = current;
    if (job === null) return;
    log("warn", `${code}: a body of ${job.bytes} bytes could not be read: ${what}`);
    finish(job, failure(job, code, `The body cannot be read: ${what}.`));
  }

  function after(ms: number): void {
    if (timer !== null) clearTimeout(timer);
    timer = setTimeout(() => {
      const old = worker;
      if (old === null) return;
      if (current !== null) ended(old, "WEIR_LIMIT_REACHED", `it takes longer than ${workMs / 1000} s`);
      else worker = null;
      void old.terminate();
    }, ms);
    timer.unref();
  }

  return {
    work(task, context, done) {
      jobs += 1;
      const job: Job = { id: jobs, bytes: task.body.length, task, context, done };
      const isFull = waitingBytes + job.bytes > waitingBytesMax;
      if (!isFull) {
        waiting.push(job);
        waitingBytes += job.bytes;
      }
      // Never inside of the caller's own turn.
      setImmediate(() => {
        if (!isFull) next();
        else job.done?.(failure(job, "WEIR_LIMIT_REACHED", "Too many long bodies wait to be read."));
      });
      return () => {
        job.done = null;
        if (!waiting.includes(job)) return;
        waiting = waiting.filter((other) => other !== job);
        waitingBytes -= job.bytes;
      };
    },
    get isRunning() {
      return worker !== null;
    },
    async close() {
      if (timer !== null) clearTimeout(timer);
      const old = worker;
      worker = null;
      current = null;
      waiting = [];
      await old?.terminate();
    },
  };
}

function failure({ task }: Job, code: string, message: string): LargeDone {
  return { is: "failed", of: task.step.do, code, message };
}

/** Memory that is nobody else's, so that it can be given away. */
function ownMemory(bytes: Uint8Array): Uint8Array<ArrayBuffer> {
  const isOwn = bytes.buffer instanceof ArrayBuffer && bytes.byteLength === bytes.buffer.byteLength;
  return isOwn ? (bytes as Uint8Array<ArrayBuffer>) : new Uint8Array(bytes);
}
