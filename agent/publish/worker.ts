/** What runs in the thread of thread.ts. */
import { parentPort, workerData } from "node:worker_threads";
import { openRegistry } from "../kafka/registry.ts";
import { openTransport } from "../kafka/transport.ts";
import { openPublisher } from "./publisher.ts";
import { type PublishSettings, statusEveryMsDefault, type ThreadMessage } from "./thread.ts";

const settings = workerData as PublishSettings;
const tell = (message: ThreadMessage): void => parentPort?.postMessage(message);
const publisher = openPublisher({
  stateDir: settings.stateDir,
  transport: await openTransport(settings.kafka, settings.transport),
  ...(settings.registry === undefined ? {} : { framing: openRegistry(settings.registry).framing }),
  log: (level, message) => tell({ type: "log", level, message }),
});
const timer = setInterval(
  () => tell({ type: "status", status: publisher.status() }),
  settings.statusEveryMs ?? statusEveryMsDefault,
);

parentPort?.once("message", ({ drainWithinMs }: { drainWithinMs: number }) => void close(drainWithinMs));

async function close(drainWithinMs: number): Promise<void> {
  clearInterval(timer);
  await publisher.close(drainWithinMs);
  tell({ type: "status", status: publisher.status() });
  parentPort?.close();
}
