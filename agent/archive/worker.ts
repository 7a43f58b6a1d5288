/** What runs in the thread of thread.ts. */
import { parentPort, workerData } from "node:worker_threads";
import { unforwardedFrom } from "../forward/place.ts";
import { CursorFile } from "../publish/cursor.ts";
import { applyRetention } from "./retention.ts";
import { openArchive } from "./store.ts";
import type { RetentionMessage, RetentionWork } from "./thread.ts";

const { stateDir, settings, everyMs, publishing } = workerData as RetentionWork;
const tell = (message: RetentionMessage): void => parentPort?.postMessage(message);
const archive = settings.archive === null ? null : openArchive(settings.archive, process.env);
const cursor = new CursorFile(stateDir);
let problem = "";

async function round(): Promise<void> {
  try {
    const published = cursor.read();
    const unpublishedFrom = published?.segment ?? (publishing ? 0 : null);
    for (const { segment, size, sha256, archived } of await applyRetention({
      stateDir,
      rules: settings,
      archive,
      unpublishedFrom,
      unforwardedFrom: unforwardedFrom(stateDir, Date.now()),
    })) {
      const where = archived === "" ? "" : `, kept as ${archived}`;
      tell({ type: "pruned", text: `segment ${segment} taken out, ${size} entries in all, sha256 ${sha256}${where}` });
    }
    problem = "";
  } catch (error) {
    const text = error instanceof Error ? error.message : String(error);
    if (text !== problem) tell({ type: "problem", text });
    problem = text;
  }
  setTimeout(() => void round(), everyMs);
}

void round();
