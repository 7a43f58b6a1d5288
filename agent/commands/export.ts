/** `weir export`: the record for other systems. */
import type { Writable } from "node:stream";
import { parseArgs } from "node:util";
import { WeirError } from "../errors.ts";
import { type FormatName, formatNames, lineMaker } from "../record/formats.ts";
import { readEntries } from "../record/read.ts";
import { readSealKey } from "../record/seal.ts";
import type { CommandIo } from "./io.ts";

export const help = `weir export [--format jsonl|ocsf|cef] [--since TIME] [--state DIR]

Writes the record, one line an entry:

  jsonl   every field as JSON (default)
  ocsf    OCSF 1.9 events: Datastore Activity, Network Activity, Base Event, with record_integrity attestations
  cef     Common Event Format 0

jsonl and ocsf end with a seal, signed by the agent's key: \`weir verify --export FILE\` checks such a file by itself.
TIME is ISO 8601, for example 2026-11-21T00:00:00Z; entries before it are left out.
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
  const format = formatNames.find((name) => name === values.format);
  if (format === undefined)
    throw new WeirError("WEIR_USAGE", `--format ${values.format}: jsonl, ocsf or cef is expected.`);
  const sinceMs = values.since === undefined ? 0 : Date.parse(values.since);
  if (Number.isNaN(sinceMs))
    throw new WeirError("WEIR_USAGE", `--since ${values.since}: a time in ISO 8601 is expected.`);
  await writeAll(format, sinceMs, values.state ?? io.stateDir, io.stdout);
  return 0;
}

async function writeAll(format: FormatName, sinceMs: number, stateDir: string, out: Writable): Promise<void> {
  const lines = lineMaker(format);
  let written = 0;
  const write = async (line: string): Promise<void> => {
    if (!out.write(`${line}\n`)) await new Promise((resolve) => out.once("drain", resolve));
  };
  for (const entry of readEntries(stateDir)) {
    // Also what is left out goes through the format, which has to know how a session began.
    const counted = entry.timeMs >= sinceMs;
    const line = lines.lineOf(entry, counted);
    if (!counted) continue;
    await write(line);
    written += 1;
  }
  const key = written === 0 ? null : readSealKey(stateDir);
  const seal = key === null ? null : lines.seal(key, Date.now());
  if (seal !== null) await write(seal);
}
