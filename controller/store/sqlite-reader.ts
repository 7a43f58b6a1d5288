/** Asks the SQLite store over a thread: a search of a million sessions must not hold up what else the process does. */
import { Worker } from "node:worker_threads";
import type { SqliteQueries } from "./sqlite-queries.ts";

type Questions = Pick<SqliteQueries, "sessions" | "session" | "entries" | "agents" | "faults">;

export interface Question {
  readonly id: number;
  readonly name: keyof Questions;
  readonly words: readonly unknown[];
}

export type Answer = { readonly id: number; readonly value: unknown } | { readonly id: number; readonly error: string };

export interface StoreReader {
  ask<Name extends keyof Questions>(
    name: Name,
    ...words: Parameters<Questions[Name]>
  ): Promise<ReturnType<Questions[Name]>>;
  close(): Promise<void>;
}

/** Questions that wait; more are refused. */
const waitingMax = 256;

interface Waiter {
  resolve(value: never): void;
  reject(error: Error): void;
}

export function openStoreReader(dir: string): StoreReader {
  let worker: Worker | null = null;
  let asked = 0;
  const waiters = new Map<number, Waiter>();

  /** With the first question, and anew after it broke. */
  function started(): Worker {
    if (worker !== null) return worker;
    const thread = new Worker(new URL("./sqlite-worker.ts", import.meta.url), { workerData: dir });
    thread.unref();
    thread.on("message", (answer: Answer) => {
      const waiter = waiters.get(answer.id);
      waiters.delete(answer.id);
      if (waiters.size === 0) thread.unref();
      if ("error" in answer) waiter?.reject(new Error(answer.error));
      else waiter?.resolve(answer.value as never);
    });
    const broken = (error: Error): void => {
      if (worker === thread) worker = null;
      for (const waiter of waiters.values()) waiter.reject(error);
      waiters.clear();
    };
    thread.on("error", broken);
    thread.on("exit", () => broken(new Error("the reader of the store ended")));
    worker = thread;
    return thread;
  }

  return {
    ask(name, ...words) {
      if (waiters.size >= waitingMax) return Promise.reject(new Error("too many questions wait"));
      const { promise, resolve, reject } = Promise.withResolvers<never>();
      asked += 1;
      waiters.set(asked, { resolve, reject });
      const thread = started();
      thread.ref();
      thread.postMessage({ id: asked, name, words } satisfies Question);
      return promise;
    },
    async close() {
      await worker?.terminate();
    },
  };
}
