/** Asks the SQLite store over a thread: a search of a million sessions must not hold up what else the process does. */
import { openQuestionThread } from "../question-thread.ts";
import type { SqliteQueries } from "./sqlite-queries.ts";

type Questions = Pick<SqliteQueries, "sessions" | "session" | "entries" | "agents" | "faults">;

export interface Question {
  readonly name: keyof Questions;
  readonly words: readonly unknown[];
}

export interface StoreReader {
  ask<Name extends keyof Questions>(
    name: Name,
    ...words: Parameters<Questions[Name]>
  ): Promise<ReturnType<Questions[Name]>>;
  close(): Promise<void>;
}

/** Questions that wait; more are refused. */
const waitingMax = 256;

export function openStoreReader(dir: string): StoreReader {
  const script = new URL("./sqlite-worker.ts", import.meta.url);
  const thread = openQuestionThread<Question>({ script, workerData: dir, waitingMax, name: "the reader of the store" });
  return {
    ask: (name, ...words) => thread.ask({ name, words }) as Promise<never>,
    close: () => thread.close(),
  };
}
