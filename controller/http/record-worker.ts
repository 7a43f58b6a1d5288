/** Reads the record for the page, in a thread of its own: a long record must not hold up the flows. */
import { parentPort, workerData } from "node:worker_threads";
import { listSessions, readEntries } from "../../agent/record/read.ts";
import { verifyLog } from "../../agent/record/verify.ts";
import type { RecordAnswer, RecordQuestion } from "./record-reader.ts";

const sessionsShown = 100;
const entriesShown = 5_000;
const stateDir = String(workerData);

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
  if (question === "verify") return verifyLog(stateDir);
  if (question === "sessions") return listSessions(readEntries(stateDir)).slice(-sessionsShown).reverse();
  const found = [];
  for (const entry of readEntries(stateDir)) {
    if (entry.session === question.session) found.push(entry);
    if (found.length === entriesShown || (found.length > 0 && found.at(-1)?.type === "SessionEnd")) break;
  }
  return found.length === 0 ? null : found;
}
