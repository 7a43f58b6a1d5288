/** Asks the thread that reads the record. The same question by several pages at once is asked once. */
import { Worker } from "node:worker_threads";

export type RecordQuestion =
  | { readonly type: "verify" }
  /** Newest first; `beforeMs`: those that started before. */
  | { readonly type: "sessions"; readonly search: string; readonly beforeMs: number | null; readonly limit: number }
  /** Entries with a number above `after`, in order. */
  | { readonly type: "entries"; readonly session: string; readonly after: number; readonly limit: number };

export type RecordAnswer =
  | { readonly id: number; readonly found: boolean; readonly json: string }
  | { readonly id: number; readonly error: string };

export interface RecordReader {
  /** JSON, or null when there is no such thing; rejects with what is wrong with the record. */
  ask(question: RecordQuestion): Promise<string | null>;
  close(): Promise<void>;
}

/** Questions that wait; more are refused. */
const waitingMax = 64;

interface Waiter {
  readonly key: string;
  readonly promise: Promise<string | null>;
  readonly resolve: (json: string | null) => void;
  readonly reject: (error: Error) => void;
}

export function openRecordReader(stateDir: string): RecordReader {
  let worker: Worker | null = null;
  let asked = 0;
  const waiters = new Map<number, Waiter>();

  /** The thread starts with the first question, and anew after it broke. */
  function started(): Worker {
    if (worker !== null) return worker;
    const thread = new Worker(new URL("./record-worker.ts", import.meta.url), { workerData: stateDir });
    thread.unref();
    thread.on("message", (answer: RecordAnswer) => {
      const waiter = waiters.get(answer.id);
      waiters.delete(answer.id);
      if ("error" in answer) waiter?.reject(new Error(answer.error));
      else waiter?.resolve(answer.found ? answer.json : null);
    });
    const broken = (error: Error): void => {
      if (worker === thread) worker = null;
      for (const waiter of waiters.values()) waiter.reject(error);
      waiters.clear();
    };
    thread.on("error", broken);
    thread.on("exit", () => broken(new Error("the reader of the record ended")));
    worker = thread;
    return thread;
  }

  return {
    ask(question) {
      const key = JSON.stringify(question);
      for (const waiter of waiters.values()) if (waiter.key === key) return waiter.promise;
      if (waiters.size >= waitingMax) return Promise.reject(new Error("too many questions wait"));
      const { promise, resolve, reject } = Promise.withResolvers<string | null>();
      asked += 1;
      waiters.set(asked, { key, promise, resolve, reject });
      started().postMessage({ id: asked, question });
      return promise;
    },
    async close() {
      await worker?.terminate();
    },
  };
}
