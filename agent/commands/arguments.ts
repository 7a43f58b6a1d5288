/** The words behind a command's name: its options, and the help that each command gives. */
import { type ParseArgsConfig, parseArgs } from "node:util";
import { WeirError } from "../errors.ts";
import type { CommandIo } from "./io.ts";

interface Config<O, P extends boolean> {
  readonly args: readonly string[];
  readonly options: O;
  readonly allowPositionals?: P;
}

const helpOption = { help: { type: "boolean", short: "h", default: false } } as const;

/** null: help was asked for, and is given. */
export function readArguments<const O extends NonNullable<ParseArgsConfig["options"]>, P extends boolean = false>(
  { stdout }: CommandIo,
  help: string,
  { args, options, allowPositionals }: Config<O, P>,
) {
  const told = parseArgs({
    args: [...args],
    options: { ...options, ...helpOption },
    allowPositionals: (allowPositionals ?? false) as P,
  });
  if (!("help" in told.values) || told.values.help !== true) return told;
  stdout.write(help);
  return null;
}

/** `--since TIME`; 0: from the beginning. */
export function readSince(time: string | undefined): number {
  const sinceMs = time === undefined ? 0 : Date.parse(time);
  if (Number.isNaN(sinceMs)) throw new WeirError("WEIR_USAGE", `--since ${time}: a time in ISO 8601 is expected.`);
  return sinceMs;
}
