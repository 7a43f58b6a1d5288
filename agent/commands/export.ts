/** `weir export`: the record for other systems, once or as it grows. */
import { createHash } from "node:crypto";
import type { Writable } from "node:stream";
import { WeirError } from "../errors.ts";
import { startForwarder } from "../forward/forwarder.ts";
import { hecSink } from "../forward/hec.ts";
import type { ForwardSink } from "../forward/sink.ts";
import { syslogSink } from "../forward/syslog.ts";
import { readTarget, targetHelp } from "../forward/target.ts";
import { type FormatName, formatNames, lineMaker } from "../record/formats.ts";
import { readEntries } from "../record/read.ts";
import { readSealKey } from "../record/seal.ts";
import { readArguments, readSince } from "./arguments.ts";
import { type CommandIo, recordedStateDir } from "./io.ts";

export const help = `weir export [--format jsonl|ocsf|cef|csv] [--since TIME] [--state DIR]
weir export --follow [--to URL] [--format …] [--since TIME] [--state DIR]

Writes the record, one line an entry:

  jsonl   every field as JSON (default; with --to it is ocsf)
  ocsf    OCSF 1.9 events: Datastore, HTTP, API and Network Activity, Authentication, with record_integrity attestations
  cef     Common Event Format 0
  csv     a table

jsonl and ocsf end with a seal, signed by the agent's key: \`weir verify --export FILE\` checks such a file by itself.
TIME is ISO 8601, for example 2026-11-21T00:00:00Z; entries before it are left out.

  --follow                        go on with what is recorded from now on, until it is ended
${targetHelp}  --name NAME                     of the place that is remembered in the state directory (default: by the URL)

A receiver that is away is tried for ever and loses nothing: entries wait in the record. Each is sent at least once.
`;

export async function run(args: readonly string[], io: CommandIo): Promise<number> {
  const told = readArguments(io, help, {
    args,
    options: {
      format: { type: "string" },
      since: { type: "string" },
      state: { type: "string" },
      follow: { type: "boolean", default: false },
      to: { type: "string" },
      ca: { type: "string" },
      "token-file": { type: "string" },
      name: { type: "string" },
    },
  });
  if (told === null) return 0;
  const { values } = told;
  const sinceMs = readSince(values.since);
  const stateDir = recordedStateDir(values.state, io);
  if (values.to === undefined) {
    const format = formatNames.find((name) => name === (values.format ?? "jsonl"));
    if (format === undefined)
      throw new WeirError("WEIR_USAGE", `--format ${values.format}: jsonl, ocsf, cef or csv is expected.`);
    if (!values.follow) {
      await writeAll(format, sinceMs, stateDir, io.stdout);
      return 0;
    }
    return followed({ sink: stdoutSink(io.stdout), format, name: null, sinceMs, stateDir, io });
  }
  if (!values.follow) throw new WeirError("WEIR_USAGE", "--to goes with --follow.");
  const { to, ca, format, "token-file": tokenFile } = values;
  const target = readTarget({ to, format, ca, tokenFile, env: io.env });
  const sink = target.kind === "syslog" ? syslogSink(target) : hecSink(target);
  const name = values.name ?? createHash("sha256").update(to).digest("hex").slice(0, 12);
  if (!/^[\w.-]{1,64}$/.test(name))
    throw new WeirError("WEIR_USAGE", `--name ${name}: letters, digits, . and - are expected.`);
  return followed({ sink, format: target.format, name, sinceMs, stateDir, io });
}

async function followed(options: {
  readonly sink: ForwardSink;
  readonly format: FormatName;
  readonly name: string | null;
  readonly sinceMs: number;
  readonly stateDir: string;
  readonly io: CommandIo;
}): Promise<number> {
  const { io, ...rest } = options;
  const log = (level: "info" | "warn", message: string): void => void io.stderr.write(`weir ${level}: ${message}\n`);
  const forwarder = startForwarder({ ...rest, log });
  const stopped = new Promise<void>((stop) => {
    process.once("SIGINT", stop);
    process.once("SIGTERM", stop);
  });
  await Promise.race([stopped, forwarder.done]);
  await forwarder.close();
  return 0;
}

function stdoutSink(out: Writable): ForwardSink {
  return {
    async send(lines) {
      const text = lines.map(({ line }) => `${line}\n`).join("");
      if (!out.write(text)) await new Promise((resolve) => out.once("drain", resolve));
    },
    close() {},
  };
}

async function writeAll(format: FormatName, sinceMs: number, stateDir: string, out: Writable): Promise<void> {
  const lines = lineMaker(format);
  let written = 0;
  const write = async (line: string): Promise<void> => {
    if (!out.write(`${line}\n`)) await new Promise((resolve) => out.once("drain", resolve));
  };
  if (lines.header !== null) await write(lines.header);
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
