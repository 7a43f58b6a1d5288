/** Reads sessions back from the spool, for the commands and the page. */
import { join } from "node:path";
import { WeirError } from "../errors.ts";
import { bodyOf, type ChainedEntry, decodeEntry } from "./chain.ts";
import { readFrames, segmentsOf } from "./segment.ts";

export type Fields = Readonly<Record<string, unknown>>;

/** An entry as a reader wants it: unions unwrapped, one flat object. */
export interface ReadEntry {
  readonly agent: string;
  readonly session: string;
  readonly seq: number;
  readonly agentSeq: number;
  readonly timeMs: number;
  /** `SessionStart`, `Login`, `Operation`, … */
  readonly type: string;
  readonly fields: Fields;
}

export interface SessionSummary {
  readonly id: string;
  readonly startedAtMs: number;
  readonly endedAtMs: number | null;
  readonly target: string;
  readonly destination: string;
  readonly process: string;
  readonly uid: number | null;
  readonly job: string | null;
  readonly user: string;
  readonly database: string;
  readonly operations: number;
  readonly denied: number;
  readonly held: number;
  readonly end: string | null;
}

/** Sessions kept in memory while listing; older ones are left out, newest win. */
const sessionsMax = 10_000;

/** Every entry, oldest first. A torn end of a segment ends it in silence: that is for `verifyLog` to judge. */
export function* readEntries(stateDir: string): Generator<ReadEntry> {
  for (const path of segmentsOf(join(stateDir, "spool"))) {
    for (const { payload, offset } of readFrames(path)) {
      let entry: ChainedEntry;
      try {
        entry = decodeEntry(payload);
      } catch (cause) {
        throw new WeirError("WEIR_SPOOL_CORRUPT", `${path} at byte ${offset} cannot be read. See \`weir verify\`.`, {
          cause,
        });
      }
      yield simplify(entry);
    }
  }
}

export function simplify(entry: ChainedEntry): ReadEntry {
  const { name, fields } = bodyOf(entry);
  return {
    agent: entry.agent,
    session: entry.session,
    seq: entry.seq,
    agentSeq: entry.agentSeq,
    timeMs: entry.timeMs,
    type: name,
    fields: unwrap(fields) as Fields,
  };
}

/** Oldest first. */
export function listSessions(entries: Iterable<ReadEntry>): SessionSummary[] {
  const sessions = new Map<string, SessionSummary>();
  for (const entry of entries) {
    if (entry.session === "agent") continue;
    sessions.set(entry.session, summaryWith(sessions.get(entry.session), entry));
    if (sessions.size > sessionsMax) sessions.delete(sessions.keys().next().value as string);
  }
  return [...sessions.values()];
}

/** What is known of a session after one more entry of it; its first one begins it. */
export function summaryWith(before: SessionSummary | undefined, entry: ReadEntry): SessionSummary {
  const summary = before ?? emptySummary(entry);
  const { type, fields, timeMs } = entry;
  switch (type) {
    case "SessionStart": {
      const flow = fields["flow"] as Fields;
      const destination = flow["destination"] as { address: string; port: number };
      const process = flow["process"] as {
        comm: string;
        pid: number;
        uid: number;
        job: { system: string; id: string } | null;
      } | null;
      return {
        ...summary,
        target: String(fields["target"]),
        destination: `${destination.address}:${destination.port}`,
        process: process === null ? "unknown" : `${process.comm}[${process.pid}]`,
        uid: process?.uid ?? null,
        job: process?.job ? `${process.job.system}:${process.job.id}` : null,
      };
    }
    case "Login":
      return { ...summary, user: String(fields["user"]), database: String(fields["database"]) };
    case "Operation":
      return {
        ...summary,
        operations: summary.operations + 1,
        denied: summary.denied + (fields["action"] === "deny" ? 1 : 0),
        held: summary.held + (fields["action"] === "hold" ? 1 : 0),
      };
    case "SessionEnd":
      return { ...summary, endedAtMs: timeMs, end: String(fields["reason"]) };
    default:
      return summary;
  }
}

function emptySummary(entry: ReadEntry): SessionSummary {
  return {
    id: entry.session,
    startedAtMs: entry.timeMs,
    endedAtMs: null,
    target: "",
    destination: "",
    process: "unknown",
    uid: null,
    job: null,
    user: "",
    database: "",
    operations: 0,
    denied: 0,
    held: 0,
    end: null,
  };
}

/** avsc wraps a union's value in an object with the branch's name. */
function unwrap(value: unknown): unknown {
  if (Array.isArray(value)) return value.map(unwrap);
  if (value === null || typeof value !== "object" || Buffer.isBuffer(value)) return value;
  const entries = Object.entries(value);
  const [only] = entries;
  if (entries.length === 1 && only !== undefined && (only[0] === "string" || only[0].startsWith("weir.v1.")))
    return unwrap(only[1]);
  return Object.fromEntries(entries.map(([key, inner]) => [key, unwrap(inner)]));
}
