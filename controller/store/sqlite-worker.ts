/** The thread of sqlite-reader.ts. */
import { parentPort, workerData } from "node:worker_threads";
import { SqliteQueries } from "./sqlite-queries.ts";
import type { Answer, Question } from "./sqlite-reader.ts";
import { openReader } from "./sqlite-schema.ts";

const queries = new SqliteQueries(openReader(String(workerData)));

parentPort?.on("message", ({ id, name, words }: Question) => {
  let answer: Answer;
  try {
    const ask = queries[name] as (this: SqliteQueries, ...given: readonly unknown[]) => unknown;
    answer = { id, value: ask.apply(queries, [...words]) };
  } catch (error) {
    answer = { id, error: error instanceof Error ? error.message : String(error) };
  }
  parentPort?.postMessage(answer);
});
