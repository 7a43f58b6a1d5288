/** What a session's entries say about it as a whole, entry by entry. Pure. */
import { bodyOf, type ChainedEntry } from "../../agent/record/chain.ts";
import { type Fields, simplify } from "../../agent/record/read.ts";
import type { SessionRow } from "./store.ts";

export function emptyRow({ agent, session, timeMs }: ChainedEntry): SessionRow {
  return {
    id: session,
    agent,
    startedAtMs: timeMs,
    endedAtMs: null,
    lastAtMs: timeMs,
    target: "",
    protocol: "",
    destination: "",
    hostname: null,
    process: "unknown",
    uid: null,
    job: null,
    identity: null,
    issuer: null,
    user: "",
    database: "",
    operations: 0,
    denied: 0,
    held: 0,
    end: null,
    rows: 0,
    masked: 0,
    entries: 0,
    first: 0,
  };
}

export function withEntry(row: SessionRow, entry: ChainedEntry): SessionRow {
  const next = { ...row, lastAtMs: entry.timeMs, entries: entry.seq + 1 };
  const { name, fields } = bodyOf(entry);
  switch (name) {
    case "SessionStart":
      return { ...next, ...startOf(simplify(entry).fields) };
    case "Login":
      return { ...next, user: String(fields["user"]), database: String(fields["database"]) };
    case "Operation":
      return {
        ...next,
        operations: row.operations + 1,
        denied: row.denied + (fields["action"] === "deny" ? 1 : 0),
        held: row.held + (fields["action"] === "hold" ? 1 : 0),
      };
    case "Result":
      return {
        ...next,
        rows: row.rows + Number(fields["rows"]),
        masked: row.masked + Number(fields["masked"]),
      };
    case "SessionEnd":
      return { ...next, endedAtMs: entry.timeMs, end: String(fields["reason"]) };
    default:
      return next;
  }
}

function startOf(fields: Fields): Partial<SessionRow> {
  const flow = fields["flow"] as Fields;
  const { address, port } = flow["destination"] as { address: string; port: number };
  const process = flow["process"] as {
    comm: string;
    pid: number;
    uid: number;
    job: { system: string; id: string } | null;
  } | null;
  const identity = flow["identity"] as { subject: string; issuer: string } | null;
  return {
    target: String(fields["target"]),
    protocol: String(fields["protocol"]),
    destination: `${address}:${port}`,
    hostname: flow["hostname"] === null ? null : String(flow["hostname"]),
    process: process === null ? "unknown" : `${process.comm}[${process.pid}]`,
    uid: process?.uid ?? null,
    job: process?.job ? `${process.job.system}:${process.job.id}` : null,
    identity: identity?.subject ?? null,
    issuer: identity?.issuer ?? null,
  };
}
