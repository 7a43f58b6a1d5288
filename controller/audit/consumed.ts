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

export function openConsumedAudit(options: ConsumedAuditOptions): ConsumedAudit {
  const { stateDir, witnesses = [], sendReceipt, log: tell } = options;
  let problem: string | null = null;
  const shown = startWitnesses({ dir: `${stateDir}/${auditDir}`, witnesses, log: tell });
  const log = openAuditLog({
    stateDir,
    onCheckpoint: (note) => shown.submit(note),
    async onReceipts(receipts) {
      // A receipt that does not arrive is made good by the next one, which covers more.
      for (const receipt of receipts) sendReceipt(receipt).catch(() => {});
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
        const taken = intake.take(batch.heads);
        for (const { sentence } of taken.faults) {
          problem = sentence;
          tell("warn", `audit: ${sentence}`);
        }
        const faults = taken.faults.map(({ agent, sentence }) => ({
          kind: "altered" as const,
          agent,
          session: null,
          sentence,
        }));
        await store.store({ ...batch, faults: [...batch.faults, ...faults] });
        if (taken.added > 0) await log.flush();
      },
    }),
    async close() {
      await log.close();
      await shown.close();
    },
  };
}
