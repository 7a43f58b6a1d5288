/** Reads the record for the page, in a thread of its own: a long record must not hold up the flows. */
import { parentPort, workerData } from "node:worker_threads";
import { verifyState } from "../audit/verify-state.ts";
import type { RecordAnswer, RecordQuestion } from "./record-reader.ts";
import { SessionIndex } from "./session-index.ts";

const stateDir = String(workerData);
const index = new SessionIndex(stateDir);

parentPort?.on("message", ({ id, question }: { id: number; question: RecordQuestion }) => {
  let answer: RecordAnswer;
  try {
    const value = answerOf(question);
    answer = { id, found: value !== null, json: JSON.stringify(value) };
  } catch (error) {
    answer = { id, error: error instanceof Error ? error.message : String(error) };
  }
  parentPort?.postMessage(answer);
});

function answerOf(question: RecordQuestion): unknown {
  switch (question.type) {
    case "verify":
      return verifyState(stateDir);
    case "sessions":
      return index.list(question);
    case "entries":
      return index.entries(question.session, question.after, question.limit);
  }
}
