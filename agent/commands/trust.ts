/** `weir trust`: Weir's certificate authority in the stores of the host, taken away again, and shown by handshakes. */
import { spawnSync } from "node:child_process";
import { randomBytes, X509Certificate } from "node:crypto";
import { accessSync, constants, existsSync, readFileSync } from "node:fs";
import { join } from "node:path";
import { askAgent } from "../control/client.ts";
import { WeirError } from "../errors.ts";
import { type Authority, openAuthority } from "../tls/authority.ts";
import { canEnter, enterProgram } from "../trust/enter.ts";
import { addToJava, removeFromJava } from "../trust/java-install.ts";
import { namesFor, type OwnNames } from "../trust/names.ts";
import { addToNss, certutilIsThere, nssDatabases, removeFromNss } from "../trust/nss.ts";
import { probeNames, startProbeServer } from "../trust/probe-server.ts";
import { type Probe, probeRuntimes, type RuntimeTrust } from "../trust/runtimes.ts";
import {
  addToSystem,
  isInSystemStore,
  otherFiles,
  ownFiles,
  removeFromSystem,
  systemPath,
} from "../trust/system-store.ts";
import { addVariables, hostEnvironment, removeVariables, variableFiles } from "../trust/variables.ts";
import { readArguments } from "./arguments.ts";
import { type CommandIo, controlSocketPath } from "./io.ts";

export const help = `weir trust install|remove|status [--state DIR] [--root DIR] [--json]

  install   adds the authority of this state directory
              to the system's store (Debian, Ubuntu), as /usr/local/share/ca-certificates/weir-….crt, by
              update-ca-certificates
              to the trust stores of installed JVMs, by their keytool
              to your NSS databases (~/.pki/nssdb, Firefox), where certutil of libnss3-tools is there
              and sets variables for new logins and services, for programs with roots of their own (Node, requests,
              AWS CLI, …): weir-….sh in /etc/profile.d and the like; they name the system's bundle
            An older authority of this state directory is taken away.
  remove    takes all that away again, also what an older authority of this state directory left; nothing else is
            touched. --all takes away what is there of any state directory
  status    lets each runtime of the host (curl, wget, git, openssl, Python, requests, Node, npm, Go, Java) make a
            handshake with a server on loopback that has a certificate of the authority. Exit code 0 when all of them
            trust it, 1 when one does not. Who is not root needs a running agent for it.
            What \`weir run\` gives: weir run -- weir trust status

  --state DIR   state directory (default /var/lib/weir); the authority is made at the first \`weir up\`
  --root DIR    another root directory than /, for images and tests; status looks at the files only
  --json        status as JSON

What runs under \`weir run\` needs no install: it gets the authority by its environment and in a mount namespace of its
own (see weir run --help).
`;

interface Options {
  readonly stateDir: string;
  readonly root: string;
  readonly json: boolean;
  readonly all: boolean;
}

export async function run(args: readonly string[], io: CommandIo): Promise<number> {
  const told = readArguments(io, help, {
    args,
    allowPositionals: true,
    options: {
      state: { type: "string" },
      root: { type: "string", default: "/" },
      json: { type: "boolean", default: false },
      all: { type: "boolean", default: false },
    },
  });
  if (told === null) return 0;
  const { values, positionals } = told;
  const [verb, ...rest] = positionals;
  if (rest.length > 0 || (verb !== "install" && verb !== "remove" && verb !== "status"))
    throw new WeirError("WEIR_USAGE", help);
  const options = { stateDir: values.state ?? io.stateDir, root: values.root, json: values.json, all: values.all };
  if (verb === "status") return status(options, io);
  return verb === "install" ? install(options, io) : remove(options, io);
}

function install({ stateDir, root }: Options, io: CommandIo): number {
  const caPath = join(stateDir, "ca/ca.pem");
  const pem = authority(caPath);
  const names = namesFor(stateDir, pem);
  const lines: string[] = [];
  if (!isInSystemStore(root, names, pem) || ownFiles(root, names).length > 1) {
    const { done } = asRoot(() => addToSystem(root, names, pem));
    lines.push(`installed as ${done[0]}`);
  }
  const failed = attempts(lines, [
    () => addToJava({ root, env: io.env }, names, caPath).map((path) => `added to ${path}`),
    () => addToNss(nssHost(root, io), names, caPath).map((path) => `added to ${path}`),
    () => addVariables(root, names).map((path) => `variables in ${path}`),
  ]);
  return report(nameOf(pem), lines, failed, io);
}

function remove({ stateDir, root, all }: Options, io: CommandIo): number {
  const caPath = join(stateDir, "ca/ca.pem");
  // A state directory that is gone has left its names behind.
  const pem = existsSync(caPath) ? readFileSync(caPath, "utf8") : null;
  const own = namesFor(stateDir, pem);
  const names: OwnNames = all ? { ...own, isOwn: (name) => /^weir-[0-9a-f]{16}$/.test(name) } : own;
  const lines: string[] = [];
  const { done } = asRoot(() => removeFromSystem(root, names));
  lines.push(...done.map((path) => `removed from ${path}`));
  const failed = attempts(lines, [
    () => removeFromJava({ root, env: io.env }, names).map((path) => `removed from ${path}`),
    () => removeFromNss(nssHost(root, io), names).map((path) => `removed from ${path}`),
    () => removeVariables(root, names).map((path) => `removed ${path}`),
  ]);
  const code = report(pem === null ? "Weir" : nameOf(pem), lines, failed, io);
  for (const path of otherFiles(root, names))
    io.stdout.write(`${path} is of another state directory and stays; --all takes it away\n`);
  return code;
}

async function status({ stateDir, root, json }: Options, io: CommandIo): Promise<number> {
  const pem = authority(join(stateDir, "ca/ca.pem"));
  const names = namesFor(stateDir, pem);
  const inStore = isInSystemStore(root, names, pem);
  const store = `${nameOf(pem)} is ${inStore ? "" : "not "}in the system's store (${systemPath(root, names)})`;
  if (root !== "/") {
    io.stdout.write(json ? `${JSON.stringify({ authority: nameOf(pem), inSystemStore: inStore })}\n` : `${store}\n`);
    return inStore ? 0 : 1;
  }
  const runtimes = await handshakes(stateDir, pem, names, io);
  const trusted = runtimes.every((one) => one.trusted) && (runtimes.length > 0 || inStore);
  const weirRun = howRunTrusts();
  if (json) {
    const answer = { authority: nameOf(pem), trusted, inSystemStore: inStore, weirRun, runtimes };
    io.stdout.write(`${JSON.stringify(answer, null, 2)}\n`);
    return trusted ? 0 : 1;
  }
  io.stdout.write(`${store}\nweir run: ${weirRun}\n\n`);
  const width = Math.max(7, ...runtimes.map(({ runtime }) => runtime.length));
  for (const { runtime, path, trusted: one, detail } of runtimes)
    io.stdout.write(
      `${one ? "trusts  " : "DOES NOT"}  ${runtime.padEnd(width)}  ${path}${one ? "" : `\n    ${detail}`}\n`,
    );
  const databases = nssDatabases(nssHost(root, io));
  if (databases.length > 0 && !certutilIsThere(io.env))
    io.stdout.write(`\nNot shown: ${databases.join(", ")} (apt-get install libnss3-tools)\n`);
  return trusted ? 0 : 1;
}

async function handshakes(stateDir: string, pem: string, names: OwnNames, io: CommandIo): Promise<RuntimeTrust[]> {
  // As in a new login, where variables are installed for it.
  const installed = variableFiles("/", names).length > 0 ? hostEnvironment() : {};
  const env = { ...installed, ...io.env };
  if (!isReadable(join(stateDir, "ca/ca-key.pem"))) return probeRuntimes(await agentsProbe(stateDir), env);
  const server = await startProbeServer((await authorityOf(stateDir, pem)).leafFor(probeNames).context);
  const reached = async (path: string): Promise<boolean> => server.paths().some((one) => one.startsWith(path));
  try {
    return await probeRuntimes({ port: server.port, prefix: "", reached }, env);
  } finally {
    await server.close();
  }
}

/** The agent's own server, for who may not read the authority's key. */
async function agentsProbe(stateDir: string): Promise<Probe> {
  const prefix = `/${randomBytes(8).toString("hex")}`;
  const ask = async (path: string) => {
    const reply = await askAgent(controlSocketPath(stateDir), { op: "probe", prefix: path });
    if (!("probe" in reply)) throw new WeirError("WEIR_CONTROL_REFUSED", "The agent gave no probe server.");
    return reply.probe;
  };
  const { port } = await ask(prefix);
  return { port, prefix, reached: async (path) => (await ask(path)).reached.length > 0 };
}

const dayMs = 24 * 3_600_000;
/** So near to its end an authority is replaced when it is opened; a question changes nothing. */
const lastDays = 8;

function authorityOf(stateDir: string, pem: string): Promise<Authority> {
  const end = Date.parse(new X509Certificate(pem).validTo);
  if (end - Date.now() < lastDays * dayMs)
    throw new WeirError(
      "WEIR_CONFIG_INVALID",
      `The authority ends on ${new Date(end).toISOString()}; the agent's next start in its last week makes a new one.`,
    );
  return openAuthority(stateDir);
}

function isReadable(path: string): boolean {
  try {
    accessSync(path, constants.R_OK);
    return true;
  } catch {
    return false;
  }
}

/** What `weir run` does for this user, tried with a command that does nothing. */
function howRunTrusts(): string {
  if (!canEnter()) return "variables only (build/weir-enter is not built; run scripts/build-native)";
  const root = process.geteuid?.() === 0;
  const words = [root ? "root" : "user", "--", "/bin/true", "true"];
  const { stderr, error } = spawnSync(enterProgram, words, { encoding: "utf8" });
  const said = error?.message ?? stderr.trim();
  if (said !== "") return `variables only (${said})`;
  return root
    ? "variables, and bundles bound in a mount namespace"
    : "variables, and bundles bound in a user namespace (variables only for users with rights by sudo)";
}

/** Each by itself: what one store refuses does not keep the others from their change. Reasons of those that failed. */
function attempts(lines: string[], steps: readonly (() => readonly string[])[]): string[] {
  const failed: string[] = [];
  for (const step of steps) {
    try {
      lines.push(...step());
    } catch (error) {
      failed.push((error instanceof Error ? error.message : String(error)).trim().replaceAll("\n", " "));
    }
  }
  return failed;
}

function report(name: string, lines: readonly string[], failed: readonly string[], io: CommandIo): number {
  if (lines.length === 0 && failed.length === 0) io.stdout.write(`${name}: nothing to do\n`);
  for (const line of lines) io.stdout.write(`${name}: ${line}\n`);
  for (const line of failed) io.stderr.write(`weir trust: ${line}\n`);
  return failed.length === 0 ? 0 : 1;
}

function asRoot<Result>(change: () => Result): Result {
  try {
    return change();
  } catch (cause) {
    const reason = cause instanceof Error ? cause.message : String(cause);
    const root = process.getuid?.() === 0 ? "" : " This needs root: sudo weir trust.";
    throw new WeirError(root === "" ? "WEIR_CONFIG_INVALID" : "WEIR_NOT_ROOT", `${reason}.${root}`, { cause });
  }
}

function authority(path: string): string {
  try {
    return readFileSync(path, "utf8");
  } catch (cause) {
    throw new WeirError(
      "WEIR_USAGE",
      `${path}: there is no authority. Run \`weir up\` once, or name its --state directory.`,
      { cause },
    );
  }
}

function nameOf(pem: string): string {
  return new X509Certificate(pem).subject.replace(/^CN=/, "");
}

/** The caller's home; under sudo also that of who calls it. */
function nssHost(root: string, { env }: CommandIo) {
  if (root !== "/") return { env, homes: [join(root, "root")] };
  const homes = [env.HOME, homeOf(env.SUDO_USER)].filter((home) => home?.startsWith("/")) as string[];
  return { env, homes: [...new Set(homes)] };
}

function homeOf(user: string | undefined): string | undefined {
  if (user === undefined) return undefined;
  const lines = readFileSync("/etc/passwd", "utf8").split("\n");
  return lines.map((line) => line.split(":")).find(([name]) => name === user)?.[5];
}
