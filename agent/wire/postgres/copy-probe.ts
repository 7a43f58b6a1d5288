/**
 * COPY … TO STDOUT names no origins. Under a column mask the server is asked, before the COPY goes, to describe a SELECT
 * with the same columns: in the client's own session, where names mean what they mean to the COPY, and in the same
 * transaction, so that the locks taken then keep other sessions from changing these tables before the COPY has run.
 */
import { message } from "./backend-messages.ts";
import { copyProbe as probeText } from "./describe/index.ts";
import { frontend } from "./frontend-messages.ts";
import type { Run } from "./run.ts";
import type { SessionState } from "./state.ts";

/** A name of its own: the statement without a name is the client's. */
const probeName = "weir copy probe\0";

/** Where the text may mean something else to the server than it does here, nothing can be described. */
const doubtful: ReadonlySet<string> = new Set(["encoding", "nonstandard-strings", "unknown-prepared", "invalid-text"]);

/** True when it has to be described, and was not yet. */
export function isProbed(run: Run, state: SessionState): boolean {
  const { info, verdict } = run;
  if (run.probe !== null || info === null || verdict === null || state.replicates) return false;
  if (info.copy === null || !info.copy.stdio || info.verbs[0] !== "copy" || info.statements !== 1) return false;
  if (verdict.transforms.masks.every(({ column }) => column === null)) return false;
  return probeText(info) !== null && !run.operation.traits.some((trait) => doubtful.has(trait));
}

/** Parse, Describe and Close of the SELECT, and a Flush. */
export function copyProbe({ info }: Run): Buffer {
  const text = info === null ? null : probeText(info);
  return Buffer.concat([
    // Parse: String statement, String query, Int16 count of types.
    message(frontend.parse, Buffer.from(`${probeName}${text ?? ""}\0\0\0`)),
    message(frontend.describe, Buffer.from(`S${probeName}`)),
    message(frontend.close, Buffer.from(`S${probeName}`)),
    message(frontend.flush, Buffer.alloc(0)),
  ]);
}
