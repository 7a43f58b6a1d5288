/** Asks a thread, so that a long answer holds up nothing else: started with the first question, and anew after it broke. */
import { parentPort, Worker } from "node:worker_threads";

export interface QuestionThread<Question> {
  /** Rejects with what the thread says is wrong. */
  ask(question: Question): Promise<unknown>;
  close(): Promise<void>;
}

export interface QuestionThreadOptions {
  readonly script: URL;
  readonly workerData: unknown;
  /** Questions that wait; more are refused. */
  readonly waitingMax: number;
  /** Says who ended, for those that waited. */
  readonly name: string;
}

type Answer = { readonly id: number; readonly value: unknown } | { readonly id: number; readonly error: string };

interface Waiter {
  resolve(value: unknown): void;
  reject(error: Error): void;
}

export function openQuestionThread<Question>(options: QuestionThreadOptions): QuestionThread<Question> {
  const { script, workerData, waitingMax, name } = options;
  let worker: Worker | null = null;
  let asked = 0;
  const waiters = new Map<number, Waiter>();

  function started(): Worker {
    if (worker !== null) return worker;
    const thread = new Worker(script, { workerData });
    thread.unref();
    thread.on("message", (answer: Answer) => {
      const waiter = waiters.get(answer.id);
      waiters.delete(answer.id);
      if (waiters.size === 0) thread.unref();
      if ("error" in answer) waiter?.reject(new Error(answer.error));
      else waiter?.resolve(answer.value);
    });
    const broken = (error: Error): void => {
      if (worker === thread) worker = null;
      for (const waiter of waiters.values()) waiter.reject(error);
      waiters.clear();
    };
    thread.on("error", broken);
    thread.on("exit", () => broken(new Error(`${name} ended`)));
    worker = thread;
    return thread;
  }

  return {
    ask(question) {
      if (waiters.size >= waitingMax) return Promise.reject(new Error("too many questions wait"));
      const { promise, resolve, reject } = Promise.withResolvers<unknown>();
      asked += 1;
      waiters.set(asked, { resolve, reject });
      const thread = started();
      thread.ref();
      thread.postMessage({ id: asked, question });
      return promise;
    },
    async close() {
      await worker?.terminate();
    },
  };
}

/** The thread's own side. */
export function answerQuestions<Question>(answerOf: (question: Question) => unknown): void {
  parentPort?.on("message", ({ id, question }: { id: number; question: Question }) => {
    let answer: Answer;
    try {
      answer = { id, value: answerOf(question) };
    } catch (error) {
      answer = { id, error: error instanceof Error ? error.message : String(error) };
    }
    parentPort?.postMessage(answer);
  });
}
