/** A real agent in a network namespace, driven by its own commands as a person would. */
import { type ChildProcess, spawn } from "node:child_process";
import { chmodSync, mkdtempSync, readdirSync, readFileSync, rmSync, statSync, writeFileSync } from "node:fs";
import { tmpdir } from "node:os";
import { join, resolve } from "node:path";
import type { Namespace } from "./namespace.ts";

export const weirCommand = resolve(import.meta.dirname, "../../scripts/weir");

export interface Ran {
  readonly code: number | null;
  readonly signal: NodeJS.Signals | null;
  readonly stdout: string;
  readonly stderr: string;
}

export interface RunOptions {
  readonly env?: NodeJS.ProcessEnv;
  readonly input?: string;
  readonly cwd?: string;
}

export interface TestAgent {
  readonly stateDir: string;
  readonly policyFile: string;
  /** Of the agent itself, not of what started it. */
  readonly pid: number;
  /** Standard output and standard error so far. */
  output(): string;
  /** `weir run -- words` in the agent's namespace. */
  run(words: readonly string[], options?: RunOptions): Promise<Ran>;
  /** Started, not waited for. */
  start(words: readonly string[], options?: RunOptions): { readonly child: ChildProcess; readonly done: Promise<Ran> };
  /** `weir words` with this agent's state directory. */
  weir(words: readonly string[], options?: RunOptions): Promise<Ran>;
  /** SIGTERM, and the end of the process. The state directory stays until `remove`. */
  stop(): Promise<number | null>;
  kill(signal: NodeJS.Signals): Promise<void>;
  /** Resolves when the process has ended, whoever ended it. */
  ended(): Promise<unknown>;
  /** Starts it again on the same state directory. */
  restart(): Promise<void>;
  remove(): Promise<void>;
}

export interface TestAgentOptions {
  readonly namespace: Namespace;
  readonly policy: string;
  readonly args?: readonly string[];
  readonly env?: NodeJS.ProcessEnv;
  /** Words before every command, the agent's own included: `aimock.withNames([])` gives it other names. */
  readonly wrap?: readonly string[];
}

export async function startTestAgent(options: TestAgentOptions): Promise<TestAgent> {
  const { namespace, policy, args = [], env = {}, wrap = [] } = options;
  const stateDir = mkdtempSync(join(tmpdir(), "weir-agent-"));
  // As the agent makes it: others may pass to the control socket.
  chmodSync(stateDir, 0o711);
  const policyFile = join(stateDir, "policy.yaml");
  writeFileSync(policyFile, policy);
  // Not `ip netns exec`: that mounts a new /sys, and cgroup2 would be gone.
  const inside = [`--net=/run/netns/${namespace.name}`, "--", ...wrap];
  let child: ChildProcess;
  let said = "";
  const up = async (): Promise<void> => {
    const words = [
      ...inside,
      weirCommand,
      "up",
      "--state",
      stateDir,
      "--policy",
      policyFile,
      "--listen-ui",
      "127.0.0.1:0",
      ...args,
    ];
    child = spawn("nsenter", words, { stdio: ["ignore", "pipe", "pipe"], env: { ...process.env, ...env } });
    await new Promise<void>((ready, failed) => {
      const listen = (bytes: Buffer): void => {
        said += bytes.toString();
        if (said.includes("weir ready")) ready();
      };
      child.stdout?.on("data", listen);
      child.stderr?.on("data", listen);
      child.once("exit", (code) => failed(new Error(`weir up ended with ${code}:\n${said}`)));
    });
    said = said.replace("weir ready", "weir was ready");
  };
  const ended = (): Promise<number | null> =>
    child.exitCode !== null || child.signalCode !== null
      ? Promise.resolve(child.exitCode)
      : new Promise((resolve) => child.once("exit", (code) => resolve(code)));
  const start = (words: readonly string[], options: RunOptions = {}) => {
    const started = spawn("nsenter", [...inside, weirCommand, "run", "--state", stateDir, "--", ...words], {
      env: options.env ?? process.env,
      cwd: options.cwd,
    });
    return { child: started, done: collect(started, options.input) };
  };
  try {
    await up();
  } catch (error) {
    rmSync(stateDir, { recursive: true, force: true });
    throw error;
  }
  return {
    stateDir,
    policyFile,
    get pid() {
      return child.pid as number;
    },
    output: () => said,
    run: (words, options) => start(words, options).done,
    start,
    weir: (words, options = {}) =>
      collect(
        spawn("nsenter", [...inside, weirCommand, ...words], {
          env: { ...(options.env ?? process.env), WEIR_STATE: stateDir },
          cwd: options.cwd,
        }),
        options.input,
      ),
    async stop() {
      child.kill("SIGTERM");
      return ended();
    },
    ended,
    async kill(signal) {
      child.kill(signal);
      await ended();
    },
    restart: up,
    async remove() {
      if (child.exitCode === null && child.signalCode === null) {
        child.kill("SIGTERM");
        await ended();
      }
      rmSync(stateDir, { recursive: true, force: true });
    },
  };
}

export function collect(child: ChildProcess, input?: string): Promise<Ran> {
  return new Promise((resolve, reject) => {
    const stdout: Buffer[] = [];
    const stderr: Buffer[] = [];
    child.stdout?.on("data", (bytes: Buffer) => stdout.push(bytes));
    child.stderr?.on("data", (bytes: Buffer) => stderr.push(bytes));
    child.stdin?.on("error", () => {});
    child.stdin?.end(input);
    child.once("error", reject);
    child.once("close", (code, signal) =>
      resolve({ code, signal, stdout: Buffer.concat(stdout).toString(), stderr: Buffer.concat(stderr).toString() }),
    );
  });
}

/** Files below a directory that contain the text; what a leak would look like. */
export function filesWith(dir: string, text: string): string[] {
  const found: string[] = [];
  for (const entry of readdirSync(dir, { recursive: true }) as string[]) {
    const path = join(dir, entry);
    try {
      if (statSync(path).isFile() && readFileSync(path).includes(text)) found.push(path);
    } catch (error) {
      // What is written beside and renamed, by an agent that runs, may be gone by now.
      if ((error as NodeJS.ErrnoException).code !== "ENOENT") throw error;
    }
  }
  return found;
}
