/** Reads the record for the page, in a thread of its own: a long record must not hold up the flows. */
import { workerData } from "node:worker_threads";
import { verifyState } from "../audit/verify-state.ts";
import { answerQuestions } from "../question-thread.ts";
import type { RecordQuestion } from "./record-reader.ts";
import { SessionIndex } from "./session-index.ts";

const stateDir = String(workerData);
const index = new SessionIndex(stateDir);

answerQuestions((question: RecordQuestion) => {
  const found = answerOf(question);
  // A text, which is sent on as it is.
  return found === null ? null : JSON.stringify(found);
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
