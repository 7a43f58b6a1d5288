/** What the agent tells: what was decided, how the record stands, and what waits. */
import { statfsSync, statSync } from "node:fs";
import { join } from "node:path";
import type { RecorderStatus } from "../record/recorder.ts";
import { segmentsOf } from "../record/segment.ts";
import type { Metric } from "./metrics.ts";

export interface AgentNumbers {
  readonly stateDir: string;
  readonly record: RecorderStatus;
  readonly openSessions: number;
  readonly waitingApprovals: number;
  /** Leaves that the audit log has signed for. */
  readonly auditLeaves: number;
  readonly auditProblem: boolean;
}

export function agentMetrics(numbers: AgentNumbers): Metric[] {
  const { record, stateDir } = numbers;
  const counter = (name: string, help: string, value: Metric["value"]): Metric => ({
    name,
    help,
    type: "counter",
    value,
  });
  const gauge = (name: string, help: string, value: Metric["value"]): Metric => ({ name, help, type: "gauge", value });
  return [
    counter("entries_total", "Entries recorded since the start, by kind.", { label: "kind", values: record.entries }),
    counter("operations_total", "Operations decided since the start, by verdict.", {
      label: "action",
      values: record.actions,
    }),
    counter("refused_total", "Connections refused since the start, by error code.", {
      label: "code",
      values: record.refused,
    }),
    counter("rows_total", "Rows that came back since the start.", record.rows),
    counter("masked_values_total", "Values masked since the start.", record.masked),
    counter("record_bytes_total", "Bytes written to the spool since the start.", record.bytes),
    gauge("record_entries", "Entries in the record's chain.", record.size),
    gauge("record_signed_entries", "Entries that a signed head covers.", record.signed),
    gauge("record_failed", "1 when the record cannot be written: then nothing is let through.", record.failed ? 1 : 0),
    gauge("record_full", "1 while the record is at its limit: then nothing is let through.", record.full ? 1 : 0),
    gauge("spool_bytes", "Bytes of the spool on the disk.", spoolBytes(stateDir)),
    gauge("state_free_bytes", "Free bytes where the state directory is.", freeBytes(stateDir)),
    gauge("sessions_open", "Sessions that go on now.", numbers.openSessions),
    gauge("approvals_waiting", "Held operations that wait for a person.", numbers.waitingApprovals),
    gauge("audit_leaves", "Heads that the audit log has signed for.", numbers.auditLeaves),
    gauge(
      "audit_problem",
      "1 when the audit log or a witness says that something is wrong.",
      numbers.auditProblem ? 1 : 0,
    ),
  ];
}

function spoolBytes(stateDir: string): number {
  return segmentsOf(join(stateDir, "spool")).reduce(
    (sum, path) => sum + (statSync(path, { throwIfNoEntry: false })?.size ?? 0),
    0,
  );
}

function freeBytes(stateDir: string): number {
  const { bavail, bsize } = statfsSync(stateDir);
  return bavail * bsize;
}
