/** `weir export`: the record for other systems. */
import { parseArgs } from "node:util";
import { WeirError } from "../errors.ts";
import { readEntries } from "../record/read.ts";
import type { CommandIo } from "./io.ts";

export const help = `weir export [--format jsonl] [--since TIME] [--state DIR]

Writes every entry as a line of JSON. TIME is ISO 8601, for example 2026-11-21T00:00:00Z.
OCSF and CEF come with the controller.
`;

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
  if (values.format !== "jsonl")
    throw new WeirError("WEIR_USAGE", `--format ${values.format}: only jsonl is there yet.`);
  const sinceMs = values.since === undefined ? 0 : Date.parse(values.since);
  if (Number.isNaN(sinceMs))
    throw new WeirError("WEIR_USAGE", `--since ${values.since}: a time in ISO 8601 is expected.`);
  for (const entry of readEntries(values.state ?? io.stateDir)) {
    if (entry.timeMs < sinceMs) continue;
    const line = `${JSON.stringify({ ...entry, time: new Date(entry.timeMs).toISOString() })}\n`;
    if (!io.stdout.write(line)) await new Promise((resolve) => io.stdout.once("drain", resolve));
  }
  return 0;
}
