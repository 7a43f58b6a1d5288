/**
 * COPY … TO STDOUT names no origins. Under a column mask the server is asked, before the COPY goes, to describe a SELECT
 * with the same columns: in the client's own session, where names mean what they mean to the COPY, and in the same
 * transaction, so that the locks taken then keep other sessions from changing these tables before the COPY has run.
 *
 * 1. `version`: what stands by these names now, in any schema.
 * 2. `describe`: Parse, Describe and Close of the SELECT, and no Sync.
 * 3. `columns`: the names of the columns, while the tables are locked.
 * 4. `sent`: the COPY goes, and its transaction stays open until its rows begin. Then (results.ts) what stands by these
 *    names is asked again: has it changed, the COPY may have read another table than the one that was described.
 */
import type { CatalogColumn, CatalogQuestion, TableName } from "../protocol.ts";
import { message, readRowDescription } from "./backend-messages.ts";
import { copyProbe as probeText } from "./describe/index.ts";
import { entry } from "./expected.ts";
import { frontend } from "./frontend-messages.ts";
import type { Run } from "./run.ts";
import type { SessionState } from "./state.ts";

export interface Probe {
  stage: "version" | "describe" | "describing" | "columns" | "ready" | "sent" | "failed";
  /** What stands by the names of its tables; the question is asked twice. Null: it could not be read. */
  readonly names: readonly TableName[];
  version: string | null;
  /** Null: the names could not be read. */
  catalog: readonly CatalogColumn[] | null;
}

/** Of what the agent prepares in the client's session: names without one are the client's. */
const ownName = "weir copy\0";
const none: readonly never[] = Object.freeze([]);

/** Where the text may mean something else to the server than it does here, nothing can be described. */
const doubtful: ReadonlySet<string> = new Set(["encoding", "nonstandard-strings", "unknown-prepared", "invalid-text"]);

/** True when it has to be described before it goes. */
function isProbed(run: Run, state: SessionState): boolean {
  const { info, verdict } = run;
  if (info === null || verdict === null || state.replicates) return false;
  if (info.copy === null || !info.copy.stdio || info.verbs[0] !== "copy" || info.statements !== 1) return false;
  if (verdict.transforms.masks.every(({ column }) => column === null)) return false;
  return probeText(info) !== null && !run.operation.traits.some((trait) => doubtful.has(trait));
}

/** The next step of a COPY that is about to go. `describe`: bytes were sent, and their answers are awaited. */
export function probeStep(run: Run, state: SessionState): "go" | "wait" | "describe" | "failed" {
  const probe = run.probe;
  switch (probe?.stage) {
    case undefined: {
      if (!isProbed(run, state)) return "go";
      const names = run.info?.flow.tables ?? none;
      run.probe = { stage: "version", names, version: null, catalog: null };
      ask(run, state, { tableOids: none, versionOf: names });
      return "wait";
    }
    case "describe":
      run.probe = { ...(probe as Probe), stage: "describing" };
      describe(run, state);
      return "describe";
    case "describing":
      if (state.expected.length > 0) return "describe";
      askColumns(run, state, probe as Probe);
      return run.probe?.stage === "ready" ? "go" : "wait";
    case "failed":
      return "failed";
    case "version":
    case "columns":
      return "wait";
    default:
      return "go";
  }
}

/** An answer of the catalog; false: it was no question of a COPY. */
export function probeAnswered(
  state: SessionState,
  asked: CatalogQuestion,
  columns: readonly CatalogColumn[] | null,
  version: string | null,
): boolean {
  const { asking } = state;
  if (asking?.question !== asked || asking.run.probe === null) return false;
  const { probe } = asking.run;
  state.asking = null;
  if (probe.stage === "version") asking.run.probe = { ...probe, version, stage: "describe" };
  else asking.run.probe = { ...probe, catalog: columns, stage: "ready" };
  return true;
}

function ask(run: Run, state: SessionState, question: CatalogQuestion): void {
  state.asking = { run, question };
  state.out.push({ type: "catalog", question });
}

function askColumns(run: Run, state: SessionState, probe: Probe): void {
  const fields = run.description === null ? [] : readRowDescription(run.description, 0, run.description.length);
  const tableOids = [...new Set(fields.map(({ tableOid }) => tableOid))].filter((oid) => oid !== 0);
  if (tableOids.length === 0) {
    run.probe = { ...probe, catalog: none, stage: "ready" };
    return;
  }
  run.probe = { ...probe, stage: "columns" };
  ask(run, state, { tableOids, fresh: true });
}

function describe(run: Run, state: SessionState): void {
  const text = run.info === null ? null : probeText(run.info);
  state.sendServer(
    Buffer.concat([...parse(text ?? ""), named(frontend.describe, "S"), named(frontend.close, "S"), flush]),
    run.permit ?? state.permit,
  );
  for (const awaited of ["close", "parse", "describe", "close"] as const)
    state.expected.push(entry(awaited, { run, ours: true }));
}

/**
 * A Query as messages of the extended protocol, without the Sync that would end its transaction: that is sent when they
 * are answered.
 */
export function sendCopy(run: Run, text: Buffer, state: SessionState): void {
  state.sendServer(
    Buffer.concat([
      ...parse(text),
      // Bind: String portal, String statement, Int16 counts of formats, parameters and result formats.
      message(frontend.bind, Buffer.from(`${ownName}${ownName}\0\0\0\0\0\0`)),
      // Execute: String portal, Int32 rows (0: all).
      message(frontend.execute, Buffer.from(`${ownName}\0\0\0\0`)),
      named(frontend.close, "P"),
      named(frontend.close, "S"),
      flush,
    ]),
    run.permit ?? state.permit,
  );
  for (const awaited of ["close", "parse", "bind"] as const) state.expected.push(entry(awaited, { run, ours: true }));
  state.expected.push(entry("execute", { run }));
  for (const awaited of ["close", "close"] as const) state.expected.push(entry(awaited, { ours: true }));
}

/** Close of what an error may have left, and Parse: String statement, String query, Int16 count of types. */
function parse(text: string | Buffer): Buffer[] {
  const body = [Buffer.from(ownName), Buffer.from(text as string), Buffer.from([0, 0, 0])];
  return [named(frontend.close, "S"), message(frontend.parse, Buffer.concat(body))];
}

/** Describe and Close: Byte1 'S' or 'P', String name. */
function named(type: number, kind: "S" | "P"): Buffer {
  return message(type, Buffer.from(`${kind}${ownName}`));
}

const flush = message(frontend.flush, Buffer.alloc(0));
