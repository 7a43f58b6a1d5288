/** `weir export`: the record for other systems. */
import { parseArgs } from "node:util";
import { WeirError } from "../errors.ts";
import { cefLines } from "../record/cef.ts";
import { ocsfEvents } from "../record/ocsf.ts";
import { type ReadEntry, readEntries } from "../record/read.ts";
import type { CommandIo } from "./io.ts";

export const help = `weir export [--format jsonl|ocsf|cef] [--since TIME] [--state DIR]

Writes the record, one line an entry:

  jsonl   every field as JSON (default)
  ocsf    OCSF 1.9 events: Datastore Activity, Network Activity, Base Event, with record_integrity attestations
  cef     Common Event Format 0

TIME is ISO 8601, for example 2026-11-21T00:00:00Z; entries before it are left out.
`;

const formats: Readonly<Record<string, () => (entry: ReadEntry) => string>> = {
  jsonl: () => (entry) => JSON.stringify({ ...entry, time: new Date(entry.timeMs).toISOString() }),
  ocsf: () => {
    const event = ocsfEvents();
    return (entry) => JSON.stringify(event(entry));
  },
  cef: cefLines,
};

export async function run(args: readonly string[], io: CommandIo): Promise<number> {
  const { values } = parseArgs({
    args: [...args],
    options: {
      format: { type: "string", default: "jsonl" },
      since: { type: "string" },
      state: { type: "string" },
      help: { type: "boolean", short: "h", default: false },
    },
  });
  if (values.help) {
    io.stdout.write(help);
    return 0;
  }
  const format = Object.hasOwn(formats, values.format) ? formats[values.format] : undefined;
  if (format === undefined)
    throw new WeirError("WEIR_USAGE", `--format ${values.format}: jsonl, ocsf or cef is expected.`);
  const sinceMs = values.since === undefined ? 0 : Date.parse(values.since);
  if (Number.isNaN(sinceMs))
    throw new WeirError("WEIR_USAGE", `--since ${values.since}: a time in ISO 8601 is expected.`);
  const lineOf = format();
  for (const entry of readEntries(values.state ?? io.stateDir)) {
    // Also what is left out goes through the format, which has to know how a session began.
    const line = `${lineOf(entry)}\n`;
    if (entry.timeMs < sinceMs) continue;
    if (!io.stdout.write(line)) await new Promise((resolve) => io.stdout.once("drain", resolve));
  }
  return 0;
}
