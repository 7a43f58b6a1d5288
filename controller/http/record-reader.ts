/** Asks the thread that reads the record. The same question by several pages at once is asked once. */
import { openQuestionThread } from "../question-thread.ts";

export type RecordQuestion =
  | { readonly type: "verify" }
  /** Newest first; `beforeMs`: those that started before. */
  | { readonly type: "sessions"; readonly search: string; readonly beforeMs: number | null; readonly limit: number }
  /** Entries with a number above `after`, in order. */
  | { readonly type: "entries"; readonly session: string; readonly after: number; readonly limit: number };

export interface RecordReader {
  /** JSON, or null when there is no such thing; rejects with what is wrong with the record. */
  ask(question: RecordQuestion): Promise<string | null>;
  close(): Promise<void>;
}

/** Questions that wait; more are refused. */
const waitingMax = 64;

export function openRecordReader(stateDir: string): RecordReader {
  const script = new URL("./record-worker.ts", import.meta.url);
  const thread = openQuestionThread<RecordQuestion>({
    script,
    workerData: stateDir,
    waitingMax,
    name: "the reader of the record",
  });
  const waiting = new Map<string, Promise<string | null>>();
  return {
    ask(question) {
      const key = JSON.stringify(question);
      const before = waiting.get(key);
      if (before !== undefined) return before;
      const answer = (thread.ask(question) as Promise<string | null>).finally(() => waiting.delete(key));
      waiting.set(key, answer);
      return answer;
    },
    close: () => thread.close(),
  };
}
