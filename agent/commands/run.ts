/** `weir run`: the agent moves this process into a cgroup of its own, then it becomes the command. */
import { accessSync, constants, statSync } from "node:fs";
import { delimiter, join } from "node:path";
import { askAgent } from "../control/client.ts";
import { WeirError } from "../errors.ts";
import { type CommandIo, controlSocketPath } from "./io.ts";

export const help = `weir run [--state DIR] [--name NAME] -- CMD ARGS…

Runs CMD with all its descendants intercepted. Needs a running agent (weir up), and no root: the command runs
as you. Signals and the exit code are CMD's own.

  --name NAME    shown in the record
  --state DIR    state directory of the agent (default /var/lib/weir)
`;

export async function run(args: readonly string[], io: CommandIo): Promise<number> {
  let stateDir = io.stateDir;
  let name: string | null = null;
  let at = 0;
  for (; at < args.length; at += 1) {
    const word = args[at] as string;
    if (word === "--") {
      at += 1;
      break;
    }
    if (word === "--help" || word === "-h") {
      io.stdout.write(help);
      return 0;
    }
    if (word === "--name") name = optionValue(args, ++at, word);
    else if (word === "--state") stateDir = optionValue(args, ++at, word);
    else if (word.startsWith("-"))
      throw new WeirError("WEIR_USAGE", `weir run has no option ${word}; put -- before the command.`);
    else break;
  }
  const command = args.slice(at);
  const program = command[0];
  if (program === undefined) throw new WeirError("WEIR_USAGE", "weir run needs a command: weir run -- psql …");
  const path = findProgram(program, io.env);
  if (path === null) {
    io.stderr.write(`weir run: ${program}: not found\n`);
    return 127;
  }
  const reply = await askAgent(controlSocketPath(stateDir), { op: "run", name });
  if (!("environment" in reply)) throw new WeirError("WEIR_CONTROL_REFUSED", "The agent gave no environment.");
  const env: Record<string, string> = {};
  // What the caller has set himself stays his.
  for (const [key, value] of Object.entries({ ...reply.environment, ...io.env }))
    if (value !== undefined) env[key] = value;
  if (process.execve === undefined) throw new WeirError("WEIR_KERNEL_UNSUPPORTED", "weir run needs Node 24.");
  // Node ignores SIGPIPE, and an ignored signal survives exec: env(1) gives the command the default back.
  process.execve("/usr/bin/env", ["env", "--default-signal=PIPE", path, ...command.slice(1)], env);
  throw new WeirError("WEIR_INTERNAL", "execve came back");
}

function optionValue(args: readonly string[], at: number, option: string): string {
  const value = args[at];
  if (value === undefined) throw new WeirError("WEIR_USAGE", `${option} needs a value.`);
  return value;
}

function findProgram(program: string, env: NodeJS.ProcessEnv): string | null {
  const candidates = program.includes("/")
    ? [program]
    : (env.PATH ?? "/usr/bin:/bin").split(delimiter).map((dir) => join(dir, program));
  for (const candidate of candidates) {
    try {
      accessSync(candidate, constants.X_OK);
      if (statSync(candidate).isFile()) return candidate;
    } catch {
      // the next directory of PATH
    }
  }
  return null;
}
