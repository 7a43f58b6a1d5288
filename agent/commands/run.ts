/** `weir run`: the agent moves this process into a cgroup of its own, then it becomes the command. */
import { accessSync, constants, existsSync, readFileSync, statSync, writeSync } from "node:fs";
import { delimiter, join } from "node:path";
import { askAgent } from "../control/client.ts";
import type { RunTrust } from "../control/protocol.ts";
import { WeirError } from "../errors.ts";
import { findBundles } from "../trust/bundles.ts";
import { canEnter, type EnterMode, enterProgram, enterWords } from "../trust/enter.ts";
import { wantsLibpqRoots } from "../trust/environment.ts";
import { type Plan, planBinds } from "../trust/plan.ts";
import { type CommandIo, controlSocketPath } from "./io.ts";
import { readToken, type TokenSource, tokenOptions } from "./token.ts";

export const help = `weir run [--state DIR] [--name NAME] [--identity-token-file F] [--trust HOW] -- CMD ARGS…

Runs CMD with all its descendants intercepted. Needs a running agent (weir up), and no root: the command runs
as you. Signals and the exit code are CMD's own. When the agent is stopped in order, what still runs is killed:
without the agent it would run ungoverned.

  --name NAME    shown in the record
  --identity-token-file F
                 a token (JWT) that says who the run stands for: it and all its descendants. The policy's section
                 identity says whose tokens are believed. Without one a run has the identity of the run it was
                 started in, else that of its user (weir login) or what the policy maps it to
  --identity-token-env NAME
                 the same from a variable, as GitLab gives it; the command does not get that variable
  --github-audience AUD
                 in a job of GitHub Actions with the permission id-token: gets the job's token for this audience
  --state DIR    state directory of the agent (default /var/lib/weir)
  --trust HOW    how programs get to trust Weir's certificate authority:
                   env    by variables (SSL_CERT_FILE, NODE_EXTRA_CA_CERTS, REQUESTS_CA_BUNDLE, …)
                   bind   also by a mount namespace, in which the bundles of the system, of Python packages and of
                          Java have the authority in them. Who is not root gets it by a user namespace: sudo and
                          other set-user-ID programs give no rights inside
                   auto   (default) bind for root and for users without rights by sudo, else env

A variable that you have set yourself stays as it is; with bind, the file that it names has the authority in it too.
\`weir run -- weir trust status\` proves what is trusted inside.
`;

export async function run(args: readonly string[], io: CommandIo): Promise<number> {
  let stateDir = io.stateDir;
  let name: string | null = null;
  let how: TrustHow = "auto";
  let source: TokenSource | null = null;
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
    else if (Object.hasOwn(tokenOptions, word)) {
      if (source !== null) throw new WeirError("WEIR_USAGE", "weir run takes one identity token.");
      source = { from: tokenOptions[word] as TokenSource["from"], what: optionValue(args, ++at, word) };
    } else if (word === "--state") stateDir = optionValue(args, ++at, word);
    else if (word === "--trust") how = trustHow(optionValue(args, ++at, word));
    else if (word.startsWith("-"))
      throw new WeirError("WEIR_USAGE", `weir run has no option ${word}; put -- before the command.`);
    else break;
  }
  const command = args.slice(at);
  const program = command[0];
  if (program === undefined) throw new WeirError("WEIR_USAGE", "weir run needs a command: weir run -- psql …");
  const path = findProgram(program, io.env);
  if (path === null) {
    // As shells have it: 126 is there and cannot be run.
    const there = program.includes("/") && existsSync(program);
    io.stderr.write(`weir run: ${program}: ${there ? "is no program that may be run" : "not found"}\n`);
    return there ? 126 : 127;
  }
  const token = source === null ? {} : { token: await readToken(source, io.env) };
  const reply = await askAgent(controlSocketPath(stateDir), { op: "run", name, ...token });
  if (!("environment" in reply)) throw new WeirError("WEIR_CONTROL_REFUSED", "The agent gave no environment.");
  const env: Record<string, string> = {};
  // What the caller has set himself stays his.
  for (const [key, value] of Object.entries({ ...reply.environment, ...io.env }))
    if (value !== undefined && !(source?.from === "env" && key === source.what)) env[key] = value;
  if (process.execve === undefined) throw new WeirError("WEIR_KERNEL_UNSUPPORTED", "weir run needs Node 24.");
  const rest = command.slice(1);
  const mode = reply.trust === undefined ? null : enterMode(how, reply.trust);
  const plan = mode !== null && reply.trust !== undefined ? bindsFor(reply.trust, path, io) : null;
  const ownRoots = existsSync(join(io.env.HOME ?? "/", ".postgresql/root.crt"));
  if (io.env.PGSSLROOTCERT === undefined && !wantsLibpqRoots(io.env.PGSSLMODE, ownRoots, plan !== null))
    delete env.PGSSLROOTCERT;
  if (mode !== null && reply.trust !== undefined && plan !== null) {
    process.execve(enterProgram, enterWords(mode, reply.trust.caPath, plan, path, rest), env);
  }
  // Node ignores SIGPIPE, and an ignored signal survives exec: env(1) gives the command the default back.
  process.execve("/usr/bin/env", ["env", "--default-signal=PIPE", path, ...rest], env);
  throw new WeirError("WEIR_INTERNAL", "execve came back");
}

type TrustHow = "auto" | "bind" | "env";

function trustHow(word: string): TrustHow {
  if (word === "auto" || word === "bind" || word === "env") return word;
  throw new WeirError("WEIR_USAGE", `--trust is auto, bind or env, not ${word}.`);
}

/** Null: variables only. */
export function enterMode(how: TrustHow, trust: RunTrust): EnterMode | null {
  if (how === "env") return null;
  if (process.geteuid?.() === 0) return "root";
  return how === "auto" && trust.sudo ? null : "user";
}

/** Nothing in here keeps the command from running: what does not work is said once, and the variables are left. */
function bindsFor(trust: RunTrust, program: string, io: CommandIo): Plan | null {
  try {
    if (!canEnter()) throw new Error("build/weir-enter is not built; run scripts/build-native");
    const bundles = findBundles({ root: "/", env: io.env, cwd: process.cwd(), program });
    return planBinds(bundles, readFileSync(trust.caPath, "utf8"), Date.now());
  } catch (error) {
    const reason = error instanceof Error ? error.message : String(error);
    // By the descriptor: Node's own stream would leave a pipe non-blocking for the command.
    writeSync(2, `weir run: ${reason}; programs that ignore SSL_CERT_FILE and its like may not trust Weir.\n`);
    return null;
  }
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
