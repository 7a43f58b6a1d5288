/** `weir doctor`: what this kernel and host can do, and what is missing, in words with the next step. */
import { probe } from "../kernel/doctor.ts";
import { readArguments } from "./arguments.ts";
import type { CommandIo } from "./io.ts";

export const help = `weir doctor [--json]

Tells what this kernel and host can do. Exit code 0 when nothing is missing, else 1.
`;

export async function run(args: readonly string[], io: CommandIo): Promise<number> {
  const told = readArguments(io, help, {
    args,
    options: { json: { type: "boolean", default: false } },
  });
  if (told === null) return 0;
  const { values } = told;
  const found = await probe();
  if (values.json) io.stdout.write(`${JSON.stringify(found, null, 2)}\n`);
  else {
    for (const { name, ok, detail, nextStep } of found) {
      io.stdout.write(`${ok ? "ok     " : "MISSING"}  ${name}: ${detail}\n`);
      if (!ok && nextStep !== null) io.stdout.write(`         next: ${nextStep}\n`);
    }
  }
  return found.every(({ ok }) => ok) ? 0 : 1;
}
