/**
 * An agent without a kernel, as a process that a test can kill: it records `count` operations in `sessions` sessions and
 * publishes them. Run as: node publishing-agent.ts '{"stateDir": …, "kafka": …, "count": …, "sessions": …}'.
 * It says `recorded` when all is in the spool, and ends in order at SIGTERM.
 */
import { randomUUID } from "node:crypto";
import type { KafkaSettings, TransportName } from "../../agent/kafka/transport.ts";
import { startPublishThread } from "../../agent/publish/thread.ts";
import { openRecorder } from "../../agent/record/recorder.ts";
import { flow, operation, sessionEnd } from "../agent/record/sample.ts";

export interface PublishingAgent {
  readonly stateDir: string;
  readonly kafka: KafkaSettings;
  readonly count: number;
  readonly sessions: number;
  readonly transport?: TransportName;
}

const perTurn = 50;

const { stateDir, kafka, count, sessions, transport } = JSON.parse(process.argv[2] as string) as PublishingAgent;
const recorder = await openRecorder({ stateDir });
const log = (_: string, message: string): void => void process.stderr.write(`${message}\n`);
const thread = startPublishThread({ stateDir, kafka, ...(transport ? { transport } : {}) }, log);
const ids = Array.from({ length: sessions }, () => randomUUID());
for (const id of ids)
  recorder.append(id, { type: "session-start", flow: flow(id), target: "app", protocol: "postgres" });
for (let at = 0; at < count; ) {
  for (const end = Math.min(count, at + perTurn); at < end; at += 1) {
    const denied = at % 100 === 0 ? ({ action: "deny", rule: "no-drop", reason: "no drops" } as const) : {};
    recorder.append(ids[at % sessions] as string, operation(at, `SELECT ${at} FROM orders`, denied));
  }
  recorder.flush();
  await new Promise((resolve) => setTimeout(resolve, 1));
}
for (const id of ids) recorder.append(id, sessionEnd);
recorder.flush();
await recorder.synced();
process.once("SIGTERM", () => void end());
process.stdout.write("recorded\n");
setInterval(() => {}, 1_000);

async function end(): Promise<void> {
  await recorder.close();
  await thread.close(120_000);
  process.stderr.write(`ended: ${JSON.stringify(thread.status())}\n`);
  process.exit(0);
}
