/** The thread of sqlite-reader.ts. */
import { workerData } from "node:worker_threads";
import { answerQuestions } from "../question-thread.ts";
import { SqliteQueries } from "./sqlite-queries.ts";
import type { Question } from "./sqlite-reader.ts";
import { openReader } from "./sqlite-schema.ts";

const queries = new SqliteQueries(openReader(String(workerData)));

answerQuestions(({ name, words }: Question) => {
  const ask = queries[name] as (this: SqliteQueries, ...given: readonly unknown[]) => unknown;
  return ask.apply(queries, [...words]);
});
