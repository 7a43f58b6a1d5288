/**
 * The audit log of a controller that consumes from Kafka: heads that the intake checked become leaves once they are
 * stored, and offsets are committed only when a checkpoint signs for them.
 */
import type { Receipt } from "../../agent/record/receipts.ts";
import type { CheckedBatch, RecordSink } from "../consume/sink.ts";
import { HeadIntake } from "./intake.ts";
import { type AuditLog, auditDir, openAuditLog } from "./log.ts";
import { startWitnesses, type WitnessName } from "./witnesses.ts";

export interface ConsumedAudit {
  readonly log: AuditLog;
  readonly problem: string | null;
  /** The store, with the log behind it. */
  sink(store: RecordSink): RecordSink;
  close(): Promise<void>;
}

export interface ConsumedAuditOptions {
  readonly stateDir: string;
  readonly witnesses?: readonly WitnessName[];
  /** To the agents; not waited for. */
  readonly sendReceipt: (receipt: Receipt) => Promise<void>;
  readonly log: (level: "info" | "warn", message: string) => void;
}

/** To one agent: heads come every second, and a receipt of each would double what Kafka carries for them. */
const receiptsEveryMs = 2_000;

export function openConsumedAudit(options: ConsumedAuditOptions): ConsumedAudit {
  const { stateDir, witnesses = [], sendReceipt, log: tell } = options;
  let problem: string | null = null;
  /** The newest receipt of each agent covers all before it. */
  const due = new Map<string, Receipt>();
  const send = (): void => {
    // One that does not arrive is made good by the next one.
    for (const receipt of due.values()) sendReceipt(receipt).catch(() => {});
    due.clear();
  };
  const timer = setInterval(send, receiptsEveryMs);
  timer.unref();
  const shown = startWitnesses({ dir: `${stateDir}/${auditDir}`, witnesses, log: tell });
  const log = openAuditLog({
    stateDir,
    onCheckpoint: (note) => shown.submit(note),
    async onReceipts(receipts) {
      for (const receipt of receipts) due.set(receipt.agent, receipt);
    },
  });
  const intake = new HeadIntake(log);
  return {
    log,
    get problem() {
      return problem ?? shown.problem;
    },
    sink: (store) => ({
      tailsOf: (sessions) => store.tailsOf(sessions),
      keyOf: (agent) => store.keyOf(agent),
      pinKey: (agent, key) => store.pinKey(agent, key),
      async store(batch: CheckedBatch) {
        await store.store(batch);
        if (batch.heads.length === 0) return;
        const { faults } = intake.take(batch.heads);
        // Also when nothing is new: the same batch comes again after a checkpoint could not be written.
        await log.flush();
        if (faults.length === 0) return;
        for (const { sentence } of faults) tell("warn", `audit: ${sentence}`);
        problem = faults.at(-1)?.sentence ?? problem;
        const found = faults.map(({ agent, sentence }) => ({ kind: "fork" as const, agent, session: null, sentence }));
        await store.store({ entries: [], heads: [], faults: found });
      },
    }),
    async close() {
      clearInterval(timer);
      await log.close();
      send();
      await shown.close();
    },
  };
}
